"""Feeds against recorded messages, and against a local exchange where everything goes wrong."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from decimal import Decimal
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import ccxt
import orjson
import polars as pl
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from live_exchange import FAULTS, LocalExchange, Plan, Tick, drawn_ticks, recorded_ticks
from live_runs import HASTE
from markets import quick, simulated_ticks
from nexttick.live.binance import Binance
from nexttick.live.ccxt_feed import CcxtFeed, number_of, trade_of
from nexttick.live.feeds import open_feed
from nexttick.live.joining import Inbox, Joined
from nexttick.live.kraken import Kraken, _exact, _trade_of_rest
from nexttick.live.messages import Feed, Gap, Health, Message, Trade
from nexttick.live.order import Listing, OrderById, Want
from nexttick.live.replay import Replay
from nexttick.live.rest import Rest
from nexttick.live.stdin import Stdin
from nexttick.live.waits import Respite, Waits
from nexttick.live.wire import UnknownMessageError, ns_of_decimal_s, ns_of_iso
from nexttick.sources.retrying import TransientError
from nexttick.sources.source import SourceError
from servers import Fault, LocalServer

NOWHERE = Rest("http://127.0.0.1:9")


def feed_of(source: str, exchange: LocalExchange, waits: Waits = HASTE) -> Feed:
    if source.startswith("ccxt "):
        name = source.removeprefix("ccxt ")
        return CcxtFeed(name, exchange.symbol, waits, exchange.ccxt_options(name))
    urls = {"ws_url": exchange.ws_url, "rest_url": exchange.rest_url}
    return open_feed(source, exchange.symbol, waits=waits, **urls)


async def collect(
    feed: Feed, last_id: int, after: Trade | None = None, within_s: float = 60.0
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


def told(messages: Sequence[Message]) -> list[Trade]:
    return [m for m in messages if isinstance(m, Trade)]


def values(messages: Sequence[Message]) -> list[tuple[Any, ...]]:
    return [m[:5] for m in told(messages)]


def expected(ticks: Sequence[Tick], unit_ns: int = 1000) -> list[tuple[Any, ...]]:
    return [
        (t.time_ns // unit_ns * unit_ns, float(t.price), float(t.amount), t.side, t.id)
        for t in ticks
    ]


# --- what venues send


def binance(market: str = "BTC/USDT") -> Binance:
    return Binance(market, "wss://stream.binance.com:9443", NOWHERE)


@cache
def decode(path: Path, market: str) -> tuple[list[Trade], list[dict[str, Any]], int]:
    """All trades of a recording, the raw trades by another reader, and the count of the others."""
    venue, trades, raw, others = binance(market), list[Trade](), list[dict[str, Any]](), 0
    with gzip.open(path, "rt") as lines:
        for line in lines:
            received, _, message = line.partition(" ")
            try:
                trades += venue.trades(orjson.loads(message), int(received))
                raw.append(json.loads(message)["data"])
            except UnknownMessageError:
                others += 1
    return trades, raw, others


@pytest.mark.real_ticks
@pytest.mark.parametrize(
    ("name", "market", "count", "first_id", "others"),
    [
        ("binance_spot_btcusdt_20240808", "BTC/USDT", 9757, 3735683259, 31492),
        ("binance_spot_btcusdt_20240809", "BTC/USDT", 10147, 3735693016, 48178),
        ("binance_coinm_btcusd_perp_20240809", "BTCUSD_PERP", 2949, 849716688, 47167),
    ],
)
def test_recorded_lines_decode_exactly(
    name: str, market: str, count: int, first_id: int, others: int, data_dir: Path
) -> None:
    trades, raw, unknown = decode(data_dir / "wire" / f"{name}.jsonl.gz", market)
    assert (len(trades), unknown) == (count, others)
    assert [t.id for t in trades] == list(range(first_id, first_id + count))
    for trade, data in zip(trades, raw, strict=True):
        assert data["e"] == "trade"
        side = -1 if data["m"] else 1
        told = (data["T"] * 10**6, float(data["p"]), float(data["q"]), side, data["t"])
        assert trade[:5] == told


@pytest.mark.real_ticks
def test_first_and_last_recorded_trade(data_dir: Path) -> None:
    path = data_dir / "wire" / "binance_spot_btcusdt_20240809.jsonl.gz"
    trades, _, _ = decode(path, "BTC/USDT")
    first = (1723161601437000000, 61685.99, 0.00017, -1, 3735693016, 1723161600164378285)
    assert trades[0] == first
    assert sum(Decimal(str(t.amount)) for t in trades) == Decimal("225.88237")  # by awk
    assert sum(t.side > 0 for t in trades) == 4990
    other = path.with_name("binance_coinm_btcusd_perp_20240809.jsonl.gz")
    none, _, others = decode(other, "BTC/USDT")
    assert (none, others) == ([], 50116)


@pytest.mark.real_ticks
def test_recorded_answer_of_kraken_decodes_exactly(data_dir: Path) -> None:
    body = (data_dir / "wire" / "kraken_http_trades.json").read_bytes()
    rows = _exact(body)["result"]["XBTUSDT"]
    trades = [_trade_of_rest(row, 2 * 10**18) for row in rows]
    assert [t.id for t in trades] == list(range(10218208, 10219208))
    assert trades[0][:4] == (1762795433971744000, 105433.6, 0.00027625, 1)
    assert trades[-1][:4] == (1762820035982277000, 105899.4, 0.00009443, -1)
    assert all(a.time_ns <= b.time_ns for a, b in pairwise(trades))


def test_binance_messages_bare_in_an_envelope_in_ms_and_in_us() -> None:
    bare = {"e": "trade", "s": "BTCUSDT", "t": 7, "p": "1.5", "q": "2", "T": 1723161601437}
    wanted = (1723161601437000000, 1.5, 2.0, 1, 7, 2 * 10**18)
    for message in (
        {**bare, "m": False},
        {"stream": "btcusdt@trade", "data": {**bare, "m": False}},
        {**bare, "m": False, "T": 1723161601437000},
    ):
        assert [*binance().trades(message, 2 * 10**18)] == [wanted]
    assert binance().trades({"result": None, "id": 1}, 0) == ()
    assert binance().url.endswith("/ws/btcusdt@trade?timeUnit=MICROSECOND")


def test_kraken_messages() -> None:
    kraken = Kraken("BTC/USD", "wss://ws.kraken.com", NOWHERE)
    row = {"symbol": "BTC/USD", "side": "sell", "price": 4.5117, "qty": 40.0, "trade_id": 4665906}
    data = [{**row, "timestamp": "2023-09-25T07:49:37.708706Z"}]
    for kind in ("snapshot", "update"):
        trades = kraken.trades({"channel": "trade", "type": kind, "data": data}, 2 * 10**18)
        assert [*trades] == [(1695628177708706000, 4.5117, 40.0, -1, 4665906, 2 * 10**18)]
    assert kraken.trades({"channel": "heartbeat"}, 0) == ()
    assert kraken.trades({"method": "subscribe", "success": True}, 0) == ()
    assert orjson.loads(kraken.hello()[0])["params"]["symbol"] == ["BTC/USD"]
    refusal = {"method": "subscribe", "success": False, "error": "Currency pair not supported X/Y"}
    with pytest.raises(SourceError, match="Currency pair not supported X/Y"):
        kraken.trades(refusal, 0)
    with pytest.raises(TransientError, match="EService:Unavailable"):
        kraken.trades({**refusal, "error": "EService:Unavailable"}, 0)


@pytest.mark.parametrize("number", [-1, 2**63, 1.0, None])
def test_ids_that_no_journal_can_hold_are_no_trades(number: Any) -> None:
    data = {"e": "trade", "s": "BTCUSDT", "T": 10**12, "p": "1.0", "q": "1.0", "m": True, "t": 0}
    (trade,) = binance().trades(data, 2 * 10**18)
    assert trade.id == 0
    with pytest.raises(ValueError, match="id "):
        binance().trades({**data, "t": number}, 2 * 10**18)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
names = "e s t p q T m data channel type symbol side price qty trade_id timestamp"
fields = st.sampled_from(names.split(" "))


@quick
@given(st.dictionaries(fields, anything), st.booleans())
def test_no_message_raises_what_the_stream_does_not_count(
    message: dict[str, Any], of: bool
) -> None:
    for venue, told in (
        (binance(), {"e": "trade", "s": "BTCUSDT"}),
        (Kraken("BTC/USD", "wss://x", NOWHERE), {"channel": "trade", "type": "update"}),
    ):
        try:
            trades = venue.trades({**message, **told} if of else message, 2 * 10**18)
        except (UnknownMessageError, ValueError, KeyError, TypeError):
            continue
        assert all(type(trade.id) is int and trade.price > 0 for trade in trades)


@quick
@given(st.integers(0, 2**62))
def test_iso_and_decimal_times_are_exact(time_ns: int) -> None:
    stamp = pl.Series([time_ns]).cast(pl.Datetime("ns")).dt.to_string("%Y-%m-%dT%H:%M:%S%.9f")[0]
    whole, rest = divmod(time_ns, 10**9)
    assert ns_of_iso(f"{stamp}Z") == ns_of_iso(stamp) == time_ns
    assert ns_of_decimal_s(f"{whole}.{rest:09}") == time_ns


def test_iso_times_of_other_zones() -> None:
    assert ns_of_iso("1970-01-01T02:00:01.5+02:00") == 1_500_000_000
    assert ns_of_iso("1970-01-02") == 86_400 * 10**9
    for wrong in ("", "now", "2023-13-01T00:00:00Z", "2023-01-01T00:00:00.Z"):
        with pytest.raises(ValueError, match=r".*"):
            ns_of_iso(wrong)


# --- REST


def test_a_venue_that_asks_to_wait_is_left_alone_until_then() -> None:
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
            await asyncio.sleep(1.1)
            assert await rest.get("/trades", {}) == []
        finally:
            await rest.close()

    with LocalServer(answer, [Fault("status", 418, (("Retry-After", "1"),))]) as server:
        asyncio.run(ask())
    assert server.requests == ["/trades", "/trades"]


async def kraken_answers(*answers: str) -> list[str]:
    """What a feed of Kraken makes of REST's answers, one after the other."""
    given = iter(answers)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=next(given), content_type="application/json")

    with LocalServer(answer) as server:
        rest = Rest(server.url, first_wait_s=0.001, longest_wait_s=0.002)
        kraken, told = Kraken("BTC/USD", "ws://127.0.0.1:9", rest), list[str]()
        for _ in answers:
            try:
                await kraken.check()
            except (SourceError, TransientError) as error:
                told.append(f"{type(error).__name__} {error}")
        await kraken.close()
    return told


