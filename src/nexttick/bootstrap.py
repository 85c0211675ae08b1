"""95 % intervals by a block bootstrap over time, for all scores of all contestants at once.

Neighbouring events are alike, so whole blocks of consecutive events are drawn, not events
(Carlstein 1986: blocks that do not overlap). How often each block is drawn in each of R resamples
is decided once, as a matrix of R x B counts; since every score follows from sums over blocks
(`tally`), a matrix product resamples them all. All contestants share the counts, so that
differences between them are paired.

*Length of a block.* The optimal one of Politis & White 2004, as corrected by Patton, Politis &
White 2009, of the log-loss series of each contestant and of the differences between the first and
each other; the longest of these counts. (Their formula for the stationary bootstrap is the one
for blocks that do not overlap, too: by Lahiri 1999 both have the same variance.) Blocks are
lengthened where there would be more than 250, which costs little and saves time, and shortened
where there would be less than 30; `Resampler.long_enough` is then false and the intervals are
too narrow.

*Interval.* Percentiles of the resamples, expanded for the small number of blocks by Student's t
with B - 1 degrees of freedom (Hesterberg 2015, section 5.3). Three scores need another. Chance
alone adds to reliability and resolution, once in the events and once more in each resample: theirs
are reverse percentiles, which take this off again (Davison & Hinkley 1997, section 5.2), widened
to the value where it lies beyond. The calibration error is a sum of absolute deviations; it is
off by no more than the sum of absolute errors of its bins, whose 95 % quantile over the resamples
is added and taken off. That is exact for a forecaster without a calibration error, else too wide.

What is not promised: that the future resembles the blocks. Days unlike all days seen are in no
resample. Bins and the share of ties stay those of all events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from nexttick.metrics import scores_of
from nexttick.tally import PRODUCT, Losses, Outcomes, Tally, tally

Array = NDArray[np.floating]
FEWEST, MOST = 30, 250  # blocks; their numbers fit into a byte
_LEVEL = 0.95
_MEANS = 2**13  # longer series are averaged to so many: a block holds 33 of them or more
_UNDEFINED = 0.05  # a score that more of the resamples lack has no interval
_BIASED = ("reliability", "resolution", "ece")


class Estimate(NamedTuple):
    """A value and its 95 % interval; NaN where one is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Resampler:
    """Which blocks of N consecutive events are drawn, and how often.

    Attributes:
        bounds: B + 1 indices; block b is the events [bounds[b], bounds[b + 1]).
        weights_RB: how often each block is drawn in each resample.
        optimal: events that a block should have, by the rule at the top of this module.
    """

    bounds: NDArray[np.int64]
    weights_RB: NDArray[np.float32]
    optimal: float

    @classmethod
    def fit(
        cls,
        series: Sequence[Array],
        *,
        bounds: NDArray[np.int64] | None = None,
        resamples: int = 1000,
        seed: int = 0,
    ) -> Resampler:
        """Choose the blocks from the data, and draw.

        Args:
            series: what decides the length, in time order: each one value an event, or the mean
                of each of G groups of consecutive events.
            bounds: G + 1 indices of the groups, nearly all of one length; blocks are made of whole
                ones. By default each event is one.
            resamples: R.
            seed: of the draws.

        Raises:
            ValueError: there is no series or no event.
        """
        groups = len(series[0]) if series else 0
        if groups == 0:
            raise ValueError("there is nothing to resample: give a series of at least one event")
        bounds = np.arange(groups + 1) if bounds is None else bounds
        optimal = max(map(optimal_block, series))
        blocks = min(groups, max(FEWEST, min(MOST, int(groups / optimal))))
        of_blocks = bounds[np.arange(blocks + 1) * groups // blocks]
        events = optimal * int(bounds[-1]) / groups
        return cls(of_blocks, draw(resamples, blocks, seed), events)

    @property
    def block(self) -> int:
        """Events in a block; some have one more."""
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
        resampled_R = weights_RB @ sums_B / (weights_RB @ np.diff(self.bounds))
        return self.estimates({"": float(x_N.mean())}, {"": resampled_R})[""]

    def estimates(
        self, values: Mapping[str, float], resampled: Mapping[str, NDArray[np.float64]]
    ) -> dict[str, Estimate]:
        """Values with the intervals of their resamples, R each."""
        rows = np.stack([resampled[key] for key in values])
        bounds = zip(*self._quantiles(rows, self._tail((1 + _LEVEL) / 2)), strict=True)
        return {
            key: _estimate(key, value, float(low), float(high))
            for (key, value), (low, high) in zip(values.items(), bounds, strict=True)
        }

    def bound(self, errors_R: NDArray[np.float64]) -> float:
        """What an error, never negative, stays below in 95 % of cases."""
        return float(self._quantiles(errors_R[None], self._tail(_LEVEL))[1][0])

    def _tail(self, one_sided: float) -> float:
        """The share of resamples left out beyond a bound, for a level that it is to keep."""
        if self.blocks < 2:
            return math.nan
        t = stdtrit(self.blocks - 1, one_sided)
        return float(ndtr(-t * math.sqrt(self.blocks / (self.blocks - 1))))

    def _quantiles(self, x_KR: NDArray[np.float64], tail: float) -> tuple[Array, Array]:
        """Lower and upper bounds of K rows; NaN where too few resamples are defined."""
        known_K = np.isfinite(x_KR).sum(axis=1)
        nothing_K = known_K < (1 - _UNDEFINED) * x_KR.shape[1]
        if math.isnan(tail):
            nothing_K[:], tail = True, 0.0
        sorted_KR = np.sort(x_KR, axis=1)  # what is not defined comes last
        low_K, high_K = (_interpolated(sorted_KR, known_K, share) for share in (tail, 1 - tail))
        return np.where(nothing_K, np.nan, low_K), np.where(nothing_K, np.nan, high_K)


@lru_cache(maxsize=4)  # horizons of as many blocks share the draws
def draw(resamples: int, blocks: int, seed: int) -> NDArray[np.float32]:
    """How often each of B blocks, 256 at the most, is drawn in each of R resamples of B blocks."""
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


def _estimate(key: str, value: float, low: float, high: float) -> Estimate:
    if math.isnan(value) or math.isnan(low):
        return Estimate(value, math.nan, math.nan)
    if key in _BIASED:
        low, high = min(2 * value - high, value), max(2 * value - low, value)
    return Estimate(value, low, high)


def _interpolated(sorted_KR: Array, known_K: NDArray[np.integer], share: float) -> Array:
    """The quantile of the first `known` values of each row."""
    place_K = share * np.maximum(known_K - 1, 0)
    below_K = place_K.astype(np.int64)
    above_K = np.minimum(below_K + 1, np.maximum(known_K - 1, 0))
    rows = np.arange(len(sorted_KR))
    low, high = sorted_KR[rows, below_K], sorted_KR[rows, above_K]
    return low + (high - low) * (place_K - below_K)


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
    if n < 4 or variance <= np.finfo(np.float64).eps * float(x_N @ x_N) / n:
        return 1.0
    run = max(5, int(math.log10(n)))
    most = min(math.ceil(math.sqrt(n)) + run, n - 1)
    R = _Autocovariances(x, [variance])
    near = 2 * math.sqrt(math.log10(n) / n) * variance
    last = quiet = 0
    while quiet < run and last + quiet < most:
        quiet += 1
        if abs(R[last + quiet]) >= near:
            last, quiet = last + quiet, 0
    M = min(2 * max(last, 1), most)
    lags = np.arange(1, M + 1)
    covariances = np.array([R[k] for k in range(1, M + 1)])
    weighted = np.minimum(1.0, 2 * (1 - lags / M)) * covariances
    G, spectrum = 2 * float(weighted @ lags), variance + 2 * float(weighted.sum())
    optimal = (G**2 / spectrum**2 * n) ** (1 / 3) if spectrum else n
    return min(max(optimal, 1.0), n / 3)


class _Autocovariances:
    """R(k), computed when asked for: most series need a few lags only."""

    def __init__(self, x: Array, known: list[float]):
        self._x, self._known = x, known

    def __getitem__(self, lag: int) -> float:
        while len(self._known) <= lag:
            k = len(self._known)
            self._known.append(float(self._x[k:] @ self._x[:-k]) / len(self._x))
        return self._known[lag]


@dataclass(frozen=True)
class Evaluation:
    """Scores of all contestants at one horizon, with intervals.

    Attributes:
        scores: by contestant, then by score.
        resampler: the blocks.
        resampled: the scores of each resample.
        ece_errors: by contestant, how far the parts of the calibration error are off in each.
    """

    scores: dict[str, dict[str, float]]
    resampler: Resampler
    resampled: dict[str, dict[str, NDArray[np.float64]]] = field(repr=False)
    ece_errors: dict[str, NDArray[np.float64]] = field(repr=False)

    def intervals(self, name: str) -> dict[str, Estimate]:
        """All scores of a contestant."""
        values = {key: self.scores[name][key] for key in self.resampled[name]}
        told = self.resampler.estimates(values, self.resampled[name])
        reliability, ece = told["reliability"], told["ece"].value
        off = self.resampler.bound(self.ece_errors[name])
        told["reliability"] = reliability._replace(low=max(reliability.low, 0.0))
        told["ece"] = Estimate(ece, max(ece - off, 0.0), ece + off)
        return told

    def differences(self, one: str, other: str) -> dict[str, Estimate]:
        """All scores of one contestant less those of the other, paired by resample."""
        resampled = {
            key: self.resampled[one][key] - self.resampled[other][key]
            for key in self.resampled[one]
        }
        values = {key: self.scores[one][key] - self.scores[other][key] for key in resampled}
        return self.resampler.estimates(values, resampled)


def evaluate(
    y: NDArray[np.integer],
    p_by: Mapping[str, Array],
    *,
    base: str = "base_rate",
    sign: NDArray[np.integer] | None = None,
    threshold: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
    threads: int = 1,
) -> Evaluation:
    """Score contestants on the same events of one horizon, with intervals.

    Args:
        y: whether the price rose, 0 or 1, in time order.
        p_by: probabilities of each contestant, the one that is judged first; taken in single
            precision, as networks give them.
        base: the contestant over which `bits`, `bits_moves` and `bits_direction` are gained.
        sign: of the price change: -1, 0 or 1; adds the scores that tell ties from falls.
        threshold: above it p says "rise".
        resamples: how many.
        seed: of the resamples.
        threads: that share the contestants.

    Raises:
        ValueError: there is no event or no base, a p is no probability, or y and sign disagree.
    """
    if base not in p_by:
        raise ValueError(f"no contestant {base!r} to gain bits over: name one of {', '.join(p_by)}")
    outcomes = Outcomes.of(y, sign)
    p_by = {name: p.astype(np.float32, copy=False) for name, p in p_by.items()}
    groups = _groups(len(y))
    with ThreadPoolExecutor(threads) as pool:  # compiled loops and sorting let go of the GIL
        losses = [*pool.map(lambda p: Losses.of(outcomes, p, groups), p_by.values())]
        means = [one.means() for one in losses]
        series = means + [means[0] - other for other in means[1:]]
        resampler = Resampler.fit(series, bounds=groups, resamples=resamples, seed=seed)
        tallies = pool.map(
            lambda p, told: tally(outcomes, p, resampler.bounds, threshold, told),
            p_by.values(),
            losses,
        )
        return _evaluation(dict(zip(p_by, tallies, strict=True)), base, resampler)


def _groups(n: int) -> NDArray[np.int64]:
    """Bounds of groups of consecutive events whose mean losses choose the blocks."""
    events = math.ceil(n / _MEANS)
    if events > PRODUCT:
        events = -(-events // PRODUCT) * PRODUCT  # fewest logarithms
    return np.append(np.arange(0, n, events), n)


def _evaluation(tallies: Mapping[str, Tally], base: str, resampler: Resampler) -> Evaluation:
    ones = np.ones((1, resampler.blocks))
    whole = {name: scores_of(told, ones) for name, told in tallies.items()}
    resampled = {name: scores_of(told, resampler.weights_RB) for name, told in tallies.items()}
    errors = {name: scores.pop("ece_error") for name, scores in resampled.items()}
    for told in (whole, resampled):
        bits = {name: _bits(scores, told[base]) for name, scores in told.items()}
        for name in told:
            told[name] |= bits[name]
    n = int(resampler.bounds[-1])
    scores_by = {
        name: {"n": n} | {key: float(whole[name][key][0]) for key in scores}
        for name, scores in resampled.items()
    }
    return Evaluation(scores_by, resampler, resampled, errors)


def _bits(
    scores: Mapping[str, NDArray[np.float64]], base: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    return {
        key.replace("log_loss", "bits"): (base[key] - loss) / math.log(2)
        for key, loss in scores.items()
        if key.startswith("log_loss")
    }
