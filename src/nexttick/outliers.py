"""Isolated price outliers: a causal rule, one compiled step that a replay and a live feed share.

A venue's record holds prices that nobody could have traded on: a misplaced comma, a test order, a
market order that met an empty book. `outlier_step` decides on a tick from this tick and earlier
ones alone. It adapts to the market (an exponential mean of its moves, and the length of pauses),
and a price that stays becomes the new level.

A rule that needs a few ticks to believe a new level loses those ticks. So it loses them again on
ticks that it has cleaned already; switch it off there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numba
import numpy as np

FLOOR = 0.25  # a move of up to 25 % of the lower price is always believed
USUAL_MOVES = 10.0  # and so is one of up to ten times the usual move
ALPHA = 0.02  # the usual move is a mean over some fifty ticks
PAUSE_S = 3600.0  # a pause of an hour widens the limit by the square root of two
CONFIRM = 3  # so many ticks make a new level,
CONFIRM_SLOPE = 4.0  # and four more for each factor of e that it lies away
_LOG_FLOOR = math.log1p(FLOOR)
_STATE_SIZE = 6


def new_outlier_state() -> np.ndarray:
    """Return the state of `outlier_step` before the first tick: six zeros, float64."""
    return np.zeros(_STATE_SIZE)


def believed_ticks(time_ns: Sequence[np.ndarray], price: Sequence[np.ndarray]) -> np.ndarray | None:
    """Run `outlier_step` over ticks in time order, given in one chunk or several.

    Args:
        time_ns: int64, each of shape (T_k,), ascending.
        price: float64, each of shape (T_k,), positive and finite.

    Returns:
        bool, shape (sum of T_k,): True where the tick is believed. None where all are.
    """
    # Where no tick lies beyond the floor from the one before, the rule can reject nothing.
    before = [math.nan, *(float(chunk[-1]) for chunk in price[:-1])]
    if not any(_has_jump(last, chunk) for last, chunk in zip(before, price, strict=True)):
        return None
    state = (0.0,) * _STATE_SIZE
    believed = []
    for times, prices in zip(time_ns, price, strict=True):
        mask, state = _believed(state, times, prices)
        believed.append(mask)
    return np.concatenate(believed)


@numba.njit(cache=True)
def _step(state, time_ns, price):  # type: ignore[no-untyped-def]
    last, last_ns, usual, level, agreed, seen = state
    if last == 0.0:
        return True, (price, time_ns, usual, level, agreed, 1.0)
    move = abs(price - last) / min(price, last)
    if move > FLOOR:
        d = math.log1p(move)
        pause_s = max(time_ns - last_ns, 0.0) * 1e-9
        limit = _LOG_FLOOR * math.sqrt(1.0 + pause_s / PAUSE_S)
        if d > max(limit, USUAL_MOVES * usual):
            near = agreed > 0.0 and abs(math.log(price / level)) <= _LOG_FLOOR
            agreed = agreed + 1.0 if near else 1.0
            usual = (1.0 - ALPHA) * usual + ALPHA * FLOOR
            if agreed < min(max(seen, CONFIRM), CONFIRM + CONFIRM_SLOPE * d):
                return False, (last, last_ns, usual, price, agreed, seen)
            return True, (price, time_ns, usual, price, 0.0, agreed)
    usual = (1.0 - ALPHA) * usual + ALPHA * min(move, FLOOR)
    return True, (price, time_ns, usual, level, 0.0, seen + 1.0)


@numba.njit(cache=True)
def outlier_step(state: np.ndarray, time_ns: int, price: float) -> bool:
    """Say whether a tick's price is to be believed, from this tick and earlier ones alone.

    Let p be the last price believed, r = max(price, p) / min(price, p) and d = ln r. The tick is
    believed if r - 1 is at most `FLOOR`, or if d is at most the greater of `USUAL_MOVES` times
    the usual move and ln(1 + `FLOOR`) sqrt(1 + pause / `PAUSE_S`). The usual move is an
    exponential mean of min(r - 1, `FLOOR`) over all ticks, so a market that often jumps may.

    Otherwise it is an outlier; unless outliers in a row, each within the floor of the one before,
    have become `CONFIRM` + `CONFIRM_SLOPE` d in number. Then the market has moved, and this tick
    is the first of its new level. A level that rests on fewer ticks itself gives way to as many,
    though never to fewer than `CONFIRM`: a bad first price costs no more than two good ones.

    Args:
        state: From `new_outlier_state`, changed in place.
        time_ns: The tick's time, not before that of the tick before.
        price: Positive and finite.

    Returns:
        True to keep the tick, False to set it aside.
    """
    before = (state[0], state[1], state[2], state[3], state[4], state[5])
    believed, after = _step(before, float(time_ns), price)
    state[0], state[1], state[2], state[3], state[4], state[5] = after
    return believed


@numba.njit(cache=True)
def _believed(state, time_ns, price):  # type: ignore[no-untyped-def]
    # The same step in a loop; its state stays in registers, not in an array.
    believed = np.empty(len(price), np.bool_)
    for i in range(len(price)):
        believed[i], state = _step(state, float(time_ns[i]), price[i])
    return believed, state


@numba.njit(cache=True)
def _has_jump(before: float, price: np.ndarray) -> bool:
    near = 1.0 + 0.999 * FLOOR  # a little less, so that rounding errs towards a closer look
    jumps = (price[0] > before * near) | (before > price[0] * near)
    for i in range(1, len(price)):  # counting without a branch runs in vector registers
        jumps += (price[i] > price[i - 1] * near) | (price[i - 1] > price[i] * near)
    return jumps > 0
