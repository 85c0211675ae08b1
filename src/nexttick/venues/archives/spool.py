"""Ticks cut into UTC days, pages made of them, and the clock that archives go by."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from nexttick.ticks.days import DAY_NS, day_of
from nexttick.ticks.record import SCHEMA, Ledger, Part, TickError, year_ns
from nexttick.ticks.source import Missing, Page

MAX_ROWS = 4_000_000  # that are kept in memory, some 150 MB; more go to disk


def now_ns() -> int:
    """The time here, ns since 1970, UTC."""
    return time.time_ns()


def to_the_second(time_ns: int) -> str:
    """A time to the second, such as `2024-01-05T07:00:00Z`."""
    return f"{datetime.fromtimestamp(time_ns // 10**9, tz=UTC):%Y-%m-%dT%H:%M:%S}Z"


def make_page(
    ticks: pl.DataFrame,
    name: str,
    until_ns: int,
    received: int = 0,
    noted: Iterable[tuple[str, int]] = (),
) -> Page:
    """A page of ticks, none or more, cleaned as `ticks.clean` does, outliers kept; see `Page`.

    `noted` is what has been set aside already.
    """
    from nexttick.ticks.cleaning import clean_parts  # numba, which a mistake does not wait for

    ledger = Ledger()
    if len(ticks):
        part = Part(name, ticks, first_line=0, earliest_ns=year_ns(1990))
        try:
            ticks, _ = clean_parts([part], ledger, outliers=False)
        except TickError:  # none is left, and the ledger says why
            ticks = ticks.clear()
    dropped = [(reason, rows) for _, reason, kept, rows, _, _ in ledger.entries if not kept]
    return Page(ticks, until_ns, received, (*noted, *dropped))


def clipped(part: Page | Missing, start_ns: int, stop_ns: int) -> Page | Missing:
    """The part of a page or of a gap with start_ns <= time < stop_ns; they have one in common."""
    if isinstance(part, Missing):
        starts, stops = max(part.start_ns, start_ns), min(part.stop_ns, stop_ns)
        return replace(part, start_ns=starts, stop_ns=stops)
    kept = part.ticks.filter(pl.col("time").is_between(start_ns, stop_ns, closed="left"))
    return replace(part, ticks=kept, until_ns=min(part.until_ns, stop_ns))


class Spool:
    """Ticks by UTC day, in the order in which they came; above `MAX_ROWS` they wait in a folder."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._files: dict[date, list[Path]] = {}
        self._frames: dict[date, list[pl.DataFrame]] = {}
        self._rows = 0

    def add(self, ticks: pl.DataFrame) -> None:
        """Add ticks in the record's columns, of any days."""
        for _, frame in ticks.group_by(pl.col("time") // DAY_NS, maintain_order=True):
            self._frames.setdefault(day_of(frame["time"][0]), []).append(frame)
        self._rows += len(ticks)
        if self._rows <= MAX_ROWS:
            return
        for day, frames in self._frames.items():
            files = self._files.setdefault(day, [])
            path = self._folder / f"{day}-{len(files)}.ipc"
            pl.concat(frames).write_ipc(path, compression="lz4")
            files.append(path)
        self._frames, self._rows = {}, 0

    def take(self, day: date) -> pl.DataFrame:
        """Take the ticks of a day out; an empty frame where there are none."""
        files, frames = self._files.pop(day, []), self._frames.pop(day, [])
        self._rows -= sum(map(len, frames))
        frames = [*(pl.read_ipc(file) for file in files), *frames]
        for file in files:
            file.unlink()
        return pl.concat(frames) if frames else pl.DataFrame(schema=SCHEMA)
