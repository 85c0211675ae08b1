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

    `known_at_NH` is the first event at which a label is known, N where it never is. Between events
    only time horizons are known: `known_ns_NH` is the time of the event, or the horizon's end.
    """

    names: tuple[str, ...]  # `rise@h`
    y_NH: NDArray[np.int8]  # 1 a rise, 0 none, -1 missing
    known_at_NH: NDArray[np.int64]
    known_ns_NH: NDArray[np.int64]
    tie_NH: NDArray[np.bool_]  # whether the price at the horizon equals the price now


def make_labels(
    events: pl.DataFrame, options: LabelOptions, max_gap_ns: int, empty: Empty = np.empty
) -> Labels:
    """Label every event at every horizon.

    A label is missing, never guessed, where its horizon crosses a gap (a pause longer than
    `max_gap_ns`) or the end, and, with `ties="skip"`, where the price is the same.
    """
    time, price = events["time"].to_numpy(), events["price"].to_numpy()
    starts, shape = segment_starts(time, max_gap_ns), (len(time), len(options.horizon))
    dtypes = (np.int8, np.int64, np.int64, np.bool_)
    y, known_at, known_ns, tie = (empty(shape, dtype) for dtype in dtypes)
    for begin, stop in pieces(len(time)):
        ends, now = segment_ends(starts, len(time), np.arange(begin, stop)), price[begin:stop]
        for h, horizon in enumerate(options.horizon):
            # Answers of these rows lie behind them, so as many events as that takes are looked at.
            answers = _answers(time, price, begin, stop, horizon, options.smooth)
            at, ns, later = (values[: len(now)] for values in answers)
            missing = at + begin >= ends
            tied = (later == now) & ~missing
            here = slice(begin, stop), h
            y[here] = later > now
            y[here][missing | (tied if options.ties == "skip" else False)] = MISSING
            known_at[here] = np.where(missing, len(time), at + begin)
            known_ns[here] = np.where(missing, np.iinfo(np.int64).max, ns)
            tie[here] = tied
    return Labels(tuple(f"rise@{h}" for h in options.horizon), y, known_at, known_ns, tie)


def _answers(
    time: NDArray[np.int64],
    price: NDArray[np.float64],
    begin: int,
    stop: int,
    horizon: str,
    smooth: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """When answers are known, counted from the row `begin`, and the price by then.

    They are right for the rows [begin, stop); those behind serve as what comes later.
    """
    duration_ns = parse_duration_ns(horizon)
    if duration_ns is not None:
        # The last price up to and including the horizon's end, known with the first event after.
        end = int(np.searchsorted(time, time[stop - 1] + duration_ns, side="right"))
        end_ns = time[begin:end] + duration_ns
        known_at = np.searchsorted(time[begin:end], end_ns, side="right")
        return known_at, end_ns, price[begin:end][known_at - 1]
    if horizon == "move":
        # The next price that differs from the price now. Behind the last row all may stand still
        # for very long, so the end is looked for piece by piece.
        end = stop
        for piece, until in pieces(len(price) - stop):
            differs = price[stop + piece : stop + until] != price[stop - 1]
            end = stop + (piece + int(differs.argmax()) + 1 if differs.any() else until)
            if differs.any():
                break
        time, price = time[begin:end], price[begin:end]
        changes = np.append(np.flatnonzero(price[1:] != price[:-1]) + 1, len(price))
        known_at = changes[np.searchsorted(changes, np.arange(len(price)), side="right")]
    else:
        # The price h events ahead, or the mean of the next h.
        time, price = time[begin : stop + int(horizon)], price[begin : stop + int(horizon)]
        known_at = np.arange(len(time)) + int(horizon)
    at = np.minimum(known_at, len(time) - 1)
    mean = horizon != "move" and smooth
    return known_at, time[at], price + _mean_rise(price, int(horizon)) if mean else price[at]


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
