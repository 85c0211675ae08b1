"""Feeds against a local exchange where everything goes wrong."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ccxt
import pytest
from aiohttp import web

from helpers.live_exchange import FAULTS, LocalExchange, Plan, Tick, drawn_ticks, recorded_ticks
from helpers.live_runs import HASTE, told, values
from helpers.servers import Fault, LocalServer
from helpers.virtual_time import run_virtually
from nexttick.ticks.source import SourceError, TransientError
from nexttick.venues.feeds.ccxt_feed import CcxtFeed
from nexttick.venues.feeds.joining import Inbox, Joined
from nexttick.venues.feeds.order_by_id import Listing, OrderById, Want
from nexttick.venues.http import Rest
from nexttick.venues.kraken import KrakenStream
from nexttick.venues.messages import Feed, Gap, Health, Message, Trade
from nexttick.venues.opening import open_feed
from nexttick.venues.retrying import Respite, Waits


def feed_of(source: str, exchange: LocalExchange, waits: Waits = HASTE) -> Feed:
    if source.startswith("ccxt "):
        name = source.removeprefix("ccxt ")
        return CcxtFeed(name, exchange.symbol, waits, exchange.ccxt_options(name))
    urls = {"ws_url": exchange.ws_url, "rest_url": exchange.rest_url}
    return open_feed(source, exchange.symbol, waits=waits, **urls)


async def collect(
    feed: Feed, last_id: int, after: Trade | None = None, within_s: float = 120.0
) -> list[Message]:
    """Go through a feed until the trade with that id."""
    messages = list[Message]()
    batches = feed.batches(after)
    async with asyncio.timeout(within_s):
        async for batch in batches:
            assert batch
            messages += batch
            if any(isinstance(m, Trade) and m.id >= last_id for m in batch):
                break
    await batches.aclose()  # type: ignore[attr-defined]
    return messages


def expected(ticks: Sequence[Tick], unit_ns: int = 1000) -> list[tuple[Any, ...]]:
    return [
        (t.time_ns // unit_ns * unit_ns, float(t.price), float(t.amount), t.side, t.id)
        for t in ticks
    ]


# --- REST


@pytest.fixture
def clock_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock by which venues are left alone; it stands until it is set."""
    now_s = [1000.0]
    standing = SimpleNamespace(monotonic=lambda: now_s[0], time=time.time)
    monkeypatch.setattr("nexttick.venues.retrying.time", standing)
    return now_s


