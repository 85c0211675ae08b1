"""95 % intervals by a block bootstrap over time.

Neighbouring events are alike, so whole blocks of consecutive events are drawn, not events
(Carlstein 1986: blocks that do not overlap). How often each block is drawn in each of R resamples
is decided once, as a matrix of R x B counts; whatever follows from sums over blocks is resampled
by a matrix product.

*Length of a block.* The optimal one of Politis & White 2004, as corrected by Patton, Politis &
White 2009; of several series the longest. (Their formula for the stationary bootstrap is the one
for blocks that do not overlap, too: by Lahiri 1999 both have the same variance.) Blocks are
lengthened where there would be more than 250, which costs little and saves time, and shortened
where there would be less than 30; `Resampler.long_enough` is then false and the intervals are
too narrow.

*Interval.* Percentiles of the resamples, expanded for the small number of blocks by Student's t
with B - 1 degrees of freedom (Hesterberg 2015, section 5.3).

What is not promised: that the future resembles the blocks. Days unlike all days seen are in no
resample.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

Array = NDArray[np.floating]
FEWEST, MOST = 30, 250  # blocks; their numbers fit into a byte
_LEVEL = 0.95
_UNDEFINED = 0.05  # a score that more of the resamples lack has no interval


class Estimate(NamedTuple):
    """A value and its 95 % interval; NaN where one is not defined."""

    value: float
    low: float
    high: float

    @property
    def margin(self) -> float:
        """Half of the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Resampler:
    """Which blocks of N consecutive events are drawn, and how often."""

    bounds: NDArray[np.int64]  # B + 1 indices; block b is the events [bounds[b], bounds[b + 1])
    weights_RB: NDArray[np.float32]  # how often each block is drawn in each resample
    optimal: float  # events that a block should have, by the rule at the top of this module

    @classmethod
    def fit(
        cls,
        series: Sequence[Array],
        *,
        bounds: NDArray[np.int64] | None = None,
        resamples: int = 1000,
        seed: int = 0,
    ) -> Resampler:
        """Choose the blocks from the data, at least one series of one event, and draw.

        A series, in time order, is one value an event, or the mean of each of G groups of
        consecutive events. `bounds` are then G + 1 indices of groups nearly all of one length;
        blocks are made of whole ones.
        """
        groups = len(series[0]) if series else 0
        if groups == 0:
            raise ValueError("there is nothing to resample: give a series of at least one event")
        bounds = np.arange(groups + 1) if bounds is None else bounds
        # All series share the draws, so that they can be subtracted from one another; the one that
        # remembers for longest decides. Longer blocks than it needs cost the others little.
        optimal = max(map(optimal_block, series))
        blocks = min(groups, max(FEWEST, min(MOST, int(groups / optimal))))
        # Lengths that differ by one at the most leave no short block at the end, whose mean would
        # be noisier than those of the others and be drawn as often.
        of_blocks = bounds[np.arange(blocks + 1) * groups // blocks]
        events = optimal * int(bounds[-1]) / groups
        return cls(of_blocks, draw(resamples, blocks, seed), events)

    @property
    def block(self) -> int:
        """Events in a block; some have a few more or less."""
        return int(self.bounds[-1]) // self.blocks

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.bounds) - 1

    @property
    def long_enough(self) -> bool:
        """Whether blocks are as long as the data ask for."""
        return self.block >= math.floor(self.optimal)

    def mean(self, x_N: Array) -> Estimate:
        """The mean of a series of all events."""
        sums_B = np.add.reduceat(x_N.astype(np.float64), self.bounds[:-1])
        weights_RB = self.weights_RB.astype(np.float64)
        # Some blocks are longer by an event, so a resample has a number of events of its own.
        resampled_R = weights_RB @ sums_B / (weights_RB @ np.diff(self.bounds))
        return self.estimates({"": float(x_N.mean())}, {"": resampled_R})[""]

    def estimates(
        self,
        values: Mapping[str, float],
        resampled: Mapping[str, NDArray[np.float64]],
        biased: Collection[str] = (),
    ) -> dict[str, Estimate]:
        """Values with their intervals, from R resamples of each.

        To those named `biased` chance alone adds, once in the events and once more in each
        resample. Reverse percentiles take this off again (Davison & Hinkley 1997, section 5.2);
        they are widened to the value where it lies beyond.
        """
        rows = np.stack([resampled[key] for key in values])
        bounds = zip(*self._quantiles(rows, self._tail((1 + _LEVEL) / 2)), strict=True)
        found = {}
        for (key, value), (a, b) in zip(values.items(), bounds, strict=True):
            low, high = (math.nan, math.nan) if math.isnan(value) else (float(a), float(b))
            if key in biased and not math.isnan(low):
                low, high = min(2 * value - high, value), max(2 * value - low, value)
            found[key] = Estimate(value, low, high)
        return found

    def bound(self, errors_R: NDArray[np.float64]) -> float:
        """What an error, never negative, stays below in 95 % of cases."""
        return float(self._quantiles(errors_R[None], self._tail(_LEVEL))[1][0])

    def _tail(self, one_sided: float) -> float:
        """The share of resamples left out beyond a bound, for a level that it is to keep."""
        if self.blocks < 2:
            return math.nan
        # Percentiles alone are too narrow for two reasons: they know nothing of Student's t, and
        # the spread of B drawn values is that of the sample, √((B - 1) / B) of the estimate.
        t = stdtrit(self.blocks - 1, one_sided)
        return float(ndtr(-t * math.sqrt(self.blocks / (self.blocks - 1))))

    def _quantiles(self, x_KR: NDArray[np.float64], tail: float) -> tuple[Array, Array]:
        """Lower and upper bounds of K rows; NaN where too few resamples are defined."""
        known_K = np.isfinite(x_KR).sum(axis=1)
        nothing_K = known_K < (1 - _UNDEFINED) * x_KR.shape[1]
        if math.isnan(tail):
            nothing_K[:], tail = True, 0.0
        # What is not defined comes last, so each row's quantiles are those of its beginning;
        # numpy's own would be NaN, and its nanquantile takes row after row.
        sorted_KR, last_K = np.sort(x_KR, axis=1), np.maximum(known_K - 1, 0)
        rows, bounds = np.arange(len(x_KR)), []
        for share in (tail, 1 - tail):
            place_K = share * last_K
            below_K = place_K.astype(np.int64)
            low, high = sorted_KR[rows, below_K], sorted_KR[rows, np.minimum(below_K + 1, last_K)]
            between_K = low + (high - low) * (place_K - below_K)
            bounds.append(np.where(nothing_K, np.nan, between_K))
        return bounds[0], bounds[1]


