"""What is counted at each tick: ticks a second, and a histogram of latencies."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

S_NS = 1_000_000_000
MINUTE_S = 60

_BINS_A_DECADE = 5
_DECADES = 7
# From 1 µs to 10 s, five bins a decade; the histogram's last bin is for all above.
EDGES_NS: tuple[int, ...] = tuple(
    round(1_000 * 10 ** (k / _BINS_A_DECADE)) for k in range(_BINS_A_DECADE * _DECADES + 1)
)


class LatencyHistogram:
    """How long it took from tick to prediction, since the beginning and in the last minute.

    Attributes:
        counts: in each bin since the beginning, one more than there are `EDGES_NS`; a bin holds
            latencies up to and with its edge.
        sum_ns: of all latencies.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(EDGES_NS) + 1)
        self.sum_ns = 0
        self._each_second: deque[list[int]] = deque([self.counts.copy()], maxlen=MINUTE_S + 1)

    def add(self, latency_ns: int) -> None:
        """Count one."""
        self.counts[bisect_left(EDGES_NS, latency_ns)] += 1
        self.sum_ns += latency_ns

    def turn(self, seconds: int) -> None:
        """So many seconds have ended."""
        for _ in range(min(seconds, MINUTE_S + 1)):
            self._each_second.append(self.counts.copy())

    def last_minute(self) -> NDArray[np.int64]:
        """Counts of the last minute, bin by bin."""
        return np.array(self.counts) - np.array(self._each_second[0])


def quantile_ns(counts: NDArray[np.integer], share: float) -> float:
    """The latency that so large a share stays under, straight within a bin of the log scale.

    Args:
        counts: of a `LatencyHistogram`.
        share: between 0 and 1.

    Returns:
        ns, at most a bin's width off; the last edge where it lies above; NaN without any count.
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


class TickRate:
    """Ticks in each of the last 60 whole seconds."""

    def __init__(self) -> None:
        self.total = 0
        self._marks: deque[int] = deque([0], maxlen=MINUTE_S + 1)

    def turn(self, seconds: int) -> None:
        """So many seconds have ended."""
        for _ in range(min(seconds, MINUTE_S + 1)):
            self._marks.append(self.total)

    def each_second(self) -> list[int]:
        """Ticks second by second, oldest first; fewer than 60 in the first minute."""
        return [later - earlier for earlier, later in pairwise(self._marks)]

    def per_second(self, over_s: int = 5) -> float:
        """The mean of the last whole seconds; 0 before the first has ended."""
        latest = self.each_second()[-over_s:]
        return sum(latest) / len(latest) if latest else 0.0
