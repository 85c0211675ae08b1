"""Running live as a whole: a replay says what `predict` says, and nothing printed is ever lost."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from live_child import follow
from live_exchange import LocalExchange, Plan, drawn_ticks
from markets import few
from nexttick import cli, commands, live_commands, runs
from nexttick.config import (
    EventOptions,
    LabelOptions,
    LiveOptions,
    ModelOptions,
    OutputOptions,
    Recipe,
    TrainOptions,
)
from nexttick.events import merge_events
from nexttick.features import EVENT
from nexttick.labels import make_labels
from nexttick.live import engine, journal_commands
from nexttick.live.board import Board
from nexttick.live.feeds import open_feed
from nexttick.live.journal import Journal
from nexttick.live.journal_schema import identity_of
from nexttick.live.market import Market
from nexttick.live.merging import Merger
from nexttick.live.messages import Feed, Gap, Health, Message, Trade
from nexttick.live.promises import Promise, base_rates, identify
from nexttick.live.records import Prediction
from nexttick.live.replay import Replay
from nexttick.live.step import Stepper
from nexttick.live.waits import Waits
from nexttick.live.watching import Watching
from nexttick.sources.simulated import SimulatedMarket, simulate
from nexttick.sources.source import SourceError
from nexttick.writing import write_table

CONTEXT = 8
TICKS = 4000
HASTE = Waits(0.4, 0.02, 5.0, 0.02, 0.01, 0.1, 60.0, 3.0)


def trained(folder: Path, kind: str = "cnn", raw_ticks: bool = False) -> Path:
    """A run on the first half of the market, tested, small and quick."""
    market = simulate(SimulatedMarket(ticks=TICKS, seed=5))
    write_table(market, folder / "past.parquet")
    recipe = Recipe(
        events=EventOptions(raw_ticks=raw_ticks, max_gap="10m"),
        labels=LabelOptions(("1", "5s")),
        model=ModelOptions(type=kind, hidden_size=8, num_layers=1, sequence_length=CONTEXT),
        train=TrainOptions(epochs=1, threads=1),
    )
    out = folder / "run"
    commands.run([str(folder / "past.parquet")], recipe, OutputOptions(out=out, quiet=True))
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("live"))


@pytest.fixture(scope="module")
def untested(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run without its test, which makes no promises and so begins sooner."""
    copy = tmp_path_factory.mktemp("untested") / "run"
    shutil.copytree(run, copy)
    (copy / "metrics.json").unlink()
    return copy


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ticks after the run's: bursts of one time stamp, and a pause."""
    ticks = simulate(SimulatedMarket(ticks=TICKS, seed=6)).drop("truth")
    number = pl.int_range(pl.len())
    burst = pl.col("time").gather(number - number % 3 * (number % 7 < 3).cast(pl.Int64))
    pause = (number > TICKS // 2).cast(pl.Int64) * 3_600_000_000_000
    ticks = ticks.with_columns(time=(burst + pause).sort())
    path = tmp_path_factory.mktemp("later") / "later.parquet"
    write_table(ticks, path)
    return path


def opened(run: Path, path: Path, symbol: str = "BTC/USDT", source: str = "replay") -> Market:
    """A market with bare promises, which are quick to make."""
    predictor, fitted = runs.load_trained(run, "cpu")
    rates = base_rates(fitted)
    promises = {name: Promise(rate) for name, rate in zip(predictor.horizons, rates, strict=True)}
    identity = identify(run, predictor, fitted, source, symbol)
    board = Board(symbol, predictor.horizons, rates)
    return Market(predictor, promises, Journal(path, identity), board)


def batch_predictions(run: Path, ticks: pl.DataFrame) -> pl.DataFrame:
    return runs.load_trained(run, "cpu")[0].predict(ticks)


def assert_same(said: pl.DataFrame, batch: pl.DataFrame) -> None:
    assert said["time"].equals(batch["time"])
    assert said["price"].equals(batch["price"])
    for name in batch.columns[2:]:
        ours, theirs = said[name].cast(pl.Float32).to_numpy(), batch[name].to_numpy()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def table_of(lines: Sequence[str]) -> pl.DataFrame:
    rows = [json.loads(line) for line in lines]
    return pl.DataFrame(rows, infer_schema_length=None)


def events_of(path: Path) -> pl.DataFrame:
    with journal_commands.reading(path) as (db, meta):
        return journal_commands.read_table(db, identity_of(meta))


def trades_of(path: Path) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(path)
    try:
        return db.execute("SELECT * FROM trades ORDER BY seq").fetchall()
    finally:
        db.close()


# --- events


@few
@given(
    times=st.lists(st.integers(0, 4), max_size=30),
    sides=st.lists(st.sampled_from([-1, 0, 1]), min_size=30, max_size=30),
    raw_ticks=st.booleans(),
)
def test_merger_makes_the_events_of_merge_events(
    times: list[int], sides: list[int], raw_ticks: bool
) -> None:
    rng = np.random.default_rng(len(times))
    n = len(times)
    trades = [
        Trade(int(t), float(p), float(a), side, -1, 0)
        for t, p, a, side in zip(
            np.cumsum(times), rng.uniform(1, 2, n), rng.uniform(0.1, 3, n), sides, strict=False
        )
    ]
    merger = Merger(raw_ticks)
    told = [merger.take(trade, k) for k, trade in enumerate(trades)] + [merger.end()]
    events = [event for event in told if event is not None]
    schema = {"time": pl.Int64, "price": pl.Float64, "amount": pl.Float64, "side": pl.Int8}
    frame = pl.DataFrame([trade[:4] for trade in trades], schema=schema, orient="row")
    batch = merge_events(frame, raw_ticks=raw_ticks)
    assert [event.values for event in events] == batch.select(EVENT).rows()
    assert [event.trade for event in events] == (batch["count"].cum_sum() - 1).to_list()


def test_a_trade_behind_its_ended_event_is_one_of_its_own_and_counted() -> None:
    merger = Merger()
    assert merger.take(Trade(5, 1.0, 1.0, 1, -1, 0), 0) is None
    assert merger.end() is not None
    assert merger.take(Trade(5, 1.1, 1.0, 1, -1, 0), 1) is None
    event = merger.take(Trade(6, 1.2, 1.0, 1, -1, 0), 2)
    assert event is not None
    assert (event.values, merger.split) == ((5, 1.1, 1.1, 1.1, 1.0, 1, 1), 1)


def test_a_trade_older_than_the_one_before_counts_as_of_its_time() -> None:
    merger = Merger()
    merger.take(Trade(5, 1.0, 1.0, 1, -1, 0), 0)
    assert merger.take(Trade(4, 2.0, 1.0, 1, -1, 0), 1) is None
    event = merger.end()
    assert event is not None
    assert (event.values[:3], merger.stepped_back) == ((5, 1.0, 2.0), 1)


# --- a replay


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
@pytest.mark.parametrize("raw_ticks", [False, True])
def test_a_replay_says_what_predict_says(
    kind: str,
    raw_ticks: bool,
    later: Path,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    run = trained(tmp_path, kind, raw_ticks)
    capfdbinary.readouterr()
    live_commands.live([run], LiveOptions(source="replay", file=str(later), speed="max"))
    said = table_of(capfdbinary.readouterr().out.decode().splitlines())
    batch = batch_predictions(run, pl.read_parquet(later))
    assert said.columns == batch.columns == ["time", "price", "p_rise@1", "p_rise@5s"]
    assert_same(said, batch)
    assert batch["p_rise@1"].null_count() == 2 * (CONTEXT - 1)  # at the start, after the pause
    journal = events_of(run / "live" / "replay-market-later.parquet.journal")
    assert len(journal) == len(batch)


def test_a_journal_knows_outcomes_as_labels_do(run: Path, later: Path, tmp_path: Path) -> None:
    market = opened(run, tmp_path / "j")
    asyncio.run(engine.run([(market, Replay(later, None))], lambda *_: None, None))
    market.close()
    told = events_of(tmp_path / "j")
    events = merge_events(pl.read_parquet(later))
    labels = make_labels(events, LabelOptions(("1", "5s")), 600_000_000_000)
    for h, name in enumerate(labels.names):
        waits = told[f"y_{name}"].is_null().to_numpy()
        np.testing.assert_array_equal(told[f"y_{name}"].fill_null(-1), labels.y_NH[:, h])
        assert waits.nonzero()[0].tolist() == [*range(len(told) - waits.sum(), len(told))]
        assert 0 < waits.sum() < 50  # the last ones wait, and no others


def test_started_again_it_says_nothing_twice(run: Path, later: Path, tmp_path: Path) -> None:
    ticks = pl.read_parquet(later)
    said: list[int] = []
    for part in (ticks[:1500], ticks[:1500], ticks):
        market = opened(run, tmp_path / "j")
        feed = Replay(part, None)
        asyncio.run(
            engine.run([(market, feed)], lambda _, told: said.extend(p.event for p in told), None)
        )
        market.close()
    assert said == list(range(len(merge_events(ticks))))
    assert len(trades_of(tmp_path / "j")) == len(ticks)


# --- a kill at any instant


def test_killed_fifty_times_nothing_is_lost_or_said_twice(
    untested: Path, later: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(3)
    forks = multiprocessing.get_context("forkserver")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # of the server that forks
    forks.set_forkserver_preload(["live_child"])
    options = LiveOptions(
        source="replay", file=str(later), speed="300", journal=tmp_path, json=True
    )
    out = tmp_path / "lines.jsonl"
    out.touch()
    for k in range(50):
        child = forks.Process(target=follow, args=(untested, options, out))
        said = out.stat().st_size
        child.start()
        while k % 2 and out.stat().st_size == said and child.is_alive():  # every other one speaks
            time.sleep(0.002)
        child.join(rng.uniform(0.0, 0.5))
        assert child.exitcode is None
        os.kill(child.pid, signal.SIGKILL)  # type: ignore[arg-type]
        child.join()
    killed = len(out.read_text().splitlines())
    last = forks.Process(target=follow, args=(untested, replace(options, speed="max"), out))
    last.start()
    last.join(60)
    assert last.exitcode == 0
    *whole, rest = out.read_text().split("\n")
    assert rest == ""
    batch = batch_predictions(untested, pl.read_parquet(later))
    journal = events_of(tmp_path / "replay-market-later.parquet.journal")
    assert_same(journal, batch)  # the journal has all, once
    assert killed >= 25
    held = iter(journal.select(batch.columns).rows())
    for line in map(json.loads, whole):  # what was said is in it, in order, and nothing twice
        assert any(row == pytest.approx(tuple(line.values()), nan_ok=True) for row in held), line
    assert len(whole) > len(batch) / 2  # the rest was committed, and killed before it was said


# --- an exchange


def feed_of(exchange: LocalExchange, waits: Waits = HASTE) -> Feed:
    urls = {"ws_url": exchange.ws_url, "rest_url": exchange.rest_url}
    return open_feed("binance", exchange.symbol, waits=waits, **urls)


class Until:
    """A feed that ends with a trade."""

    def __init__(self, feed: Feed, last_id: int):
        self._feed, self._last_id = feed, last_id
        self.name, self.symbol, self.health = feed.name, feed.symbol, feed.health

    async def batches(self, after: Trade | None = None):  # type: ignore[no-untyped-def]
        batches = self._feed.batches(after)
        try:
            async for batch in batches:
                yield batch
                if any(isinstance(m, Trade) and m.id >= self._last_id for m in batch):
                    return
        finally:
            await batches.aclose()  # type: ignore[attr-defined]


def record_of(path: Path) -> pl.DataFrame:
    """The trades of a journal as ticks."""
    columns = {"time": 1, "price": 2, "amount": 3, "side": 4, "id": 5}
    rows = trades_of(path)
    frame = pl.DataFrame({name: [row[k] for row in rows] for name, k in columns.items()})
    return frame.with_columns(pl.col("side").cast(pl.Int8))


def test_chaos_and_every_tick_is_in_the_journal_once(run: Path, tmp_path: Path) -> None:
    ticks = drawn_ticks(20_000, seed=4)
    market = opened(run, tmp_path / "j", source="binance")
    with LocalExchange(ticks, Plan(faults=60, seed=9, chunk=100)) as exchange:
        feed = Until(feed_of(exchange), ticks[-1].id)
        asyncio.run(engine.run([(market, feed)], lambda *_: None, None))
    market.close()
    assert len(exchange.done) == 60
    held = record_of(tmp_path / "j")
    assert held["id"].to_list() == [tick.id for tick in ticks]
    assert held["price"].to_list() == [float(tick.price) for tick in ticks]
    assert feed.health.gaps == 0
    assert_same(events_of(tmp_path / "j"), batch_predictions(run, held.drop("id")))


class Told:
    """A feed that says what it is told to."""

    name, symbol = "told", "BTC/USDT"

    def __init__(self, batches: Sequence[list[Message]], pause_s: float = 0.0):
        self._batches, self._pause_s, self.health = batches, pause_s, Health()

    async def batches(self, after: Trade | None = None):  # type: ignore[no-untyped-def]
        for batch in self._batches:
            yield batch
            await asyncio.sleep(self._pause_s)


def some_trades(count: int, start: int = 0) -> list[Trade]:
    rng = np.random.default_rng(start)
    prices = 100 + np.cumsum(rng.choice([-0.5, 0, 0.5], count))
    return [
        Trade((start + k + 1) * 1_000_000_000, float(price), 1.0, 1, start + k, 0)
        for k, price in enumerate(prices)
    ]


def test_a_gap_resets_and_pauses_until_the_context_is_full(run: Path, tmp_path: Path) -> None:
    before, after = some_trades(30), some_trades(30, 40)
    gap = Gap(before[-1].time_ns, after[0].time_ns, 29, 40, "the venue had no more")
    market, said = opened(run, tmp_path / "j"), list[Prediction]()
    feed = Told([[*before, gap, *after]])
    asyncio.run(engine.run([(market, feed)], lambda _, told: said.extend(told), None))
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
        theirs = batch_predictions(run, frame).select("p_rise@1", "p_rise@5s").to_numpy()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    told = events_of(tmp_path / "j")
    assert told["y_rise@1"][29] == -1  # no horizon goes across
    again = opened(run, tmp_path / "j")
    assert again.stepper.seen == 30
    again.close()


def test_an_event_settles_when_nothing_comes(run: Path, tmp_path: Path) -> None:
    trades = some_trades(2)
    market, said = opened(run, tmp_path / "j"), list[tuple[float, int]]()
    feed = Told([[trade] for trade in trades], pause_s=0.4)
    begun_s = time.monotonic()

    def say(_: Market, told: Sequence[Prediction]) -> None:
        said.extend((time.monotonic() - begun_s, one.event) for one in told)

    asyncio.run(engine.run([(market, feed)], say, 0.02))
    market.close()
    (first_s, zero), (second_s, one) = said
    assert (zero, one) == (0, 1)
    assert first_s < 0.39 < second_s  # before the second trade came, which ends it else


Step = list[Message] | str


def some_steps(seed: int) -> list[Step]:
    """Batches of bursts, late and backward trades, gaps, settlings and kills, as drawn."""
    draws, steps = random.Random(seed), list[Step]()
    time_ns, price, number = 1_000_000_000, 100.0, 0
    for _ in range(60):
        batch: list[Message] = []
        for _ in range(draws.choice([1, 1, 2, 9])):
            if draws.random() < 0.04:
                since_ns = time_ns
                time_ns += draws.choice([5, 700]) * 1_000_000_000  # some beyond the longest pause
                batch.append(Gap(since_ns, time_ns, number - 1, number + 3, "cut"))
                number += 3
            time_ns += draws.choice([0, 0, 1, 1, 2, -1]) * 500_000_000
            price += draws.choice([-0.5, 0, 0, 0.5])
            batch.append(Trade(time_ns, price, 0.5, draws.choice([1, 1, -1]), number, 0))
            number += 1
        steps.append(batch)
        steps += [word for word in ("settle", "kill", "stop") if draws.random() < 0.15]
    return steps


def say_all(run: Path, path: Path, steps: Sequence[Step]) -> list[tuple[Any, ...]]:
    """What is said, when, apart, by a market that is killed and stopped as the steps say."""
    market, said = opened(run, path), list[Prediction]()
    for step in steps:
        if step == "kill":
            market.journal.close()  # what a kill leaves: nothing but what was committed
            market = opened(run, path)
        elif step == "stop":
            market.close()
            market = opened(run, path)
        else:
            said += market.settle() if isinstance(step, str) else market.take(step)
    market.close()
    return [(*one[:4], np.array(one.p_H).tobytes()) for one in said]


def tables_of(path: Path) -> list[list[tuple[Any, ...]]]:
    """What is in a journal that is the same for all processes that heard the same."""
    db = sqlite3.connect(path)
    try:
        return [
            db.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            for name in ("trades", "gaps", "resets", "outcomes")
        ]
    finally:
        db.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_or_stopped_anywhere_it_says_what_it_would_have_said(
    seed: int, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexttick.live.market.CHECKPOINT_EVENTS", 7)
    steps = some_steps(seed)
    assert {"kill", "stop", "settle"} <= {step for step in steps if isinstance(step, str)}
    unbroken = [step for step in steps if step not in ("kill", "stop")]
    expected = say_all(run, tmp_path / "k", unbroken)
    assert say_all(run, tmp_path / "j", steps) == expected
    assert [one[0] for one in expected] == list(range(len(expected)))
    assert tables_of(tmp_path / "j") == tables_of(tmp_path / "k")


def test_the_clock_of_a_market_outlives_a_reset_and_a_stop(run: Path, tmp_path: Path) -> None:
    before, (after,) = some_trades(10), some_trades(1, 5)
    gap = Gap(before[-1].time_ns, before[-1].time_ns, 9, 15, "a venue whose clock goes back")
    market = opened(run, tmp_path / "j")
    market.take([*before, gap])
    market.close()
    again = opened(run, tmp_path / "j")
    again.take([after._replace(id=15)])
    (said,) = again.settle()
    again.close()
    assert said.time_ns == before[-1].time_ns > after.time_ns


def test_a_state_that_the_journal_does_not_lead_to_is_not_kept(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = opened(run, tmp_path / "j")
    market.take(some_trades(20))
    with monkeypatch.context() as patched:
        patched.setattr(market.board, "predicted", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            market.take(some_trades(20, 20))
    market.close()
    again = opened(run, tmp_path / "j")
    assert (again.journal.trades, again.stepper.seen) == (20, 19)
    said = [*again.take(some_trades(20, 20)), *again.settle()]
    again.close()
    assert [one.event for one in said] == list(range(19, 40))


def test_a_state_of_another_version_is_told_with_its_journal(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = opened(run, tmp_path / "j")
    market.take(some_trades(20))
    market.close()
    monkeypatch.setattr(Stepper, "_marks", lambda _: {"layout": np.zeros(1, np.uint8)})
    with pytest.raises(ValueError, match=r"j: its state cannot be taken up .* --journal FOLDER"):
        opened(run, tmp_path / "j")


def test_events_that_settled_end_there_after_a_restart(run: Path, tmp_path: Path) -> None:
    """A late trade of an ended event stays one of its own, whenever the process is killed."""
    trades = some_trades(20)
    late = trades[-1]._replace(price=trades[-1].price + 1, id=20)
    market = opened(run, tmp_path / "j")
    market.take(trades)
    assert [one.event for one in market.settle()] == [19]
    market.take([late])
    market.journal.close()  # as a kill leaves it: no state of the last moment
    again = opened(run, tmp_path / "j")
    assert again.stepper.seen == 20
    assert again.last_trade == late
    (said,) = again.settle()
    whole = opened(run, tmp_path / "k")
    whole.take(trades)
    whole.settle()
    whole.take([late])
    (expected,) = whole.settle()
    assert (said.event, said.trade) == (expected.event, expected.trade) == (20, 20)
    np.testing.assert_array_equal(said.p_H, expected.p_H)
    again.close()
    whole.close()


def test_what_cannot_be_kept_is_not_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market, said = opened(run, tmp_path / "j"), list[Prediction]()
    market.take(some_trades(20))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "the disk is full")

    monkeypatch.setattr(market.journal, "append", full)
    with pytest.raises(OSError, match="the disk is full"):
        asyncio.run(
            engine.run(
                [(market, Told([list(some_trades(20, 20))]))],
                lambda _, told: said.extend(told),
                None,
            )
        )
    assert said == []
    market.close()  # and no state that the journal's trades do not lead to
    again = opened(run, tmp_path / "j")
    assert again.journal.trades == 20
    again.close()


def test_a_long_batch_lets_others_run_between_its_parts(run: Path, tmp_path: Path) -> None:
    market, said, turns = opened(run, tmp_path / "j"), list[int](), list[int]()

    async def beside() -> None:
        while True:
            turns.append(len(said))
            await asyncio.sleep(0)

    feed = Told([some_trades(2 * engine.PART + 500)])
    asyncio.run(
        engine.run(
            [(market, feed)], lambda _, told: said.extend(p.event for p in told), None, [beside()]
        )
    )
    market.close()
    assert said == list(range(2 * engine.PART + 500))
    # The newest event of each part stays open until the next part.
    assert {engine.PART - 1, 2 * engine.PART - 1} <= set(turns)


# --- what is told while it runs


class Refused(Told):
    """A feed whose venue doesn't know the market."""

    async def batches(self, after: Trade | None = None):  # type: ignore[no-untyped-def]
        yield list(some_trades(10))
        await asyncio.sleep(0.01)
        raise SourceError("no such market")


def test_a_venue_that_refuses_ends_all_and_leaves_whole_journals(run: Path, tmp_path: Path) -> None:
    one, two = opened(run, tmp_path / "one"), opened(run, tmp_path / "two")
    goes_on = Told([[trade] for trade in some_trades(10)], pause_s=3600)
    said: list[Market] = []
    with pytest.raises(SourceError, match="no such market"):
        asyncio.run(
            engine.run([(one, goes_on), (two, Refused([]))], lambda m, _: said.append(m), 0.001)
        )
    for market in (one, two):
        market.close()
    assert said.count(one) == 1
    with opened(run, tmp_path / "one").journal as journal:
        assert (journal.trades, journal.events) == (1, 1)
    with opened(run, tmp_path / "two").journal as journal:
        assert journal.trades == 10


def test_all_that_fails_at_once_is_told(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    markets = [opened(run, tmp_path / name) for name in "ab"]
    feeds = [Refused([]), Refused([])]
    with pytest.raises(SourceError):
        asyncio.run(engine.run(list(zip(markets, feeds, strict=True)), lambda *_: None, None))
    for market in markets:
        market.close()
    assert [record.message for record in caplog.records] in ([], ["no such market"])


def test_warnings_are_logged_when_they_begin_and_end(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "nexttick.live")
    monkeypatch.setattr("nexttick.live.market.QUIET_S", 0.0)
    market, told = opened(run, tmp_path / "j"), [["off by 1"], ["off by 2"], [], [], ["off by 3"]]
    monkeypatch.setattr(market._scores, "warnings", lambda: list(told[0]))
    while told:
        market.tell()
        del told[0]
    market.close()
    within = "BTC/USDT: scores and features are within their bands again"
    assert caplog.messages == ["BTC/USDT: off by 1", within, "BTC/USDT: off by 3"]


def test_the_table_says_prices_in_full_and_lets_lines_through(run: Path, tmp_path: Path) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    market, health = opened(run, tmp_path / "j"), Health(connected=True, gaps=1, reconnects=1200)
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


# --- the command


def test_what_is_logged_comes_with_its_time_and_only_meanwhile(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = logging.getLogger("nexttick.live.stream")
    with live_commands._logging():
        log.info("binance A/B: connected")
        log.debug("too much")
    log.info("afterwards")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ binance A/B: connected\n", capsys.readouterr().err
    )


def test_a_taken_port_ends_it_with_a_line(
    run: Path, later: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ["live", run, "--source", "replay", "--file", later, "--journal", tmp_path]
        assert cli.main([*map(str, words), "--dashboard", "--port", port]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"nexttick: the page can't be served on 127.0.0.1:{port}")
    with opened(run, tmp_path / "replay-market-later.parquet.journal", "market").journal as journal:
        assert journal.events == 0


def test_a_reader_that_has_seen_enough_ends_it_and_it_goes_on(
    run: Path, later: Path, tmp_path: Path
) -> None:
    words = ["live", run, "--source", "replay", "--file", later, "--speed", "max"]
    command = [sys.executable, "-m", "nexttick", *map(str, words), "--journal", str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 141
    assert "Traceback" not in told
    held = events_of(tmp_path / "replay-market-later.parquet.journal")
    assert held["time"][0] == json.loads(first)["time"]
    options = LiveOptions(source="replay", file=str(later), speed="max", journal=tmp_path)
    live_commands.live([run], options)
    whole = events_of(tmp_path / "replay-market-later.parquet.journal")
    assert_same(whole, batch_predictions(run, pl.read_parquet(later)))


def test_two_markets_in_one_process(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    ticks = drawn_ticks(300)
    plan = Plan(pause_s=0.001)
    with (
        LocalExchange(ticks, plan, symbol="BTC/USDT") as one,
        LocalExchange(ticks, plan, symbol="ETH/USDT") as two,
    ):
        exchanges = {"BTC/USDT": one, "ETH/USDT": two}
        monkeypatch.setattr(
            live_commands,
            "open_feed",
            lambda source, symbol, **_: Until(feed_of(exchanges[symbol]), ticks[-1].id),
        )
        options = LiveOptions(source="binance", symbol=("BTC/USDT", "ETH/USDT"), journal=tmp_path)
        live_commands.live([run], options)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert {line["symbol"] for line in lines} == set(exchanges)
    assert (
        sorted(path.suffix for path in tmp_path.iterdir() if path.suffix == ".journal")
        == [".journal"] * 2
    )


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(how: int, run: Path, later: Path, tmp_path: Path) -> None:
    words = ["live", str(run), "--source", "replay", "--file", str(later), "--journal"]
    out = tmp_path / "lines.jsonl"
    with out.open("w") as lines_file:
        process = subprocess.Popen(
            [sys.executable, "-m", "nexttick", *words, str(tmp_path)],
            stdout=lines_file,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not out.stat().st_size and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(how)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines
    held = events_of(tmp_path / "replay-market-later.parquet.journal")
    assert [line["time"] for line in lines] == held["time"].to_list()
    assert "nexttick journal" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (LiveOptions(), "--source is missing"),
        (LiveOptions(source="replay"), "needs --file"),
        (LiveOptions(source="binance"), "--symbol is missing"),
        (LiveOptions(source="binance", symbol=("A/B", "A/B")), "names a market twice"),
        (LiveOptions(source="stdin", symbol=("A/B", "C/D")), "gives one market"),
        (LiveOptions(source="stdin", file="x"), "--file is for --source replay"),
        (LiveOptions(source="stdin", speed="0"), "--speed '0' must be"),
        (LiveOptions(source="stdin", settle="soon"), "--settle 'soon' is no duration"),
        (LiveOptions(source="stdin", dashboard=True, host="0.0.0.0"), "token"),
        (LiveOptions(source="nowhere", symbol=("A/B",)), "source='nowhere' is not known"),
    ],
)
def test_mistakes_are_told(options: LiveOptions, words: str, run: Path) -> None:
    with pytest.raises(ValueError, match=words):
        live_commands.live([run], options)


def test_a_journal_of_another_predictor_is_refused(run: Path, later: Path, tmp_path: Path) -> None:
    other = trained(tmp_path, "rnn")
    options = LiveOptions(source="replay", file=str(later), speed="max", journal=tmp_path)
    market = opened(run, tmp_path / "replay-market-later.parquet.journal", "market")
    market.close()
    with pytest.raises(ValueError, match="fingerprint"):
        live_commands.live([other], options)


def test_runs_and_symbols_must_fit(run: Path) -> None:
    options = LiveOptions(source="binance", symbol=("A/B", "C/D", "E/F"))
    with pytest.raises(ValueError, match="2 run folders for 3 symbols"):
        live_commands.live([run, run], options)


def test_symbols_are_given_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        live_commands, "live", lambda runs, options: told.append((runs, options.symbol))
    )
    words = ["--symbol", "BTC/USDT", "--symbol", "ETH/USDT", "--source", "binance"]
    assert cli.main(["live", *words, "run"]) == cli.main(["live", "run", *words]) == 0
    assert told == [((Path("run"),), ("BTC/USDT", "ETH/USDT"))] * 2