def test_a_venue_that_asks_to_wait_is_left_alone_until_then(clock_s: list[float]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response([])

    async def ask() -> None:
        rest = Rest(server.url, first_wait_s=0.01, longest_wait_s=0.05)
        try:
            with pytest.raises(TransientError, match="it asks to wait"):
                await rest.get("/trades", {})
            with pytest.raises(TransientError, match="it asks to wait"):
                await rest.get("/others", {})
            assert server.requests == ["/trades"]
            clock_s[0] += 1.1
            assert await rest.get("/trades", {}) == []
        finally:
            await rest.close()

    with LocalServer(answer, [Fault("status", 418, (("Retry-After", "1"),))]) as server:
        asyncio.run(ask())
    assert server.requests == ["/trades", "/trades"]


KEYED = {"X-MBX-APIKEY": "5ecret-5ecret"}


@pytest.mark.parametrize("secrets", [None, KEYED], ids=["open", "key"])
def test_rest_takes_a_key_to_no_other_host(secrets: dict[str, str] | None) -> None:
    came: list[dict[str, str]] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        came.append(dict(request.headers))
        return web.json_response([])

    async def away(request: web.Request) -> web.StreamResponse:
        key = request.headers.get("X-MBX-APIKEY", "")
        return web.Response(status=302, headers={"Location": other.url}, text=f"not with {key}")

    async def ask() -> None:
        rest = Rest(here.url, {"X-MBX-TIME-UNIT": "MICROSECOND"}, secrets=secrets)
        try:
            if not secrets:
                assert await rest.get("/trades", {}) == []
                return
            with pytest.raises(SourceError, match="a key is sent to one address only") as caught:
                await rest.get("/trades", {})
            assert "not with ***" in str(caught.value)
        finally:
            await rest.close()

    with LocalServer(elsewhere) as other, LocalServer(away) as here:
        asyncio.run(ask())
    assert len(here.requests) == 1
    assert [headers["X-MBX-TIME-UNIT"] for headers in came] == ["MICROSECOND"] * (not secrets)


@pytest.mark.parametrize("how", ["endless", "announced", "packed"])
def test_an_answer_of_rest_is_bounded(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if how == "packed":
            body = gzip.compress(b"0" * (8 << 20))
            return web.Response(body=body, headers={"Content-Encoding": "gzip"})
        response = web.StreamResponse()
        response.content_length = 1 << 40 if how == "announced" else None
        await response.prepare(request)
        while request.transport is not None and not request.transport.is_closing():
            await response.write(b"0" * 10_000)
        return response

    async def ask() -> None:
        rest = Rest(server.url)
        try:
            with pytest.raises(SourceError, match="longer than the 1,048,576 bytes"):
                await rest.get("/trades", {})
        finally:
            await rest.close()

    monkeypatch.setattr("nexttick.venues.http.MAX_BODY_BYTES", 1 << 20)
    with LocalServer(answer) as server:
        asyncio.run(ask())
    assert server.requests == ["/trades"]


async def kraken_answers(*answers: str) -> list[str]:
    """What a feed of Kraken makes of REST's answers, one after the other."""
    given = iter(answers)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=next(given), content_type="application/json")

    with LocalServer(answer) as server:
        rest = Rest(server.url, first_wait_s=0.001, longest_wait_s=0.002)
        kraken, told = KrakenStream("BTC/USD", "ws://127.0.0.1:9", rest), list[str]()
        for _ in answers:
            try:
                await kraken.check()
            except (SourceError, TransientError) as error:
                told.append(f"{type(error).__name__} {error}")
        await rest.close()
    return told


def test_answers_of_kraken_that_may_pass_and_that_will_not() -> None:
    strange = ("null", "[]", '{"result":null}', '{"error":5}', '{"error":"EService:Unavailable"}')
    internal, unknown = '{"error":["EGeneral:Internal error"]}', '{"error":["EQuery:Unknown pair"]}'
    told = asyncio.run(kraken_answers(*strange, internal, unknown))
    assert [one.split()[0] for one in told] == ["TransientError"] * 6 + ["SourceError"]


@pytest.mark.usefixtures("clock_s")
def test_kraken_is_left_alone_where_it_asked_for_less() -> None:
    told = asyncio.run(kraken_answers('{"error":["EGeneral:Temporary lockout"]}', "never asked"))
    assert "lockout" in told[0]
    assert "it asks to wait for 15 s" in told[1]


def test_an_exchange_that_ccxt_says_to_leave_alone_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    async def too_much(symbol: str, *_: object) -> list[Any]:
        asked.append(symbol)
        raise ccxt.RateLimitExceeded("429")

    async def known() -> None:
        pass

    async def ask() -> None:
        one, other = (CcxtFeed("kraken", symbol) for symbol in ("BTC/USD", "ETH/USD"))
        for feed in (one, other):
            feed._open(Inbox())
            feed._exchange.load_markets = known
            feed._exchange.fetch_trades = too_much
            feed._exchange.last_response_headers = {"retry-after": "60"}
        for feed, words in ((one, "429"), (one, "asks to wait"), (other, "asks to wait")):
            with pytest.raises(TransientError, match=words):
                await feed._page(0)
            await feed._exchange.close()

    monkeypatch.setattr(Respite, "_until_s", {})
    asyncio.run(ask())
    assert asked == ["BTC/USD"]


# --- the local exchange


@pytest.mark.parametrize("source", ["binance", "kraken"])
def test_sixty_faults_and_every_trade_once_and_in_order(source: str) -> None:
    ticks = drawn_ticks(4000, seed=1)
    with LocalExchange(ticks, Plan(faults=60, seed=7)) as exchange:
        feed = feed_of(source, exchange)
        messages = asyncio.run(collect(feed, ticks[-1].id))
    assert {*exchange.done} == {*FAULTS}
    assert len(exchange.done) == 60
    assert values(messages) == expected(ticks)
    assert len(messages) == len(ticks)  # and no gap
    health = feed.health
    assert (health.trades, health.gaps, health.connected) == (len(ticks), 0, False)
    assert health.reconnects >= 4 + 4 + 4  # cuts, half frames and reserved ones, silences
    assert min(health.silences, health.unknown, health.malformed, health.backfilled) > 0
    assert min(health.duplicates, health.reordered, health.corrections) > 0


@pytest.mark.parametrize("source", ["ccxt binance", "ccxt kraken"])
def test_faults_through_ccxt(source: str) -> None:
    # Where trades aren't known to be numbered one by one, one lost on the way leaves no trace.
    kinds = [kind for kind in FAULTS if kind != "drop"]
    ticks = drawn_ticks(2000, seed=2)
    with LocalExchange(ticks, Plan(faults=len(kinds), kinds=kinds, seed=3)) as exchange:
        feed = feed_of(source, exchange)
        messages = asyncio.run(collect(feed, ticks[-1].id))
    assert [t.id for t in told(messages)] == [t.id for t in ticks]
    assert values(messages) == expected(ticks, unit_ns=10**6)
    assert len(messages) == len(ticks)
    assert feed.health.reconnects > 0
    assert min(feed.health.malformed, feed.health.backfilled) > 0


@pytest.mark.real_ticks
def test_a_recording_played_by_the_exchange_comes_through_exactly(data_dir: Path) -> None:
    ticks = recorded_ticks(data_dir / "wire" / "binance_spot_btcusdt_20240809.jsonl.gz")[:3000]
    with LocalExchange(ticks, Plan(chunk=200)) as exchange:
        feed = feed_of("binance", exchange)
        messages = asyncio.run(collect(feed, ticks[-1].id))
    assert values(messages) == expected(ticks)
    assert feed.health.unknown == sum(len(tick.beside) for tick in ticks)
    assert (feed.health.duplicates, feed.health.backfilled, feed.health.malformed) == (0, 0, 0)


@pytest.mark.parametrize("source", ["binance", "kraken", "ccxt binance"])
def test_goes_on_after_the_last_known_trade(source: str) -> None:
    ticks = drawn_ticks(600)
    with LocalExchange(ticks) as exchange:
        before = asyncio.run(collect(feed_of(source, exchange), ticks[100].id))
        rest = asyncio.run(collect(feed_of(source, exchange), ticks[-1].id, told(before)[-1]))
    assert [t.id for t in told(before + rest)] == [t.id for t in ticks]
    assert len(before + rest) == len(ticks)


def test_a_snapshot_after_a_restart_brings_nothing_again() -> None:
    """Kraken sends its last 50 trades to every new subscriber."""
    ticks = drawn_ticks(300)

    async def listen(feed: Feed, after: Trade) -> list[Message]:
        listening = asyncio.create_task(anext(feed.batches(after)))  # type: ignore[arg-type]
        while feed.health.duplicates + feed.health.late < 50:
            assert not listening.done()
            await asyncio.sleep(0.01)
        with suppress(asyncio.CancelledError, TimeoutError):
            return await asyncio.wait_for(listening, 50 * HASTE.delay_s)
        return []

    with LocalExchange(ticks) as exchange:
        before = asyncio.run(collect(feed_of("ccxt kraken", exchange), ticks[-1].id))
        feed = feed_of("ccxt kraken", exchange, replace(HASTE, silence_s=50.0))
        assert asyncio.run(listen(feed, told(before)[-1])) == []
    assert (feed.health.gaps, feed.health.connected) == (0, False)


@pytest.mark.parametrize("source", ["binance", "ccxt binance"])
def test_what_rest_cannot_give_is_a_declared_gap(source: str) -> None:
    ticks = drawn_ticks(3000)
    # Where nothing comes afterwards there is no other side of a gap.
    plan = Plan(keyed=True, reach=40, pause_s=0.002, holds={40: False, 1000: True})
    waits = replace(HASTE, silence_s=20.0, patience_s=0.2)  # no silence of a busy machine
    with LocalExchange(ticks, plan) as exchange:
        before = asyncio.run(collect(feed_of(source, exchange, waits), ticks[20].id))
        while exchange.played < 1000:  # it waits there
            time.sleep(0.001)
        feed = feed_of(source, exchange, waits)
        after = asyncio.run(collect(feed, ticks[-1].id, told(before)[-1]))
    gap, *rest = after
    assert isinstance(gap, Gap)
    assert gap.after_id == told(before)[-1].id
    assert [t.id for t in told(rest)] == list(range(gap.before_id, ticks[-1].id + 1))
    assert gap.before_id > gap.after_id + 500
    assert (feed.health.gaps, len(rest)) == (1, len(told(rest)))


def test_rest_behind_the_stream_is_asked_again() -> None:
    ticks = drawn_ticks(1500)
    with LocalExchange(ticks, Plan(faults=6, kinds=("cut", "drop"), rest_lag=60)) as exchange:
        feed = feed_of("binance", exchange)
        messages = asyncio.run(collect(feed, ticks[-61].id))
    assert values(messages)[: 1500 - 60] == expected(ticks)[: 1500 - 60]
    assert feed.health.gaps == 0


def test_the_last_trade_of_a_burst_through_ccxt_needs_no_other() -> None:
    ticks = drawn_ticks(3000)
    with LocalExchange(ticks, Plan(chunk=3000)) as exchange:
        feed = feed_of("ccxt binance", exchange, Waits(silence_s=50.0, delay_s=0.05))
        messages = asyncio.run(collect(feed, ticks[-1].id))
    assert [t.id for t in told(messages)] == [t.id for t in ticks]
    assert feed.health.backfilled == 0


@pytest.mark.parametrize("source", ["binance", "kraken", "ccxt binance"])
def test_a_symbol_that_the_venue_does_not_know_is_refused(source: str) -> None:
    with LocalExchange(drawn_ticks(10)) as exchange:
        exchange.symbol = "BTC/EUR"
        feed = feed_of(source, exchange)
        exchange.symbol = "BTC/USDT"
        with pytest.raises(SourceError, match=r"(BTC|XBT)/?EUR"):
            asyncio.run(collect(feed, 10**18))


def test_an_exchange_that_is_not_there_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def listen() -> None:
        trying = asyncio.create_task(collect(feed, 0))
        while sum("connecting again" in record.message for record in caplog.records) < 3:
            assert not trying.done()
            await asyncio.sleep(0.01)
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying

    urls = {"ws_url": "ws://127.0.0.1:9", "rest_url": "http://127.0.0.1:9"}
    feed = open_feed("binance", "BTC/USDT", waits=HASTE, **urls)
    asyncio.run(listen())
    assert (feed.health.connected, feed.health.reconnects) == (False, 0)


@pytest.mark.parametrize("source", ["binance", "kraken", "ccxt kraken"])
def test_cancelling_leaves_nothing_behind(source: str) -> None:
    async def cancelled() -> set[Any]:
        reading = asyncio.create_task(collect(feed_of(source, exchange), 10**18))
        while exchange.played < 50:
            await asyncio.sleep(0.01)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        return asyncio.all_tasks() - {asyncio.current_task()}

    with LocalExchange(drawn_ticks(5000)) as exchange:
        assert asyncio.run(cancelled()) == set()


# --- opening


def test_unknown_sources_are_told_with_the_nearest_names() -> None:
    with pytest.raises(ValueError, match=r"did you mean binance"):
        open_feed("binanse", "BTC/USDT")
    with pytest.raises(ValueError, match=r"did you mean.*bitstamp"):
        open_feed("bitstmap", "BTC/USDT")
    with pytest.raises(ValueError, match="give base and quote"):
        open_feed("binance", "BTCUSDT")
    with pytest.raises(ValueError, match="needs a file"):
        open_feed("replay")
    with pytest.raises(ValueError, match="begins with ws://"):
        open_feed("binance", "BTC/USDT", ws_url="http://x")


def test_sources_are_opened_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXTTICK_BINANCE_WS", "ws://127.0.0.1:1")
    assert open_feed("binance", "BTC/USDT").url.startswith("ws://127.0.0.1:1/ws/btcusdt@")
    assert open_feed("stdin").name == "stdin"
    assert open_feed("bitstamp", "BTC/USD").name == "bitstamp"
    future = open_feed("binance", "BTC/USDT:USDT")
    assert isinstance(future, CcxtFeed)
    assert future.symbol == "BTC/USDT:USDT"


# --- waiting


def test_a_long_catching_up_lasts_as_long_as_it_gets_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience is for REST that gives nothing, not for REST that has much to give."""
    trades = [Trade(k * 10**9, 100.0, 1.0, 1, k, 0) for k in range(12)]
    waits, health, inbox = Waits(patience_s=0.2, delay_s=0.001, retry_s=0.001), Health(), Inbox()

    async def missed(want: Want) -> AsyncGenerator[Listing, None]:
        for trade in trades[want.after.id + 1 : 11]:
            await asyncio.sleep(0.05)
            yield Listing([trade], trade.id - 1)

    async def run() -> list[Message]:
        order = OrderById(health, trades[0], waits.delay_s)
        inbox.put([trades[11]])
        out: list[Message] = []
        async with aclosing(Joined(inbox, order, missed, waits, health).batches()) as batches:
            async for batch in batches:
                out += batch
                if out[-1] == trades[11]:
                    return out
        raise AssertionError("batches go on")

    now_ns = SimpleNamespace(monotonic_ns=lambda: round(1e9 * asyncio.get_running_loop().time()))
    monkeypatch.setattr("nexttick.venues.feeds.joining.time", now_ns)
    assert run_virtually(run()) == trades[1:]
    assert (health.gaps, health.backfilled) == (0, 10)


@pytest.mark.parametrize("source", ["binance", "kraken"])
def test_a_market_that_falls_quiet_before_it_is_connected_again_is_caught_up_with(
    source: str,
) -> None:
    ticks, waits = drawn_ticks(200), replace(HASTE, first_s=0.5, longest_s=0.5, silence_s=600.0)
    with LocalExchange(ticks, Plan(faults=1, kinds=("cut",), chunk=1)) as exchange:
        feed = feed_of(source, exchange, waits)
        messages = asyncio.run(collect(feed, ticks[-1].id))
    assert [t.id for t in told(messages)] == [t.id for t in ticks]
    assert feed.health.reconnects == 1


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections wait for room after every trade."""
    monkeypatch.setattr("nexttick.venues.feeds.joining.Inbox", partial(Inbox, limit=1))


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize("source", ["binance", "kraken", "ccxt binance"])
def test_silence_after_a_wait_for_room_is_noticed(source: str) -> None:
    ticks = drawn_ticks(600)
    # The last comes when the second stall was noticed: REST alone might have filled it in before.
    plan = Plan(faults=2, kinds=("stall",), holds={599: True})
    with LocalExchange(ticks, plan) as exchange:
        feed = feed_of(source, exchange)
        messages = asyncio.run(collect(feed, ticks[-1].id))
    assert [t.id for t in told(messages)] == [t.id for t in ticks]
    assert len(messages) == len(ticks)
    assert feed.health.silences >= 2


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize("source", ["binance", "ccxt binance"])
def test_a_wait_for_room_is_no_silence(source: str) -> None:
    async def slowly_at_first() -> int:
        count = 0
        async with asyncio.timeout(120.0), aclosing(feed.batches()) as batches:  # type: ignore[type-var]
            async for batch in batches:
                if not count:
                    await asyncio.sleep(1.5 * waits.silence_s)
                count += len(batch)
                if told(batch) and told(batch)[-1].id == ticks[-1].id:
                    break
        return count

    ticks, waits = drawn_ticks(300), replace(HASTE, silence_s=3.0)
    with LocalExchange(ticks, Plan(chunk=100, pause_s=0.1)) as exchange:
        feed = feed_of(source, exchange, waits)
        assert asyncio.run(slowly_at_first()) == len(ticks)
    assert (feed.health.silences, feed.health.reconnects) == (0, 0)
