"""Probabilities made to mean what they say, by an increasing curve fitted on validation events.

Each kind is a frozen record of plain numbers, like the baselines: `fit`, a call that maps
probabilities, and plain values for JSON, so that it lives in a predictor. Curves never
fall, so that no order of events is turned round, and never leave (0, 1). Where there is nothing to
fit (no event, one outcome only, one probability only) the curve is the identity.

- `temperature`: logit → slope · logit (Guo et al. 2017; the temperature is 1 / slope).
- `platt`: logit → slope · logit + bias (Platt 1999).
- `isotonic`: the increasing curve of least squared error (Zadrozny & Elkan 2002), scikit-learn's.
- `none`: the identity.

A curve fitted on the validation part is wrong once the market changes, and more often than not it
does: fitted always, each kind costs bits on later events of most markets. `fit_calibration`
therefore fits on the first half of the validation part and keeps the kind only if it surely gains
on the second.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nexttick.options import nearest
from nexttick.scores.bootstrap import Resampler
from nexttick.scores.metrics import log_losses
from nexttick.scores.tally import EPS, Array

_FLATTEST = 0.01  # least slope: a network that is wrong more often than not says little, not worse
_STEPS = 100
_DISTINCT = 1e-6  # probabilities within so much of each other are one


@dataclass(frozen=True)
class Temperature:
    """logit → slope · logit; above 1 surer than before, below 1 less sure."""

    bias: ClassVar[float] = 0.0
    slope: float = 1.0

    @classmethod
    def fit(cls, y_N: NDArray[np.integer], p_N: Array) -> Temperature:
        """The slope of the least log loss."""
        if _nothing_to_fit(y_N, p_N):
            return cls()
        return cls(max(float(_logistic_fit(_logit(p_N)[:, None], y_N == 1)[0]), _FLATTEST))

    def __call__(self, p: Array) -> NDArray[np.float64]:
        """Map probabilities."""
        return _sigmoid(self.slope * _logit(p))


@dataclass(frozen=True)
class Platt:
    """logit → slope · logit + bias."""

    slope: float = 1.0
    bias: float = 0.0

    @classmethod
    def fit(cls, y_N: NDArray[np.integer], p_N: Array) -> Platt:
        """Slope and bias of the least log loss."""
        if _nothing_to_fit(y_N, p_N):
            return cls()
        rose = y_N == 1
        logit_N = _logit(p_N)
        slope, bias = _logistic_fit(np.stack([logit_N, np.ones_like(logit_N)], axis=1), rose)
        if slope < _FLATTEST:
            # The bias at which the mean probability is the share of rises, by bisection.
            slope, low, high = _FLATTEST, -40.0, 40.0
            for _ in range(_STEPS):
                bias = (low + high) / 2
                below = _sigmoid(slope * logit_N + bias).mean() < rose.mean()
                low, high = (bias, high) if below else (low, bias)
            bias = low
        return cls(float(slope), float(bias))

    def __call__(self, p: Array) -> NDArray[np.float64]:
        """Map probabilities."""
        return _sigmoid(self.slope * _logit(p) + self.bias)


@dataclass(frozen=True)
class Isotonic:
    """A curve through points, flat beyond them."""

    x: list[float]
    y: list[float]

    @classmethod
    def fit(cls, y_N: NDArray[np.integer], p_N: Array) -> Isotonic:
        """Least squares under the order.

        One imagined rise at the lowest probability and one imagined non-rise at the highest keep
        every rate inside (0, 1).
        """
        if _nothing_to_fit(y_N, p_N):
            return cls([0.0, 1.0], [0.0, 1.0])
        from sklearn.isotonic import IsotonicRegression  # takes a second, and only to fit

        p = np.concatenate([p_N.astype(np.float64), [p_N.min(), p_N.max()]])
        rose = np.concatenate([y_N == 1, [True, False]])
        fitted = IsotonicRegression(y_min=0, y_max=1).fit(p, rose)
        return cls(fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist())

    def __call__(self, p: Array) -> NDArray[np.float64]:
        """Map probabilities."""
        return _inside(np.interp(p, self.x, self.y))


@dataclass(frozen=True)
class Unchanged:
    """p → p."""

    x: ClassVar[list[float]] = [0.0, 1.0]  # points of the curve, as those of `Isotonic`
    y: ClassVar[list[float]] = [0.0, 1.0]

    @classmethod
    def fit(cls, y_N: NDArray[np.integer], p_N: Array) -> Unchanged:
        """Nothing."""
        return cls()

    def __call__(self, p: Array) -> NDArray[np.float64]:
        """The same probabilities, inside (0, 1)."""
        return _inside(p)


Calibration = Temperature | Platt | Isotonic | Unchanged
CALIBRATIONS: dict[str, type[Calibration]] = {
    "temperature": Temperature,
    "platt": Platt,
    "isotonic": Isotonic,
    "none": Unchanged,
}


def fit_calibration(y_N: NDArray[np.integer], p_N: Array, kind: str = "temperature") -> Calibration:
    """Fit a calibration where it surely helps.

    It is fitted on the first half of the events, which are in time order. Where the 95 % interval
    of what it gains in log loss on the second half lies above zero, it is fitted again on all
    events; else there is none.
    """
    if kind not in CALIBRATIONS:
        raise ValueError(f"calibration {kind!r}: {nearest(kind, CALIBRATIONS)}")
    half = len(y_N) // 2
    if half == 0:
        return Unchanged()
    tried = CALIBRATIONS[kind].fit(y_N[:half], p_N[:half])
    y, p = y_N[half:], p_N[half:]
    gain = log_losses(y, p) - log_losses(y, tried(p))
    sure = Resampler.fit([gain]).mean(gain).low > 0
    return CALIBRATIONS[kind].fit(y_N, p_N) if sure else Unchanged()


def to_json(fitted: list[Calibration]) -> list[dict[str, Any]]:
    """Fitted calibrations, one a horizon, as plain values for JSON."""
    names = {kind: name for name, kind in CALIBRATIONS.items()}
    return [{"kind": names[type(one)], **asdict(one)} for one in fitted]


def from_json(values: list[dict[str, Any]]) -> list[Calibration]:
    """The inverse of `to_json`; an unknown kind, or numbers not of its kind, is a `ValueError`."""
    fitted: list[Calibration] = []
    for value in values:
        numbers = dict(value)
        kind = numbers.pop("kind", "")
        if kind not in CALIBRATIONS:
            raise ValueError(f"calibration {kind!r}: {nearest(kind, CALIBRATIONS)}")
        try:
            fitted.append(CALIBRATIONS[kind](**numbers))
        except TypeError as error:
            raise ValueError(f"calibration {kind!r} is damaged ({error}): train again") from error
    return fitted


def _nothing_to_fit(y_N: NDArray[np.integer], p_N: Array) -> bool:
    rises = int((y_N == 1).sum())
    return rises in (0, len(y_N)) or bool(p_N.max() - p_N.min() < _DISTINCT)


def _logistic_fit(x_NK: NDArray[np.float64], rose_N: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights of the least log loss, by Newton's method with halved steps.

    The targets are Platt's, (n+ + 1) / (n+ + 2) and 1 / (n- + 2) in place of 1 and 0, so that
    the least is finite even where some threshold parts rises from non-rises without an error.
    """

    def loss(weights_K: NDArray[np.float64]) -> float:
        logit_N = x_NK @ weights_K
        return float((np.logaddexp(0, logit_N) - target_N * logit_N).sum())

    rises, n = int(rose_N.sum()), len(rose_N)
    target_N = np.where(rose_N, (rises + 1) / (rises + 2), 1 / (n - rises + 2))
    weights_K = np.zeros(x_NK.shape[1])
    least = loss(weights_K)
    for _ in range(_STEPS):
        p_N = _sigmoid(x_NK @ weights_K)
        gradient_K = x_NK.T @ (p_N - target_N)
        step_K = np.linalg.solve((x_NK.T * (p_N * (1 - p_N))) @ x_NK, gradient_K)
        while (better := loss(weights_K - step_K)) > least:
            step_K /= 2
        weights_K, least, gained = weights_K - step_K, better, least - better
        if gained <= 1e-14 * n:
            break
    return weights_K


def _logit(p: Array) -> NDArray[np.float64]:
    inside = _inside(p)
    return np.log(inside) - np.log1p(-inside)


def _sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    return _inside(1 / (1 + np.exp(-np.clip(logit, -100.0, 100.0))))


def _inside(p: Array) -> NDArray[np.float64]:
    return np.clip(p.astype(np.float64), EPS, 1 - EPS)
