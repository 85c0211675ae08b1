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

_FINE = 2 * BINS  # of the resampled ROC; whole ones make up a bin
PRODUCT = 20  # factors of 1e-14 and more that do not underflow together
_STRETCH = 512  # events whose bins are found together and stay in the cache
_FAST = {"reassoc", "contract", "nsz"}  # sums and products in any order: no NaN is ever among them


@dataclass(frozen=True)
class Outcomes:
    """What happened at N events: the same for all contestants."""

    of_N: NDArray[np.int8]  # `FALL`, `TIE` or `RISE`; without signs every non-rise is a fall
    rise_N: NDArray[np.float32]  # 1 at a rise, else 0
    tie_N: NDArray[np.float32]
    tie_share: float  # among non-rises
    signed: bool  # whether falls and ties were told apart

    @classmethod
    def of(cls, y: NDArray[np.integer], sign: NDArray[np.integer] | None = None) -> Outcomes:
        """From y, 0 or 1, and the signs of the price changes where they are known."""
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
class Losses:
    """Losses of one contestant, summed over G groups of consecutive events."""

    bounds: NDArray[np.int64]  # G + 1 indices; group g is [bounds[g], bounds[g + 1])
    sums_GL: NDArray[np.float64]  # as `Sums.losses_RL`

    @classmethod
    def of(cls, outcomes: Outcomes, p: Array, bounds: NDArray[np.int64]) -> Losses:
        """Add the losses up."""
        p, sums_GL = probabilities(p, len(outcomes.of_N)), np.zeros((len(bounds) - 1, 4))
        tie_share = min(max(outcomes.tie_share, EPS), 1 - EPS)
        _add_losses(outcomes.rise_N, outcomes.tie_N, p, bounds, tie_share, sums_GL)
        return cls(bounds, sums_GL)

    def means(self) -> NDArray[np.float64]:
        """The mean log loss of each group."""
        return self.sums_GL[:, 0] / np.diff(self.bounds)

    def over(self, bounds: NDArray[np.int64]) -> NDArray[np.float64]:
        """The sums over blocks whose bounds are among those of the groups."""
        return np.add.reduceat(self.sums_GL, np.searchsorted(self.bounds, bounds[:-1]))


@dataclass(frozen=True)
class Tally:
    """Sums over B blocks of events, from which all scores of one contestant follow."""

    sums_BM: NDArray[np.float64]  # the columns that `Sums` names, one after the other
    bin_starts: NDArray[np.int64]  # the first of the J fine bins of each of the K bins, and J
    # Pairs that binning gives the rises too many, over falls and over ties, as a share of pairs.
    wins_excess: NDArray[np.float64]
    off_K: NDArray[np.float64]  # as `Sums.off_RK` of all events, as a share of them
    signed: bool  # whether falls and ties were told apart


def tally(
    outcomes: Outcomes,
    p: Array,
    bounds: NDArray[np.int64],
    threshold: float = 0.5,
    losses: Losses | None = None,
) -> Tally:
    """Add up what the scores need, block by block; block b is [bounds[b], bounds[b + 1]).

    Above `threshold` p says "rise". Where the losses are known already, they are over groups that
    the blocks are made of.
    """
    p = probabilities(p, len(outcomes.of_N))
    ranked = ranking(p, outcomes.of_N)
    fine, coarse = _edges(ranked, _FINE), _edges(ranked, BINS)
    starts = np.concatenate([[0], np.searchsorted(fine, coarse) + 1, [len(fine) + 1]])
    blocks, J = len(bounds) - 1, len(fine) + 1
    answers_BA, p_BJ, count_BM = (np.zeros((blocks, width)) for width in (3, J, 3 * J))
    _add_answers(outcomes.of_N, p, bounds, threshold, fine, answers_BA, p_BJ, count_BM)
    losses_BL = (losses or Losses.of(outcomes, p, bounds)).over(bounds)
    p_BK = np.add.reduceat(p_BJ, starts[:-1], axis=1)
    sums_BM = np.concatenate([losses_BL, answers_BA, p_BK, count_BM], axis=1)
    # Pairs in one fine bin count half, whatever their order. By how much that is wrong over all
    # events is known from the ranking, and the same share is taken off every resample.
    whole = Sums.of(sums_BM.sum(axis=0, keepdims=True), starts)
    wins, pairs = count_wins(ranked)
    excess = (whole.wins_R2[0] - wins) / np.maximum(pairs, 1.0)
    return Tally(sums_BM, starts, excess, whole.off_RK[0] / len(p), outcomes.signed)


