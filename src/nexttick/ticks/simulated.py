"""A seeded market whose true probability of a rise is known in closed form, tick by tick.

It has the habits of real trade ticks, each in its simplest published form:

- *Bid-ask bounce* (Roll 1984): price = mid + side · half spread; the spread is one tick size.
- *Bursts of trades*: pauses follow the logarithmic ACD model (Bauwens and Giot 2000).
- *Order flow that remembers*: past flow says which side takes next. In bursts flow goes on, in
  calm it turns back. The sign of the effect hangs on a product of two visible quantities, and
  that is the part of the signal which no linear model on single ticks can see.
- *Impact* (Kyle 1985, immediate here): the mid tends to move the way of the order that arrives.

Tick `i` has side s = ±1, amount a and the pause x since the tick before. With a0 and x0 for what
is typical, D for `MEMORY` and γ for Euler's constant, it leaves behind (both start at 0)

    flow = D · flow + (1 - D) · s · (1 + AMOUNT_WEIGHT · tanh(ln(a / a0)))
    calm = D · calm + PAUSE_WEIGHT · (ln(x / x0) + γ)

and the next tick, of side s' and with a mid moved by d tick sizes, is drawn from

    next pause = LATENCY_NS + x0 · exp(calm) · Exponential(1)
    P(s' = +1) = (1 + signal · FLOW_SWING · tanh(flow / FLOW_WIDTH)
                                          · tanh((CALM_FROM - calm) / CALM_WIDTH)) / 2
    P(d = ±1 | s') = MOVE_SHARE · (1 ± signal · IMPACT · s') / 2,    P(d = 0) = 1 - MOVE_SHARE

while amounts are log-normal and independent (constants: `simulated_walk`). So the probability of a
rise is a finite sum:

    truth = Σ over s', d with d + (s' - s) / 2 > 0 of  P(s') · P(d | s')

Flow, calm and s follow from visible ticks and nothing else drives the market, so `truth` is what
the best forecaster of all would say. With `signal = 0` it depends on s alone; pauses still come in
bursts then, but tell nothing. The market is no model of any venue: it has no order book, no time
of day, no news, and its signal is far stronger than a real one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

# The mid is a random walk. Its standard deviation after n ticks is near 1.6 · √n tick sizes
# (measured at signal 1), so that a start this far up is twelve of them away from a price of zero.
_SAFE_TICK_SIZES_PER_ROOT_TICK = 20
_FIRST_NS = 1_230_768_000_000_000_000  # 2009: readers of files take no earlier date for plausible
_LAST_NS = 2**63 - 1
_WHOLE = {"ticks": (2, 10**12), "seed": (0, 2**32 - 1), "start_time_ns": (_FIRST_NS, _LAST_NS)}
_REAL = {
    "signal": (0.0, 1.0),
    "tick_size": (1e-6, 1e9),
    "start_price": (1e-6, 1e9),
    "typical_pause_s": (0.01, 60.0),
    "typical_amount": (0.001, 1e9),
}


@dataclass(frozen=True)
class SimulatedMarket:
    """What to simulate; the same market gives the same bytes.

    A longer market of the same seed begins with the shorter one, tick for tick.

    Attributes:
        ticks: number of ticks, at least 2.
        seed: seed of all draws, from 0 to 2**32 - 1.
        signal: how much can be known beyond the bounce, from 0 (nothing) to 1.
        tick_size: smallest price step, and the spread, in units of price; at least 1e-6.
        start_price: the bid before the first tick; at least 20 · √ticks tick sizes, far enough
            from zero for the price to stay positive.
        typical_pause_s: x0, near the median of the expected pause, 0.01 to 60 seconds.
        typical_amount: a0, the median amount, at least 0.001.
        start_time_ns: time of the first tick, ns since 1970-01-01, UTC; 2009 or later.

    Raises:
        ValueError: names all unusable parameters at once, each with its cure.
    """

    ticks: int
    seed: int
    signal: float = 1.0
    tick_size: float = 0.5
    start_price: float = 50_000.0
    typical_pause_s: float = 0.5
    typical_amount: float = 0.1
    start_time_ns: int = 1_704_067_200_000_000_000  # 2024-01-01

    def __post_init__(self) -> None:
        mistakes = []
        for kind, types, ranges in (
            ("whole number", (int, np.integer), _WHOLE),
            ("number", (int, float, np.integer, np.floating), _REAL),
        ):
            for name, (low, high) in ranges.items():
                value = getattr(self, name)
                usable = isinstance(value, types) and not isinstance(value, bool)
                if not (usable and low <= value <= high):
                    mistakes.append(
                        f"{name}={value!r}: give a {kind} from {low:.13g} to {high:.13g}"
                    )
        # What needs two of them is asked once each is a number.
        if not mistakes:
            lowest = _SAFE_TICK_SIZES_PER_ROOT_TICK * self.tick_size * sqrt(self.ticks)
            if self.start_price < lowest:
                mistakes.append(
                    f"start_price={self.start_price!r}: the price could reach zero within "
                    f"{self.ticks} ticks; give at least {lowest:.6g}, a smaller tick_size or "
                    "fewer ticks"
                )
            # A pause is 1.6 times the typical one on average; 4 leaves room for bad luck.
            if self.start_time_ns + 4e9 * self.ticks * self.typical_pause_s > _LAST_NS:
                mistakes.append(
                    f"start_time_ns={self.start_time_ns!r}: the last ticks would lie beyond the "
                    "year 2262, where 64-bit nanoseconds end; start earlier or take fewer ticks"
                )
        if mistakes:
            raise ValueError("this market cannot be simulated:\n  " + "\n  ".join(mistakes))


def simulate(market: SimulatedMarket) -> pl.DataFrame:
    """Draw the market's ticks, with the true probability that the next price is higher.

    Returns:
        One row a tick: `time` (Int64, ns, strictly increasing), `price`, `amount` (Float64),
        `side` (Int8, +1 the buyer took, -1 the seller took), `id` (Int64, from 0) and `truth`
        (Float64): P(price[i+1] > price[i] | ticks up to and including i), by the formula at the
        top of this module.
    """
    return _assemble(market, _draw(market))


class _Draws(NamedTuple):
    """Independent random numbers, one of each a tick."""

    side: NDArray[np.float64]  # uniform on [0, 1)
    move: NDArray[np.float64]  # uniform on [0, 1)
    pause: NDArray[np.float64]  # standard exponential
    amount: NDArray[np.float64]  # standard normal


def _draw(market: SimulatedMarket) -> _Draws:
    # One generator for each kind: a longer run then extends every stream and changes none.
    streams = np.random.SeedSequence(int(market.seed)).spawn(4)
    side, move, pause, amount = (np.random.default_rng(stream) for stream in streams)
    n = int(market.ticks)
    return _Draws(
        side.random(n), move.random(n), pause.standard_exponential(n), amount.standard_normal(n)
    )


def _assemble(market: SimulatedMarket, draws: _Draws) -> pl.DataFrame:
    from nexttick.ticks.simulated_walk import walk  # numba, which a mistake does not wait for

    amount = np.maximum(np.round(market.typical_amount * np.exp(draws.amount), 6), 1e-6)
    since_start_ns, bid_ticks, side, truth = walk(
        draws.side,
        draws.move,
        draws.pause,
        amount / market.typical_amount,
        float(market.signal),
        market.typical_pause_s * 1e9,
    )
    price = market.start_price + (bid_ticks + (side > 0)) * market.tick_size
    columns = {
        "time": market.start_time_ns + since_start_ns,
        "price": np.round(price, 9),  # 100.07, not 100.07000000000001
        "amount": amount,
        "side": side,
        "id": np.arange(market.ticks),
        "truth": truth,
    }
    return pl.DataFrame(columns)
