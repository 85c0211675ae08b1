"""The bid-ask spread and the mid price, estimated from trades alone.

A buyer who takes pays the ask, a seller who takes gets the bid, so trade prices jump between the
two while nothing has happened. Both estimates below assume that the spread is the same all the
time. Neither sees the order book: a real spread widens when it matters most.

- *The sides' own prices*: where one event's taker bought and the next one's sold, or the other
  way round, the two prices are an ask and a bid. Their mean log difference is the spread, plus
  what orders move the mid by on arrival, so it is rather too wide than too narrow.
- *Roll 1984*: if sides are drawn by a coin and the mid is a random walk, then
  Cov(Δp[i], Δp[i-1]) = -spread² / 4. Real sides come in runs, which makes it too narrow, and
  orders whose impact is undone make it too wide; where the covariance is positive it says nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import polars as pl
from numba import njit
from numpy.typing import NDArray

_KNOWN = 0.9  # share of events whose taker the venue tells, for its sides to be believed


class Spread(NamedTuple):
    """A spread in basis points of the price, and which estimate it is."""

    bps: float
    source: str


def estimate_spread(events: pl.DataFrame, starts: NDArray[np.int64]) -> Spread:
    """The spread by the sides' own prices where the venue tells sides, else Roll's.

    Sides inferred from price changes turn exactly when the price does, so that their own prices
    would count every move as spread. Where a decision hangs on the spread, `events` are those of
    the past only. It is a `ValueError` where neither is defined.
    """
    price, side = events["price"].to_numpy(), events["side"].to_numpy()
    if (side != 0).mean() >= _KNOWN and (bps := sides_spread_bps(price, side, starts)) > 0:
        return Spread(bps, "sides")
    if (bps := roll_spread_bps(price, starts)) > 0:
        return Spread(bps, "Roll 1984")
    raise ValueError(
        f"no spread can be estimated from these {len(price)} events: their sides are unknown and "
        f"price changes do not turn back; give one in basis points"
    )


def sides_spread_bps(
    price: NDArray[np.float64], side: NDArray[np.integer], starts: NDArray[np.int64]
) -> float:
    """Mean log distance of the buyers' from the sellers' price where the taker changes sides.

    In basis points; NaN where the taker never does. No pair of events crosses a segment's start.
    """
    turns = np.flatnonzero((side[1:] * side[:-1] == -1) & ~_at_starts(starts, len(price))[1:]) + 1
    distance = np.log(price[turns] / price[turns - 1]) * side[turns]
    return float(distance.mean()) * 1e4 if len(distance) else math.nan


def roll_spread_bps(price: NDArray[np.float64], starts: NDArray[np.int64]) -> float:
    """Roll's estimate, 2 √(-Cov(Δp[i], Δp[i-1])) of log prices, in basis points.

    NaN where the covariance is positive or there are no two changes. No pair of changes crosses a
    segment's start.
    """
    change = np.diff(np.log(price))
    inside = ~_at_starts(starts, len(price))[1:]
    pairs = inside[1:] & inside[:-1]
    if not pairs.any():
        return math.nan
    now, before = change[1:][pairs], change[:-1][pairs]
    covariance = float(np.mean((now - now.mean()) * (before - before.mean())))
    return 2e4 * math.sqrt(-covariance) if covariance <= 0 else math.nan


def log_mids(
    price: NDArray[np.float64],
    side: NDArray[np.integer],
    starts: NDArray[np.int64],
    spread_bps: float,
) -> NDArray[np.float64]:
    """The log mid price behind each event: its price less half the spread on the taker's side.

    The bounce is taken out here, once, so that whoever buys at mid plus half the spread pays
    what the last buyer paid, or a spread more than the last seller got, and never the spread
    twice. Where the venue does not tell the taker, the tick rule stands in (`taker_sides`).
    """
    return np.log(price) - taker_sides(price, side, starts) * (spread_bps / 2e4)


def taker_sides(
    price: NDArray[np.float64], side: NDArray[np.integer], starts: NDArray[np.int64]
) -> NDArray[np.int8]:
    """Sides, unknown ones inferred by the tick rule of Lee & Ready 1991.

    It takes the sign of the last price change for the side. 0 before a segment's first change.
    """
    return _taker_sides(price, side, _at_starts(starts, len(price)))


@njit(cache=True, nogil=True)
def _taker_sides(price, side, at_start):  # type: ignore[no-untyped-def]
    taker = np.zeros(len(price), np.int8)
    move = 0
    for i in range(len(price)):
        if at_start[i]:
            move = 0
        elif price[i] != price[i - 1]:
            move = 1 if price[i] > price[i - 1] else -1
        taker[i] = side[i] if side[i] != 0 else move
    return taker


def _at_starts(starts: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    at = np.zeros(n, np.bool_)
    at[starts] = True
    return at