@dataclass(frozen=True)
class Sums:
    """R sums over blocks, and what follows from their bins."""

    # Log loss, squared error, and the log losses of P(rise | no fall) and of P(rise | move).
    losses_RL: Array
    answers_RA: Array  # events, true positives, positives
    of_RC: NDArray[np.float64]  # falls, ties, rises
    # Pairs in which a rise lies in a higher fine bin than a fall, and than a tie; half of those in
    # the same one.
    wins_R2: NDArray[np.float64]
    reliability_R: NDArray[np.float64]  # Murphy's, times the number of events
    off_RK: NDArray[np.float64]  # by how much the probabilities of each bin exceed its rises

    @classmethod
    def of(cls, sums_RM: Array, starts: NDArray[np.int64]) -> Sums:
        """From R rows of losses, answers, probabilities by bin, and counts by outcome and bin."""
        R, K = len(sums_RM), len(starts) - 1
        losses_RL, answers_RA, p_RK, counts_RM = np.split(sums_RM, [4, 7, 7 + K], axis=1)
        bins = np.zeros((R, 3)), np.zeros((R, 2)), np.zeros(R), np.zeros((R, K))
        _resum(counts_RM, p_RK, starts, *bins)
        return cls(losses_RL.astype(np.float64), answers_RA.astype(np.float64), *bins)


def probabilities(p: Array, n: int) -> Array:
    """Probabilities of n events side by side in memory, in single or double precision.

    Raises:
        ValueError: there is not one an event, or one is no probability.
    """
    if len(p) != n:
        raise ValueError(f"{n} labels, {len(p)} probabilities: give one of each")
    if not (p.min() >= 0 and p.max() <= 1):
        at = int(np.flatnonzero(~((p >= 0) & (p <= 1)))[0])
        raise ValueError(f"event {at}: {p[at]} is no probability: give values from 0 to 1")
    return np.ascontiguousarray(p, np.float32 if p.dtype == np.float32 else np.float64)


def equal_mass_edges(p: Array, bins: int) -> Array:
    """Inner edges of bins with equally many events; equal probabilities are never parted.

    Bin k holds edges[k - 1] <= p < edges[k]; there are fewer than `bins` where values repeat.
    """
    return _edges(ranking(probabilities(p, len(p)), np.zeros(len(p), np.int8)), bins)


def ranking(p: Array, outcome: NDArray[np.int8]) -> NDArray[np.unsignedinteger]:
    """The events by rising p, each as one number: the bits of p, then two of the outcome.

    Floats of one sign are ordered as their bits are, and whole numbers sort several times faster
    than an argsort. The two topmost bits are free: no probability uses them.
    """
    bits = p.view(np.uint32 if p.itemsize == 4 else np.uint64)
    ranked = np.empty_like(bits)
    _join(bits, outcome, ranked)
    ranked.sort()
    return ranked


