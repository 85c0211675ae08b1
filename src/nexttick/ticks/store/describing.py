"""What one asks first of a series, in one pass and flat memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.ticks.reading.read import time_text
from nexttick.ticks.store.series import StoredSeries

_CHUNK = 1_000_000
_DROPPED_BITS = 42  # of a float64's 52: bins are 1/1024 wide, relative to where they begin
_BINS = 1 << (63 - _DROPPED_BITS)


def describe(stored: StoredSeries, rows: int = _CHUNK) -> dict[str, Any]:
    """The same values as `reading.read.describe` gives, of a whole series.

    Medians are read off a histogram on a logarithmic scale, and are right to a part in a thousand;
    sums may differ in the last digits. All else is exact.

    Args:
        stored: the series.
        rows: ticks that are looked at together.
    """
    seen = _Seen()
    for chunk in stored.chunks(rows):
        seen.take(chunk)
    records = stored.records().values()
    return seen.values(has_ids=any(one.first_id is not None for one in records))


class _Median:
    """A histogram of positive numbers whose bins are the first bits of a float64."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)

    def take(self, values: NDArray[np.float64]) -> None:
        bits = np.ascontiguousarray(values, np.float64).view(np.int64)
        bins, counts = np.unique(bits >> _DROPPED_BITS, return_counts=True)
        self._counts[bins] += counts

    def value(self) -> float | None:
        total = int(self._counts.sum())
        if total == 0:
            return None
        place = int(np.searchsorted(np.cumsum(self._counts), (total + 1) // 2))
        edges = (np.array([place, place + 1]) << _DROPPED_BITS).view(np.float64)
        return float(edges.mean())


@dataclass
class _Seen:
    """Sums over the ticks so far; those of a time that the last tick has are still open."""

    rows: int = 0
    first_ns: int = 0
    last_ns: int = 0
    last_price: float = 0.0
    price_min: float = np.inf
    price_max: float = -np.inf
    amount_total: float = 0.0
    ties: int = 0
    sides: int = 0
    alone: int = 0  # ticks whose time no other has, but for the last one
    last_alone: bool = True
    longest_ns: int = 0
    amounts: _Median = field(default_factory=_Median)
    pauses: _Median = field(default_factory=_Median)

    def take(self, chunk: pl.DataFrame) -> None:
        time_ns, price = chunk["time"].to_numpy(), chunk["price"].to_numpy()
        if self.rows == 0:
            self.first_ns = int(time_ns[0])
        else:
            time_ns = np.concatenate([[self.last_ns], time_ns])
            price = np.concatenate([[self.last_price], price])
        self._take_times(np.diff(time_ns))
        self.ties += int((np.diff(price) == 0).sum())
        self.price_min = min(self.price_min, float(price.min()))
        self.price_max = max(self.price_max, float(price.max()))
        self.amount_total += float(chunk["amount"].sum())
        self.sides += int((chunk["side"] != 0).sum())
        self.amounts.take(chunk["amount"].to_numpy())
        self.rows += len(chunk)
        self.last_ns, self.last_price = int(time_ns[-1]), float(price[-1])

    def _take_times(self, pause_ns: NDArray[np.int64]) -> None:
        """Count pauses, and ticks that are alone at their time: no pause of zero beside them."""
        new = pause_ns > 0
        before = np.concatenate([[self.last_alone], new])
        self.alone += int((before[:-1] & new).sum())
        self.last_alone = bool(before[-1])
        positive = pause_ns[new]
        if len(positive):
            self.longest_ns = max(self.longest_ns, int(positive.max()))
            self.pauses.take(positive / 1e9)

    def values(self, has_ids: bool) -> dict[str, Any]:
        if not self.rows:
            return {"rows": 0}
        alone = self.alone + self.last_alone
        return {
            "rows": self.rows,
            "first": time_text(self.first_ns),
            "last": time_text(self.last_ns),
            "span_s": (self.last_ns - self.first_ns) / 1e9,
            "price_min": self.price_min,
            "price_max": self.price_max,
            "amount_median": self.amounts.value(),
            "amount_total": self.amount_total,
            "ties_share": self.ties / (self.rows - 1) if self.rows > 1 else None,
            "same_time_share": 1 - alone / self.rows,
            "sides_known_share": self.sides / self.rows,
            "median_pause_s": self.pauses.value(),
            "longest_pause_s": self.longest_ns / 1e9 if self.longest_ns else None,
            "has_ids": has_ids,
        }