def test_answers_of_kraken_that_may_pass_and_that_will_not() -> None:
    strange = ("null", "[]", '{"result":null}', '{"error":5}', '{"error":"EService:Unavailable"}')
    internal, unknown = '{"error":["EGeneral:Internal error"]}', '{"error":["EQuery:Unknown pair"]}'
    told = asyncio.run(kraken_answers(*strange, internal, unknown))
    assert [one.split()[0] for one in told] == ["TransientError"] * 6 + ["SourceError"]


def test_kraken_is_left_alone_where_it_asked_for_less() -> None:
    told = asyncio.run(kraken_answers('{"error":["EGeneral:Temporary lockout"]}', "never asked"))
    assert "lockout" in told[0]
    assert "it asks to wait for 1" in told[1]  # 15 s, less what has gone by


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
        messages = list[Message]()
        with suppress(TimeoutError):
            async with asyncio.timeout(3.0), aclosing(feed.batches(after)) as batches:  # type: ignore[type-var]
                async for batch in batches:
                    messages += batch
        return messages

    with LocalExchange(ticks) as exchange:
        before = asyncio.run(collect(feed_of("ccxt kraken", exchange), ticks[-1].id))
        feed = feed_of("ccxt kraken", exchange, replace(HASTE, silence_s=50.0))
        assert asyncio.run(listen(feed, told(before)[-1])) == []
    assert (feed.health.gaps, feed.health.connected) == (0, False)