def count_wins(
    ranked: NDArray[np.unsignedinteger],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pairs in which a rise scores above a fall and above a tie, equal p half; and all pairs."""
    over_falls, over_ties, falls, ties, rises = _count_wins(ranked)
    return np.array([over_falls, over_ties]) / 2, np.array([falls, ties]) * float(rises)


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
def _count_wins(ranked):  # type: ignore[no-untyped-def]
    """Twice the wins over falls and over ties, and how many falls, ties and rises there are."""
    falls = ties = rises = over_falls = over_ties = 0
    equal_falls = equal_ties = 0  # of the same p, all before the first rise of it
    p = ranked[0] >> 2
    for key in ranked:
        # A branch on what came would be mispredicted at every other event; products are not.
        same, outcome = np.int64(key >> 2 == p), np.int64(key & 3)
        p = key >> 2
        fall, tie, rise = outcome == FALL, outcome == TIE, outcome == RISE
        equal_falls, equal_ties = equal_falls * same + fall, equal_ties * same + tie
        falls, ties, rises = falls + fall, ties + tie, rises + rise
        over_falls += rise * (2 * falls - equal_falls)
        over_ties += rise * (2 * ties - equal_ties)
    return over_falls, over_ties, falls, ties, rises


@njit(cache=True, nogil=True)
def _add_answers(outcome, p, bounds, threshold, edges, answers_BA, p_BJ, count_BM):  # type: ignore[no-untyped-def]
    bins = np.empty(_STRETCH, np.int32)
    for b in range(len(bounds) - 1):
        tp = positives = 0
        for start in range(bounds[b], bounds[b + 1], _STRETCH):
            stop = min(start + _STRETCH, bounds[b + 1])
            _find_bins(p[start:stop], edges, bins)
            for i in range(start, stop):
                given, k = np.float64(p[i]), bins[i - start]
                said = given > threshold
                positives += said
                tp += said & (outcome[i] == RISE)
                p_BJ[b, k] += given
                count_BM[b, outcome[i] * (len(edges) + 1) + k] += 1.0
        answers_BA[b, 0], answers_BA[b, 1] = bounds[b + 1] - bounds[b], tp
        answers_BA[b, 2] = positives


@njit(cache=True, nogil=True)
def _find_bins(p, edges, bins):  # type: ignore[no-untyped-def]
    """How many edges each p reaches; all are counted, as a binary search would mispredict."""
    bins[: len(p)] = 0
    for edge in edges:
        for i in range(len(p)):
            bins[i] += np.int32(edge <= p[i])


@njit(cache=True, nogil=True)
def _add_losses(rise, tie, p, bounds, tie_share, sums_GL):  # type: ignore[no-untyped-def]
    for g in range(len(bounds) - 1):
        # A logarithm costs more than all the rest, so one is taken of a product of likelihoods,
        # short enough that the smallest ones do not underflow.
        for start in range(bounds[g], bounds[g + 1], PRODUCT):
            stop = min(start + PRODUCT, bounds[g + 1])
            likelihood, error, moves, direction = _joint(rise, tie, p, start, stop, tie_share)
            sums_GL[g, 0] -= math.log(likelihood)
            sums_GL[g, 1] += error
            sums_GL[g, 2] -= math.log(moves)
            sums_GL[g, 3] -= math.log(direction)


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
        # What is ruled out is divided away once for all, not event by event.
        moves *= r * up + t * level + f
        any_move *= (1.0 - f) * (up + level) + f
        direction *= r * up + f * down + t
        any_direction *= (1.0 - t) * (up + down) + t
    return likelihood, error, moves / any_move, direction / any_direction


@njit(cache=True, nogil=True)
def _resum(counts_RM, p_RK, starts, of_RC, wins_R2, reliability_R, off_RK):  # type: ignore[no-untyped-def]
    J = starts[-1]
    for r in range(len(p_RK)):
        falls = ties = rises = 0.0
        for k in range(len(starts) - 1):
            before, rises_before = falls + ties + rises, rises
            # Upwards from the lowest bin: the falls and ties met so far are those that a rise of
            # this bin scores above, so one walk counts all pairs.
            for j in range(starts[k], starts[k + 1]):
                f, t, u = counts_RM[r, j], counts_RM[r, J + j], counts_RM[r, 2 * J + j]
                wins_R2[r, 0] += u * (falls + f / 2)
                wins_R2[r, 1] += u * (ties + t / 2)
                falls, ties, rises = falls + f, ties + t, rises + u
            off_RK[r, k] = p_RK[r, k] - (rises - rises_before)
            n = falls + ties + rises - before
            reliability_R[r] += off_RK[r, k] ** 2 / n if n > 0 else 0.0
        of_RC[r, FALL], of_RC[r, TIE], of_RC[r, RISE] = falls, ties, rises
