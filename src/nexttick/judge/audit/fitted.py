"""Whatever was fitted must be what the training rows alone give."""

from __future__ import annotations

import copy
import math

import numpy as np
from numpy.typing import NDArray

from nexttick.judge.audit.facts import AuditFinding
from nexttick.learn.predictor.predictor import Predictor
from nexttick.learn.train import calibrate
from nexttick.networks.models.encoding import fit_encodings
from nexttick.prepare.dataset import Prepared
from nexttick.prepare.scaler import Scaler

_ROUNDING = 1e-5  # relative; a single row more moves a mean by more than this in most features


def check_fitted(predictor: Predictor, prepared: Prepared) -> AuditFinding:
    """Fit scaler and encoding again on the training rows, calibration on the validation rows.

    Not applicable where nothing was fitted on these ticks, as when a predictor is tested on
    another file.
    """
    name, split = "fitted on past rows only", prepared.split
    if split.train_stop == 0:
        return AuditFinding(name, None, "Nothing was fitted on these ticks.", {})
    distances = {
        "scaling": _scaling_distance(predictor, prepared),
        "encoding": _encoding_distance(predictor, prepared),
        "calibration": _calibration_distance(predictor, prepared),
    }
    wrong = [what for what, distance in distances.items() if not distance <= _ROUNDING]
    if wrong:
        sentence = f"The {' and the '.join(wrong)} is not that of its own part: it saw other rows."
    else:
        sentence = (
            f"Scaling and encoding are those of the {split.train_stop:,} training events alone, "
            f"calibration that of the {split.valid_stop - split.valid:,} validation events."
        )
    numbers = {f"{what}_distance": distance for what, distance in distances.items()}
    return AuditFinding(name, not wrong, sentence, numbers)


def _scaling_distance(predictor: Predictor, prepared: Prepared) -> float:
    """Largest difference of means and scales, in scales."""
    again = Scaler.fit(prepared.features_NF[: prepared.split.train_stop])
    return max(
        float(
            max(
                (np.abs(again.mean - one.mean) / again.scale).max(),
                np.abs(one.scale / again.scale - 1).max(),
            )
        )
        for one in (predictor.scaler, prepared.scaler)
    )


def _encoding_distance(predictor: Predictor, prepared: Prepared) -> float:
    """Largest relative difference of what `fit_encodings` sets in the network."""
    again = copy.deepcopy(predictor.model)
    fit_encodings(again, prepared.x_NF[: prepared.split.train_stop])
    pairs = zip(again.state_dict().values(), predictor.model.state_dict().values(), strict=True)
    return max((_relative(a.cpu().numpy(), b.cpu().numpy()) for a, b in pairs), default=0.0)


def _calibration_distance(predictor: Predictor, prepared: Prepared) -> float:
    """Largest difference of what the curves make of a probability."""
    recipe = predictor.provenance.get("recipe", {})
    again = calibrate(predictor, prepared, recipe.get("train", {}).get("calibration", "none"))
    if len(again) != len(predictor.calibration):
        return math.inf
    grid = np.linspace(0.01, 0.99, 99)
    pairs = zip(again, predictor.calibration, strict=True)
    return max((float(np.abs(a(grid) - b(grid)).max()) for a, b in pairs), default=0.0)


def _relative(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    return float((np.abs(a - b) / (1 + np.abs(a))).max(initial=0.0))
