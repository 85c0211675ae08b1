"""Every venue's form gives every tick of a span once, digit for digit, whatever goes wrong."""

from __future__ import annotations

import gzip
import json
import logging
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import ccxt.pro
import numpy as np
import polars as pl
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from helpers.local_exchange import (
    DAY_NS,
    MS_NS,
    RESOLUTION_NS,
    S_NS,
    SYMBOLS,
    TRICKS,
    LocalExchange,
    kraken_seconds,
)
from helpers.markets import quick, random_ticks, seeds
from helpers.servers import BROKEN, BUSY, CUT, DROP, OK, SLOW, Fault, LocalServer
from nexttick.ticks.record import SCHEMA, TickError
from nexttick.ticks.source import Missing, Page, SourceError
from nexttick.venues import binance, bitstamp, coinbase, kraken, okx, retrying
from nexttick.venues.exchanges import open_exchange
from nexttick.venues.history.connection import Connection, ccxt_exchange
from nexttick.venues.opening import ccxt_names
from nexttick.venues.retrying import ATTEMPTS
from nexttick.venues.trades import exact_json, iso_to_ns, read_rows, seconds_to_ns

VENUES = tuple(SYMBOLS)
venues = st.sampled_from(VENUES)
FAULTS = {"429": BUSY, "503": BROKEN, "cut": CUT, "drop": DROP, "slow": SLOW}
# Without consecutive ids nothing tells that a row in the midst of an answer is lacking.
FORGIVEN = dict.fromkeys(VENUES, TRICKS) | {
    "bitfinex": ("repeat", "double", "tail"),
    "bitstamp": ("double",),
}
FIRST_ID = 1  # a market that began later would be said to lack what is before
KEY = "k-3141592653589793"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT_S", 1e-9)


def market(venue: str, seed: int, n: int = 150) -> pl.DataFrame:
    """Ticks in bursts and ties, as finely timed as the venue knows, ids one after the other."""
    ticks = random_ticks(seed, n, sides="known")
    grid = RESOLUTION_NS[venue]
    return ticks.with_columns(
        time=pl.col("time") // grid * grid, id=FIRST_ID + pl.int_range(pl.len(), dtype=pl.Int64)
    )


@contextmanager
def served(venue: str, ticks: pl.DataFrame, page: int = 1000, **told: Any) -> Iterator[Any]:
    """A local exchange an hour after the last tick, with so many rows an answer."""
    now_ns = told.pop("now_ns", int(ticks["time"][-1]) + 3600 * S_NS)
    with (
        mock.patch.object(Connection, "now_ns", staticmethod(lambda: now_ns)),
        mock.patch.object(coinbase.Coinbase, "limit", page),
        mock.patch.object(okx.Okx, "limit", min(page, 100)),
        mock.patch.object(coinbase, "LIMIT", page),
        LocalExchange(venue, ticks, page, now_ns=now_ns, **told) as exchange,
    ):
        yield exchange


def fetch(exchange: LocalExchange, start_ns: int, stop_ns: int) -> list[Page | Missing]:
    return list(exchange.source().pages(start_ns, stop_ns))


def given_ticks(pages: list[Page | Missing]) -> pl.DataFrame:
    frames = [page.ticks for page in pages if isinstance(page, Page)]
    assert frames, pages
    return pl.concat(frames)


def within(ticks: pl.DataFrame, start_ns: int, stop_ns: int) -> pl.DataFrame:
    return ticks.filter(pl.col("time").is_between(start_ns, stop_ns, closed="left"))


def check(pages: list[Page | Missing], ticks: pl.DataFrame, span: tuple[int, int]) -> None:
    """All ticks of the span once, to the digit, in order; no page promises what has not come."""
    start_ns, stop_ns = span
    expected = within(ticks, start_ns, stop_ns)
    came = given_ticks(pages)
    assert came["id"].to_list() == expected["id"].to_list()
    assert came.select(expected.columns).equals(expected)
    until_ns, so_far = start_ns, []
    for page in pages:
        assert isinstance(page, Page), page
        assert page.until_ns >= until_ns
        until_ns = page.until_ns
        so_far += page.ticks["id"].to_list()
        assert set(within(ticks, start_ns, min(until_ns, stop_ns))["id"]) <= set(so_far)
    assert until_ns == stop_ns


