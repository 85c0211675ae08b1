"""The simulated market's walk, tick by tick, compiled; `simulated` says what it follows."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

MEMORY = 0.75  # what a tick leaves for the next one of the past: a half-life of 2.4 ticks
AMOUNT_WEIGHT = 0.5  # a large trade counts at most 1.5 times, a small one at least 0.5 times
FLOW_SWING = 0.95  # the next side's probability stays within 0.025 and 0.975
FLOW_WIDTH = 0.15
PAUSE_WEIGHT = 0.21  # MEMORY + PAUSE_WEIGHT = 0.96 is the bursts' persistence; 1 would explode
CALM_FROM = 0.1
CALM_WIDTH = 0.3
MOVE_SHARE = 0.4
IMPACT = 0.9
LATENCY_NS = 1_000_000  # keeps times strictly increasing and the log of a pause bounded below
EULER_GAMMA = 0.5772156649015329  # minus the mean log of Exponential(1); keeps calm near 0


@njit(cache=True)
def _p_move(move: int, next_side: int, signal: float) -> float:
    """P(the mid moves by `move` tick sizes | `next_side` takes)."""
    if move == 0:
        return 1.0 - MOVE_SHARE
    return 0.5 * MOVE_SHARE * (1.0 + signal * IMPACT * move * next_side)


@njit(cache=True)
def _p_rise(side: int, p_buy: float, signal: float) -> float:
    """Sum the probabilities of all next sides and moves that lift the price."""
    total = 0.0
    for next_side in (-1, 1):
        p_side = p_buy if next_side > 0 else 1.0 - p_buy
        for move in (-1, 0, 1):
            if 2 * move + next_side - side > 0:
                total += p_side * _p_move(move, next_side, signal)
    return total


@njit(cache=True)
def walk(
    u_side: NDArray[np.float64],
    u_move: NDArray[np.float64],
    exponential: NDArray[np.float64],
    amount_ratio: NDArray[np.float64],
    signal: float,
    typical_pause_ns: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8], NDArray[np.float64]]:
    """Time since the start, bid in tick sizes from the start, side and truth of each tick."""
    n = u_side.size
    time_ns, bid_ticks = np.zeros(n, np.int64), np.zeros(n, np.int64)
    side, truth = np.zeros(n, np.int8), np.zeros(n, np.float64)
    flow, calm, p_buy = 0.0, 0.0, 0.5
    for i in range(n):
        s = 1 if u_side[i] < p_buy else -1
        # The first tick has no tick before it to pause and move from.
        if i > 0:
            move = 1 if u_move[i] < _p_move(1, s, signal) else 0
            if u_move[i] >= 1.0 - _p_move(-1, s, signal):
                move = -1
            bid_ticks[i] = bid_ticks[i - 1] + move
            pause_ns = LATENCY_NS + np.int64(typical_pause_ns * np.exp(calm) * exponential[i])
            time_ns[i] = time_ns[i - 1] + pause_ns
            # The whole nanoseconds that everyone sees are remembered, not the draw behind them.
            surprise = np.log(pause_ns / typical_pause_ns) + EULER_GAMMA
            calm = MEMORY * calm + PAUSE_WEIGHT * surprise
        weight = 1.0 + AMOUNT_WEIGHT * np.tanh(np.log(amount_ratio[i]))
        flow = MEMORY * flow + (1.0 - MEMORY) * s * weight
        # Flow goes on in bursts and turns back in calm.
        burst = np.tanh((CALM_FROM - calm) / CALM_WIDTH)
        p_buy = 0.5 + 0.5 * signal * FLOW_SWING * np.tanh(flow / FLOW_WIDTH) * burst
        side[i], truth[i] = s, _p_rise(s, p_buy, signal)
    return time_ns, bid_ticks, side, truth
