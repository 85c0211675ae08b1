"""What a network must beat: `BASELINES` names them, `fit_on_training` fits those asked for.

All see the same ticks, the same parts and the same labels as the network.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from nexttick.learn.baselines.base import Baseline, Known, Seen
from nexttick.learn.baselines.lecture import Lecture2018
from nexttick.learn.baselines.tables import BaseRate, LastMoves, Logistic, Persistence
from nexttick.learn.baselines.trees import Trees, import_lightgbm
from nexttick.learn.formats import check_format
from nexttick.options import nearest
from nexttick.prepare.dataset import Prepared
from nexttick.prepare.splits import purged

BASELINES: dict[str, type[Baseline]] = {
    "base_rate": BaseRate,
    "last_moves": LastMoves,
    "persistence": Persistence,
    "logistic": Logistic,
    "trees": Trees,
    "lecture_2018_leaky": Lecture2018,
}
FORMAT = 1
CHEAP = ("base_rate", "last_moves", "persistence", "logistic")  # seconds: always fitted
Fitted = dict[str, list[Baseline]]  # by name, one a horizon


def choose(names: Iterable[str]) -> tuple[str, ...]:
    """The cheap baselines and those named, in the order of `BASELINES`.

    An unknown name, or one whose library is not installed, is a `ValueError`.
    """
    names = tuple(names)
    unknown = [one for one in names if one not in BASELINES]
    if mistakes := [f"baseline {one!r}: {nearest(one, BASELINES)}" for one in unknown]:
        raise ValueError("\n".join(mistakes))
    if "trees" in names:
        import_lightgbm()
    return tuple(name for name in BASELINES if name in CHEAP or name in names)


def fit_on_training(prepared: Prepared, names: Iterable[str] = ()) -> Fitted:
    """The cheap baselines and those named, fitted with the labels known at each part's end."""
    labels, split = prepared.labels, prepared.split
    return fit_baselines(
        [Seen.of(prepared, h) for h in range(len(labels.names))],
        purged(labels, 0, split.train_stop),
        purged(labels, split.valid, split.valid_stop),
        names,
    )


def fit_baselines(
    seen_H: Sequence[Seen],
    train_y_NH: NDArray[np.int8],
    valid_y_NH: NDArray[np.int8],
    names: Iterable[str] = (),
) -> Fitted:
    """The same from what is seen at each horizon; labels are purged, missing outside their part."""
    asked = [
        (seen, Known.of(train_y_NH[:, h]), Known.of(valid_y_NH[:, h]))
        for h, seen in enumerate(seen_H)
    ]
    return {name: [BASELINES[name].fit(*one) for one in asked] for name in choose(names)}


def is_leaky(name: str) -> bool:
    """Whether a contestant is a baseline that has seen what it is tested on."""
    return name in BASELINES and BASELINES[name].leaky


def dump(fitted: Fitted) -> str:
    """The fitted baselines as JSON."""
    values = {name: [asdict(one) for one in ones] for name, ones in fitted.items()}
    return json.dumps({"format": FORMAT, **values})


def load(text: str) -> Fitted:
    """The inverse of `dump`; another format is a `ValueError`."""
    values = json.loads(text)
    check_format("baselines", values.pop("format", 1), FORMAT)
    return {name: [BASELINES[name](**one) for one in ones] for name, ones in values.items()}
