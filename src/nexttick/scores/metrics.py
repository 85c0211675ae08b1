"""Scores of probabilities, each pinned to scikit-learn by a test.

All take y (0 or 1) and p (the probability of 1), one entry an event. Probabilities are clipped
to [1e-7, 1 - 1e-7] in the log loss, so that one sure and wrong answer costs 16 nats, not infinity.

*Brier score* (Murphy 1973) = reliability - resolution + uncertainty, over 16 bins of equal mass;
equal probabilities always share a bin. Within a bin probabilities differ, and with Murphy's
resolution the parts would not sum to the score. Here resolution is the generalised one of
Stephenson, Coelho & Jolliffe 2008: Murphy's, less the variance of p within bins, plus twice its
covariance with y there. The parts then sum to the Brier score exactly.

*Rises, falls, ties.* y lumps falls and ties together. Where the sign of the change is known:

- `auc_direction` tells rises from falls, `auc_moves` tells rises from ties. Their mean, weighted
  by the numbers of falls and ties, is exactly `auc`.
- `log_loss_direction` judges P(rise | move) = p / (p + (1 - p)(1 - t)) on rises and falls, and
  `log_loss_moves` judges P(rise | no fall) = p / (p + (1 - p) t) on rises and ties, where t is the
  share of ties among non-rises. This is what P(rise) alone says of the two questions if ties are
  as frequent among the non-rises at every p; a forecaster of falls as well could say more.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nexttick.scores.tally import (
    EPS,
    RISE,
    Array,
    Outcomes,
    Sums,
    Tally,
    count_wins,
    probabilities,
    ranking,
    tally,
)


def log_losses(y: NDArray[np.integer], p: Array) -> NDArray[np.float64]:
    """Negative log likelihood of each event, in nats."""
    p = np.clip(p.astype(np.float64), EPS, 1 - EPS)
    return -np.log(np.where(y == 1, p, 1 - p))


def auc(y: NDArray[np.integer], p: Array) -> float:
    """Area under the ROC curve: the chance that a rise scores above a non-rise, ties half.

    NaN where only one class is seen.
    """
    wins, pairs = count_wins(ranking(probabilities(p, len(y)), Outcomes.of(y).of_N))
    return float(_ratio(wins.sum(), pairs.sum()))


def score(
    y: NDArray[np.integer],
    p: Array,
    base_log_loss: float,
    *,
    sign: NDArray[np.integer] | None = None,
    threshold: float = 0.5,
) -> dict[str, float]:
    """All scores of one horizon.

    Returns:
        `n`; `base_rate`, the share of rises; `log_loss` in nats; `bits` an event gained over
        `base_log_loss`, that of the training part's base rate on the same events; `auc`; `brier`
        and its parts `reliability`, `resolution` and `uncertainty`; `ece`, the expected
        calibration error over the same bins; `accuracy`, `mcc`, `precision` (positive predictive
        value) and `npv` (negative predictive value) where p says "rise" above the threshold. With
        the sign of the price change, -1, 0 or 1, also `tie_rate`, `auc_moves`, `auc_direction`,
        `log_loss_moves` and `log_loss_direction`. NaN where a score is not defined; only the MCC
        is then 0, as scikit-learn has it.

    Raises:
        ValueError: there is no event, a p is no probability, or y and sign disagree.
    """
    whole = tally(Outcomes.of(y, sign), p, np.array([0, len(y)]), threshold)
    values = scores_of(whole, np.ones((1, 1)))
    scores = {name: float(value[0]) for name, value in values.items() if name != "ece_error"}
    bits = (base_log_loss - scores["log_loss"]) / math.log(2)
    return {"n": len(y), **scores, "bits": bits}


def scores_of(sums: Tally, weights_RB: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Scores of R weighted sums of blocks, R values each; weights of 1 give them unweighted.

    As `score`, without `n` and `bits`; and `ece_error`, the sum over bins of how far the part of
    each in `ece` is from that of all events. Weights in float32 are faster, with six digits and
    counts exact up to 2**24.
    """
    return scores_of_sums(sums, weights_RB @ sums.sums_BM.astype(weights_RB.dtype))


def scores_of_sums(whole: Tally, sums_RM: Array) -> dict[str, NDArray[np.float64]]:
    """The same from the R weighted sums themselves."""
    sums = Sums.of(sums_RM, whole.bin_starts)
    loss, error, loss_moves, loss_direction = sums.losses_RL.T
    n, tp, positives = sums.answers_RA.T
    falls, ties, rises = sums.of_RC.T
    pairs_R2 = rises[:, None] * sums.of_RC[:, :RISE]
    wins_R2 = sums.wins_R2 - whole.wins_excess * pairs_R2
    rate, reliability, off_RK = rises / n, sums.reliability_R / n, sums.off_RK / n[:, None]
    fp, fn, tn = positives - tp, rises - tp, n - rises - (positives - tp)
    # A product of four counts of millions is beyond int64, and its root is all that is needed.
    norm = np.sqrt(positives) * np.sqrt(rises) * np.sqrt(n - rises) * np.sqrt(tn + fn)
    scores = {
        "base_rate": rate,
        "log_loss": loss / n,
        "auc": _ratio(wins_R2.sum(axis=1), pairs_R2.sum(axis=1)),
        "brier": error / n,
        "reliability": reliability,
        "resolution": rate * (1 - rate) + reliability - error / n,
        "uncertainty": rate * (1 - rate),
        "ece": np.abs(off_RK).sum(axis=1),
        "ece_error": np.abs(off_RK - whole.off_K).sum(axis=1),
        "accuracy": (tp + tn) / n,
        "mcc": _ratio(tp * tn - fp * fn, norm, empty=0.0),
        "precision": _ratio(tp, positives),
        "npv": _ratio(tn, tn + fn),
    }
    if whole.signed:
        any_fall, any_tie = (pairs_R2 > 0).T
        scores |= {
            "tie_rate": ties / n,
            "auc_moves": _ratio(wins_R2[:, 1], pairs_R2[:, 1]),
            "auc_direction": _ratio(wins_R2[:, 0], pairs_R2[:, 0]),
            "log_loss_moves": _ratio(loss_moves, (rises + ties) * any_tie),
            "log_loss_direction": _ratio(loss_direction, (rises + falls) * any_fall),
        }
    return scores


def _ratio(
    part: NDArray[np.floating], whole: NDArray[np.floating], empty: float = math.nan
) -> NDArray[np.float64]:
    """The quotient, `empty` where the denominator is 0."""
    out = np.full(np.broadcast_shapes(part.shape, whole.shape), empty)
    return np.divide(part, whole, out=out, where=whole > 0)
