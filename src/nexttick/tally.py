"""One pass over events that adds up all that their scores need, block of time by block.

Every score follows from a few sums over events. Kept apart for each of B consecutive blocks, they
give the scores of the whole and of any resample of blocks without looking at an event again.

The loops are written for speed: a product of many likelihoods takes one logarithm, and plain
arithmetic on zeros and ones stands where a branch would be mispredicted, so that compilers make
vector instructions of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.floating]
BINS = 16  # of equal mass: reliability, resolution, calibration error
EPS = 1e-7  # probabilities are clipped this far from 0 and 1 before a logarithm
FALL, TIE, RISE = range(3)  # what an event can be; where signs are unknown, a non-rise is a fall

_FINE = 4 * BINS  # of the resampled ROC; whole ones make up a bin
_PRODUCT = 16  # factors of 1e-14 and more that do not underflow together
_STRETCH = 512  # events whose bins stay in the cache
_FAST = {"reassoc", "contract", "nsz"}  # sums and products in any order: no NaN is ever among them


@dataclass(frozen=True)
class Outcomes:
    """What happened at N events: the same for all contestants.

    Attributes:
        of_N: `FALL`, `TIE` or `RISE`; without signs every non-rise is a fall.
        rise_N: 1 at a rise, else 0.
        tie_N: 1 at a tie, else 0.
        tie_share: share of ties among non-rises.
        signed: whether falls and ties were told apart.
    """

    of_N: NDArray[np.int8]
    rise_N: NDArray[np.float32]
    tie_N: NDArray[np.float32]
    tie_share: float
    signed: bool

    @classmethod
    def of(cls, y: NDArray[np.integer], sign: NDArray[np.integer] | None = None) -> Outcomes:
        """From y, 0 or 1, and the signs of the price changes where they are known.

        Raises:
            ValueError: there is no event, or y and sign disagree.
        """
        if len(y) == 0:
            raise ValueError("there is no event to score")
        rise = y == 1
        tie = np.zeros(len(y), np.bool_) if sign is None else sign == 0
        if sign is not None and not np.array_equal(rise, sign > 0):
            raise ValueError("y and sign disagree: give the signs of the events that y speaks of")
        share = int(tie.sum()) / max(1, len(y) - int(rise.sum()))
        rise_N, tie_N = rise.astype(np.float32), tie.astype(np.float32)
        return cls(rise * np.int8(RISE) + tie, rise_N, tie_N, share, sign is not None)


@dataclass(frozen=True)
class Tally:
    """Sums over B blocks of events, from which all scores of one contestant follow.

    Attributes:
        sums_BS: n, log loss, squared error, true positives, positives, and the log losses of
            P(rise | no fall) and P(rise | move).
        p_BK: probabilities summed in each of K bins.
        count_BCJ: falls, ties and rises in each of J fine bins, which the K bins are made of.
        bin_starts: the first fine bin of each bin, and J.
        wins_excess: pairs that binning gives the rises too many, over falls and over ties, as a
            share of pairs.
        signed: whether falls and ties were told apart.
    """

    sums_BS: NDArray[np.float64]
    p_BK: NDArray[np.float64]
    count_BCJ: NDArray[np.float64]
    bin_starts: NDArray[np.int64]
    wins_excess: NDArray[np.float64]
    signed: bool


def tally(
    outcomes: Outcomes, p: Array, bounds: NDArray[np.integer], threshold: float = 0.5
) -> Tally:
    """Add up what the scores need, block by block.

    Args:
        outcomes: of N events.
        p: the probability of a rise that was given with each.
        bounds: B + 1 indices; block b is [bounds[b], bounds[b + 1]).
        threshold: above it p says "rise".

    Raises:
        ValueError: there is not one p an event, or one is no probability.
    """
    ranked = ranking(p, outcomes.of_N)
    fine, coarse = _edges(ranked, _FINE), _edges(ranked, BINS)
    starts = np.concatenate([[0], np.searchsorted(fine, coarse) + 1, [len(fine) + 1]])
    blocks, bounds = len(bounds) - 1, bounds.astype(np.int64)
    sums_BS = np.zeros((blocks, 7))
    p_BJ, count_BCJ = np.zeros((blocks, len(fine) + 1)), np.zeros((blocks, 3, len(fine) + 1))
    _add_answers(outcomes.of_N, p, bounds, threshold, _fine_bins(p, fine), sums_BS, p_BJ, count_BCJ)
    tie_share = min(max(outcomes.tie_share, EPS), 1 - EPS)
    _add_losses(outcomes.rise_N, outcomes.tie_N, p, bounds, tie_share, sums_BS)
    p_BK = np.add.reduceat(p_BJ, starts[:-1], axis=1)
    wins, pairs = count_wins(ranked)
    whole = Resummed.of(
        count_BCJ.sum(axis=0, keepdims=True), p_BK.sum(axis=0, keepdims=True), starts
    )
    excess = (whole.wins_R2[0] - wins) / np.maximum(pairs, 1.0)
    return Tally(sums_BS, p_BK, count_BCJ, starts, excess, outcomes.signed)


@dataclass(frozen=True)
class Resummed:
    """What follows from the bins of R sums of blocks.

    Attributes:
        of_RC: falls, ties, rises.
        wins_R2: pairs in which a rise lies in a higher fine bin than a fall, and than a tie; half
            of those in the same one.
        reliability_R: Murphy's, times the number of events.
        off_RK: by how much the probabilities of each bin exceed its rises.
    """

    of_RC: NDArray[np.float64]
    wins_R2: NDArray[np.float64]
    reliability_R: NDArray[np.float64]
    off_RK: NDArray[np.float64]

    @classmethod
    def of(cls, count_RCJ: Array, p_RK: Array, starts: NDArray[np.int64]) -> Resummed:
        """From R counts and sums of probabilities, in bins as of a `Tally`."""
        R, K = p_RK.shape
        told = cls(np.zeros((R, 3)), np.zeros((R, 2)), np.zeros(R), np.zeros((R, K)))
        args = (told.of_RC, told.wins_R2, told.reliability_R, told.off_RK)
        _resum(count_RCJ, p_RK, starts, *args)
        return told


def equal_mass_edges(p: Array, bins: int) -> Array:
    """Inner edges of bins with equally many events; equal probabilities are never parted.

    Bin k holds edges[k - 1] <= p < edges[k]; there are fewer than `bins` where values repeat.
    """
    return _edges(ranking(p, np.zeros(len(p), np.int8)), bins)


def mean_log_losses(outcomes: Outcomes, p: Array, group: int) -> NDArray[np.float64]:
    """Log losses averaged over each `group` consecutive events; a shorter rest is left out."""
    return _mean_log_losses(outcomes.rise_N, p, group)


def ranking(p: Array, outcome: NDArray[np.int8]) -> NDArray[np.unsignedinteger]:
    """The events by rising p, each as one number: the bits of p, then two of the outcome.

    Floats of one sign are ordered as their bits are, and whole numbers sort several times faster
    than an argsort. The two topmost bits are free: no probability uses them.

    Raises:
        ValueError: there is not one p an event, or one is no probability.
    """
    if len(p) != len(outcome):
        raise ValueError(f"{len(outcome)} labels, {len(p)} probabilities: give one of each")
    if not (p.min() >= 0 and p.max() <= 1):
        at = int(np.flatnonzero(~((p >= 0) & (p <= 1)))[0])
        raise ValueError(f"event {at}: {p[at]} is no probability: give values from 0 to 1")
    p = p if p.dtype == np.float32 else p.astype(np.float64, copy=False)
    bits = np.ascontiguousarray(p).view(np.uint32 if p.itemsize == 4 else np.uint64)
    ranked = np.empty_like(bits)
    _join(bits, outcome, ranked)
    ranked.sort()
    return ranked


def count_wins(
    ranked: NDArray[np.unsignedinteger],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pairs in which a rise scores above a fall and above a tie, equal p half; and all pairs."""
    wins, seen = np.zeros(2), np.zeros(3)
    _count_wins(ranked, wins, seen)
    return wins, seen[:RISE] * seen[RISE]