@pytest.mark.parametrize("source", ["binance", "ccxt binance"])
def test_what_rest_cannot_give_is_a_declared_gap(source: str) -> None:
    ticks = drawn_ticks(3000)
    # It plays on while ccxt gets ready: where nothing comes there is no other side of a gap.
    plan = Plan(keyed=True, reach=40, pause_s=0.03 if source == "ccxt binance" else 0.002)
    waits = replace(HASTE, silence_s=20.0, patience_s=0.2)  # no silence of a busy machine
    with LocalExchange(ticks, plan) as exchange:
        before = asyncio.run(collect(feed_of(source, exchange), ticks[20].id))
        while exchange.played < 1000:
            pass
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
        with pytest.raises(TimeoutError):
            await collect(feed, 0, within_s=0.5)

    urls = {"ws_url": "ws://127.0.0.1:9", "rest_url": "http://127.0.0.1:9"}
    feed = open_feed("binance", "BTC/USDT", waits=HASTE, **urls)
    asyncio.run(listen())
    assert (feed.health.connected, feed.health.reconnects) == (False, 0)
    assert sum("connecting again" in record.message for record in caplog.records) > 2


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


# --- ccxt's trades


def test_ids_of_ccxt() -> None:
    assert [number_of(text) for text in ("0", "998", None)] == [0, 998, -1]
    texts = ["a1-b2", str(2**62), "-3", "٣", ""]
    numbers = [number_of(text) for text in texts]
    assert numbers == [number_of(text) for text in texts]
    assert len({*numbers}) == len(texts)
    assert all(2**62 <= number < 2**63 for number in numbers)
    row = {"timestamp": 1_700_000_000_123, "price": 2, "amount": 3.5, "side": None, "id": "4"}
    assert trade_of(row, 2 * 10**18) == (1_700_000_000_123_000_000, 2.0, 3.5, 0, 4, 2 * 10**18)
    with pytest.raises(ValueError, match="without"):
        trade_of({**row, "price": None}, 2 * 10**18)


