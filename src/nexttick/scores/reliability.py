"""Reliability: how often a rise came where a probability was said."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.scores.bootstrap import Resampler
from nexttick.scores.tally import BINS, Array, equal_mass_edges


def reliability_curve(
    y: NDArray[np.integer], p: Array, resampler: Resampler, bins: int = BINS
) -> pl.DataFrame:
    """How often the price rose where a probability was given, over bins of equal mass.

    Events are in time order, the resampler is of the same. Equal probabilities are never parted,
    so there may be fewer bins. A row a bin: `p`, the mean probability; `rate`, the share of rises,
    with its 95 % interval `low` and `high`; `n`, the number of events.
    """
    k_N = np.searchsorted(equal_mass_edges(p, bins), p, side="right")
    n_K = np.bincount(k_N)
    rate_K = np.bincount(k_N, weights=y == 1) / n_K
    K, B = len(n_K), resampler.blocks
    # One bin of each block is one cell, so that a single count finds the sums of all blocks.
    cell_N = np.repeat(np.arange(B), np.diff(resampler.bounds)) * K + k_N
    n_BK, rises_BK = (
        np.bincount(cell_N, weights=weights, minlength=B * K).reshape(B, K)
        for weights in (None, y == 1)
    )
    n_RK, rises_RK = resampler.weights_RB @ n_BK, resampler.weights_RB @ rises_BK
    rate_RK = np.divide(rises_RK, n_RK, out=np.full(n_RK.shape, np.nan), where=n_RK > 0)
    keys = [str(k) for k in range(K)]
    values = dict(zip(keys, rate_K.tolist(), strict=True))
    rates = resampler.estimates(values, dict(zip(keys, rate_RK.T, strict=True))).values()
    return pl.DataFrame(
        {
            "p": np.bincount(k_N, weights=p) / n_K,
            "rate": rate_K,
            "low": [one.low for one in rates],
            "high": [one.high for one in rates],
            "n": n_K,
        }
    )
