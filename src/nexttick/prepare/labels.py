"""What a model is asked: is the price higher at a horizon than now, and when is that known?

`rise@h` of an event compares the price at the horizon with the price now. h is a number of
events (`1`, `10`), a time (`5s`) or `move` (the next different price). Nothing else in nexttick
decides when an answer is known: purging and scoring use `known_at` alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numba import njit
from numpy.typing import NDArray

from nexttick.options import LabelOptions, parse_duration_ns
from nexttick.prepare.on_disk import Empty
from nexttick.ticks.gaps import pieces, segment_ends, segment_starts

MISSING = -1
ROUNDING = 1e-12  # of a price: far above float64's, far below any market's smallest step


@dataclass(frozen=True)
class Labels:
    """Labels of N events at H horizons, and when each is known.

    Attributes:
        names: H names, `rise@h`.
        y_NH: int8; 1 a rise, 0 none, -1 missing.
        known_at_NH: int64, the index of the first event at which the label is known; N where it
            never is. Between events only time horizons are known, at the time in `known_ns_NH`.
        known_ns_NH: int64, that time in ns since 1970 (of the event itself, or the horizon's end).
        tie_NH: whether the price at the horizon equals the price now.
    """

    names: tuple[str, ...]
    y_NH: NDArray[np.int8]
    known_at_NH: NDArray[np.int64]
    known_ns_NH: NDArray[np.int64]
    tie_NH: NDArray[np.bool_]


def make_labels(
    events: pl.DataFrame, options: LabelOptions, max_gap_ns: int, empty: Empty = np.empty
) -> Labels:
    """Label every event at every horizon.

    A label is missing, never guessed, where its horizon crosses a gap or the end, and, with
    `ties="skip"`, where the price is the same.

    Args:
        events: from `merge_events`.
        options: horizons, ties and smoothing.
        max_gap_ns: a longer pause ends a segment.
        empty: makes the arrays, in memory or elsewhere.
    """
    time, price = events["time"].to_numpy(), events["price"].to_numpy()
    starts, shape = segment_starts(time, max_gap_ns), (len(time), len(options.horizon))
    dtypes = (np.int8, np.int64, np.int64, np.bool_)
    y, known_at, known_ns, tie = (empty(shape, dtype) for dtype in dtypes)
    for rows in pieces(len(time)):
        ends = segment_ends(starts, len(time), np.arange(*rows))
        for h, horizon in enumerate(options.horizon):
            at = slice(*rows), h
            y[at], known_at[at], known_ns[at], tie[at] = _label(
                time, price, rows, ends, horizon, options
            )
    return Labels(tuple(f"rise@{h}" for h in options.horizon), y, known_at, known_ns, tie)


Column = tuple[
    NDArray[np.int8], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]
]  # y, known_at, known_ns, tie


def _label(
    time: NDArray[np.int64],
    price: NDArray[np.float64],
    rows: tuple[int, int],
    ends: NDArray[np.int64],
    horizon: str,
    options: LabelOptions,
) -> Column:
    """Label the rows [begin, stop), whose segments end at `ends`."""
    begin, stop = rows
    now = price[begin:stop]
    known_at, known_ns, later = _later(time, price, rows, horizon, options)
    known_at, known_ns, later = known_at[: len(now)], known_ns[: len(now)], later[: len(now)]
    missing = known_at + begin >= ends
    y = (later > now).astype(np.int8)
    tie = (later == now) & ~missing
    y[missing | (tie if options.ties == "skip" else False)] = MISSING
    known_at = np.where(missing, len(time), known_at + begin)
    return y, known_at, np.where(missing, np.iinfo(np.int64).max, known_ns), tie


Later = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _later(
    time: NDArray[np.int64],
    price: NDArray[np.float64],
    rows: tuple[int, int],
    horizon: str,
    options: LabelOptions,
) -> Later:
    """When the rows' answers are known, counted from the first row, and the price by then."""
    begin, stop = rows
    duration_ns = parse_duration_ns(horizon)
    if duration_ns is not None:
        end = int(np.searchsorted(time, time[stop - 1] + duration_ns, side="right"))
        return _after_time(time[begin:end], price[begin:end], duration_ns)
    if horizon == "move":
        end = _next_move(price, stop - 1) + 1
        return _after_move(time[begin:end], price[begin:end])
    end = stop + int(horizon)
    return _after_events(time[begin:end], price[begin:end], int(horizon), options.smooth)


def _after_events(
    time: NDArray[np.int64], price: NDArray[np.float64], h: int, smooth: bool
) -> Later:
    """The price h events ahead, or the mean of the next h."""
    known_at = np.arange(len(time)) + h
    at = np.minimum(known_at, len(time) - 1)
    if not smooth:
        return known_at, time[at], price[at]
    return known_at, time[at], price + _mean_rise(price, h)


@njit(cache=True, nogil=True)
def _mean_rise(price, h):  # type: ignore[no-untyped-def]
    """Mean of the next h prices less the price now; 0 where only rounding sets them apart."""
    rise = np.zeros(len(price))
    for i in range(len(price) - h):
        # Sums over all of history would be faster, and would call a price that stays a rise.
        total = 0.0
        for later in range(i + 1, i + h + 1):
            total += price[later] - price[i]
        if abs(total) > ROUNDING * h * price[i]:
            rise[i] = total / h
    return rise


def _after_time(time: NDArray[np.int64], price: NDArray[np.float64], duration_ns: int) -> Later:
    """The last price up to and including the horizon's end, known with the first event after."""
    end_ns = time + duration_ns
    known_at = np.searchsorted(time, end_ns, side="right")
    return known_at, end_ns, price[known_at - 1]


def _next_move(price: NDArray[np.float64], row: int) -> int:
    """The first later row with another price; the end where there is none."""
    for begin, stop in pieces(len(price) - row - 1):
        differs = price[row + 1 + begin : row + 1 + stop] != price[row]
        if differs.any():
            return row + 1 + begin + int(differs.argmax())
    return len(price)


def _after_move(time: NDArray[np.int64], price: NDArray[np.float64]) -> Later:
    """The next price that differs from the price now."""
    n = len(price)
    changes = np.append(np.flatnonzero(price[1:] != price[:-1]) + 1, n)
    known_at = changes[np.searchsorted(changes, np.arange(n), side="right")]
    at = np.minimum(known_at, n - 1)
    return known_at, time[at], price[at]