# --- replay and standard input


async def all_batches(feed: Feed, after: Trade | None = None) -> list[list[Message]]:
    return [batch async for batch in feed.batches(after)]


def test_replay_gives_all_ticks_in_lists_of_bounded_length(tmp_path: Path) -> None:
    ticks = simulated_ticks(2500)
    ticks.drop("truth").write_parquet(tmp_path / "ticks.parquet")
    for source in (ticks, tmp_path / "ticks.parquet"):
        batches = asyncio.run(all_batches(Replay(source, None, "BTC/USD", batch=400)))
        assert [len(batch) for batch in batches] == [400] * 6 + [100]
        rows = ticks.select("time", "price", "amount", "side", "id").rows()
        assert values([m for batch in batches for m in batch]) == rows


def test_replay_at_a_pace_gives_ticks_of_one_instant_together() -> None:
    ticks = pl.DataFrame({"time": [10**18, 10**18, 10**18 + 5, 10**18 + 9]}).with_columns(
        price=pl.lit(1.0), amount=pl.lit(2.0), side=pl.lit(0, pl.Int8)
    )
    feed = Replay(ticks, speed=10.0)
    batches = asyncio.run(all_batches(feed))
    assert [[t.time_ns - 10**18 for t in told(batch)] for batch in batches] == [[0, 0], [5], [9]]
    assert [t.id for batch in batches for t in told(batch)] == [0, 1, 2, 3]  # of its own
    assert feed.health.trades == 4
    rest = asyncio.run(all_batches(feed, told(batches[1])[0]))
    assert values(rest[0]) == values(batches[2])


def test_replay_keeps_the_pace_of_the_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    slept, clock = list[float](), [0.0]
    ticks = simulated_ticks(50)
    monkeypatch.setattr("nexttick.live.replay.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("nexttick.live.replay.asyncio.sleep", sleep)
    asyncio.run(all_batches(Replay(ticks, speed=4.0)))
    span_s = (ticks["time"][-1] - ticks["time"][0]) / 1e9
    assert clock[0] == pytest.approx(span_s / 4.0, abs=0.001)


def test_replay_goes_on_by_id_within_one_instant() -> None:
    ticks = simulated_ticks(30).with_columns(time=pl.lit(10**18))
    after = Trade(10**18, 1.0, 1.0, 1, 11, 0)
    batches = asyncio.run(all_batches(Replay(ticks, None), after))
    assert [t.id for t in told(batches[0])] == list(range(12, 30))


@pytest.mark.parametrize(("speed", "batch"), [(0.0, 10), (-1.0, 10), (1.0, 0)])
def test_replay_refuses(speed: float, batch: int) -> None:
    with pytest.raises(ValueError, match="give"):
        Replay(simulated_ticks(30), speed, batch=batch)


def from_stdin(written: bytes, after: Trade | None = None) -> tuple[list[Message], Stdin]:
    reading, writing = os.pipe()
    os.write(writing, written)
    os.close(writing)
    feed = Stdin("BTC/USD", reading)
    batches = asyncio.run(all_batches(feed, after))
    os.close(reading)
    return [m for batch in batches for m in batch], feed


def test_stdin_reads_trades_and_passes_over_what_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = [
        '{"time": "2026-01-02T03:04:05.678901Z", "price": 100.5, "amount": 0.25, "side": 1}',
        '{"time": 1767323046000000000, "price": "7", "amount": 1, "side": "sell", "id": 17}',
        '{"time": 1767323047000000000, "price": 7',
        '{"time": 1767323047, "price": 7, "amount": 1}',
        '{"time": 1767323048000000000, "price": -7, "amount": 1}',
        "",
        '{"price": 7, "amount": 1}',
        '{"time": 1767323048000000000, "price": 7, "amount": 1, "side": "up"}',
        "[1, 2]",
        '{"time": 1767323046000000000, "price": "7", "amount": 1, "side": "sell", "id": 17}',
        '{"time": 1767323045000000000, "price": 7, "amount": 1}',
        '{"time": 1767323049000000000, "price": 8, "amount": 1}',
    ]
    with caplog.at_level(logging.WARNING):
        messages, feed = from_stdin("\n".join(lines).encode())
    assert values(messages) == [
        (1767323045678901000, 100.5, 0.25, 1, -1),
        (1767323046000000000, 7.0, 1.0, -1, 17),
        (1767323049000000000, 8.0, 1.0, 0, -1),
    ]
    health = feed.health
    assert (health.malformed, health.duplicates, health.late) == (6, 1, 1)
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[1] for text in said] == [f" line {n}" for n in (3, 4, 5, 7, 8, 9)]
    assert "price -7.0: a price is positive" in said[2]
    assert "no time" in said[3]


