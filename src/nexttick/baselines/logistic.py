"""Logistic regression on the features of the event itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nexttick.baselines.base import SURE, Baseline, Known, Rows, Seen


@dataclass(frozen=True)
class Logistic(Baseline):
    """Logistic regression on the features of the event itself (scikit-learn's, C = 1)."""

    weights: list[float]
    bias: float

    @classmethod
    def fit(cls, seen: Seen, train: Known, valid: Known) -> Self:
        """Maximise the likelihood with a weak ridge penalty."""
        rate = float(train.y.mean())
        if rate in (0.0, 1.0):  # nothing to tell apart, and scikit-learn refuses
            return cls([0.0] * seen.x_NF.shape[1], math.copysign(SURE, rate - 0.5))
        from sklearn.linear_model import LogisticRegression  # takes a second, and only to fit

        model = LogisticRegression(max_iter=2000).fit(seen.x_NF[train.rows], train.y)
        return cls(model.coef_[0].tolist(), float(model.intercept_[0]))

    def predict(self, seen: Seen, rows: Rows) -> NDArray[np.float64]:
        """The logistic function of a weighted sum."""
        logit = seen.x_NF[rows] @ np.array(self.weights, np.float64) + self.bias
        return 1 / (1 + np.exp(-logit))
