"""Fetching: nothing lost, nothing doubled, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from itertools import pairwise
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from helpers.markets import few, quick, seeds
from helpers.recorded_source import (
    CONTENT,
    FIRST_NS,
    SERIES,
    Recorded,
    fetch_slowly,
    fetch_until,
    hashes,
    market,
)
from nexttick.ticks.days import DAY_NS, by_day, union, without
from nexttick.ticks.reading.read import read_ticks
from nexttick.ticks.record import TickError
from nexttick.ticks.source import Missing, SourceError, TransientError
from nexttick.ticks.store import Store
from nexttick.ticks.store.checking import check
from nexttick.ticks.store.fetch import Progress, fetch
from nexttick.ticks.store.folders import LockedError
from nexttick.ticks.store.writer import SeriesWriter, writing

STOP_NS = FIRST_NS + 3 * DAY_NS
KILLS = 50
MARKET = (7, 2, 900)  # seed, days, rows


def stored(url: object) -> pl.DataFrame:
    return Store(str(url)).open(SERIES).scan().collect()


def whole(source: Recorded, url: object, **options: object):  # type: ignore[no-untyped-def]
    return fetch(source, Store(str(url)), FIRST_NS, STOP_NS, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("overlap", [0, 7])
@pytest.mark.parametrize("shuffled", [False, True], ids=["ordered", "shuffled"])
@pytest.mark.parametrize("commit_rows", [1, 10**6], ids=["each-page", "each-day"])
def test_what_comes_in_pages_is_stored_once(
    overlap: int, shuffled: bool, commit_rows: int, tmp_path: Path
) -> None:
    ticks = market(1)
    source = Recorded(ticks, overlap=overlap, shuffled=shuffled)
    summary = whole(source, tmp_path, commit_rows=commit_rows)
    assert_frame_equal(stored(tmp_path), ticks)
    assert (summary.rows, summary.missing, len(summary.records)) == (len(ticks), [], 3)
    assert summary.received == 50 * (len(ticks) + overlap * (len(ticks) // 100 - 1))
    assert [f for f in check(Store(tmp_path).open(SERIES)) if f.fault] == []


def test_a_second_fetch_asks_for_nothing(tmp_path: Path) -> None:
    source = Recorded(market(1))
    whole(source, tmp_path)
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
    summary = whole(source, tmp_path)
    assert (summary.rows, summary.records, len(source.asked)) == (0, {}, 1)
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")} == before


@quick
@given(seed=seeds)
def test_overlapping_fetches_never_double(seed: int) -> None:
    rng = np.random.default_rng(seed)
    url, ticks = f"memory://overlapping-{seed}", market(seed, rows=500)
    source = Recorded(ticks, page_rows=int(rng.integers(3, 200)), overlap=int(rng.integers(0, 9)))
    asked = []
    for _ in range(4):
        start, stop = np.sort(rng.integers(FIRST_NS, STOP_NS, 2)).tolist()
        fetch(source, Store(url), start, stop, commit_rows=int(rng.integers(1, 300)))
        asked.append((start, stop))
    covered = union(asked)
    inside = pl.any_horizontal(pl.col("time").is_between(*span, closed="left") for span in covered)
    expected = ticks.filter(inside)
    assert_frame_equal(stored(url), expected)
    assert union(source.asked) == covered
    assert sum(stop - start for start, stop in source.asked) == sum(b - a for a, b in covered)
    whole(source, url)
    assert_frame_equal(stored(url), ticks)


def test_ids_may_be_unknown_and_ticks_alike(tmp_path: Path) -> None:
    ticks = pl.concat([market(3)[:50], market(3)[:50]]).sort("time").drop("id")
    source = Recorded(ticks, page_rows=7, consecutive_ids=False)
    source.events = {3: SourceError("the venue is down")}
    with pytest.raises(SourceError):
        whole(source, tmp_path)
    source.events = {}
    whole(source, tmp_path)
    assert_frame_equal(stored(tmp_path), ticks)


def test_days_without_trades_are_stored_as_such(tmp_path: Path) -> None:
    ticks = market(1).filter(~pl.col("time").is_between(FIRST_NS + DAY_NS, FIRST_NS + 2 * DAY_NS))
    whole(Recorded(ticks, consecutive_ids=False), tmp_path)
    records = list(Store(tmp_path).open(SERIES).records().values())
    assert [one.rows > 0 for one in records] == [True, False, True]
    assert records[1].first_ns is None
    assert_frame_equal(stored(tmp_path), ticks)
    read, set_aside = read_ticks(tmp_path / "recorded" / "BTC-USDT" / "trades", outliers=False)
    assert_frame_equal(read.select(CONTENT), ticks)
    assert set_aside.is_empty()


def test_rows_that_are_no_ticks_are_counted(tmp_path: Path) -> None:
    ticks = market(1).with_columns(
        price=pl.when(pl.col("id") == 1005).then(-1.0).otherwise("price"),
        amount=pl.when(pl.col("id").is_in([1006, 1700])).then(0.0).otherwise("amount"),
    )
    other = ticks[100].with_columns(price=pl.lit(1.0))
    given = pl.concat([ticks[:200], other, ticks[200:]])
    summary = whole(Recorded(given), tmp_path)
    assert summary.set_aside == {
        "price not positive and finite": 1,
        "amount not positive and finite": 2,
        "id repeated": 1,
    }
    kept = ticks.filter(~pl.col("id").is_in([1005, 1006, 1700]))
    assert_frame_equal(stored(tmp_path), kept)


def test_prices_that_nobody_believes_are_kept(tmp_path: Path) -> None:
    ticks = market(1).with_columns(price=pl.when(pl.col("id") == 1500).then(1e6).otherwise("price"))
    whole(Recorded(ticks), tmp_path)
    assert stored(tmp_path)["price"].max() == 1e6
    series = Store(tmp_path).open(SERIES)
    believed = pl.concat(list(series.chunks(333, outliers=True)))
    assert_frame_equal(believed, read_ticks(str(series.folder))[0])
    assert len(believed) == len(ticks) - 1


# Holes


@pytest.mark.parametrize("hours", [(24, 48), (30, 33), (0, 10), (40, 55), (60, 72)])
def test_other_ticks_go_on_around_a_hole(hours: tuple[int, int], tmp_path: Path) -> None:
    ticks, hour = market(1), DAY_NS // 24
    hole = (FIRST_NS + hours[0] * hour, FIRST_NS + hours[1] * hour)
    source = Recorded(ticks, missing=(Missing(*hole, "wrong checksum"),))
    summary = whole(source, tmp_path)
    assert summary.faults == list(source.missing)
    outside = ~pl.col("time").is_between(*hole, closed="left")
    assert_frame_equal(stored(tmp_path), ticks.filter(outside))
    series = Store(tmp_path).open(SERIES)
    assert series.look().missing(FIRST_NS, STOP_NS) == [hole]
    assert any("not stored" in one.what and one.fault == (hours[1] < 72) for one in check(series))
    source.missing = ()
    whole(source, tmp_path)
    assert source.asked[1:] == [hole]
    assert_frame_equal(stored(tmp_path), ticks)


def test_a_source_that_ends_early_leaves_a_hole(tmp_path: Path) -> None:
    class Short(Recorded):
        def pages(self, start_ns: int, stop_ns: int):  # type: ignore[no-untyped-def]
            yield next(iter(super().pages(start_ns, stop_ns)))

    ticks = market(1)
    summary = whole(Short(ticks), tmp_path)
    until = ticks["time"][99]
    assert [(m.start_ns, m.stop_ns, m.fault) for m in summary.missing] == [(until, STOP_NS, True)]
    assert_frame_equal(stored(tmp_path), ticks.filter(pl.col("time") < until))


def test_the_future_is_not_asked_for(tmp_path: Path) -> None:
    source = Recorded(market(1))
    before = time.time_ns()
    fetch(source, Store(tmp_path), before - DAY_NS, before + 10 * DAY_NS)
    assert before <= source.asked[0][1] <= time.time_ns()


# What ends a fetch


@pytest.mark.parametrize("error", [SourceError, TickError, TransientError])
def test_an_error_names_the_day_and_keeps_the_others(
    error: type[Exception], tmp_path: Path
) -> None:
    ticks = market(1)
    source = Recorded(ticks, events={12: error("the venue is down")})
    kind = TickError if error is TickError else SourceError
    with pytest.raises(kind) as told:
        whole(source, tmp_path)
    words = ("recorded ticks", "BTC/USDT", "2023-12-10", "the venue is down", "goes on there")
    assert all(word in str(told.value) for word in words)
    until = ticks["time"][1199]
    assert_frame_equal(stored(tmp_path), ticks.filter(pl.col("time") < until))
    source.events = {}
    whole(source, tmp_path)
    assert source.asked[1] == (until, STOP_NS)
    assert_frame_equal(stored(tmp_path), ticks)


def test_pages_of_another_form_are_refused(tmp_path: Path) -> None:
    ticks = market(1).with_columns(pl.col("price").cast(pl.Float32))
    with pytest.raises(TickError, match=r"2023-12-09: not a frame of ticks.*price is Float32"):
        whole(Recorded(ticks), tmp_path)


def test_ctrl_c_commits_what_is_complete(tmp_path: Path) -> None:
    ticks = market(1)
    source = Recorded(ticks, events={5: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        whole(source, tmp_path)
    assert_frame_equal(stored(tmp_path), ticks.filter(pl.col("time") < ticks["time"][499]))


def test_ctrl_c_that_is_raised_twice_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that meets polars is: by polars, and by Python in the commit that follows."""
    ticks, write, interrupted = market(1), SeriesWriter.write, []

    def write_at_second_try(*args: Any) -> Any:
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return write(*args)

    monkeypatch.setattr(SeriesWriter, "write", write_at_second_try)
    with pytest.raises(KeyboardInterrupt):
        whole(Recorded(ticks, events={5: KeyboardInterrupt()}), tmp_path)
    assert interrupted
    assert_frame_equal(stored(tmp_path), ticks.filter(pl.col("time") < ticks["time"][499]))


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    told: list[Progress] = []
    ticks = market(1)
    fetch(Recorded(ticks), Store(tmp_path), FIRST_NS, STOP_NS, told.append)
    assert len(told) == 20
    assert told[-1].share == 1.0
    assert told[-1].rows == len(ticks)
    assert all(a.share <= b.share and a.day <= b.day for a, b in pairwise(told))
    assert {one.day.isoformat() for one in told} == {"2023-12-09", "2023-12-10", "2023-12-11"}


