"""A source that gives ticks it was handed, in pages, with the faults that venues have."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

from nexttick.ticks.days import DAY_NS
from nexttick.ticks.source import Missing, Page, Series
from nexttick.ticks.store import Store

FIRST_NS = 19_700 * DAY_NS  # 2023-12-09
SERIES = Series("recorded", "BTC/USDT")
CONTENT = ["time", "price", "amount", "side", "id"]


@dataclass
class Recorded:
    """Pages of ticks; the first tick of each page's last instant is all that is sure of it.

    Attributes:
        ticks: all there are.
        page_rows: ticks a page.
        overlap: ticks of the page before that come again.
        shuffled: whether a page is out of order.
        pause_s: before each page.
        events: what happens before the n-th page: an error to raise, or a `Missing` to give.
        asked: spans that were asked for.
    """

    ticks: pl.DataFrame
    page_rows: int = 100
    overlap: int = 0
    shuffled: bool = False
    pause_s: float = 0.0
    events: dict[int, BaseException] = field(default_factory=dict)
    missing: tuple[Missing, ...] = ()
    series: Series = SERIES
    name: str = "recorded ticks"
    consecutive_ids: bool = True
    asked: list[tuple[int, int]] = field(default_factory=list)

    def pages(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        """Pages, and the spans that are missing where they lie."""
        self.asked.append((start_ns, stop_ns))
        at, number = start_ns, 0
        for hole in self.missing:
            if hole.stop_ns <= start_ns or hole.start_ns >= stop_ns:
                continue
            if at < hole.start_ns:
                number = yield from self._span(at, hole.start_ns, number)
            yield hole
            at = hole.stop_ns
        if at < stop_ns:
            yield from self._span(at, stop_ns, number)

    def _span(self, start_ns: int, stop_ns: int, number: int) -> Iterator[Page]:  # type: ignore[return]
        ticks = self.ticks.filter(pl.col("time").is_between(start_ns, stop_ns, closed="left"))
        for start in range(0, max(len(ticks), 1), self.page_rows):
            stop = start + self.page_rows
            page = ticks[max(0, start - self.overlap) : stop]
            until_ns = ticks["time"][stop - 1] if stop < len(ticks) else stop_ns
            if self.shuffled:
                order = np.random.default_rng(start).permutation(len(page))
                page = page[order.tolist()]
            if number in self.events:
                raise self.events[number]
            time.sleep(self.pause_s)
            yield Page(page, until_ns, received=50 * len(page))
            number += 1
        return number


def market(seed: int, days: int = 3, rows: int = 2000) -> pl.DataFrame:
    """Ticks over some days from `FIRST_NS` on: bursts of one time stamp, and consecutive ids."""
    rng = np.random.default_rng(seed)
    time_ns = np.sort(rng.integers(0, days * DAY_NS, rows)) // 1000 * 1000
    burst = rng.random(rows) < 0.4
    burst[0] = False
    time_ns = time_ns[np.maximum.accumulate(np.where(burst, 0, np.arange(rows)))]
    return pl.DataFrame(
        {
            "time": FIRST_NS + time_ns,
            "price": 100 + np.round(rng.normal(size=rows).cumsum() / 10, 2),
            "amount": np.round(rng.lognormal(size=rows), 4) + 0.001,
            "side": rng.choice(np.array([-1, 0, 1], np.int8), rows),
            "id": 1_000 + np.arange(rows),
        }
    )


def hashes(url: str) -> dict[str, str]:
    """The content of each day of the one series."""
    return {one.day: one.hash for one in Store(url).open(SERIES).records().values()}


def fetch_slowly(
    url: str, seed: int, days: int, rows: int, pause_s: float, told: Connection | None = None
) -> None:
    """Fetch with a commit after every page, telling each; runs in a process that is killed."""
    from nexttick.ticks.store.fetch import fetch

    def tell(progress: object) -> None:
        if told is not None:
            told.send_bytes(b".")

    source = Recorded(market(seed, days, rows), page_rows=60, pause_s=pause_s)
    tell(None)
    fetch(source, Store(url), FIRST_NS, FIRST_NS + days * DAY_NS, tell, commit_rows=1)


def fetch_until(url: str, seed: int, days: int, rows: int, point: int) -> None:
    """The same, killed by itself at the n-th of these: before, within and after each rename."""
    from nexttick.ticks.store import folders
    from nexttick.ticks.writing import write_whole

    points = count()

    def reach() -> None:
        if next(points) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(path: Path, fill: folders.Fill) -> None:
        def filled(file: IO[bytes]) -> None:
            fill(file)
            reach()

        reach()
        write_whole(path, filled)
        reach()

    folders.write_whole = write
    fetch_slowly(url, seed, days, rows, 0.0)
