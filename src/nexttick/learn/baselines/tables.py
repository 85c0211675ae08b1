"""The cheap baselines: three that count rises after what has just been seen, and a regression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nexttick.learn.baselines.base import PRIOR, SURE, Baseline, Known, Rows, Seen
from nexttick.prepare.labels import MISSING


@dataclass(frozen=True)
class BaseRate(Baseline):
    """The share of rises in the training part, whatever is seen."""

    rate: float

    @classmethod
    def fit(cls, seen: Seen, train: Known, valid: Known) -> Self:
        """Count rises."""
        return cls(float(train.y.mean()))

    def predict(self, seen: Seen, rows: Rows) -> NDArray[np.float64]:
        """The same for every event."""
        return np.full(len(rows), self.rate)


@dataclass(frozen=True)
class LastMoves(Baseline):
    """The share of rises after each of the 3^k sequences of the last k move signs."""

    k: int
    rates: list[float]

    @classmethod
    def fit(cls, seen: Seen, train: Known, valid: Known, k: int = 3) -> Self:
        """Count rises by sequence, drawn towards the base rate where one is rare."""
        cells = _sequences(seen, train.rows, k)
        return cls(k, _rates(cells, train.y, 3**k))

    def predict(self, seen: Seen, rows: Rows) -> NDArray[np.float64]:
        """Look the sequences up."""
        return np.array(self.rates)[_sequences(seen, rows, self.k)]


@dataclass(frozen=True)
class Persistence(Baseline):
    """The share of rises where no label is known yet, after no rise, and after a rise.

    The label looked at is the newest one of the same horizon that is known at the event: at
    `rise@10` that of ten events before, at `rise@5s` that of five seconds before.
    """

    rates: list[float]

    @classmethod
    def fit(cls, seen: Seen, train: Known, valid: Known) -> Self:
        """Count rises by the last known label."""
        return cls(_rates(_last_known(seen, train.rows), train.y, 3))

    def predict(self, seen: Seen, rows: Rows) -> NDArray[np.float64]:
        """Look the last known labels up."""
        return np.array(self.rates)[_last_known(seen, rows)]


@dataclass(frozen=True)
class Logistic(Baseline):
    """Logistic regression on the features of the event itself (scikit-learn's, C = 1)."""

    weights: list[float]
    bias: float

    @classmethod
    def fit(cls, seen: Seen, train: Known, valid: Known) -> Self:
        """Maximise the likelihood with a weak ridge penalty."""
        rate = float(train.y.mean())
        # There is nothing to tell apart, and scikit-learn refuses.
        if rate in (0.0, 1.0):
            return cls([0.0] * seen.x_NF.shape[1], math.copysign(SURE, rate - 0.5))
        from sklearn.linear_model import LogisticRegression  # takes a second, and only to fit

        model = LogisticRegression(max_iter=2000).fit(seen.x_NF[train.rows], train.y)
        return cls(model.coef_[0].tolist(), float(model.intercept_[0]))

    def predict(self, seen: Seen, rows: Rows) -> NDArray[np.float64]:
        """The logistic function of a weighted sum."""
        logit = seen.x_NF[rows] @ np.array(self.weights, np.float64) + self.bias
        return 1 / (1 + np.exp(-logit))


def last_moves(seen: Seen, rows: Rows, k: int) -> NDArray[np.int8]:
    """The last k move signs of these events, newest first; 0 before a segment's start."""
    return np.stack([seen.lagged(seen.direction_N, rows, lag, 0) for lag in range(k)], axis=1)


def _sequences(seen: Seen, rows: Rows, k: int) -> NDArray[np.int64]:
    return (last_moves(seen, rows, k).astype(np.int64) + 1) @ 3 ** np.arange(k)[::-1]


def _last_known(seen: Seen, rows: Rows) -> NDArray[np.int64]:
    return seen.known_N[rows].astype(np.int64) - MISSING


def _rates(cells: NDArray[np.int64], y: NDArray[np.int8], count: int) -> list[float]:
    rises = np.bincount(cells, weights=y, minlength=count) + PRIOR * y.mean()
    rates: list[float] = (rises / (np.bincount(cells, minlength=count) + PRIOR)).tolist()
    return rates
