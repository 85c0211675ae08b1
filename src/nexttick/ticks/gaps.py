"""Pauses that end a segment, and the pieces in which a long history is walked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MIN_GAP_NS = 60_000_000_000
_USUAL = 0.99  # the pause that counts as usual: this quantile
GAP_FACTOR = 30


def usual_max_gap_ns(time_ns: NDArray[np.int64]) -> int:
    """The pause beyond which a market counts as interrupted: 30 times the 99th percentile.

    Never less than a minute. A pause this long is an outage or a closed market; features and
    labels on both sides of it have nothing to do with each other.
    """
    if len(time_ns) < 2:
        return MIN_GAP_NS
    # The quantile as np.quantile has it, in memory for the pauses above it alone.
    place = _USUAL * (len(time_ns) - 2)
    above = len(time_ns) - 1 - int(place)
    largest = np.empty(0, np.int64)
    for begin, stop in pieces(len(time_ns) - 1):
        largest = np.append(largest, np.diff(time_ns[begin : stop + 1]))
        if len(largest) > above:
            largest = np.partition(largest, len(largest) - above)[len(largest) - above :]
    largest.sort()
    low, high = largest[0], largest[min(1, above - 1)]
    usual_ns = float(low + (high - low) * (place - int(place)))
    return max(MIN_GAP_NS, int(GAP_FACTOR * usual_ns))


def segment_starts(time_ns: NDArray[np.int64], max_gap_ns: int) -> NDArray[np.int64]:
    """Indices at which a segment starts: 0 and every event after a pause beyond `max_gap_ns`."""
    after_gap = [
        begin + 1 + np.flatnonzero(np.diff(time_ns[begin : stop + 1]) > max_gap_ns)
        for begin, stop in pieces(len(time_ns) - 1)
    ]
    return np.concatenate([[0], *after_gap]).astype(np.int64)[: len(time_ns)]


def segment_ends(
    starts: NDArray[np.int64], length: int, rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each of these rows of `length` events, the index one past the end of its segment."""
    bounds = np.append(starts[1:], length)
    return bounds[np.searchsorted(starts, rows, side="right") - 1]


def pieces(length: int, size: int = 1 << 20) -> Iterator[tuple[int, int]]:
    """Ranges [begin, stop) that cover `length` rows: what is too large at once, piece by piece."""
    for begin in range(0, length, size):
        yield begin, min(begin + size, length)