def test_a_damaged_day_is_fetched_anew(tmp_path: Path) -> None:
    source = Recorded(market(1))
    whole(source, tmp_path)
    path = tmp_path / "recorded/BTC-USDT/trades/2023-12-10.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    summary = whole(source, tmp_path)
    assert [day.isoformat() for day in summary.replaced] == ["2023-12-10"]
    assert source.asked[1] == (FIRST_NS + DAY_NS, FIRST_NS + 2 * DAY_NS)
    assert_frame_equal(stored(tmp_path), source.ticks)


# Several processes, and kills


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    """Processes that begin in milliseconds, with all modules loaded and no thread running."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["helpers.warm"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        forkserver.ensure_running()
    return context


def kill_after(
    processes: multiprocessing.context.ForkServerContext,
    arguments: tuple[object, ...],
    pages: int,
    seconds: float,
) -> bool:
    """Kill a fetch so long after it has begun and told of so many pages; False if it ends first."""
    told, tell = processes.Pipe(duplex=False)
    child = processes.Process(target=fetch_slowly, args=(*arguments, tell))
    child.start()
    tell.close()
    with told, contextlib.suppress(EOFError):
        for _ in range(1 + pages):
            told.recv_bytes()
        time.sleep(seconds)
    assert child.pid is not None
    with contextlib.suppress(ProcessLookupError):  # it had ended
        os.kill(child.pid, signal.SIGKILL)
    child.join(300)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def test_killed_at_any_instant_it_goes_on(
    processes: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    """Each kill comes some pages after the last, so that every store is killed some five times."""
    rng, kills, number = np.random.default_rng(11), 0, 0
    fetch_slowly(str(tmp_path / "whole"), *MARKET, 0.0)
    while kills < KILLS:
        arguments = (str(tmp_path / str(number)), *MARKET, 0.001)
        if kill_after(processes, arguments, int(rng.integers(0, 6)), rng.uniform(0.0, 0.02)):
            kills += 1
        else:
            is_whole(tmp_path / str(number), tmp_path / "whole")
            number += 1
    fetch_slowly(*arguments)  # type: ignore[arg-type]
    is_whole(tmp_path / str(number), tmp_path / "whole")
    assert number > 0


def is_whole(left: Path, whole: Path) -> None:
    """The same content as in the store of an uninterrupted fetch, and nothing left about."""
    assert hashes(str(left)) == hashes(str(whole))
    assert_frame_equal(stored(left), stored(whole))
    assert list(left.rglob("*.part")) == []
    assert list(check(Store(left).open(SERIES))) == list(check(Store(whole).open(SERIES)))


def test_killed_around_each_rename_it_goes_on(
    processes: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    days, rows, point = 2, 90, 0
    fetch_slowly(str(tmp_path / "whole"), 7, days, rows, 0.0)
    while True:
        url = tmp_path / str(point)
        child = processes.Process(target=fetch_until, args=(str(url), 7, days, rows, point))
        child.start()
        child.join(300)
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        for path in url.rglob("2*.parquet"):
            pl.read_parquet(path)
        fetch_slowly(str(url), 7, days, rows, 0.0)
        is_whole(url, tmp_path / "whole")
        point += 1
    assert point >= 3 * (len(pages_committed(days, rows)) + 1)  # and one for the manifest


def pages_committed(days: int, rows: int) -> list[int]:
    """Numbers of the days' files that a fetch with a commit after every page writes."""
    ticks = market(7, days, rows)
    untils = [*ticks["time"][59:-1:60], FIRST_NS + days * DAY_NS]
    spans = pairwise([FIRST_NS, *untils])
    return [1 for span in spans for _ in by_day(span)]


