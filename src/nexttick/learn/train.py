"""`train_network`: parts, network, epochs and calibration, from prepared ticks to a predictor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nexttick.learn.batches import Ranges, predictable
from nexttick.learn.checkpoint import EpochRecord
from nexttick.learn.epochs import OnStep, TrainingData, fit, pick_device, set_threads
from nexttick.learn.predictor.calibration import Calibration, fit_calibration
from nexttick.learn.predictor.predictor import Predictor
from nexttick.learn.predictor.training_shares import TrainingShares
from nexttick.networks.models import build_model
from nexttick.networks.models.base import TickModel
from nexttick.networks.models.encoding import fit_encodings
from nexttick.options import Recipe, to_dict
from nexttick.prepare.dataset import Prepared, recipe_spec
from nexttick.prepare.labels import MISSING
from nexttick.prepare.splits import purged
from nexttick.ticks.record import TickError

_SETTLED = 10  # contexts after which a recurrent state has forgotten where it began


def train_network(
    prepared: Prepared,
    recipe: Recipe,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_step: OnStep | None = None,
    network: TickModel | None = None,
) -> Predictor:
    """Train on the training part; choose the epoch and calibrate on the validation part.

    Ctrl-C ends the training with the best weights so far, once there is an epoch.

    Args:
        prepared: from `prepare_ticks`.
        recipe: the one they were prepared by.
        checkpoint: file to go on from, where it exists, and to keep up to date.
        on_epoch: called after each epoch.
        on_step: called after each step.
        network: from `fresh_network`, where there is one already.
    """
    device = pick_device(recipe.train.device)
    model = (network or fresh_network(recipe)).to(device)
    set_threads(model, recipe.train.threads)
    fit_encodings(model, prepared.x_NF[: prepared.split.train_stop])
    data = training_data(prepared, model, device)
    records: list[EpochRecord] = []
    stopped = False
    try:
        for record in fit(model, data, recipe.train, checkpoint, on_step):
            records.append(record)
            if on_epoch is not None:
                on_epoch(record)
    except KeyboardInterrupt:
        if not records:
            raise
        stopped = True
    seen = prepared.events["time"][: prepared.split.valid_stop]
    provenance = {
        "recipe": to_dict(recipe),
        "data_hash": prepared.data_hash,
        "first_ns": seen[0],
        "last_ns": seen[-1],
        "epochs": len(records),
        "stopped": stopped,
        "torch": torch.__version__,
    }
    predictor = Predictor(
        prepared.spec,
        prepared.scaler,
        recipe.model,
        prepared.labels.names,
        model.finished(),
        recipe.events.raw_ticks,
        provenance,
        training_shares=TrainingShares.fit(prepared.features_NF[: prepared.split.train_stop]),
    )
    predictor.calibration = calibrate(predictor, prepared, recipe.train.calibration)
    return predictor


def calibrate(predictor: Predictor, prepared: Prepared, kind: str) -> tuple[Calibration, ...]:
    """Curves of each horizon, fitted on the validation part's labels that are known at its end.

    A curve is kept where it surely helps within that part (see `calibration.fit_calibration`).
    """
    if kind == "none":
        return ()
    split, context = prepared.split, predictor.model.context
    # A network with a state is let settle on training events before its answers are used.
    begin = max(0, split.valid - _SETTLED * context)
    starts = prepared.starts[(prepared.starts > begin) & (prepared.starts < split.valid_stop)]
    x_NF = prepared.x_NF[begin : split.valid_stop]
    raw_NH = predictor.score(x_NF, np.append(0, starts - begin)).raw_NH
    y_NH = purged(prepared.labels, split.valid, split.valid_stop)[begin : split.valid_stop]
    known_NH = (y_NH != MISSING) & np.isfinite(raw_NH)
    return tuple(
        fit_calibration(y[known], raw[known], kind)
        for y, raw, known in zip(y_NH.T, raw_NH.T, known_NH.T, strict=True)
    )


def training_data(prepared: Prepared, model: TickModel, device: torch.device) -> TrainingData:
    """Features, purged labels and ranges on the device."""
    (train_y_NH, train), (valid_y_NH, valid) = (
        _part(prepared, model.context, name) for name in ("training", "validation")
    )
    return TrainingData(
        torch.from_numpy(prepared.x_NF).to(device),
        torch.from_numpy(train_y_NH).to(device),
        torch.from_numpy(valid_y_NH).to(device),
        train,
        valid,
    )


def fresh_network(recipe: Recipe) -> TickModel:
    """The network of a recipe before its training; the recipe's seed decides its weights.

    That it cannot be built is a `ValueError`, which one finds out so before anything is read.
    """
    torch.manual_seed(recipe.train.seed)
    num_features = len(recipe_spec(recipe, 0).names)
    return build_model(recipe.model, num_features, len(recipe.labels.horizon))


def check_parts(prepared: Prepared, context: int, *, tested: bool) -> None:
    """Find out before the training whether there is something to learn from and to judge by.

    In each part some event must have `context` ticks of history and a known label at each horizon;
    the test part counts where it will be `tested`.
    """
    for name in ("training", "validation", "test")[: 3 if tested else 2]:
        _part(prepared, context, name)


def _part(prepared: Prepared, context: int, name: str) -> tuple[NDArray[np.int8], Ranges]:
    """Labels of a part, purged, and ranges of its events with enough history."""
    split = prepared.split
    part = {
        "training": (0, split.train_stop),
        "validation": (split.valid, split.valid_stop),
        "test": (split.test, split.end),
    }[name]
    y_NH = purged(prepared.labels, *part)
    ranges = predictable(prepared.starts, len(prepared.events), context, part)
    known_H = np.zeros(y_NH.shape[1], bool)
    for start, stop in ranges:
        known_H |= (y_NH[start:stop] != MISSING).any(axis=0)
    if not known_H.all():
        names = zip(prepared.labels.names, known_H, strict=True)
        unknown = " or ".join(horizon for horizon, known in names if not known)
        raise TickError(
            f"no event of the {name} part has {context} events of history and a known label "
            f"{unknown}: give more ticks, a shorter --sequence-length or --horizon, or a longer "
            f"--max-gap (now {prepared.spec.max_gap_ns / 1e9:g}s)"
        )
    return y_NH, ranges
