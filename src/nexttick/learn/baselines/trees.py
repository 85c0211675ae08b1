"""Gradient-boosted trees (LightGBM, Ke et al. 2017) on the features and their recent past.

LightGBM is an optional extra: `pip install 'nexttick[trees]'`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nexttick.learn.baselines.base import Baseline, Known, Rows, Seen
from nexttick.prepare.features import FIXED
from nexttick.ticks.gaps import pieces

LAGS = 7
ROUNDS = 1000
PATIENCE = 30
PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 63,
    "min_data_in_leaf": 100,
    "num_threads": 1,  # folds run side by side, and sums in one order are the same every time
    "deterministic": True,
    "force_row_wise": True,
    "seed": 0,
    "verbose": -1,
}
_CHUNK = 65_536  # events predicted in one call; their lags are held no longer


@dataclass(frozen=True)
class Trees(Baseline):
    """Boosted trees on the features of the event and on what it was `LAGS` events long.

    They see the features, and of the 13 that describe single events also the last seven values.
    Rounds are added until `PATIENCE` of them have not lowered the loss of the validation part;
    the trees until the best round are kept.
    """

    model: str  # LightGBM's own text form

    @classmethod
    def fit(cls, seen: Seen, train: Known, valid: Known) -> Self:
        """Boost until the validation part is fitted no better."""
        lightgbm = import_lightgbm()
        data = lightgbm.Dataset(inputs(seen, train.rows), train.y, params=PARAMETERS)
        judge = data.create_valid(inputs(seen, valid.rows), valid.y)
        stop = lightgbm.early_stopping(PATIENCE, verbose=False)
        booster = lightgbm.train(PARAMETERS, data, ROUNDS, valid_sets=[judge], callbacks=[stop])
        return cls(booster.model_to_string(num_iteration=booster.best_iteration))

    def predict(self, seen: Seen, rows: Rows) -> NDArray[np.float64]:
        """The logistic function of the trees' sum."""
        booster = import_lightgbm().Booster(model_str=self.model)
        parts = [
            booster.predict(inputs(seen, rows[begin:stop]), num_threads=1)
            for begin, stop in pieces(len(rows), _CHUNK)
        ]
        return np.concatenate([np.empty(0), *parts])


def inputs(seen: Seen, rows: Rows) -> NDArray[np.float32]:
    """Features of these events, and the first 13 of them 1 to `LAGS` events before.

    What lies before a segment's start is NaN, which LightGBM takes for missing.
    """
    width, F = len(FIXED), seen.x_NF.shape[1]
    out = np.empty((len(rows), F + LAGS * width), np.float32)
    out[:, :F] = seen.x_NF[rows]
    for lag in range(1, LAGS + 1):
        columns = slice(F + (lag - 1) * width, F + lag * width)
        out[:, columns] = seen.lagged(seen.x_NF[:, :width], rows, lag, np.nan)
    return out


def import_lightgbm() -> ModuleType:
    """LightGBM, or a `ValueError` that says how to get it."""
    try:
        return import_module("lightgbm")
    except ImportError as error:
        raise ValueError(
            f"the baseline 'trees' needs LightGBM ({error}): pip install 'nexttick[trees]', or "
            f"leave it out"
        ) from error