@lru_cache(maxsize=4)  # horizons of as many blocks share the draws
def draw(resamples: int, blocks: int, seed: int) -> NDArray[np.float32]:
    """How often each of B blocks, 256 at the most, is drawn in each of R resamples of B blocks."""
    # Single bytes are drawn four times as fast as int64; hence the limit.
    drawn_RB = np.random.default_rng(seed).integers(0, blocks, (resamples, blocks), np.uint8)
    weights_RB: NDArray[np.float32] = _counts(drawn_RB)
    weights_RB.flags.writeable = False
    return weights_RB


@njit(cache=True, nogil=True)
def _counts(drawn_RB):  # type: ignore[no-untyped-def]
    weights_RB = np.zeros(drawn_RB.shape, np.float32)
    for r in range(len(drawn_RB)):
        for block in drawn_RB[r]:
            weights_RB[r, block] += 1.0
    return weights_RB


def optimal_block(x_N: Array) -> float:
    """Events in a block that make the variance of the mean's bootstrap most exact.

    Politis & White 2004 with the correction of Patton, Politis & White 2009:
    b = (2 G² / D)^(1/3) N^(1/3) with G = Σ λ(k/M) |k| R(k), D = 2 (Σ λ(k/M) R(k))², the
    autocovariances R and the flat-top window λ. M is twice the last lag before a run of lags
    whose autocorrelations are all within 2 √(log10 N / N). At least 1 and at most N / 3; their
    other limit, 3 √N, is left to the caller. Lags beyond √N are not looked at, so that a series
    which remembers for longer gets too short a block.
    """
    n = len(x_N)
    x = x_N - x_N.mean()
    variance = float(x @ x) / n
    # A series that is constant but for rounding has no length of its own.
    if n < 4 or variance <= np.finfo(np.float64).eps * float(x_N @ x_N) / n:
        return 1.0
    run = max(5, int(math.log10(n)))  # lags of no note in a row that end the search
    most = min(math.ceil(math.sqrt(n)) + run, n - 1)
    near = 2 * math.sqrt(math.log10(n) / n) * variance
    R, last, quiet = [variance], 0, 0

    def extend() -> float:
        R.append(float(x[len(R) :] @ x[: -len(R)]) / n)
        return R[-1]

    # Each lag costs a pass over the series and most series need a few, so they come one by one.
    while quiet < run and last + quiet < most:
        quiet += 1
        if abs(extend()) >= near:
            last, quiet = last + quiet, 0
    M = min(2 * max(last, 1), most)
    while len(R) <= M:
        extend()
    lags = np.arange(1, M + 1)
    weighted = np.minimum(1.0, 2 * (1 - lags / M)) * np.array(R[1 : M + 1])
    G, spectrum = 2 * float(weighted @ lags), variance + 2 * float(weighted.sum())
    optimal = (G**2 / spectrum**2 * n) ** (1 / 3) if spectrum else n
    return min(max(optimal, 1.0), n / 3)