def _edges(ranked: NDArray[np.unsignedinteger], bins: int) -> Array:
    """Of bins of equal mass; none at the lowest p, below which there is nothing."""
    picked = ranked[np.arange(bins) * len(ranked) // bins] >> ranked.dtype.type(2)
    p = picked.view(np.float32 if picked.itemsize == 4 else np.float64)
    return np.unique(p[p > p[0]])


@njit(cache=True, nogil=True)
def _join(bits, outcome, ranked):  # type: ignore[no-untyped-def]
    for i in range(len(bits)):
        ranked[i] = (bits[i] << 2) | outcome[i]


@njit(cache=True, nogil=True)
def _count_wins(ranked, wins, seen):  # type: ignore[no-untyped-def]
    i, n = 0, len(ranked)
    now = np.zeros(3, np.int64)
    while i < n:
        bits = ranked[i] >> 2
        now[:] = 0
        while i < n and ranked[i] >> 2 == bits:
            now[ranked[i] & 3] += 1
            i += 1
        wins[0] += now[RISE] * (seen[FALL] + now[FALL] / 2)
        wins[1] += now[RISE] * (seen[TIE] + now[TIE] / 2)
        for outcome in range(3):
            seen[outcome] += now[outcome]


@njit(cache=True, nogil=True)
def _fine_bins(p, edges):  # type: ignore[no-untyped-def]
    """How many edges each p reaches; all are counted, as a binary search would mispredict."""
    reached = np.zeros(len(p), np.int32)
    for start in range(0, len(p), _STRETCH):
        some_p, some = p[start : start + _STRETCH], reached[start : start + _STRETCH]
        for edge in edges:
            for i in range(len(some)):
                some[i] += np.int32(edge <= some_p[i])
    return reached


@njit(cache=True, nogil=True)
def _add_answers(outcome, p, bounds, threshold, bins, sums_BS, p_BJ, count_BCJ):  # type: ignore[no-untyped-def]
    for b in range(len(bounds) - 1):
        tp = positives = 0
        for i in range(bounds[b], bounds[b + 1]):
            given = np.float64(p[i])
            said = given > threshold
            positives += said
            tp += said & (outcome[i] == RISE)
            p_BJ[b, bins[i]] += given
            count_BCJ[b, outcome[i], bins[i]] += 1.0
        sums_BS[b, 0] = bounds[b + 1] - bounds[b]
        sums_BS[b, 3], sums_BS[b, 4] = tp, positives


@njit(cache=True, nogil=True)
def _add_losses(rise, tie, p, bounds, tie_share, sums_BS):  # type: ignore[no-untyped-def]
    for b in range(len(bounds) - 1):
        for start in range(bounds[b], bounds[b + 1], _PRODUCT):
            stop = min(start + _PRODUCT, bounds[b + 1])
            likelihood, error, moves, direction = _joint(rise, tie, p, start, stop, tie_share)
            sums_BS[b, 1] -= math.log(likelihood)
            sums_BS[b, 2] += error
            sums_BS[b, 5] -= math.log(moves)
            sums_BS[b, 6] -= math.log(direction)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _joint(rise, tie, p, start, stop, tie_share):  # type: ignore[no-untyped-def]
    """Joint likelihoods of a few events, and their squared errors.

    Of two outcomes; of rises and ties where falls are ruled out; of rises and falls where ties
    are. An event that is ruled out counts as 1.
    """
    likelihood = moves = any_move = direction = any_direction = 1.0
    error = 0.0
    for i in range(start, stop):
        given, r, t = np.float64(p[i]), np.float64(rise[i]), np.float64(tie[i])
        f = 1.0 - r - t
        error += (given - r) * (given - r)
        up = min(max(given, EPS), 1.0 - EPS)
        level = (1.0 - up) * tie_share
        down = 1.0 - up - level
        likelihood *= r * up + (1.0 - r) * (1.0 - up)
        moves *= r * up + t * level + f
        any_move *= (1.0 - f) * (up + level) + f
        direction *= r * up + f * down + t
        any_direction *= (1.0 - t) * (up + down) + t
    return likelihood, error, moves / any_move, direction / any_direction


@njit(cache=True, nogil=True)
def _mean_log_losses(rise, p, group):  # type: ignore[no-untyped-def]
    means = np.zeros(len(p) // group)
    for g in range(len(means)):
        for start in range(g * group, (g + 1) * group, _PRODUCT):
            stop = min(start + _PRODUCT, (g + 1) * group)
            means[g] -= math.log(_likelihood(rise, p, start, stop)) / group
    return means


@njit(cache=True, nogil=True, fastmath=_FAST)
def _likelihood(rise, p, start, stop):  # type: ignore[no-untyped-def]
    likelihood = 1.0
    for i in range(start, stop):
        up, r = min(max(np.float64(p[i]), EPS), 1.0 - EPS), np.float64(rise[i])
        likelihood *= r * up + (1.0 - r) * (1.0 - up)
    return likelihood


@njit(cache=True, nogil=True)
def _resum(count_RCJ, p_RK, starts, of_RC, wins_R2, reliability_R, off_RK):  # type: ignore[no-untyped-def]
    for r in range(len(p_RK)):
        falls = ties = rises = 0.0
        for k in range(len(starts) - 1):
            before, rises_before = falls + ties + rises, rises
            for j in range(starts[k], starts[k + 1]):
                f, t, u = count_RCJ[r, FALL, j], count_RCJ[r, TIE, j], count_RCJ[r, RISE, j]
                wins_R2[r, 0] += u * (falls + f / 2)
                wins_R2[r, 1] += u * (ties + t / 2)
                falls, ties, rises = falls + f, ties + t, rises + u
            off_RK[r, k] = p_RK[r, k] - (rises - rises_before)
            n = falls + ties + rises - before
            reliability_R[r] += off_RK[r, k] ** 2 / n if n > 0 else 0.0
        of_RC[r, FALL], of_RC[r, TIE], of_RC[r, RISE] = falls, ties, rises
