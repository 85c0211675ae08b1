"""The main job up to the test: ticks to features, labels and parts, and to a trained predictor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from nexttick.batches import predictable
from nexttick.calibration import Calibration
from nexttick.calibration import calibrate as fit_calibration
from nexttick.config import Recipe, parse_duration_ns, to_dict
from nexttick.events import merge_events, segment_starts, usual_max_gap_ns
from nexttick.features import FeatureSpec, compute_features
from nexttick.labels import MISSING, Labels, make_labels
from nexttick.models import build_model
from nexttick.models.base import TickModel
from nexttick.models.encoding import fit_encodings
from nexttick.predictor import Predictor, Scaler
from nexttick.splits import Split, chronological_split, purged
from nexttick.ticks import TickError, fingerprint
from nexttick.train import EpochRecord, OnStep, Ranges, TrainingData, fit, pick_device, set_threads

_SETTLED = 10  # contexts after which a recurrent state has forgotten where it began


@dataclass(frozen=True)
class Prepared:
    """Ticks on their way to tensors: N events with features and labels, and their parts.

    Attributes:
        events: from `merge_events`.
        spec: the features, the gap that ends a segment included.
        starts: where segments start.
        features_NF: unscaled.
        labels: of all events.
        split: training, validation and test part.
        scaler: fitted on the training part.
        data_hash: fingerprint of the ticks.
    """

    events: pl.DataFrame
    spec: FeatureSpec
    starts: NDArray[np.int64]
    features_NF: NDArray[np.float32]
    labels: Labels
    split: Split
    scaler: Scaler
    data_hash: str

    @cached_property
    def x_NF(self) -> NDArray[np.float32]:
        """The scaled features, computed once."""
        return self.scaler(self.features_NF)


def prepare(ticks: pl.DataFrame, recipe: Recipe) -> Prepared:
    """Merge, cut, compute features and labels, and split; whatever is fitted sees training only.

    Raises:
        TickError: there are too few ticks to learn from, or their price never changes.
    """
    events = merge_events(ticks, raw_ticks=recipe.events.raw_ticks)
    split = chronological_split(len(events), recipe.split)
    return prepare_events(events, recipe, split, fingerprint(ticks))


def prepare_events(events: pl.DataFrame, recipe: Recipe, split: Split, data_hash: str) -> Prepared:
    """The same from events and a split of them."""
    time_ns = events["time"].to_numpy()
    _check_enough(events, split, recipe)
    max_gap_ns = resolve_max_gap_ns(time_ns[: split.train_stop], recipe.events.max_gap)
    spec = recipe_spec(recipe, max_gap_ns)
    features = compute_features(events, spec)
    return Prepared(
        events,
        spec,
        segment_starts(time_ns, max_gap_ns),
        features,
        make_labels(events, recipe.labels, max_gap_ns),
        split,
        Scaler.fit(features[: split.train_stop]),
        data_hash,
    )


def prepare_for(predictor: Predictor, ticks: pl.DataFrame, recipe: Recipe) -> Prepared:
    """The same with a trained predictor's own features, gap and scaler; nothing is fitted."""
    events = merge_events(ticks, raw_ticks=predictor.raw_ticks)
    spec, n = predictor.spec, len(events)
    return Prepared(
        events,
        spec,
        segment_starts(events["time"].to_numpy(), spec.max_gap_ns),
        compute_features(events, spec),
        make_labels(events, recipe.labels, spec.max_gap_ns),
        Split(valid=0, test=0, end=n),
        predictor.scaler,
        fingerprint(ticks),
    )


def _check_enough(events: pl.DataFrame, split: Split, recipe: Recipe) -> None:
    least = recipe.model.sequence_length
    if min(split.train_stop, split.valid_stop - split.valid) < least:
        raise TickError(
            f"{len(events)} events leave {split.train_stop} to train on and "
            f"{split.valid_stop - split.valid} "
            f"to validate; one window alone takes {least}: give more ticks or a shorter "
            f"--sequence-length"
        )
    price = events["price"]
    if price[: split.train_stop].n_unique() == 1:
        raise TickError(
            f"all {split.train_stop} prices of the training part are {price[0]:g}: nothing ever "
            f"rises, so nothing can be learned; check --columns, or give ticks of a market that "
            f"moves"
        )


