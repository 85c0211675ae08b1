"""Reliability: how often a rise came where a probability was said."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.scores.bootstrap import Resampler
from nexttick.scores.tally import BINS, Array, equal_mass_edges

_Z = 1.959964  # of a 95 % interval


def reliability_curve(
    y: NDArray[np.integer], p: Array, *, bins: int = BINS, resampler: Resampler | None = None
) -> pl.DataFrame:
    """How often the price rose where a probability was given, over bins of equal mass.

    Args:
        y: whether the price rose, 0 or 1, in time order.
        p: the probability that was given.
        bins: at the most; equal probabilities are never parted.
        resampler: of the same events; without it intervals are Wilson's, which take every event
            for independent and so are too narrow where neighbours are alike.

    Returns:
        A row a bin: `p`, the mean probability; `rate`, the share of rises, with its 95 % interval
        `low` and `high`; `n`, the number of events.
    """
    k_N = np.searchsorted(equal_mass_edges(p, bins), p, side="right")
    n_K = np.bincount(k_N)
    rate_K = np.bincount(k_N, weights=y == 1) / n_K
    if resampler is None:
        low_K, high_K = _wilson(rate_K, n_K)
    else:
        low_K, high_K = _resampled(y, k_N, rate_K, resampler)
    mean_K = np.bincount(k_N, weights=p) / n_K
    return pl.DataFrame({"p": mean_K, "rate": rate_K, "low": low_K, "high": high_K, "n": n_K})


def _wilson(
    rate: NDArray[np.float64], n: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wilson 1927: the rates that a test at 5 % would not reject."""
    z2 = _Z**2 / n
    centre = (rate + z2 / 2) / (1 + z2)
    half = np.sqrt(z2 * (rate * (1 - rate) + z2 / 4)) / (1 + z2)
    return centre - half, centre + half


def _resampled(
    y: NDArray[np.integer], k_N: NDArray[np.int64], rate_K: NDArray[np.float64], blocks: Resampler
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    K, B = len(rate_K), blocks.blocks
    block_N = np.repeat(np.arange(B), np.diff(blocks.bounds))
    n_BK = np.bincount(block_N * K + k_N, minlength=B * K).reshape(B, K)
    rises_BK = np.bincount(block_N * K + k_N, weights=y == 1, minlength=B * K).reshape(B, K)
    n_RK, rises_RK = blocks.weights_RB @ n_BK, blocks.weights_RB @ rises_BK
    rate_RK = np.divide(rises_RK, n_RK, out=np.full(n_RK.shape, np.nan), where=n_RK > 0)
    keys = [str(k) for k in range(K)]
    values = dict(zip(keys, rate_K.tolist(), strict=True))
    told = blocks.estimates(values, dict(zip(keys, rate_RK.T, strict=True)))
    return np.array([one.low for one in told.values()]), np.array([e.high for e in told.values()])
