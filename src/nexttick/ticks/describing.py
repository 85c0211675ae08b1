"""What one asks first of ticks, in one pass: of a frame, or of pieces in flat memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.ticks.days import iso

_DROPPED_BITS = 42  # of a float64's 52: bins are 1/1024 wide, relative to where they begin
_BINS = 1 << (63 - _DROPPED_BITS)


def describe(ticks: pl.DataFrame) -> dict[str, Any]:
    """Return what one asks first of a set of ticks, as plain values for JSON.

    Shares are of rows: `ties_share` of consecutive prices that are equal, `same_time_share` of
    rows whose time another row has too, `sides_known_share`. `median_pause_s` is over pauses
    between different times.
    """
    seen = _Seen(_Middle(), _Middle())
    if len(ticks):
        seen.take(ticks)
    return seen.values(has_ids="id" in ticks.columns)


def describe_chunks(chunks: Iterable[pl.DataFrame], *, has_ids: bool) -> dict[str, Any]:
    """`describe` of ticks that come in pieces, in the memory of one.

    Medians are read off a histogram on a logarithmic scale, and are right to a part in a thousand;
    sums may differ in the last digits. All else is exact.
    """
    seen = _Seen(_Histogram(), _Histogram())
    for chunk in chunks:
        seen.take(chunk)
    return seen.values(has_ids)


class _Middle:
    """The median of numbers that are taken at once, exactly."""

    def __init__(self) -> None:
        self._median: Any = None

    def take(self, values: NDArray[np.float64]) -> None:
        self._median = pl.Series(values).median()

    def value(self) -> float | None:
        return self._median


class _Histogram:
    """The median of positive numbers, by bins that are the first bits of a float64."""

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

    amounts: _Middle | _Histogram
    pauses: _Middle | _Histogram
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

    def take(self, chunk: pl.DataFrame) -> None:
        time_ns, price = chunk["time"].to_numpy(), chunk["price"].to_numpy()
        if self.rows == 0:
            self.first_ns = int(time_ns[0])
        else:
            time_ns = np.concatenate([[self.last_ns], time_ns])
            price = np.concatenate([[self.last_price], price])
        # A tick is alone at its time where there is no pause of zero beside it.
        pause_ns = np.diff(time_ns)
        is_new = pause_ns > 0
        before = np.concatenate([[self.last_alone], is_new])
        self.alone += int((before[:-1] & is_new).sum())
        self.last_alone = bool(before[-1])
        if is_new.any():
            self.longest_ns = max(self.longest_ns, int(pause_ns.max()))
            self.pauses.take(pause_ns[is_new] / 1e9)
        self.ties += int((np.diff(price) == 0).sum())
        self.price_min = min(self.price_min, float(price.min()))
        self.price_max = max(self.price_max, float(price.max()))
        self.amount_total += float(chunk["amount"].sum())
        self.sides += int((chunk["side"] != 0).sum())
        self.amounts.take(chunk["amount"].to_numpy())
        self.rows += len(chunk)
        self.last_ns, self.last_price = int(time_ns[-1]), float(price[-1])

    def values(self, has_ids: bool) -> dict[str, Any]:
        if not self.rows:
            return {"rows": 0}
        alone = self.alone + self.last_alone
        return {
            "rows": self.rows,
            "first": iso(self.first_ns),
            "last": iso(self.last_ns),
            "span_s": (self.last_ns - self.first_ns) / 1e9,
            "price_min": self.price_min,
            "price_max": self.price_max,
            "amount_median": self.amounts.value(),
            "amount_total": self.amount_total,
            "ties_share": self.ties / (self.rows - 1) if self.rows > 1 else None,
            "same_time_share": (self.rows - alone) / self.rows,
            "sides_known_share": self.sides / self.rows,
            "median_pause_s": self.pauses.value(),
            "longest_pause_s": self.longest_ns / 1e9 if self.longest_ns else None,
            "has_ids": has_ids,
        }
