"""CoinMarketCap's quotes and bitcoincharts' pages, from local servers of their forms."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from helpers.local_archive import (
    DAY_NS,
    JAN_2024_NS,
    S_NS,
    QuoteService,
    Shelf,
    TradePages,
    charts_text,
    collect,
    gzip_bomb,
    market_ticks,
    waits,
)
from helpers.servers import BROKEN, BUSY, CUT, DROP, OK, LocalServer
from nexttick.ticks.cleaning import clean
from nexttick.ticks.reading.read import read_ticks
from nexttick.ticks.record import TickError
from nexttick.ticks.source import Missing, Page, SourceError
from nexttick.venues.archives import bitcoincharts, coinmarketcap
from nexttick.venues.archives.bitcoincharts import Bitcoincharts
from nexttick.venues.archives.coinmarketcap import KEY_VARIABLE, CoinMarketCap

__all__ = ["waits"]
KEY = QuoteService.key
SPAN_DAYS = 40  # more than one call has


def quotes(n_days: int = SPAN_DAYS) -> pl.DataFrame:
    """A quote each five minutes, up to two minutes late; times in whole seconds."""
    rng = np.random.default_rng(1)
    n = n_days * 288
    late_s = np.where(rng.random(n) < 0.1, rng.integers(0, 120, n), 0)
    time = JAN_2024_NS + (np.arange(n) * 300 + late_s) * S_NS
    return pl.DataFrame(
        {"time": time, "price": np.round(4e4 * np.exp(0.001 * rng.normal(size=n).cumsum()), 6)}
    )


def as_ticks(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(amount=pl.lit(1.0), side=pl.lit(0, pl.Int8()))


def coin(
    server: LocalServer, symbol: str = "BTC", key: str = KEY, attempts: int = 8
) -> CoinMarketCap:
    return CoinMarketCap(symbol, key, base_url=server.url, attempts=attempts)


# --- CoinMarketCap


@pytest.mark.parametrize("alone", [False, True])
def test_quotes_come_exactly_over_several_calls(alone: bool) -> None:
    service = QuoteService(quotes(), wrap=(lambda c: c) if alone else (lambda c: {"1": c}))
    with LocalServer(service) as server:
        source = coin(server, "btc/EUR")
        start_ns, stop_ns = JAN_2024_NS + 5 * S_NS, JAN_2024_NS + SPAN_DAYS * DAY_NS
        given = collect(source, start_ns, stop_ns, as_ticks(quotes()))
        assert len(server.requests) == 3
        assert all(KEY not in request for request in server.requests)
    assert source.series == ("coinmarketcap", "BTC/EUR", "quotes")
    assert "not trades" in source.notice
    assert "no trades" in source.name
    assert len(given.ticks) == 288 * SPAN_DAYS - 1
    assert clean(given.ticks, outliers=False)[0].equals(given.ticks)


@pytest.mark.usefixtures("waits")
def test_quotes_through_faults() -> None:
    faults = [BUSY, BROKEN, OK, CUT, DROP, OK, BUSY]
    with LocalServer(QuoteService(quotes()), faults) as server:
        given = collect(
            coin(server), JAN_2024_NS, JAN_2024_NS + SPAN_DAYS * DAY_NS, as_ticks(quotes())
        )
    assert not given.missing


def test_quotes_that_may_still_come_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = JAN_2024_NS + DAY_NS
    monkeypatch.setattr(coinmarketcap, "now_ns", lambda: now_ns)
    known = quotes(1).filter(pl.col("time") < now_ns - 300 * S_NS)
    with LocalServer(QuoteService(known)) as server:
        given = collect(coin(server), JAN_2024_NS, now_ns + DAY_NS, as_ticks(known))
        (gap,) = given.missing
        assert not gap.fault
        assert gap.start_ns == now_ns - 600 * S_NS
        (later,) = coin(server).pages(now_ns + DAY_NS, now_ns + 2 * DAY_NS)
        assert isinstance(later, Missing)


def test_without_a_key_it_says_what_where_and_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(
        ValueError, match=f"https://pro.coinmarketcap.com.*{KEY_VARIABLE}.*not trades"
    ):
        CoinMarketCap("BTC")
    with pytest.raises(ValueError, match="strange letter") as caught:
        CoinMarketCap("BTC", "5ecret\x00key")
    assert "5ecret" not in str(caught.value)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, f" {KEY}\n")
    with LocalServer(QuoteService(quotes(1))) as server:
        source = CoinMarketCap("BTC", base_url=server.url)
        (page,) = source.pages(JAN_2024_NS, JAN_2024_NS + DAY_NS)
    assert isinstance(page, Page)
    assert len(page.ticks) == 288


def test_a_wrong_key_is_refused_and_not_shown() -> None:
    with LocalServer(QuoteService(quotes(1))) as server:
        with pytest.raises(SourceError, match=r"status 401.*API Key is invalid: ...") as caught:
            list(coin(server, key="wr0ng-key").pages(JAN_2024_NS, JAN_2024_NS + DAY_NS))
        assert len(server.requests) == 1
    assert "wr0ng-key" not in str(caught.value)


def test_an_unknown_coin() -> None:
    with (
        LocalServer(QuoteService(quotes(1))) as server,
        pytest.raises(SourceError, match=r"NONE.*no such coin"),
    ):
        list(coin(server, "NONE").pages(JAN_2024_NS, JAN_2024_NS + DAY_NS))
    with pytest.raises(ValueError, match="give it like BTC"):
        CoinMarketCap("BTC/USD/EUR", KEY)


@pytest.mark.parametrize(
    ("body", "error", "word"),
    [
        (b"<html>", TickError, "starts no JSON"),
        (b"[]", TickError, "holds no data"),
        (
            b'{"status": {"error_code": 1006, "error_message": "no such plan"}}',
            SourceError,
            "no such plan",
        ),
        (b'{"status": {"error_code": 0}, "data": [3]}', TickError, "no list of coins"),
    ],
)
def test_strange_answers(body: bytes, error: type[Exception], word: str) -> None:
    with (
        LocalServer(Shelf({"/v1/cryptocurrency/map": body})) as server,
        pytest.raises(error, match=word),
    ):
        list(coin(server).pages(JAN_2024_NS, JAN_2024_NS + DAY_NS))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda c: {},
        lambda c: {"1": {}},
        lambda c: {"quotes": [{"timestamp": "soon", "quote": {"USD": {"price": 1}}}]},
    ],
    ids=["no coin", "no quotes", "no time"],
)
def test_strange_quotes(wrap) -> None:  # type: ignore[no-untyped-def]
    service = QuoteService(quotes(1), wrap=wrap)
    with (
        LocalServer(service) as server,
        pytest.raises(TickError, match=r"2024-01-01.*no list of quotes in USD"),
    ):
        list(coin(server).pages(JAN_2024_NS, JAN_2024_NS + DAY_NS))


# --- bitcoincharts


def bursts(n: int = 1500) -> pl.DataFrame:
    """Ticks in whole seconds, up to thirty of them in one, none told apart by an id."""
    rng = np.random.default_rng(2)
    ticks = market_ticks(n, JAN_2024_NS, "s", ids=False)
    burst = np.repeat(ticks["time"].to_numpy(), rng.choice([1, 2, 30], n, p=[0.8, 0.15, 0.05]))[:n]
    return ticks.with_columns(time=burst)


def charts(server: LocalServer, **options: object) -> Bitcoincharts:
    return Bitcoincharts("bitstampUSD", base_url=server.url, **options)  # type: ignore[arg-type]


STOP_NS = JAN_2024_NS + 3 * DAY_NS


@pytest.mark.parametrize("size", [64, 100, 20_000])
@pytest.mark.parametrize("history", [False, True])
def test_pages_that_overlap_give_each_tick_once(size: int, history: bool) -> None:
    ticks = bursts()
    last_ns = int(ticks["time"][-1])
    with LocalServer(TradePages(ticks, size)) as server:
        given = collect(charts(server, history=history), JAN_2024_NS, STOP_NS, ticks)
        asked = len(server.requests)
        assert asked >= len(ticks) // size or history
    (gap,) = given.missing
    assert (gap.start_ns, gap.fault) == (last_ns + S_NS, False)
    assert given.ticks.equals(ticks)
    if history:
        assert asked <= 4


def test_a_stop_within_the_history_leaves_nothing_missing() -> None:
    ticks = bursts()
    stop_ns = int(ticks["time"][700]) + 1  # just after a second has begun
    with LocalServer(TradePages(ticks)) as server:
        for history in (False, True):
            given = collect(charts(server, history=history), JAN_2024_NS + 1, stop_ns, ticks)
            assert not given.missing


def test_a_second_that_fills_a_page_is_missing_and_said() -> None:
    ticks = bursts()
    with LocalServer(TradePages(ticks, 20)) as server:
        given = collect(charts(server), JAN_2024_NS, int(ticks["time"][-1]), ticks)
    full = ticks.group_by("time").len().filter(pl.col("len") >= 20).sort("time")
    assert [gap.start_ns for gap in given.missing] == full["time"].to_list()[: len(given.missing)]
    assert len(given.missing) >= 3
    assert all(gap.stop_ns - gap.start_ns == S_NS and gap.fault for gap in given.missing)
    assert all("fills a page of 20 trades" in gap.reason for gap in given.missing)


@pytest.mark.usefixtures("waits")
def test_pages_that_are_doubled_or_change_are_seen_through() -> None:
    ticks = bursts()

    def of_before(page: pl.DataFrame) -> pl.DataFrame:
        return ticks.head(50)

    def grown(page: pl.DataFrame) -> pl.DataFrame:
        return ticks.filter(pl.col("time") >= page["time"][0]).head(77)

    def of_after(page: pl.DataFrame) -> pl.DataFrame:
        return ticks.filter(pl.col("time") > page["time"][0] + 3600 * S_NS).head(50)

    changed = {3: of_before, 5: grown, 6: lambda page: page.head(31), 9: of_before, 10: of_after}
    with LocalServer(TradePages(ticks, changed=changed)) as server:
        given = collect(charts(server), JAN_2024_NS, STOP_NS, ticks)
    assert given.ticks.equals(ticks)


@pytest.mark.usefixtures("waits")
def test_a_page_of_another_time_again_and_again_is_an_error() -> None:
    ticks = bursts()
    changed = {number: lambda page: ticks.head(50) for number in range(4, 99)}
    with (
        LocalServer(TradePages(ticks, changed=changed)) as server,
        pytest.raises(SourceError, match=r"from 2024-01-01T.*a page of other seconds.*3 times"),
    ):
        collect(charts(server, attempts=3), JAN_2024_NS, STOP_NS, ticks)


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("history", [False, True])
def test_bitcoincharts_through_faults(history: bool) -> None:
    ticks = bursts()
    faults = [DROP, BUSY, CUT, OK, BROKEN, OK, CUT, DROP, OK, BUSY]
    with LocalServer(TradePages(ticks), faults) as server:
        given = collect(charts(server, history=history), JAN_2024_NS, STOP_NS, ticks)
    assert given.ticks.equals(ticks)


def test_the_newest_second_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = bursts()
    last_s = int(ticks["time"][-1]) // S_NS
    monkeypatch.setattr(bitcoincharts, "now_ns", lambda: (last_s + 600) * 10**9)
    with LocalServer(TradePages(ticks)) as server:
        (gap,) = collect(charts(server), JAN_2024_NS, STOP_NS, ticks).missing
        assert gap.start_ns == last_s * S_NS
        (gap,) = collect(charts(server), last_s * S_NS + 5 * S_NS, STOP_NS, ticks).missing
        assert not gap.fault


def test_recorded_history_comes_exactly(data_dir: Path) -> None:
    path = data_dir / "bitcoincharts" / "krakenCAD.csv.gz"
    ticks, _ = read_ticks(path, outliers=False)
    shelf = Shelf(
        {"/csv/krakenCAD.csv.gz": path.read_bytes(), "/trades.csv": charts_text(ticks.tail(1))}
    )
    start_ns, stop_ns = int(ticks["time"][100]), int(ticks["time"][-1])
    with LocalServer(shelf) as server:
        source = Bitcoincharts("BTC/CAD", "kraken", history=True, base_url=server.url)
        pages = [part for part in source.pages(start_ns, stop_ns) if isinstance(part, Page)]
    truth = ticks.filter(pl.col("time").is_between(start_ns, stop_ns - 1))
    assert pl.concat([page.ticks for page in pages]).equals(truth)
    assert len(truth) > 200_000
    assert source.series == ("kraken", "BTC/CAD", "trades")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"<html>gone</html>", "starts b'<html>"),
        (b"1704067200,1.0\n", "column"),
        (b"1704067200,1.0,2.0\n1704067201,1.0\n", "blank or missing"),
        (b"1704067200000,1.0,2.0\n", "no Unix second"),
    ],
)
def test_strange_pages(body: bytes, word: str) -> None:
    with (
        LocalServer(Shelf({"/trades.csv": body})) as server,
        pytest.raises(
            TickError, match=f"bitcoincharts bitstampUSD from 2024-01-01T00:00:00Z.*{word}"
        ),
    ):
        list(charts(server).pages(JAN_2024_NS, STOP_NS))


def test_a_gzip_bomb_and_a_truncated_history() -> None:
    whole = gzip.compress(charts_text(bursts()))
    for body, word in (
        (gzip_bomb(100 << 20), "line longer|zip bomb"),
        (whole[:-30], "corrupt gzip"),
    ):
        shelf = Shelf({"/csv/bitstampUSD.csv.gz": body})
        with LocalServer(shelf) as server, pytest.raises(TickError, match=word):
            list(charts(server, history=True).pages(JAN_2024_NS, STOP_NS))


@pytest.mark.parametrize("symbol", ["BTC/USD", "bitstamp", "../bitstampUSD", "bitstampUSD&x=1"])
def test_strange_markets_are_refused(symbol: str) -> None:
    with pytest.raises(ValueError, match="give it like bitstampUSD"):
        Bitcoincharts(symbol)


@pytest.mark.network
def test_the_real_bitcoincharts() -> None:
    start_ns = 1_534_118_400 * S_NS
    first = next(Bitcoincharts("bitstampUSD").pages(start_ns, start_ns + DAY_NS))
    assert isinstance(first, Page)
    assert len(first.ticks) > 0
