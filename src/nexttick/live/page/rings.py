"""The last points of a series in fixed memory, whatever the rate of ticks.

A point covers a slot of wall-clock time: what comes within the slot is merged into it. So a screen
that is drawn a few times a second has a few new points each time, at 1 tick a second as at 20,000.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Points(NamedTuple):
    """N points of a series, oldest first."""

    time_N: NDArray[np.int64]  # market time of the last thing merged into it, ns
    value_N: NDArray[np.float64]  # the last one in it
    low_N: NDArray[np.float64]
    high_N: NDArray[np.float64]
    rest_NR: NDArray[np.float32]  # R further values that go with the last one
    broken_N: NDArray[np.bool_]  # whether something is missing before it

    def at(self, index: slice | NDArray[np.intp]) -> Points:
        """Some of them; a slice is a view."""
        return Points._make(values[index] for values in self)

    def merged(self, groups: int) -> Points:
        """Neighbours made one, so that no more than so many are left."""
        n = len(self.time_N)
        if n <= groups:
            return self
        starts = np.arange(groups) * n // groups
        return self.at(np.append(starts[1:], n) - 1)._replace(
            low_N=np.fmin.reduceat(self.low_N, starts),
            high_N=np.fmax.reduceat(self.high_N, starts),
            broken_N=np.logical_or.reduceat(self.broken_N, starts),
        )

    def drawn(self) -> dict[str, Any]:
        """As a page draws them: times in seconds, the rest column by column."""
        return {
            "time": self.time_N // 1_000_000 / 1e3,
            "value": self.value_N,
            "low": self.low_N,
            "high": self.high_N,
            "rest": np.ascontiguousarray(self.rest_NR.T),
            "broken": np.flatnonzero(self.broken_N),
        }


class Ring:
    """The last `capacity` points of a series, each with R (`rest`) further values.

    One covers `slot_ns` of wall-clock time at least.
    """

    def __init__(self, capacity: int, slot_ns: int, rest: int = 0):
        self._capacity, self._slot_ns = capacity, slot_ns
        value_N, low_N, high_N = np.full((3, capacity), np.nan)
        self._points = Points(
            np.zeros(capacity, np.int64),
            value_N,
            low_N,
            high_N,
            np.full((capacity, rest), np.nan, np.float32),
            np.zeros(capacity, np.bool_),
        )
        # Points since the beginning, the last of which is still open.
        self.opened = 0
        self._closes_ns: int | None = None
        self._breaks = False
        self._at = 0
        self._low = self._high = np.nan
        self._rest_R = self._points.rest_NR[0]

    def put(
        self,
        now_ns: int,
        time_ns: int,
        value: float,
        low: float,
        high: float,
        rest_R: Sequence[float] | NDArray[np.floating],
    ) -> bool:
        """Merge into the open point, or open the next one; gives whether one was opened.

        `now_ns` is of any clock that never goes back. Market time, value and `rest_R` take the
        place of the point's, low and high may widen its own.
        """
        # Low and high are kept beside the arrays: to read an element takes longer than to compare.
        points = self._points
        opens = self._closes_ns is None or now_ns >= self._closes_ns
        if opens:
            at = self._at = self.opened % self._capacity
            self._low = points.low_N[at] = low
            self._high = points.high_N[at] = high
            points.broken_N[at] = self._breaks
            self._rest_R = points.rest_NR[at]
            self._closes_ns, self._breaks = now_ns + self._slot_ns, False
            self.opened += 1
        elif low < self._low:
            self._low = points.low_N[self._at] = low
        elif high > self._high:
            self._high = points.high_N[self._at] = high
        at = self._at
        points.time_N[at] = time_ns
        points.value_N[at] = value
        self._rest_R[:] = rest_R
        return opens

    def last(self) -> Points:
        """The open point, as a series of one; of none before the first."""
        return self._points.at(slice(self._at, self._at + min(self.opened, 1)))

    @property
    def open_number(self) -> int:
        """Number of the open point, counted from 0; 0 before the first too."""
        return max(self.opened - 1, 0)

    def break_off(self) -> None:
        """Something is missing: the next value opens a point, marked so."""
        self._closes_ns, self._breaks = None, True

    def since(self, number: int, limit: int) -> Points:
        """Points from a number on, counted from 0; neighbours are merged into `limit` at most."""
        first = max(number, self.opened - self._capacity, 0)
        return self._points.at(np.arange(first, self.opened) % self._capacity).merged(limit)

    def holds(self, number: int) -> bool:
        """Whether the point of that number, and so all later ones, are still here or to come."""
        return number >= self.opened - self._capacity


S_NS = 1_000_000_000
MINUTE_S = 60

_BINS_A_DECADE = 5
_DECADES = 7
# From 1 µs to 10 s, five bins a decade; the histogram's last bin is for all above.
EDGES_NS: tuple[int, ...] = tuple(
    round(1_000 * 10 ** (k / _BINS_A_DECADE)) for k in range(_BINS_A_DECADE * _DECADES + 1)
)


class LatencyHistogram:
    """Ticks by how long each took to its prediction, since the beginning and in the last minute."""

    def __init__(self) -> None:
        # A bin holds latencies up to and with its edge.
        self.counts = [0] * (len(EDGES_NS) + 1)
        self.total = self.sum_ns = 0
        self._ends: deque[tuple[int, list[int]]] = deque(maxlen=MINUTE_S + 1)  # of whole seconds
        self.turn(1)

    def add(self, latency_ns: int) -> None:
        """Count one."""
        self.counts[bisect_left(EDGES_NS, latency_ns)] += 1
        self.total += 1
        self.sum_ns += latency_ns

    def turn(self, seconds: int) -> None:
        """So many seconds have ended."""
        for _ in range(min(seconds, MINUTE_S + 1)):
            self._ends.append((self.total, self.counts.copy()))

    def last_minute(self) -> NDArray[np.int64]:
        """Counts of the last minute, bin by bin."""
        return np.array(self.counts) - np.array(self._ends[0][1])

    def each_second(self) -> list[int]:
        """Ticks second by second, oldest first; fewer than 60 in the first minute."""
        return [later - earlier for (earlier, _), (later, _) in pairwise(self._ends)]

    def per_second(self, over_s: int = 5) -> float:
        """The mean of the last whole seconds; 0 before the first has ended."""
        latest = self.each_second()[-over_s:]
        return sum(latest) / len(latest) if latest else 0.0


def quantile_ns(counts: NDArray[np.integer], share: float) -> float:
    """The latency in ns that so large a share stays under, straight within a bin of the log scale.

    It is at most a bin's width off; the last edge where it lies above; NaN without any count.
    """
    total = int(counts.sum())
    if total == 0:
        return math.nan
    cumulated = np.cumsum(counts)
    i = int(np.searchsorted(cumulated, share * total))
    if i >= len(EDGES_NS):
        return float(EDGES_NS[-1])
    within = (share * total - (cumulated[i] - counts[i])) / max(int(counts[i]), 1)
    return float(EDGES_NS[i] * 10 ** ((within - 1) / _BINS_A_DECADE))