def test_two_processes_at_once(
    processes: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    arguments = (str(tmp_path), *MARKET, 0.002)
    children = [processes.Process(target=fetch_slowly, args=arguments) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(300)
    assert [child.exitcode for child in children] == [0, 0]
    assert_frame_equal(stored(tmp_path), market(*MARKET))


def test_the_second_of_two_waits_and_says_so(tmp_path: Path) -> None:
    series, told = Store(tmp_path).open(SERIES), list[str]()
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with writing(series):
            held.set()
            free.wait(120)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(120)
    with pytest.raises(LockedError, match=r"another process has been writing here for 0\.1 s"):
        whole(Recorded(market(1)), tmp_path, on_wait=told.append, wait_s=0.1)
    whole_told = list(told)

    def free_it(words: str) -> None:
        told.append(words)
        free.set()

    whole(Recorded(market(1)), tmp_path, on_wait=free_it, wait_s=120)
    thread.join()
    assert len(whole_told) == 1
    assert len(told) == 2
    assert "waiting for it" in told[1]
    assert_frame_equal(stored(tmp_path), market(1))


# Spans


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


@quick
@given(spans, st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_spans_are_sets_of_instants(some: list[tuple[int, int]], span: tuple[int, int]) -> None:
    def instants(many: object) -> set[int]:
        return {t for start, stop in many for t in range(start, stop)}  # type: ignore[attr-defined]

    assert instants(union(some)) == instants(some)
    assert all(a[1] < b[0] for a, b in pairwise(union(some)))
    left = without(span, some)
    assert instants(left) == instants([span]) - instants(some)
    assert left == list(union(left))


@few
@given(st.integers(0, 5 * DAY_NS), st.integers(0, 5 * DAY_NS))
def test_days_join_to_the_span(start: int, stop: int) -> None:
    days = list(by_day((start, stop)))
    assert union(span for _, span in days) == union([(start, stop)])
    assert len({day for day, _ in days}) == len(days)
