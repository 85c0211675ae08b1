"""Isolated price outliers: a causal rule, one compiled step that a replay and a live feed share.

A venue's record holds prices that nobody could have traded on: a misplaced comma, a test order, a
market order that met an empty book. `outlier_step` decides on a tick from this tick and earlier
ones alone. It adapts to the market (the mean of its last `MEMORY` moves, and the length of
pauses), and a price that stays becomes the new level.

A rule that needs a few ticks to believe a new level loses those ticks. So it loses them again on
ticks that it has cleaned already; switch it off there.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import polars as pl

FLOOR = 0.25  # a move of up to 25 % of the lower price is always believed
USUAL_MOVES = 10.0  # and so is one of up to ten times the usual move
MEMORY = 50  # ticks that the usual move is a mean of
PAUSE_S = 3600.0  # a pause of an hour widens the limit by the square root of two
CONFIRM = 3  # so many ticks make a new level,
CONFIRM_SLOPE = 4.0  # and four more for each factor of e that it lies away
_LOG_FLOOR = math.log1p(FLOOR)
_LAST, _LAST_NS, _LEVEL, _AGREED, _SEEN, _NEXT, _MOVES = range(7)  # places in the state
_NEAR = 1.0 + 0.999 * FLOOR  # a little less, so that rounding errs towards a closer look
_HOP = 4096  # ticks that the step runs over before it looks whether all is quiet


def new_outlier_state() -> np.ndarray:
    """Return the state of `outlier_step` before the first tick: zeros, float64."""
    return np.zeros(_MOVES + MEMORY)


@numba.njit(cache=True)
def outlier_step(state: np.ndarray, time_ns: int, price: float) -> bool:
    """Say whether a tick's price is to be believed, from this tick and earlier ones alone.

    Let p be the last price believed, r = max(price, p) / min(price, p) and d = ln r. The tick is
    believed if r - 1 is at most `FLOOR`, or if d is at most the greater of `USUAL_MOVES` times
    the usual move and ln(1 + `FLOOR`) sqrt(1 + pause / `PAUSE_S`). The usual move is the mean of
    min(r - 1, `FLOOR`) over the last `MEMORY` ticks, so a market that often jumps may.

    Otherwise it is an outlier; unless outliers in a row, each within the floor of the one before,
    have become `CONFIRM` + `CONFIRM_SLOPE` d in number. Then the market has moved, and this tick
    is the first of its new level. A level that rests on fewer ticks itself gives way to as many,
    though never to fewer than `CONFIRM`: a bad first price costs no more than two good ones.

    The state, from `new_outlier_state`, is changed in place; times do not step back, and prices
    are positive and finite.
    """
    last = state[_LAST]
    if last == 0.0:
        state[_LAST], state[_LAST_NS], state[_SEEN] = price, time_ns, 1.0
        return True
    move = abs(price - last) / min(price, last)
    believed = move <= FLOOR
    if not believed:
        # Oldest first, so that the sum depends on nothing but the moves.
        usual = 0.0
        for k in range(MEMORY):
            usual += state[_MOVES + (int(state[_NEXT]) + k) % MEMORY]
        pause_s = max(time_ns - state[_LAST_NS], 0.0) * 1e-9
        limit = _LOG_FLOOR * math.sqrt(1.0 + pause_s / PAUSE_S)
        believed = math.log1p(move) <= max(limit, USUAL_MOVES * usual / MEMORY)
    if not believed:
        near = state[_AGREED] > 0.0 and abs(math.log(price / state[_LEVEL])) <= _LOG_FLOOR
        state[_AGREED] = state[_AGREED] + 1.0 if near else 1.0
        state[_LEVEL] = price
        needed = CONFIRM + CONFIRM_SLOPE * math.log1p(move)
        believed = state[_AGREED] >= min(max(state[_SEEN], CONFIRM), needed)
        if believed:
            state[_SEEN] = state[_AGREED] - 1.0
    # A move that is set aside is remembered too: a market that often jumps may. But no move
    # counts for more than the floor, or one wild price would open the door to the next.
    place = int(state[_NEXT])
    state[_MOVES + place] = min(move, FLOOR)
    state[_NEXT] = (place + 1) % MEMORY
    if believed:
        state[_LAST], state[_LAST_NS], state[_AGREED] = price, time_ns, 0.0
        state[_SEEN] = min(state[_SEEN] + 1.0, MEMORY)
    return believed


def disbelieved_rows(time_ns: pl.Series, price: pl.Series) -> np.ndarray:
    """Run `outlier_step` over ticks in time order and return the rows that it sets aside.

    Where no tick lies beyond the floor from the one before, the rule rejects nothing, and it
    remembers `MEMORY` ticks only. So the step runs near jumps alone, with the same result.
    """
    rows, before, start = [np.empty(0, np.int64)], math.nan, 0
    for chunk in price.get_chunks():
        values = chunk.to_numpy()
        if len(values) and _has_jump(before, values):
            ratio = values / np.concatenate([[before], values[:-1]])
            rows.append(start + np.flatnonzero(np.maximum(ratio, 1.0 / ratio) > _NEAR))
        before = values[-1] if len(values) else before
        start += len(values)
    jumps, aside, end = np.concatenate(rows), [np.empty(0, np.int64)], 0
    while len(jumps := jumps[jumps >= end]):
        # What lies further back than the memory has no say, so a new state may start there.
        state, end = new_outlier_state(), max(int(jumps[0]) - MEMORY - 1, 0)
        is_quiet = False
        while end < len(price) and not is_quiet:
            hop = slice(end, min(end + _HOP, len(price)))
            believed = np.empty(hop.stop - hop.start, np.bool_)
            _run(state, time_ns[hop].to_numpy(), price[hop].to_numpy(), believed)
            aside.append(hop.start + np.flatnonzero(~believed))
            end = hop.stop
            following = np.searchsorted(jumps, end)
            far = following == len(jumps) or jumps[following] > end + MEMORY
            is_quiet = bool(believed[-1] and far)
    return np.concatenate(aside)


class Disbelief:
    """`disbelieved_rows` over ticks that come in pieces, with the same result."""

    def __init__(self) -> None:
        self._state = new_outlier_state()

    def believed(self, ticks: pl.DataFrame) -> pl.Series:
        """Which ticks of the next piece are kept."""
        believed = np.empty(len(ticks), np.bool_)
        _run(self._state, ticks["time"].to_numpy(), ticks["price"].to_numpy(), believed)
        return pl.Series(believed)


@numba.njit(cache=True)
def _run(state: np.ndarray, time_ns: np.ndarray, price: np.ndarray, believed: np.ndarray) -> None:
    for i in range(len(price)):
        believed[i] = outlier_step(state, time_ns[i], price[i])


@numba.njit(cache=True)
def _has_jump(before: float, price: np.ndarray) -> bool:
    jumps = (price[0] > before * _NEAR) | (before > price[0] * _NEAR)
    # Counting without a branch runs in vector registers.
    for i in range(1, len(price)):
        jumps += (price[i] > price[i - 1] * _NEAR) | (price[i - 1] > price[i] * _NEAR)
    return jumps > 0
