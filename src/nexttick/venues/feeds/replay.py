"""Ticks of the past through the interface of a live feed, at their own pace or any other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from nexttick.ticks.reading.read import read_ticks
from nexttick.ticks.record import check_record
from nexttick.venues.messages import Health, Message, Trade

_LATE_S = 0.001  # a shorter wait isn't worth the sleep


class Replay:
    """A feed of recorded or stored ticks; see `messages.Feed`. It ends with the last of them.

    Args:
        ticks: the tick record, or a file, folder or pattern that `read_ticks` takes.
        speed: 1 keeps the pace of the ticks' times, 10 is ten times as fast, None is as fast as
            they are taken.
        symbol: what to call the market.
        batch: ticks in one list, at most.

    Attributes:
        set_aside: what became of rows that were no ticks as they stood; see `read_ticks`.
    """

    name = "replay"

    def __init__(
        self,
        ticks: pl.DataFrame | str | Path,
        speed: float | None = 1.0,
        symbol: str = "",
        batch: int = 1000,
    ):
        if speed is not None and not speed > 0:
            raise ValueError(f"speed={speed}: give a number above 0, or None for full speed")
        if batch < 1:
            raise ValueError(f"batch={batch}: give at least 1")
        if isinstance(ticks, pl.DataFrame):
            frame, self.set_aside = check_record(ticks), pl.DataFrame()
        else:
            frame, self.set_aside = read_ticks(ticks)
        if "id" not in frame.columns:
            # A number for each, so that a restart knows where among the ticks of one time it was.
            frame = frame.with_columns(id=pl.int_range(pl.len(), dtype=pl.Int64))
        columns = ("time", "price", "amount", "side", "id")
        self._ticks = frame.select(columns).with_columns(pl.col("id").fill_null(-1))
        self._speed, self._batch = speed, batch
        self.symbol, self.health = symbol, Health()

    async def batches(self, after: Trade | None = None) -> AsyncGenerator[list[Message], None]:
        """Go through the ticks after one, in lists of bounded length."""
        start = 0 if after is None else self._index_after(after)
        begun_s = time.monotonic()
        self.health.connected = True
        for rows in self._due_together(start):
            wait_s = 0.0
            if self._speed is not None:
                since_ns = self._ticks["time"][rows.stop - 1] - self._ticks["time"][start]
                wait_s = begun_s + since_ns / 1e9 / self._speed - time.monotonic()
            # Also where nothing is to be waited for: others may go on meanwhile.
            await asyncio.sleep(wait_s if wait_s > _LATE_S else 0)
            arrived_ns, part = time.time_ns(), self._ticks[rows.start : rows.stop]
            columns = [part[name].to_list() for name in part.columns]
            batch = [Trade._make((*values, arrived_ns)) for values in zip(*columns, strict=True)]
            self.health.trades += len(batch)
            self.health.last_arrival_ns = batch[-1].arrived_ns
            yield batch  # type: ignore[misc] # a list of trades is one of messages
        self.health.connected = False

    def _index_after(self, after: Trade) -> int:
        """Return the row behind the known tick: by its id, or by its time where there are none."""
        time_N = self._ticks["time"].to_numpy()
        first, last = (int(np.searchsorted(time_N, after.time_ns, s)) for s in ("left", "right"))
        if after.id < 0:
            return last
        same = self._ticks["id"][first:last].to_numpy() == after.id
        return first + int(same.argmax()) + 1 if same.any() else last

    def _due_together(self, start: int) -> Iterator[range]:
        """Cut the rows into lists: at full speed even ones, else one for each time stamp."""
        count = len(self._ticks)
        if self._speed is None:
            ends = np.arange(start + self._batch, count + self._batch, self._batch)
        else:
            time_N = self._ticks["time"].to_numpy()[start:]
            ends = start + np.append(np.flatnonzero(np.diff(time_N)) + 1, len(time_N))
        for end in np.minimum(ends, count).tolist():
            for begin in range(start, end, self._batch):
                yield range(begin, min(begin + self._batch, end))
            start = end
