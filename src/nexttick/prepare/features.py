"""What a model sees of each event: one compiled step function with its state.

`update` is the only definition of the features. History is a compiled loop over it, a long file
is read in chunks with the state carried over, and live calls it on each event, so all of them
give the same numbers. Every feature is free of the market's units (prices are divided by recent
volatility, amounts and pauses by their recent mean), because a year changes all three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numba import njit
from numpy.typing import NDArray

from nexttick.options import FeatureOptions

# The number of this definition. Whoever changes a feature's value counts it up, so that a predictor
# of the features before is refused, or `update` learns to compute both.
REVISION = 1

EVENT = ("time", "first", "price", "vwap", "amount", "side", "count")

# A feature stands in `out` at its position here. `_write_fixed` and, for each half-life anew from
# 0, `_write_average` write by these positions; "pause" alone is written in `update`.
FIXED = (
    "return",  # log price change over the usual volatility
    "direction",  # its sign
    "last_move",  # sign of the last change that was not zero
    "since_move",  # events since then, log
    "side",  # who took; inferred by the tick rule where the venue does not say
    "signed_amount",  # amount over its usual size, with the side's sign, log
    "amount",  # the same without the sign
    "pause",  # seconds since the last event over the usual pause, log
    "count",  # ticks merged, log
    "sweep",  # log distance from the first to the last price, over the usual volatility
    "vwap",  # log distance of the mean price from the last, likewise
    "buyer",  # what the last buyer paid relative to now, likewise
    "seller",  # what the last seller got relative to now, likewise
)
AVERAGED = (
    "flow",  # signed amount over amount: order-flow imbalance, -1 to 1
    "side_flow",  # the same with every event counting as one
    "volatility",  # root mean square return over the usual one, log
    "trend",  # log price over its average, over the usual volatility
    "rate",  # half-lives in events: mean log pause over the usual; in seconds: log of events
)

# Slots of the state: the last event, the long-run means ("usual"), then the averages.
_SEEN, _TIME_S, _TIME_NS, _LOG_PRICE, _BUYER, _SELLER, _MOVE, _SINCE = range(8)
_WEIGHT, _VAR, _LOG_AMOUNT, _LOG_PAUSE = range(8, 12)
_AVERAGES = 12
# Slots of one average, behind _AVERAGES + _WIDTH * its number.
_A_WEIGHT, _A_FLOW, _A_AMOUNT, _A_SIDE, _A_VAR, _A_TREND, _A_PAUSE = range(7)
_WIDTH = 7

_LONG_DECAY = 0.5 ** (1 / 1000)  # "usual" is a mean with a half-life of 1000 events
_PRIOR_VAR = 1e-4**2  # one event of 1 bp, until the market has shown its own volatility
_SHORTEST_S = 1e-3  # shorter pauses are told apart by no venue's clock
_BOUND = 4.0


class Constants(NamedTuple):
    """What the compiled step needs of a spec."""

    per_event: NDArray[np.float64]  # factor an event of each half-life in events
    rate_per_s: NDArray[np.float64]  # decay rate of each half-life in seconds
    max_gap_s: float  # a longer pause empties the state


@dataclass(frozen=True)
class FeatureSpec:
    """Which features: the pause that ends a segment, and the half-lives of the averages."""

    max_gap_ns: int
    half_lives_events: tuple[float, ...] = FeatureOptions.half_lives_events
    half_lives_s: tuple[float, ...] = FeatureOptions.half_lives_s
    revision: int = REVISION

    def __post_init__(self) -> None:
        if self.revision != REVISION:
            raise ValueError(
                f"features of revision {self.revision!r}, and this version computes {REVISION}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        spans = [f"{h:g}" for h in self.half_lives_events] + [f"{h:g}s" for h in self.half_lives_s]
        return FIXED + tuple(f"{name}_{span}" for span in spans for name in AVERAGED)

    def constants(self) -> Constants:
        """The spec in the form that `update` takes."""
        per_event = 0.5 ** (1 / np.array(self.half_lives_events, dtype=np.float64))
        rate_per_s = math.log(2) / np.array(self.half_lives_s, dtype=np.float64)
        return Constants(per_event, rate_per_s, self.max_gap_ns * 1e-9)

    def initial_state(self) -> NDArray[np.float64]:
        """The state of a market of which nothing has been seen."""
        half_lives = len(self.half_lives_events) + len(self.half_lives_s)
        return np.zeros(_AVERAGES + _WIDTH * half_lives)


def compute_features(
    events: pl.DataFrame, spec: FeatureSpec, state: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """Features of consecutive events, one row an event, one column a feature of `spec.names`.

    `state` is where an earlier chunk ended, a fresh one by default. It is advanced in place, so
    that a long file can be computed chunk by chunk.
    """
    state = spec.initial_state() if state is None else state
    out = np.empty((len(events), len(spec.names)), np.float32)
    _run(state, out, spec.constants(), *(events[name].to_numpy() for name in EVENT))
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _run(state, out, constants, time, first, price, vwap, amount, side, count):  # type: ignore[no-untyped-def]
    for i in range(len(time)):
        event = (time[i], first[i], price[i], vwap[i], amount[i], side[i], count[i])
        update(state, event, out[i], constants)


@njit(cache=True, nogil=True, error_model="numpy")
def update(state, event, out, constants):  # type: ignore[no-untyped-def]
    """Take one event in: advance `state` in place and write its features to `out`.

    `event` is a tuple of the values named in `EVENT`; `out` is float32, one slot a feature.
    """
    # Whole seconds and the rest are each exact in float64; nanoseconds since 1970 are not.
    time_s, time_ns = float(event[0] // 1_000_000_000), float(event[0] % 1_000_000_000)
    pause_s = (time_s - state[_TIME_S]) + (time_ns - state[_TIME_NS]) * 1e-9
    if state[_SEEN] == 0.0 or pause_s > constants.max_gap_s:
        state[:] = 0.0
        state[_SEEN] = 1.0
        state[_LOG_PRICE] = state[_BUYER] = state[_SELLER] = math.log(event[2])
        pause_s = 0.0
    state[_TIME_S], state[_TIME_NS] = time_s, time_ns
    change, taker = _advance_price(state, event)
    # What is usual is read before this event becomes part of it.
    usual_var = (state[_VAR] + _PRIOR_VAR) / (state[_WEIGHT] + 1.0)
    per_vol = 1.0 / math.sqrt(usual_var)
    log_amount, log_pause = math.log(event[4]), math.log(max(pause_s, _SHORTEST_S))
    known = state[_WEIGHT] > 0.0
    more_amount = log_amount - state[_LOG_AMOUNT] / state[_WEIGHT] if known else 0.0
    usual_log_pause = state[_LOG_PAUSE] / state[_WEIGHT] if known else log_pause
    _write_fixed(state, event, out, change, taker, per_vol, more_amount)
    out[7] = _squash(log_pause - usual_log_pause)
    slot = len(FIXED)
    for k in range(len(constants.per_event) + len(constants.rate_per_s)):
        average = _AVERAGES + _WIDTH * k
        timed = k - len(constants.per_event)
        if timed < 0:
            decay = constants.per_event[k]
        else:
            decay = math.exp(-constants.rate_per_s[timed] * pause_s)
        _advance_average(state, average, decay, taker, event[4], change, log_pause)
        _write_average(state, average, out, slot, per_vol, usual_log_pause, timed >= 0)
        slot += len(AVERAGED)
    state[_WEIGHT] = state[_WEIGHT] * _LONG_DECAY + 1.0
    state[_VAR] = state[_VAR] * _LONG_DECAY + change * change
    state[_LOG_AMOUNT] = state[_LOG_AMOUNT] * _LONG_DECAY + log_amount
    state[_LOG_PAUSE] = state[_LOG_PAUSE] * _LONG_DECAY + log_pause


@njit(cache=True, nogil=True, error_model="numpy")
def _squash(x):  # type: ignore[no-untyped-def]
    """Near the identity around zero, never beyond ±4: no single event drowns the others."""
    return x / (1.0 + abs(x) / _BOUND)


@njit(cache=True, nogil=True, error_model="numpy")
def _advance_price(state, event):  # type: ignore[no-untyped-def]
    """Log price change and the side that took.

    Where the venue does not say who took, the sign of the last price change stands for it
    (the tick rule of Lee & Ready 1991).
    """
    log_price = math.log(event[2])
    change = log_price - state[_LOG_PRICE]
    state[_LOG_PRICE] = log_price
    state[_SINCE] += 1.0
    if change != 0.0:
        state[_MOVE], state[_SINCE] = math.copysign(1.0, change), 0.0
    taker = float(event[5]) if event[5] != 0 else state[_MOVE]
    if taker > 0.0:
        state[_BUYER] = log_price
    elif taker < 0.0:
        state[_SELLER] = log_price
    return change, taker


@njit(cache=True, nogil=True, error_model="numpy")
def _write_fixed(state, event, out, change, taker, per_vol, more_amount):  # type: ignore[no-untyped-def]
    log_price = state[_LOG_PRICE]
    out[0] = _squash(change * per_vol)
    out[1] = state[_MOVE] if change != 0.0 else 0.0
    out[2] = state[_MOVE]
    out[3] = math.log(1.0 + state[_SINCE])
    out[4] = taker
    out[5] = taker * math.log(1.0 + math.exp(min(more_amount, 20.0)))
    out[6] = _squash(more_amount)
    # Most events are one tick, and three logarithms can be saved.
    if event[6] == 1:
        out[8] = out[9] = out[10] = 0.0
    else:
        out[8] = math.log(float(event[6]))
        out[9] = _squash((log_price - math.log(event[1])) * per_vol)
        out[10] = _squash((math.log(event[3]) - log_price) * per_vol)
    out[11] = _squash((state[_BUYER] - log_price) * per_vol)
    out[12] = _squash((state[_SELLER] - log_price) * per_vol)


@njit(cache=True, nogil=True, error_model="numpy")
def _advance_average(state, average, decay, taker, amount, change, log_pause):  # type: ignore[no-untyped-def]
    for slot in range(average, average + _WIDTH):
        state[slot] *= decay
    # Distances to the average price move with each change, so no large number is ever summed.
    state[average + _A_TREND] += state[average + _A_WEIGHT] * change
    state[average + _A_WEIGHT] += 1.0
    state[average + _A_FLOW] += taker * amount
    state[average + _A_AMOUNT] += amount
    state[average + _A_SIDE] += taker
    state[average + _A_VAR] += change * change
    state[average + _A_PAUSE] += log_pause


@njit(cache=True, nogil=True, error_model="numpy")
def _write_average(state, average, out, slot, per_vol, usual_log_pause, timed):  # type: ignore[no-untyped-def]
    weight = state[average + _A_WEIGHT]
    per_weight = 1.0 / weight
    # One event at the usual variance is mixed in, so that a still market has a finite logarithm.
    relative_var = (state[average + _A_VAR] * per_vol * per_vol + 1.0) / (weight + 1.0)
    out[slot + 0] = state[average + _A_FLOW] / state[average + _A_AMOUNT]
    out[slot + 1] = state[average + _A_SIDE] * per_weight
    out[slot + 2] = 0.5 * math.log(relative_var)
    out[slot + 3] = _squash(state[average + _A_TREND] * per_weight * per_vol)
    out[slot + 4] = (
        math.log(weight) if timed else state[average + _A_PAUSE] * per_weight - usual_log_pause
    )