def test_stdin_reads_more_than_a_pipe_holds_at_once_and_goes_on_after_a_trade() -> None:
    lines = [
        f'{{"time": {10**18 + i}, "price": 1.5, "amount": 1, "id": {i}}}\n' for i in range(900)
    ]
    messages, feed = from_stdin("".join(lines).encode(), Trade(10**18 + 99, 1.5, 1.0, 0, 99, 0))
    assert [t.id for t in told(messages)] == list(range(100, 900))
    assert feed.health.malformed == 0


# --- opening


def test_stdin_that_cannot_be_read_ends_with_an_error() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    os.close(reader)

    async def read() -> list[list[Message]]:
        return [batch async for batch in Stdin(fd=reader).batches()]

    with pytest.raises(OSError, match="standard input cannot be read"):
        asyncio.run(asyncio.wait_for(read(), 10.0))


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
    assert open_feed("binance", "BTC/USDT")._venue.url.startswith("ws://127.0.0.1:1/ws/btcusdt@")
    assert open_feed("stdin").name == "stdin"
    assert open_feed("bitstamp", "BTC/USD").name == "bitstamp"
    future = open_feed("binance", "BTC/USDT:USDT")
    assert isinstance(future, CcxtFeed)
    assert future.symbol == "BTC/USDT:USDT"


def test_a_long_catching_up_lasts_as_long_as_it_gets_on() -> None:
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

    assert asyncio.run(run()) == trades[1:]
    assert (health.gaps, health.backfilled) == (0, 10)


@pytest.mark.parametrize("source", ["binance", "kraken"])
def test_a_market_that_falls_quiet_before_it_is_connected_again_is_caught_up_with(
    source: str,
) -> None:
    ticks, waits = drawn_ticks(200), replace(HASTE, first_s=0.5, longest_s=0.5, silence_s=50.0)
    with LocalExchange(ticks, Plan(faults=1, kinds=("cut",), chunk=1)) as exchange:
        feed = feed_of(source, exchange, waits)
        messages = asyncio.run(collect(feed, ticks[-1].id, within_s=10.0))
    assert [t.id for t in told(messages)] == [t.id for t in ticks]
    assert feed.health.reconnects == 1


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


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections wait for room after every trade."""
    for module in ("stream", "ccxt_feed"):
        monkeypatch.setattr(f"nexttick.live.{module}.Inbox", partial(Inbox, limit=1))


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize("source", ["binance", "kraken", "ccxt binance"])
def test_silence_after_a_wait_for_room_is_noticed(source: str) -> None:
    ticks = drawn_ticks(600)
    with LocalExchange(ticks, Plan(faults=2, kinds=("stall",))) as exchange:
        feed = feed_of(source, exchange)
        messages = asyncio.run(collect(feed, ticks[-1].id, within_s=30.0))
    assert [t.id for t in told(messages)] == [t.id for t in ticks]
    assert len(messages) == len(ticks)
    assert feed.health.silences >= 2


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize("source", ["binance", "ccxt binance"])
def test_a_wait_for_room_is_no_silence(source: str) -> None:
    async def slowly_at_first() -> int:
        count = 0
        async with asyncio.timeout(30.0), aclosing(feed.batches()) as batches:  # type: ignore[type-var]
            async for batch in batches:
                if not count:
                    await asyncio.sleep(1.5 * waits.silence_s)
                count += len(batch)
                if told(batch) and told(batch)[-1].id == ticks[-1].id:
                    break
        return count

    ticks, waits = drawn_ticks(300), replace(HASTE, silence_s=1.0)
    with LocalExchange(ticks, Plan(chunk=100, pause_s=0.1)) as exchange:
        feed = feed_of(source, exchange, waits)
        assert asyncio.run(slowly_at_first()) == len(ticks)
    assert (feed.health.silences, feed.health.reconnects) == (0, 0)
