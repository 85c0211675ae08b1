"""What a network must beat, fitted on the same training part.

Every baseline is a frozen record of plain numbers with `fit` and `predict`, so that it is kept
beside the network as JSON and judges it again on other files.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from nexttick.features import FIXED

DIRECTION = FIXED.index("direction")
_SURE = 16.0  # logit of a probability within 1e-6 of 0 or 1
_PRIOR = 10.0  # events of the base rate mixed into each cell, so that a rare one says little


@dataclass(frozen=True)
class Seen:
    """What baselines see of N events: scaled features, and the last three move signs."""

    x_NF: NDArray[np.float32]
    moves_N3: NDArray[np.int8]

    def __getitem__(self, rows: NDArray[Any] | slice) -> Seen:
        return Seen(self.x_NF[rows], self.moves_N3[rows])

    def __len__(self) -> int:
        return len(self.x_NF)


@dataclass(frozen=True)
class BaseRate:
    """The share of rises in the training part, whatever is seen."""

    rate: float

    @classmethod
    def fit(cls, seen: Seen, y_N: NDArray[np.int8]) -> BaseRate:
        """Count rises."""
        return cls(float(y_N.mean()))

    def predict(self, seen: Seen) -> NDArray[np.float64]:
        """The same for every event."""
        return np.full(len(seen), self.rate)


@dataclass(frozen=True)
class LastMoves:
    """The share of rises after each of the 27 triples of the last three move signs."""

    rates: list[float]

    @classmethod
    def fit(cls, seen: Seen, y_N: NDArray[np.int8]) -> LastMoves:
        """Count rises by triple, drawn towards the base rate where a triple is rare."""
        cells = _cells(seen.moves_N3)
        rises = np.bincount(cells, weights=y_N, minlength=27) + _PRIOR * y_N.mean()
        return cls((rises / (np.bincount(cells, minlength=27) + _PRIOR)).tolist())

    def predict(self, seen: Seen) -> NDArray[np.float64]:
        """Look the triples up."""
        return np.array(self.rates)[_cells(seen.moves_N3)]


@dataclass(frozen=True)
class Logistic:
    """Logistic regression on the features of the event itself (scikit-learn's, C = 1)."""

    weights: list[float]
    bias: float

    @classmethod
    def fit(cls, seen: Seen, y_N: NDArray[np.int8]) -> Logistic:
        """Maximise the likelihood with a weak ridge penalty."""
        rate = float(y_N.mean())
        if rate in (0.0, 1.0):  # nothing to tell apart, and scikit-learn refuses
            return cls([0.0] * seen.x_NF.shape[1], math.copysign(_SURE, rate - 0.5))
        model = LogisticRegression(max_iter=2000).fit(seen.x_NF, y_N)
        return cls(model.coef_[0].tolist(), float(model.intercept_[0]))

    def predict(self, seen: Seen) -> NDArray[np.float64]:
        """The logistic function of a weighted sum."""
        logit = seen.x_NF @ np.array(self.weights, np.float64) + self.bias
        return 1 / (1 + np.exp(-logit))


Baseline = BaseRate | LastMoves | Logistic
BASELINES: dict[str, type[BaseRate] | type[LastMoves] | type[Logistic]] = {
    "base_rate": BaseRate,
    "last_moves": LastMoves,
    "logistic": Logistic,
}
Fitted = dict[str, list[Baseline]]  # by name, one a horizon


def fit_baselines(seen: Seen, y_NH: NDArray[np.int8]) -> Fitted:
    """Fit every baseline for every horizon on the rows whose label is known (not negative)."""
    return {
        name: [baseline.fit(seen[y >= 0], y[y >= 0]) for y in y_NH.T]
        for name, baseline in BASELINES.items()
    }


def dump(fitted: Fitted) -> str:
    """The fitted baselines as JSON."""
    return json.dumps({name: [asdict(one) for one in ones] for name, ones in fitted.items()})


def load(text: str) -> Fitted:
    """The inverse of `dump`."""
    return {
        name: [BASELINES[name](**one) for one in ones] for name, ones in json.loads(text).items()
    }


def last_moves(direction_N: NDArray[np.floating], starts: NDArray[np.int64]) -> NDArray[np.int8]:
    """The last three move signs of each event, newest first; 0 before a segment's start.

    Args:
        direction_N: sign of the price change of each event, 0 at a segment's start.
        starts: where segments start.
    """
    sign = direction_N.astype(np.int8)
    age = np.arange(len(sign)) - np.repeat(starts, np.diff(np.append(starts, len(sign))))
    return np.stack([np.where(age >= lag, np.roll(sign, lag), 0) for lag in range(3)], axis=1)


def _cells(moves_N3: NDArray[np.int8]) -> NDArray[np.int64]:
    return (moves_N3.astype(np.int64) + 1) @ np.array([9, 3, 1])
