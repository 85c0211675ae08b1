"""Whatever was fitted must be what the training rows alone give."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from nexttick.judge.audit.facts import AuditFinding
from nexttick.learn.predictor.predictor import Predictor
from nexttick.learn.train import calibrate
from nexttick.networks.models.encoding import fit_encodings
from nexttick.prepare.dataset import Prepared, Scaler

_ROUNDING = 1e-5  # relative; a single row more moves a mean by more than this in most features


def check_fitted(predictor: Predictor, prepared: Prepared) -> AuditFinding:
    """Fit scaler and encoding again on the training rows, calibration on the validation rows.

    Not applicable where nothing was fitted on these ticks, as when a predictor is tested on
    another file.
    """
    name, split = "fitted on past rows only", prepared.split
    if split.train_stop == 0:
        return AuditFinding(name, None, "Nothing was fitted on these ticks.", {})
    again = Scaler.fit(prepared.features_NF[: split.train_stop])
    network = copy.deepcopy(predictor.model)
    fit_encodings(network, prepared.x_NF[: split.train_stop])
    states = zip(network.state_dict().values(), predictor.model.state_dict().values(), strict=True)
    recipe = predictor.provenance.get("recipe", {})
    curves = calibrate(predictor, prepared, recipe.get("train", {}).get("calibration", "none"))
    grid = np.linspace(0.01, 0.99, 99)
    distances = {
        # In scales, and relative to them: features have units of their own.
        "scaling": _largest(
            np.append((again.mean - one.mean) / again.scale, one.scale / again.scale - 1)
            for one in (predictor.scaler, prepared.scaler)
        ),
        # All that `fit_encodings` may set; the rest of the network is its own copy.
        "encoding": _largest(
            (a - b) / (1 + np.abs(a))
            for a, b in ((a.cpu().numpy(), b.cpu().numpy()) for a, b in states)
        ),
        "calibration": math.inf,
    }
    if len(curves) == len(predictor.calibration):
        distances["calibration"] = _largest(
            a(grid) - b(grid) for a, b in zip(curves, predictor.calibration, strict=True)
        )
    wrong = [what for what, distance in distances.items() if not distance <= _ROUNDING]
    sentence = (
        f"Scaling and encoding are those of the {split.train_stop:,} training events alone, "
        f"calibration that of the {split.valid_stop - split.valid:,} validation events."
    )
    if wrong:
        sentence = f"The {' and the '.join(wrong)} is not that of its own part: it saw other rows."
    numbers = {f"{what}_distance": distance for what, distance in distances.items()}
    return AuditFinding(name, not wrong, sentence, numbers)


def _largest(differences: Iterable[NDArray[np.floating]]) -> float:
    return max((float(np.abs(one).max(initial=0.0)) for one in differences), default=0.0)
