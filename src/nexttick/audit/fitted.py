"""Whatever was fitted must be what the training rows alone give."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from nexttick.audit.finding import Finding
from nexttick.job import Prepared
from nexttick.models.encoding import fit_encodings
from nexttick.predictor import Predictor, Scaler

_ROUNDING = 1e-5  # relative; a single row more moves a mean by more than this in most features


def check_fitted(predictor: Predictor, prepared: Prepared) -> Finding:
    """Fit the scaler and the encoding's edges again on the training rows, and compare.

    Not applicable where nothing was fitted on these ticks, as when a predictor is tested on
    another file.
    """
    name, valid = "fitted on training rows only", prepared.split.train_stop
    if valid == 0:
        return Finding(name, None, "Nothing was fitted on these ticks.", {})
    again = Scaler.fit(prepared.features_NF[:valid])
    scaler = max(_scaler_distance(again, one) for one in (predictor.scaler, prepared.scaler))
    encoding = _encoding_distance(predictor, prepared)
    passed = max(scaler, encoding) <= _ROUNDING
    if passed:
        sentence = f"Scaling and encoding are those of the {valid:,} training events alone."
    else:
        what = "scaling" if scaler > _ROUNDING else "encoding"
        sentence = f"The {what} is not that of the {valid:,} training events: it saw other rows."
    numbers = {"scaler_distance": scaler, "encoding_distance": encoding}
    return Finding(name, passed, sentence, numbers)


def _scaler_distance(a: Scaler, b: Scaler) -> float:
    """Largest difference of means and scales, in scales."""
    mean = np.abs(a.mean - b.mean) / a.scale
    return float(max(mean.max(), np.abs(b.scale / a.scale - 1).max()))


def _encoding_distance(predictor: Predictor, prepared: Prepared) -> float:
    """Largest relative difference of what `fit_encodings` sets in the network."""
    again = copy.deepcopy(predictor.model)
    fit_encodings(again, prepared.x_NF[: prepared.split.train_stop])
    pairs = zip(again.state_dict().values(), predictor.model.state_dict().values(), strict=True)
    return max((_relative(a.cpu().numpy(), b.cpu().numpy()) for a, b in pairs), default=0.0)


def _relative(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    return float((np.abs(a - b) / (1 + np.abs(a))).max(initial=0.0))