def spans(ticks: pl.DataFrame) -> Iterator[tuple[int, int]]:
    """Whole, within, at ticks' own times and beside them, and around a gap."""
    time = ticks["time"].to_list()
    n = len(time)
    yield time[0] - 7 * S_NS, time[-1] + 1
    yield time[n // 4], time[3 * n // 4]
    yield time[n // 4] + 1, time[n // 2] + 1


# --- every tick once


@quick
@given(venue=venues, seed=seeds, page=st.integers(40, 90), which=st.integers(0, 2))
def test_every_tick_comes_once_and_no_page_promises_too_much(
    venue: str, seed: int, page: int, which: int
) -> None:
    ticks = market(venue, seed)
    with served(venue, ticks, page) as exchange:
        span = list(spans(ticks))[which]
        check(fetch(exchange, *span), ticks, span)


@pytest.mark.parametrize("page", [1, 2, 3, 7, 149, 150, 151])
@pytest.mark.parametrize("venue", ["binance", "coinbaseexchange", "okx"])
def test_pages_by_id_may_be_of_any_size(venue: str, page: int) -> None:
    ticks = market(venue, 1)
    with served(venue, ticks, page) as exchange:
        span = next(spans(ticks))
        check(fetch(exchange, *span), ticks, span)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("venue", VENUES)
def test_errors_that_pass_change_nothing(venue: str, fault: str) -> None:
    ticks = market(venue, 2)
    faults = [FAULTS[fault] if number % 3 == 0 else OK for number in range(200)]
    with served(venue, ticks, 40, faults=faults) as exchange:
        span = next(spans(ticks))
        check(fetch(exchange, *span), ticks, span)


@pytest.mark.parametrize(
    ("venue", "trick"), [(venue, trick) for venue in VENUES for trick in FORGIVEN[venue]]
)
def test_a_page_that_changes_under_the_reader_loses_and_doubles_nothing(
    venue: str, trick: str
) -> None:
    ticks = market(venue, 3)
    with served(venue, ticks, 40, tricks=["", trick] * 250) as exchange:
        span = next(spans(ticks))
        check(fetch(exchange, *span), ticks, span)


@quick
@given(venue=venues, seed=seeds)
def test_seeded_mixes_of_all_that_goes_wrong(venue: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ticks = market(venue, seed)
    kinds = (BUSY, BROKEN, CUT, DROP)
    faults = [kinds[rng.integers(4)] if rng.random() < 0.3 else OK for _ in range(500)]
    tricks = []
    for _ in range(250):  # a trick that comes twice running is what the venue says
        tricks += [str(rng.choice(FORGIVEN[venue])) if rng.random() < 0.5 else "", ""]
    page = int(rng.integers(40, 90))
    with served(venue, ticks, page, faults=faults, tricks=tricks) as exchange:
        span = list(spans(ticks))[rng.integers(3)]
        check(fetch(exchange, *span), ticks, span)


def recorded(data_dir: Path) -> pl.DataFrame:
    file = data_dir / "wire" / "binance_spot_btcusdt_20240809.jsonl.gz"
    with gzip.open(file, "rt") as lines:
        messages = (json.loads(line.split(" ", 1)[1])["data"] for line in lines)
        trades = [m for m in messages if m.get("e") == "trade"]
    rows = [
        (m["T"] * MS_NS, float(m["p"]), float(m["q"]), -1 if m["m"] else 1, m["t"]) for m in trades
    ]
    return pl.DataFrame(rows, schema=SCHEMA | {"id": pl.Int64()}, orient="row")


@pytest.mark.real_ticks
@pytest.mark.parametrize("venue", ["binance", "bitfinex"])
def test_recorded_trades_come_through(venue: str, data_dir: Path) -> None:
    ticks = recorded(data_dir)
    assert len(ticks) == 10_147
    span = (int(ticks["time"][0]), int(ticks["time"][-1]) + 1)
    with served(venue, ticks, 1000) as exchange:
        check(fetch(exchange, *span), ticks, span)


# --- borders, empty spans, gaps


@pytest.mark.parametrize("venue", VENUES)
def test_a_span_without_trades_is_empty_and_known_to_be(venue: str) -> None:
    ticks = market(venue, 4)
    time = ticks["time"].to_numpy()
    widest = int(np.diff(time).argmax())
    start, stop = int(time[widest]) + 1, int(time[widest + 1])
    with served(venue, ticks, 40) as exchange:
        for span in ((start, stop), (int(time[-1]) + 1, int(time[-1]) + 900 * S_NS)):
            check(fetch(exchange, *span), ticks, span)


@pytest.mark.parametrize("venue", VENUES)
def test_spans_side_by_side_give_what_the_whole_gives(venue: str) -> None:
    ticks = market(venue, 5)
    start, stop = next(spans(ticks))
    cuts = [start, *ticks["time"][20:-20:30].to_list(), stop]
    with served(venue, ticks, 40) as exchange:
        source = exchange.source()
        pages = [page for a, b in pairwise(cuts) if a < b for page in source.pages(a, b)]
    assert given_ticks(pages).select(ticks.columns).equals(ticks)


@pytest.mark.parametrize("venue", ["binance", "kraken", "coinbaseexchange", "okx"])
def test_the_venues_own_holes_are_asked_for_again_and_then_believed(venue: str) -> None:
    ticks = market(venue, 6)
    ids = pl.col("id") - FIRST_ID
    # One id, some, and more than a page's worth.
    ticks = ticks.filter((ids != 13) & ~ids.is_between(40, 45) & ~ids.is_between(60, 119))
    span = next(spans(ticks))
    with served(venue, ticks, 10) as exchange:
        check(fetch(exchange, *span), ticks, span)


@pytest.mark.parametrize("venue", ["binance", "okx", "coinbaseexchange"])
def test_what_a_venue_no_longer_keeps_is_said_to_be_missing(venue: str) -> None:
    ticks = market(venue, 7)
    kept = ticks.filter(pl.col("id") >= FIRST_ID + 60)
    span = next(spans(ticks))
    with served(venue, ticks, 40, keeps_from_id=FIRST_ID + 60) as exchange:
        missing, *pages = fetch(exchange, *span)
    assert isinstance(missing, Missing)
    assert not missing.fault
    assert (missing.start_ns, missing.stop_ns) == (span[0], kept["time"][0])
    assert f"no trade before id {FIRST_ID + 60}" in missing.reason
    check(pages, kept, span)


def test_a_month_of_empty_hours_costs_few_requests() -> None:
    ticks = market("binance", 8)
    late = ticks.with_columns(time=pl.col("time") + 30 * DAY_NS, id=pl.col("id") + len(ticks))
    ticks = pl.concat([ticks, late])
    span = (int(ticks["time"][len(late)] - 29 * DAY_NS), int(ticks["time"][-1]) + 1)
    with served("binance", ticks) as exchange:
        check(fetch(exchange, *span), ticks, span)
        assert len(exchange.server.requests) < 40


def test_a_later_span_of_the_same_source_searches_less() -> None:
    ticks = market("binance", 9)
    time = ticks["time"].to_list()
    with served("binance", ticks) as exchange:
        source = exchange.source()
        list(source.pages(time[10], time[20]))
        first = len(exchange.server.requests)
        list(source.pages(time[20], time[30]))
        assert len(exchange.server.requests) - first < first / 2


@pytest.mark.parametrize("venue", VENUES)
def test_the_last_minute_and_the_future_are_not_there_yet(venue: str) -> None:
    ticks = market(venue, 10)
    last = int(ticks["time"][-1])
    now_ns, stop_ns = last + 10 * S_NS, last + DAY_NS
    start_ns = max(int(ticks["time"][0]), now_ns - DAY_NS // 2)
    with served(venue, ticks, 40, now_ns=now_ns) as exchange:
        *pages, missing = fetch(exchange, start_ns, stop_ns)
    settled_ns = now_ns - 60 * S_NS
    assert missing == Missing(settled_ns, stop_ns, missing.reason, fault=False)
    check(pages, ticks, (start_ns, settled_ns))


def test_bitstamp_reaches_back_a_day_and_says_so() -> None:
    ticks = market("bitstamp", 11)
    time = ticks["time"].to_list()
    now_ns = time[75] + DAY_NS
    with served("bitstamp", ticks, now_ns=now_ns) as exchange:
        missing, page = fetch(exchange, time[0], time[-1] + 1)
        assert isinstance(missing, Missing)
        assert missing.stop_ns == now_ns - DAY_NS + 60 * S_NS
        assert "last day only" in missing.reason
        check([page], ticks, (missing.stop_ns, time[-1] + 1))
        requests = len(exchange.server.requests)
        (only,) = fetch(exchange, time[0] - DAY_NS, time[0])
        assert isinstance(only, Missing)
        assert len(exchange.server.requests) == requests, "asked for what cannot be had"


# --- any other venue, by time


def test_a_venue_that_ignores_the_time_asked_for_is_found_out() -> None:
    ticks = market("bitfinex", 12)
    time = ticks["time"].to_list()
    with served("bitfinex", ticks, 40, heeds_since=False) as exchange:
        with pytest.raises(SourceError, match="newest 40 trades only, back to 20"):
            fetch(exchange, time[0], time[100])
        recent = (time[115] + MS_NS, time[-1] + 1)  # within the newest trades
        check(fetch(exchange, *recent), ticks, recent)


def test_a_millisecond_that_holds_more_than_a_page_is_told() -> None:
    ticks = market("bitfinex", 13)
    crowded = 60
    time = ticks["time"].to_list()
    time[crowded : crowded + 20] = [time[crowded]] * 20
    ticks = ticks.with_columns(time=pl.Series(time)).sort("time", "id")
    span = (time[0], time[-1] + 1)
    with served("bitfinex", ticks, 15) as exchange:
        pages = fetch(exchange, *span)
    (missing,) = [page for page in pages if isinstance(page, Missing)]
    assert missing.fault
    assert missing.stop_ns - missing.start_ns == MS_NS
    assert missing.start_ns == time[crowded]
    assert "more trades than the 15" in missing.reason
    elsewhere = pl.col("time") != time[crowded]
    assert given_ticks(pages).filter(elsewhere).equals(ticks.filter(elsewhere))


def test_ties_are_in_order_of_whole_number_ids() -> None:
    time = [1_600_000_000 * S_NS, *[1_700_000_000 * S_NS] * 29]
    ticks = market("bitfinex", 14, n=30).with_columns(
        time=pl.Series(time), id=pl.int_range(990, 1020, dtype=pl.Int64)
    )
    span = (time[0] + MS_NS, time[-1] + 1)
    with served("bitfinex", ticks) as exchange:
        assert given_ticks(fetch(exchange, *span))["id"].to_list() == list(range(991, 1020))


# --- exact values


@pytest.mark.real_ticks
def test_krakens_recorded_answer_is_read_digit_for_digit(data_dir: Path) -> None:
    text = (data_dir / "wire" / "kraken_http_trades.json").read_text()
    rows, last_ns = kraken.split_answer(exact_json(text), "kraken")
    ticks = read_rows(rows, kraken.read_trade, "kraken").ticks
    assert ticks.row(0) == (1762795433_971744500, 105433.6, 0.00027625, 1, 10218208)
    assert ticks.row(1) == (1762795457_846737400, 105410.1, 0.00005, 1, 10218209)
    assert ticks["side"][4] == -1
    assert ticks["id"].diff().drop_nulls().unique().to_list() == [1]
    assert abs(last_ns - ticks["time"][-1]) < 1_000
    exact = json.loads(text, parse_float=Decimal)["result"]["XBTUSDT"]
    assert ticks["time"].to_list() == [int(row[2] * 10**9) for row in exact]


def test_kraken_loses_no_trade_whose_time_was_rounded() -> None:
    ticks = market("kraken", 15).with_columns(
        time=pl.col("time") + pl.int_range(pl.len()) * 37  # many within a float64's 238 ns
    )
    rounded = [seconds_to_ns(repr(time / 1e9)) for time in ticks["time"]]
    assert rounded != ticks["time"].to_list()
    told = ticks.with_columns(time=pl.Series(rounded))
    cuts = [told["time"][0], *told["time"][10:-10:7].to_list(), told["time"][-1] + 1]
    with (
        mock.patch("helpers.local_exchange.kraken_seconds", lambda time_ns: repr(time_ns / 1e9)),
        served("kraken", ticks, 12) as exchange,
    ):
        source = exchange.source()
        pages = [page for a, b in pairwise(cuts) if a < b for page in source.pages(a, b)]
    assert given_ticks(pages).equals(told)


@quick
@given(time_ns=st.integers(0, 2**63 - 1))
def test_times_are_exact(time_ns: int) -> None:
    assert seconds_to_ns(kraken_seconds(time_ns)) == time_ns
    text = str(np.datetime64(time_ns, "ns")) + "Z"
    assert iso_to_ns(text) == time_ns
    assert iso_to_ns(str(np.datetime64(time_ns // 10**9, "s")) + "Z") == time_ns // 10**9 * 10**9


def test_a_binance_time_is_of_the_unit_that_its_digits_tell() -> None:
    row = {"a": 26129, "p": "0.01633102", "q": "4.70443515", "T": 1498793709153, "m": True}
    expected = (1498793709153_000_000, 0.01633102, 4.70443515, -1, 26129)
    assert binance.read_aggregated(row) == expected
    row |= {"T": 1498793709153071, "m": False}
    assert binance.read_aggregated(row) == (1498793709153_071_000, *expected[1:3], 1, 26129)


def test_coinbase_tells_the_makers_side() -> None:
    row = {
        "time": "2020-03-20T00:36:59.860001Z",
        "trade_id": 86327327,
        "price": "6225.32000000",
        "size": "0.06469797",
        "side": "sell",  # an up-tick, says the venue's own page
    }
    expected = (1584664619_860_001_000, 6225.32, 0.06469797, 1, 86327327)
    assert coinbase.read_trade(row) == expected
    assert coinbase.read_trade(row | {"side": "SELL"}) == expected
    assert coinbase.read_trade(row | {"side": "UNKNOWN_ORDER_SIDE"})[3] == 0


def test_bitstamp_and_okx_rows() -> None:
    row = {"date": "1551814435", "tid": "83581898", "price": "0.0353285", "type": "1"}
    tick = bitstamp.read_trade(row | {"amount": "0.85945907"})
    assert tick == (1551814435 * S_NS, 0.0353285, 0.85945907, -1, 83581898)
    row = {"side": "sell", "sz": "0.119501", "px": "0.07065", "tradeId": "15826757"}
    tick = okx.read_trade(row | {"ts": "1621446178316"})
    assert tick == (1621446178316 * MS_NS, 0.07065, 0.119501, -1, 15826757)


def test_bytes_are_counted_as_they_came() -> None:
    ticks = market("binance", 16)
    with served("binance", ticks, 40) as exchange:
        pages = fetch(exchange, *next(spans(ticks)))
        assert sum(page.received for page in pages if isinstance(page, Page)) == exchange.sent


# --- rows that are no ticks


def test_rows_that_are_no_ticks_are_counted_by_reason() -> None:
    ticks = market("binance", 17)
    bad = {
        FIRST_ID + 5: {"p": "-1"},
        FIRST_ID + 6: {"q": "0.0"},
        FIRST_ID + 70: {"p": "many"},
        FIRST_ID + 71: {"m": "yes"},
    }
    with served("binance", ticks, 40, row=lambda n, row: row | bad.get(n, {})) as exchange:
        pages = fetch(exchange, *next(spans(ticks)))
    aside = [item for page in pages if isinstance(page, Page) for item in page.set_aside]
    assert sorted(aside) == [
        ("a field is of another form", 1),
        ("amount not positive and finite", 1),
        ("price not positive and finite", 1),
        ("side is no true or false", 1),
    ]
    assert given_ticks(pages).equals(ticks.filter(~pl.col("id").is_in(list(bad))))


def test_a_form_that_has_changed_is_an_error_that_shows_a_row() -> None:
    ticks = market("binance", 18)
    changed = {"price": "1"}
    with (
        served("binance", ticks, row=lambda n, row: changed) as exchange,
        pytest.raises(TickError, match=r"none of 1 rows can be read: a field is missing.*'price'"),
    ):
        fetch(exchange, *next(spans(ticks)))


# --- clear errors


def test_unknown_names_get_their_nearest() -> None:
    with pytest.raises(ValueError, match=r"no venue 'bitfinexx'; did you mean bitfinex"):
        open_exchange("bitfinexx", "BTC/USD")
    with pytest.raises(ValueError, match="kind='quotes': kraken has trades"):
        open_exchange("kraken", "BTC/USD", kind="quotes")
    ticks = market("kraken", 19)
    with served("kraken", ticks) as exchange:
        for symbol in ("XBTUSD", "BTC/USDT", "btcusd"):
            source = open_exchange("kraken", symbol, exchange=exchange.exchange)
            with pytest.raises(SourceError, match=f"symbol {symbol}; did you mean BTC/USD"):
                list(source.pages(*next(spans(ticks))))


@pytest.mark.parametrize("status", [400, 403, 404, 451])
def test_a_refusal_is_not_asked_again(status: int) -> None:
    ticks = market("binance", 20)
    with served("binance", ticks, faults=[OK, Fault("status", status)]) as exchange:
        with pytest.raises(SourceError, match=rf"binance: asking for aggTrades .*{status}"):
            fetch(exchange, *next(spans(ticks)))
        assert len(exchange.server.requests) == 2


def test_a_venue_that_stays_down_is_an_error_in_the_end() -> None:
    ticks = market("kraken", 21)
    with served("kraken", ticks, faults=[BROKEN] * 50) as exchange:
        with pytest.raises(SourceError, match=rf"503.*tried {ATTEMPTS} times"):
            fetch(exchange, *next(spans(ticks)))
        assert len(exchange.server.requests) == ATTEMPTS


def test_retry_after_is_kept_to_and_an_hour_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    ticks = market("binance", 22)
    date = ("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT")  # past: at once
    faults = [
        Fault("status", 429, (("Retry-After", "7"),)),
        Fault("status", 503, (date,)),
        Fault("status", 418, (("Retry-After", "3600"),)),
    ]
    with (
        served("binance", ticks, faults=faults) as exchange,
        pytest.raises(SourceError, match="it asks to wait for 3600 s"),
    ):
        fetch(exchange, *next(spans(ticks)))
    assert waits == [7, 0]


def test_an_answer_that_is_no_json_is_asked_for_again_and_one_of_another_form_is_not() -> None:
    ticks = market("coinbaseexchange", 23)
    span = next(spans(ticks))
    html, other = ("<html>wait</html>", {}), ({"trades": []}, {})
    with served("coinbaseexchange", ticks) as exchange:
        exchange.before, exchange.tricks = html, ["repeat", "repeat"]
        check(fetch(exchange, *span), ticks, span)
        exchange.before, exchange.tricks = other, ["repeat"]
        with pytest.raises(TickError, match=r"a JSON list was expected, .*trades.* came"):
            fetch(exchange, *span)


# --- keys


def test_plain_trades_of_binance_come_with_a_key_only(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = market("binance", 24)
    span = next(spans(ticks))
    with served("binance", ticks, key=KEY) as exchange:
        source = exchange.source(kind="trades")
        with pytest.raises(SourceError, match="NEXTTICK_BINANCE_KEY, or take kind aggTrades"):
            list(source.pages(*span))
    monkeypatch.setenv("NEXTTICK_BINANCE_KEY", KEY)
    with served("binance", ticks, 40, key=KEY) as exchange:
        source = exchange.source(kind="trades")
        assert source.series.kind == "trades"
        check(list(source.pages(*span)), ticks, span)


def test_no_key_reaches_a_message_or_a_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NEXTTICK_BINANCE_KEY", KEY)
    monkeypatch.setenv("NEXTTICK_BINANCE_SECRET", KEY[::-1])
    ticks = market("binance", 25)
    with (
        caplog.at_level(logging.DEBUG),
        served("binance", ticks, key="another", faults=[OK, BROKEN]) as exchange,
    ):
        assert exchange.exchange.apiKey == KEY
        with pytest.raises(SourceError, match=r"bad key \*\*\*") as caught:
            list(exchange.source(kind="trades").pages(*next(spans(ticks))))
        assert any("historicalTrades" in path for path in exchange.server.requests)
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert caught.value.__context__ is None, "an error hangs on this one that nobody scrubbed"
    assert KEY not in told
    assert KEY[::-1] not in told
    assert KEY not in str(caught.value.args)


def test_no_redirection_takes_a_key_along(monkeypatch: pytest.MonkeyPatch) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        return web.json_response([])

    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(other.url)

    monkeypatch.setenv("NEXTTICK_BINANCE_KEY", KEY)
    with LocalServer(elsewhere) as other, LocalServer(away) as here:
        source = open_exchange("binance", "BTC/USDT", kind="trades", base_url=here.url)
        with pytest.raises(SourceError, match="trying again will not help"):
            list(source.pages(0, DAY_NS))
        assert (len(here.requests), other.requests) == (1, [])


def test_own_objects_keep_the_rate_limit_and_a_time_out() -> None:
    exchange = ccxt_exchange("kraken")
    assert exchange.enableRateLimit
    assert exchange.timeout == 30_000
    exchange.close()


def test_nothing_heavy_is_imported_before_a_venue_is_opened() -> None:
    code = (
        "import sys, nexttick.venues.exchanges;"
        "heavy = 'ccxt', 'requests', 'aiohttp', 'websockets', 'torch';"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- real venues


@pytest.mark.network
@pytest.mark.parametrize("venue", [*VENUES, "bybit", "gemini"])
def test_a_real_venue_gives_its_newest_trades(venue: str) -> None:
    symbol = SYMBOLS.get(venue, "BTC/USDT" if venue == "bybit" else "BTC/USD")
    stop_ns = Connection.now_ns() - 120 * S_NS
    source = open_exchange(venue, symbol)
    try:
        ticks = given_ticks(list(source.pages(stop_ns - 300 * S_NS, stop_ns)))
    except SourceError as error:
        assert "trades only, back to" in str(error), error  # noqa: PT017
        return
    assert ticks["time"].is_sorted()
    assert ticks["time"].is_between(stop_ns - 300 * S_NS, stop_ns, closed="left").all()
    if source.consecutive_ids:
        assert ticks["id"].diff().drop_nulls().unique().to_list() in ([], [1])


def test_exchanges_are_named_without_ccxt_as_ccxt_names_them() -> None:
    assert ccxt_names() == sorted(ccxt.exchanges)
    assert ccxt_names("pro") == sorted(ccxt.pro.exchanges)
