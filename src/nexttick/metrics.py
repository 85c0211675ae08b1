"""Scores of probabilities, each pinned to scikit-learn by a test.

All take y (0 or 1) and p (the probability of 1), one entry an event. Probabilities are clipped
to [1e-7, 1 - 1e-7] in the log loss, so that one sure and wrong answer costs 16 nats, not infinity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
_EPS = 1e-7


def log_losses(y: NDArray[np.integer], p: Array) -> NDArray[np.float64]:
    """Negative log likelihood of each event, in nats."""
    p = np.clip(p.astype(np.float64), _EPS, 1 - _EPS)
    return -np.log(np.where(y == 1, p, 1 - p))


def auc(y: NDArray[np.integer], p: Array) -> float:
    """Area under the ROC curve: the chance that a rise scores above a non-rise, ties half.

    NaN where only one class is seen.
    """
    positives = int((y == 1).sum())
    negatives = len(y) - positives
    if positives == 0 or negatives == 0:
        return math.nan
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(mean_rank[inverse][y == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def mcc(y: NDArray[np.integer], said: NDArray[np.bool_]) -> float:
    """Matthews correlation coefficient of yes/no answers; 0 where it is undefined."""
    rise = y == 1
    tp, fp = float((said & rise).sum()), float((said & ~rise).sum())
    fn, tn = float((~said & rise).sum()), float((~said & ~rise).sum())
    norm = math.sqrt(tp + fp) * math.sqrt(tp + fn) * math.sqrt(tn + fp) * math.sqrt(tn + fn)
    return (tp * tn - fp * fn) / norm if norm > 0 else 0.0


def score(y: NDArray[np.integer], p: Array, base_log_loss: float) -> dict[str, float]:
    """All scores of one horizon.

    Args:
        y: whether the price rose, 0 or 1.
        p: the probability that was given.
        base_log_loss: log loss on the same events of the training part's base rate.

    Returns:
        `n`; `base_rate`, the share of rises; `log_loss` in nats; `bits` an event gained over the
        base rate; `auc`; `brier`; `mcc` and `accuracy` at the threshold 0.5.
    """
    log_loss = float(log_losses(y, p).mean())
    said = p > 0.5
    return {
        "n": len(y),
        "base_rate": float((y == 1).mean()),
        "log_loss": log_loss,
        "bits": (base_log_loss - log_loss) / math.log(2),
        "auc": auc(y, p),
        "mcc": mcc(y, said),
        "brier": float(((p.astype(np.float64) - (y == 1)) ** 2).mean()),
        "accuracy": float((said == (y == 1)).mean()),
    }


@dataclass(frozen=True)
class Comparison:
    """A network against its best baseline on the same events.

    Attributes:
        baseline: name of the baseline with the lowest log loss.
        bits: information an event that the network has over it.
        margin: half of the 95 % interval of `bits`.
    """

    baseline: str
    bits: float
    margin: float

    @property
    def verdict(self) -> str:
        """`more`, `less`, or `no surely different`: whether the interval excludes zero."""
        if abs(self.bits) <= self.margin:
            return "no surely different"
        return "more" if self.bits > 0 else "less"


def compare(
    baseline: str, y: NDArray[np.integer], p: Array, p_baseline: Array, blocks: int = 50
) -> Comparison:
    """Compare log losses event by event.

    Neighbouring events are alike, so the interval comes from the means of `blocks` stretches of
    time (batch means, Law & Carson 1979), not from single events.
    """
    gain = (log_losses(y, p_baseline) - log_losses(y, p)) / math.log(2)
    means = np.array([part.mean() for part in np.array_split(gain, min(blocks, len(gain)))])
    spread = float(means.std(ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else math.inf
    return Comparison(baseline, float(gain.mean()), 1.96 * spread)