def resolve_max_gap_ns(time_ns: NDArray[np.int64], told: str | None) -> int:
    """The gap that was told, or else the rule of `usual_max_gap_ns` over the training part."""
    if told is None:
        return usual_max_gap_ns(time_ns)
    duration_ns = parse_duration_ns(told)
    if duration_ns is None:
        raise ValueError(f"--max-gap {told!r} is no duration: e.g. 10m")
    return duration_ns


def train_network(
    prepared: Prepared,
    recipe: Recipe,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_step: OnStep | None = None,
) -> Predictor:
    """Train on the training part; choose the epoch and calibrate on the validation part.

    Ctrl-C ends the training with the best weights so far, once there is an epoch.
    """
    device = pick_device(recipe.train.device)
    torch.manual_seed(recipe.train.seed)
    horizons = prepared.labels.names
    model = build_model(recipe.model, len(prepared.spec.names), len(horizons)).to(device)
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
        horizons,
        model.finished(),
        recipe.events.raw_ticks,
        provenance,
    )
    predictor.calibration = calibrate(predictor, prepared, recipe.train.calibration)
    return predictor


def calibrate(predictor: Predictor, prepared: Prepared, kind: str) -> tuple[Calibration, ...]:
    """Curves of each horizon, fitted on the validation part's labels that are known at its end.

    A curve is kept where it surely helps within that part (see `calibration.calibrate`).
    """
    if kind == "none":
        return ()
    split, context = prepared.split, predictor.model.context
    begin = max(0, split.valid - _SETTLED * context)
    starts = prepared.starts[(prepared.starts > begin) & (prepared.starts < split.valid_stop)]
    raw_NH = predictor.score_raw(
        prepared.x_NF[begin : split.valid_stop], np.append(0, starts - begin)
    )
    y_NH = purged(prepared.labels, split.valid, split.valid_stop)[begin : split.valid_stop]
    known_NH = (y_NH != MISSING) & np.isfinite(raw_NH)
    return tuple(
        fit_calibration(y[known], raw[known], kind)
        for y, raw, known in zip(y_NH.T, raw_NH.T, known_NH.T, strict=True)
    )


def training_data(prepared: Prepared, model: TickModel, device: torch.device) -> TrainingData:
    """Features, purged labels and ranges on the device.

    Raises:
        TickError: a part has no event with enough history and a known label at some horizon.
    """
    split = prepared.split
    train_y_NH, train = _part(prepared, model.context, "training", (0, split.train_stop))
    valid_y_NH, valid = _part(
        prepared, model.context, "validation", (split.valid, split.valid_stop)
    )
    return TrainingData(
        torch.from_numpy(prepared.x_NF).to(device),
        torch.from_numpy(train_y_NH).to(device),
        torch.from_numpy(valid_y_NH).to(device),
        train,
        valid,
    )


def check_model(recipe: Recipe) -> None:
    """Find out before anything is read whether the recipe's network can be built.

    Raises:
        ValueError: it cannot.
    """
    build_model(recipe.model, len(recipe_spec(recipe, 0).names), len(recipe.labels.horizon))


def recipe_spec(recipe: Recipe, max_gap_ns: int) -> FeatureSpec:
    """The features that a recipe asks for, with the pause that ends a segment."""
    return FeatureSpec(max_gap_ns, **dataclasses.asdict(recipe.features))


def check_parts(prepared: Prepared, recipe: Recipe, *, tested: bool) -> None:
    """Find out before the training whether there is something to learn from and to judge by.

    Args:
        prepared: from `prepare`.
        recipe: the same.
        tested: whether the test part will be scored.

    Raises:
        TickError: a part has no event with enough history and a known label at some horizon.
    """
    split, horizons = prepared.split, prepared.labels.names
    context = build_model(recipe.model, len(prepared.spec.names), len(horizons)).context
    _part(prepared, context, "training", (0, split.train_stop))
    _part(prepared, context, "validation", (split.valid, split.valid_stop))
    if tested:
        _part(prepared, context, "test", (split.test, split.end))


def _part(
    prepared: Prepared, context: int, name: str, part: tuple[int, int]
) -> tuple[NDArray[np.int8], Ranges]:
    """Labels of a part, purged, and ranges of its events with enough history."""
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
