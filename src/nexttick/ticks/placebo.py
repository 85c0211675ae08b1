"""A market made from a user's own events in which nothing can be known beyond the bounce.

Times, amounts and the number of ticks an event stay as they are, so bursts, gaps and sizes are
the market's own. The price path is drawn anew and knows nothing of them:

    price = mid + side · half spread       on the lattice of the market's tick size (Roll 1984)
    side: a Markov chain, P(side stays) = `same_side`
    mid: a random walk, P(it stays) = 1 - `moves`, else up or down by `step` with equal chance

Measured on the events: the spread is the median price change where the side changes, the step the
median change where it doesn't, `same_side` the share of events on the side of the one before, and
`moves` is such that as many prices stay as in the market. Where the venue doesn't tell sides, the
sign of the last price change stands for them (the tick rule of Lee & Ready 1991).

Side and price of an event are all that its future depends on, and sides don't depend on the mid,
so the probability of a rise after h events follows from the side alone. With λ = 2 · same_side - 1
and M the walk after h steps,

    P(the side is the same after h events) = (1 + λ^h) / 2
    P(rise) = Σ over that side, same or other, of P(it) · P(step · M + change by the spread > 0)

This is what the best forecaster of all would say. Where the venue doesn't tell sides the placebo
doesn't either, and then nobody can know as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.ticks.record import TickError

_DECIMALS = 9
_ROUNDING = 1e-9  # of a price: finer decimals than this make no tick size
_SAFE_DEVIATIONS, _SAFE_STEPS = 12, 48  # the walk ends lower with less than 1e-28 (Bernstein)


@dataclass(frozen=True)
class Bounce:
    """What a placebo's prices have in common with a market's."""

    decimals: int  # of the tick size, which is a tenth to this power
    spread: int  # in tick sizes
    step: int  # of the mid, in tick sizes
    same_side: float  # P(an event is of the side of the one before)
    moves: float  # P(the mid moves between two events)

    def truth(
        self, side_N: NDArray[np.int8], horizon: int, ties: str = "down"
    ) -> NDArray[np.float64]:
        """P(the price is higher `horizon` events ahead | all until now).

        Sides are +1 or -1; with `ties="skip"` it is given that the price is another one.
        """
        # The walk's distribution from -horizon to horizon, by its characteristic function.
        n = 2 * horizon + 1
        angle = 2 * np.pi * np.arange(horizon + 1) / n
        p = np.fft.irfft((1 - self.moves + self.moves * np.cos(angle)) ** horizon, n)
        p_M = np.fft.fftshift(np.maximum(p, 0))
        move_M = np.arange(-horizon, horizon + 1) * self.step
        p_same = (1 + (2 * self.same_side - 1) ** horizon) / 2
        p_rise = {}
        for side in (-1, 1):
            rise = fall = 0.0
            for p_side, bounce in ((p_same, 0), (1 - p_same, -side * self.spread)):
                rise += p_side * float(p_M[move_M + bounce > 0].sum())
                fall += p_side * float(p_M[move_M + bounce < 0].sum())
            if ties != "down":
                rise = rise / (rise + fall) if rise + fall > 0 else 0.5
            p_rise[side] = rise
        return np.where(side_N > 0, p_rise[1], p_rise[-1])


@dataclass(frozen=True)
class Placebo:
    """A placebo market and what is true of it."""

    bounce: Bounce
    ticks: pl.DataFrame  # the tick record, with `truth` at `rise@1`
    side_N: NDArray[np.int8]  # of each event, whether its ticks have it or not

    def truth(self, horizon: int, ties: str = "down") -> NDArray[np.float64]:
        """The true probability of a rise `horizon` events ahead, for each event."""
        return self.bounce.truth(self.side_N, horizon, ties)


def make_placebo(ticks: pl.DataFrame, events: pl.DataFrame, seed: int = 0) -> Placebo:
    """Draw a placebo of a market, from its ticks and the events they make; prices must change.

    As many ticks come of it, which merge into as many events. Ticks of one event have one price;
    events of one time stamp are set a nanosecond apart, or those of one side would merge. A market
    that could fall to zero starts higher than the median price.
    """
    bounce = measure_bounce(events)
    rng, n = np.random.default_rng(seed), len(events)
    changes = np.cumsum(rng.random(n) >= bounce.same_side)
    side_N = np.where(changes % 2 == 0, 1, -1).astype(np.int8)
    uniform = rng.random(n)
    up, down = uniform < bounce.moves / 2, uniform >= 1 - bounce.moves / 2
    mid_N = np.cumsum(up.astype(np.int64) - down) * bounce.step
    # So far up that the walk ends at zero with no probability that anyone will see.
    deviation = np.sqrt(bounce.moves * n)
    lowest = (_SAFE_DEVIATIONS * deviation + _SAFE_STEPS) * bounce.step + bounce.spread
    typical_price = float(np.median(events["price"]))
    start = max(round(typical_price * 10**bounce.decimals), int(lowest))
    level_N = start + mid_N + bounce.spread * (side_N > 0)
    price_N = np.round(level_N / 10**bounce.decimals, bounce.decimals)

    count, index = events["count"].to_numpy(), np.arange(n)
    time_N = np.maximum.accumulate(events["time"].to_numpy() - index) + index
    shown_N = np.where(events["side"].to_numpy() != 0, side_N, np.int8(0))
    table = pl.DataFrame(
        {
            "time": np.repeat(time_N, count),
            "price": np.repeat(price_N, count),
            "amount": ticks["amount"],
            "side": np.repeat(shown_N, count),
            "truth": np.repeat(bounce.truth(side_N, 1), count),
        }
    )
    return Placebo(bounce, table, side_N)


def measure_bounce(events: pl.DataFrame) -> Bounce:
    """What a placebo takes over of a market's prices; they must change."""
    price, side = events["price"].to_numpy(), events["side"].to_numpy()
    change = np.diff(price)
    if not change.any():
        raise TickError(f"all {len(price)} prices are {price[0]:g}: there is no bounce to copy")
    # The fewest decimals in which all prices can be written.
    decimals = 0
    while decimals < _DECIMALS and not (
        (np.abs(np.round(price, decimals) - price) <= _ROUNDING * price).all()
    ):
        decimals += 1
    # The tick rule: the sign of the last price change before or at each event, 0 before the first.
    sign = np.sign(np.diff(price, prepend=price[0])).astype(np.int8)
    rule = sign[np.maximum.accumulate(np.where(sign != 0, np.arange(len(price)), 0))]
    same = np.diff(np.where(side != 0, side, rule)) == 0
    ties = float((change == 0).mean())
    # Where most orders of the other side leave the price, they show no bounce of theirs.
    if same.mean() < ties:
        same = np.diff(rule) == 0
    # Median change where the side changes and where not, in tick sizes; one may stand for both.
    size = np.abs(change) * 10**decimals
    spread, step = (
        max(1, round(float(np.median(some)))) if some.any() else None
        for some in (size[~same & (size > 0)], size[same & (size > 0)])
    )
    spread, step = spread or step or 1, step or spread or 1
    moves = _moves(float(same.mean()), ties, spread == step)
    if moves is None:
        spread, moves = spread + 1, _moves(float(same.mean()), ties, False)
    return Bounce(decimals, spread, step, float(same.mean()), moves or 0.0)


def _moves(same_side: float, ties: float, alike: bool) -> float | None:
    """How often the mid moves where so many prices stay; None where it can't be.

    A price stays where neither side nor mid change, and, where spread and step are alike, where
    half of all moves make up for the bounce.
    """
    per_move = same_side - (1 - same_side) / 2 if alike else same_side
    if per_move <= 0:
        return None if alike else 0.0
    moves = (same_side - ties) / per_move
    return moves if moves <= 1 else None
