"""Feeds into markets: an exchange with faults, gaps, what settles, what is refused and told."""

from __future__ import annotations

import asyncio
import io
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from helpers.live_exchange import LocalExchange, Plan, drawn_ticks
from helpers.live_runs import (
    CONTEXT,
    Told,
    Until,
    assert_same,
    batch_predictions,
    events_of,
    feed_of,
    opened,
    some_trades,
    trades_of,
)
from helpers.virtual_time import run_virtually
from nexttick.cli.screen_live import Watching
from nexttick.live import follow
from nexttick.live.market import Market
from nexttick.live.records import Prediction
from nexttick.ticks.source import SourceError
from nexttick.venues.messages import Gap, Health, Trade


def record_of(path: Path) -> pl.DataFrame:
    """The trades of a journal as ticks."""
    columns = {"time": 1, "price": 2, "amount": 3, "side": 4, "id": 5}
    rows = trades_of(path)
    frame = pl.DataFrame({name: [row[k] for row in rows] for name, k in columns.items()})
    return frame.with_columns(pl.col("side").cast(pl.Int8))


def test_chaos_and_every_tick_is_in_the_journal_once(live_run: Path, tmp_path: Path) -> None:
    ticks = drawn_ticks(20_000, seed=4)
    market = opened(live_run, tmp_path / "j", source="binance")
    with LocalExchange(ticks, Plan(faults=60, seed=9, chunk=100)) as exchange:
        feed = Until(feed_of(exchange), ticks[-1].id)
        asyncio.run(follow.run([(market, feed)], lambda *_: None, None))
    market.close()
    assert len(exchange.done) == 60
    held = record_of(tmp_path / "j")
    assert held["id"].to_list() == [tick.id for tick in ticks]
    assert held["price"].to_list() == [float(tick.price) for tick in ticks]
    assert feed.health.gaps == 0
    assert_same(events_of(tmp_path / "j"), batch_predictions(live_run, held.drop("id")))


# --- what a feed says


def test_a_gap_resets_and_pauses_until_the_context_is_full(live_run: Path, tmp_path: Path) -> None:
    before, after = some_trades(30), some_trades(30, 40)
    gap = Gap(before[-1].time_ns, after[0].time_ns, 29, 40, "the venue had no more")
    market, said = opened(live_run, tmp_path / "j"), list[Prediction]()
    feed = Told([[*before, gap, *after]])
    asyncio.run(follow.run([(market, feed)], lambda _, told: said.extend(told), None))
    silent = [k for k, one in enumerate(said) if np.isnan(one.p_H[0])]
    assert silent == [*range(CONTEXT - 1), *range(30, 30 + CONTEXT - 1)]
    market.close()
    for part, trades in ((said[:30], before), (said[30:], after)):
        frame = pl.DataFrame(
            {
                "time": [t.time_ns for t in trades],
                "price": [t.price for t in trades],
                "amount": [t.amount for t in trades],
                "side": pl.Series([t.side for t in trades], dtype=pl.Int8),
            }
        )
        ours = np.array([one.p_H for one in part])
        theirs = batch_predictions(live_run, frame).select("p_rise@1", "p_rise@5s").to_numpy()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    told = events_of(tmp_path / "j")
    assert told["y_rise@1"][29] == -1  # no horizon goes across
    again = opened(live_run, tmp_path / "j")
    assert again.stepper.seen == 30
    again.close()


def test_an_event_settles_when_nothing_comes(live_run: Path, tmp_path: Path) -> None:
    trades = some_trades(2)
    market, said = opened(live_run, tmp_path / "j"), list[tuple[float, int]]()
    feed = Told([[trade] for trade in trades], pause_s=0.4)

    def say(_: Market, told: Sequence[Prediction]) -> None:
        now_s = asyncio.get_running_loop().time()
        said.extend((now_s, one.event) for one in told)

    run_virtually(follow.follow(market, feed, say, 0.02))
    market.close()
    (first_s, zero), (second_s, one) = said
    assert (zero, one) == (0, 1)
    # Before the second trade came, which ends it else.
    assert (first_s, second_s) == (pytest.approx(0.02), pytest.approx(0.42))


