"""One pass over events that adds up all that their scores need, block of time by block.

Every score follows from a few sums over events. Kept apart for each of B consecutive blocks, they
give the scores of the whole and of any resample of blocks without looking at an event again.
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
_SUMS = 7
_PRODUCT = 16 - 1  # mask of 16 events: factors of 1e-14 that do not underflow together
_STRETCH = 512


@dataclass(frozen=True)
class Tally:
    """Sums over B blocks of events, from which all scores of one contestant follow.

    Attributes:
        sums_BS: n, log loss, squared error, true and false positives, and the log losses of
            P(rise | no fall) and P(rise | move).
        p_BK: probabilities summed in each of K bins.
        count_BCJ: falls, ties and rises in each of J fine bins, which the K bins are made of.
        bin_starts: the first fine bin of each bin.
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
    y: NDArray[np.integer],
    p: Array,
    bounds: NDArray[np.integer],
    *,
    sign: NDArray[np.integer] | None = None,
    threshold: float = 0.5,
    tie_share: float | None = None,
) -> Tally:
    """Add up what the scores need, block by block.

    Args:
        y: whether the price rose, 0 or 1.
        p: the probability that was given.
        bounds: B + 1 indices; block b is [bounds[b], bounds[b + 1]).
        sign: of the price change, where falls and ties are to be told apart.
        threshold: above it p says "rise".
        tie_share: share of ties among non-rises; by default that of these events.

    Raises:
        ValueError: there is no event, a p is no probability, or y and sign disagree.
    """
    outcome, bounds = outcomes(y, sign), bounds.astype(np.int64)
    ranked = ranking(p, outcome)
    fine, coarse = _edges(ranked, _FINE), _edges(ranked, BINS)
    if tie_share is None:
        tie_share = float((outcome == TIE).sum() / max(1, (outcome != RISE).sum()))
    sums_BS = np.zeros((len(bounds) - 1, _SUMS))
    p_BJ = np.zeros((len(bounds) - 1, len(fine) + 1))
    count_BCJ = np.zeros((len(bounds) - 1, 3, len(fine) + 1))
    bins = _fine_bins(p, fine)
    share = min(max(tie_share, EPS), 1 - EPS)
    _add_up(outcome, p, bins, bounds, threshold, share, sums_BS, p_BJ, count_BCJ)
    starts = np.append(0, np.searchsorted(fine, coarse) + 1)
    p_BK = np.add.reduceat(p_BJ, starts, axis=1)
    excess = _wins_excess(ranked, count_BCJ)
    return Tally(sums_BS, p_BK, count_BCJ, starts, excess, sign is not None)


def equal_mass_edges(p: Array, bins: int) -> Array:
    """Inner edges of bins with equally many events; equal probabilities are never parted.

    Bin k holds edges[k - 1] <= p < edges[k]; there are fewer than `bins` where values repeat.
    """
    ranked = ranking(p, np.zeros(len(p), np.int8))
    return _edges(ranked, bins)


def mean_log_losses(y: NDArray[np.integer], p: Array, group: int) -> NDArray[np.float64]:
    """Log losses averaged over each `group` consecutive events; a shorter rest is left out."""
    return _mean_log_losses(y == 1, p, group)


def outcomes(y: NDArray[np.integer], sign: NDArray[np.integer] | None) -> NDArray[np.int8]:
    """`FALL`, `TIE` or `RISE` of each event; without signs every non-rise is a fall.

    Raises:
        ValueError: there is no event, or y and sign disagree.
    """
    if len(y) == 0:
        raise ValueError("there is no event to score")
    rise = y == 1
    if sign is None:
        return np.where(rise, RISE, FALL).astype(np.int8)
    if not np.array_equal(rise, sign > 0):
        raise ValueError("y and sign disagree: give the signs of the events that y speaks of")
    return (1 + np.sign(sign)).astype(np.int8)


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


def binned_wins(count_RCJ: NDArray[np.floating]) -> NDArray[np.float64]:
    """The same where all p of a fine bin count as equal: R rows, over falls and over ties."""
    others_R2J = count_RCJ[:, :RISE].astype(np.float64)
    below_R2J = np.cumsum(others_R2J, axis=2) - others_R2J / 2
    return np.einsum("rcj,rj->rc", below_R2J, count_RCJ[:, RISE].astype(np.float64))


def _wins_excess(
    ranked: NDArray[np.unsignedinteger], count_BCJ: NDArray[np.float64]
) -> NDArray[np.float64]:
    wins, pairs = count_wins(ranked)
    return (binned_wins(count_BCJ.sum(axis=0, keepdims=True))[0] - wins) / np.maximum(pairs, 1.0)


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
def _add_up(outcome, p, bins, bounds, threshold, tie_share, sums_BS, p_BJ, count_BCJ):  # type: ignore[no-untyped-def]
    for b in range(len(bounds) - 1):
        loss = loss_moves = loss_direction = error = 0.0
        tp = fp = 0
        # One logarithm of a product of many factors is far cheaper than many logarithms.
        product = moves = direction = 1.0
        for i in range(bounds[b], bounds[b + 1]):
            given, rose = np.float64(p[i]), outcome[i] == RISE
            sure = min(max(given, EPS), 1.0 - EPS)
            product *= sure if rose else 1.0 - sure
            moves *= 1.0 if outcome[i] == FALL else _narrowed(sure, rose, tie_share)
            direction *= 1.0 if outcome[i] == TIE else _narrowed(sure, rose, 1.0 - tie_share)
            error += (given - rose) ** 2
            said = given > threshold
            tp += said & rose
            fp += said & (not rose)
            k = bins[i]
            p_BJ[b, k] += given
            count_BCJ[b, outcome[i], k] += 1.0
            if i & _PRODUCT == 0 or i == bounds[b + 1] - 1:
                loss -= math.log(product)
                loss_moves -= math.log(moves)
                loss_direction -= math.log(direction)
                product = moves = direction = 1.0
        n = bounds[b + 1] - bounds[b]
        sums_BS[b] = np.array([n, loss, error, tp, fp, loss_moves, loss_direction])


@njit(cache=True, nogil=True)
def _narrowed(p, rose, share):  # type: ignore[no-untyped-def]
    """The likelihood once all non-rises but a share of them are ruled out."""
    other = (1.0 - p) * share
    return (p if rose else other) / (p + other)


@njit(cache=True, nogil=True)
def _fine_bins(p, edges):  # type: ignore[no-untyped-def]
    """How many edges each p reaches.

    All edges are counted, a stretch of events that stays in the cache at a time: such a loop
    becomes vector instructions, and a binary search would mispredict most of its branches.
    """
    reached = np.zeros(len(p), np.int32)
    for start in range(0, len(p), _STRETCH):
        some_p, some = p[start : start + _STRETCH], reached[start : start + _STRETCH]
        for edge in edges:
            for i in range(len(some)):
                some[i] += np.int32(edge <= some_p[i])
    return reached


@njit(cache=True, nogil=True)
def _mean_log_losses(rose, p, group):  # type: ignore[no-untyped-def]
    means = np.zeros(len(p) // group)
    for g in range(len(means)):
        product = 1.0
        for i in range(g * group, (g + 1) * group):
            sure = min(max(np.float64(p[i]), EPS), 1.0 - EPS)
            product *= sure if rose[i] else 1.0 - sure
            if i & _PRODUCT == 0 or i == (g + 1) * group - 1:
                means[g] -= math.log(product) / group
                product = 1.0
    return means