def test_what_cannot_be_kept_is_not_said(
    live_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market, said = opened(live_run, tmp_path / "j"), list[Prediction]()
    market.take(some_trades(20))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "the disk is full")

    monkeypatch.setattr(market.journal, "append", full)
    with pytest.raises(OSError, match="the disk is full"):
        asyncio.run(
            follow.run(
                [(market, Told([list(some_trades(20, 20))]))],
                lambda _, told: said.extend(told),
                None,
            )
        )
    assert said == []
    market.close()  # and no state that the journal's trades do not lead to
    again = opened(live_run, tmp_path / "j")
    assert again.journal.trades == 20
    again.close()


def test_a_long_batch_lets_others_run_between_its_parts(live_run: Path, tmp_path: Path) -> None:
    market, said, turns = opened(live_run, tmp_path / "j"), list[int](), list[int]()

    async def beside() -> None:
        while True:
            turns.append(len(said))
            await asyncio.sleep(0)

    feed = Told([some_trades(2 * follow.PART + 500)])
    asyncio.run(
        follow.run(
            [(market, feed)], lambda _, told: said.extend(p.event for p in told), None, [beside()]
        )
    )
    market.close()
    assert said == list(range(2 * follow.PART + 500))
    # The newest event of each part stays open until the next part.
    assert {follow.PART - 1, 2 * follow.PART - 1} <= set(turns)


# --- what is told while it runs


class Refused(Told):
    """A feed whose venue doesn't know the market."""

    async def batches(self, after: Trade | None = None):  # type: ignore[no-untyped-def]
        yield list(some_trades(10))
        await asyncio.sleep(0.01)
        raise SourceError("no such market")


def test_a_venue_that_refuses_ends_all_and_leaves_whole_journals(
    live_run: Path, tmp_path: Path
) -> None:
    one, two = opened(live_run, tmp_path / "one"), opened(live_run, tmp_path / "two")
    goes_on = Told([[trade] for trade in some_trades(10)], pause_s=3600)
    said: list[Market] = []
    with pytest.raises(SourceError, match="no such market"):
        run_virtually(
            follow.run([(one, goes_on), (two, Refused([]))], lambda m, _: said.append(m), 0.001)
        )
    for market in (one, two):
        market.close()
    assert said.count(one) == 1
    with opened(live_run, tmp_path / "one").journal as journal:
        assert (journal.trades, journal.events) == (1, 1)
    with opened(live_run, tmp_path / "two").journal as journal:
        assert journal.trades == 10


class RefusedToo(Told):
    """A feed that ends with an error of its own when it is stopped."""

    async def batches(self, after: Trade | None = None):  # type: ignore[no-untyped-def]
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise SourceError("no such market either") from None
        yield []


def test_all_that_fails_at_once_is_told(
    live_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    markets = [opened(live_run, tmp_path / name) for name in "ab"]
    feeds = [Refused([]), RefusedToo([])]
    with pytest.raises(SourceError, match=r"no such market$"):
        asyncio.run(follow.run(list(zip(markets, feeds, strict=True)), lambda *_: None, None))
    for market in markets:
        market.close()
    assert caplog.messages == ["no such market either"]


def test_warnings_are_logged_when_they_begin_and_end(
    live_run: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, "nexttick")
    monkeypatch.setattr("nexttick.live.market.QUIET_S", 0.0)
    market, told = (
        opened(live_run, tmp_path / "j"),
        [["off by 1"], ["off by 2"], [], [], ["off by 3"]],
    )
    monkeypatch.setattr(market._scores, "warnings", lambda: list(told[0]))
    while told:
        market.report()
        del told[0]
    market.close()
    within = "BTC/USDT: scores and features are within their bands again"
    assert caplog.messages == ["BTC/USDT: off by 1", within, "BTC/USDT: off by 3"]


def test_the_table_says_prices_in_full_and_lets_lines_through(
    live_run: Path, tmp_path: Path
) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    market, health = (
        opened(live_run, tmp_path / "j"),
        Health(connected=True, gaps=1, reconnects=1200),
    )
    with Watching([(market, health)], screen) as watching:
        newest = Prediction(0, 1_500_000_000_123_456_789, 1334567.5, 0, 0, [0.25, math.nan])
        watching.say(market, [newest])
        screen.print("a line")
    market.close()
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "a line" in shown
    last = shown.splitlines()[-2].split()  # the cursor comes back in the last one
    assert last[:4] == ["BTC/USDT", "02:40:00.123", "1334567.5", "0.250"]
    assert " ".join(last[5:]) == "connected, 1 gaps, 1,200 reconnects"
