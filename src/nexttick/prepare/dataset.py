"""Ticks to what a network sees: events, features, labels and parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.options import Recipe, parse_duration_ns
from nexttick.prepare.events import merge_chunks, merge_events
from nexttick.prepare.features import FeatureSpec, compute_features
from nexttick.prepare.labels import Labels, make_labels
from nexttick.prepare.on_disk import Empty, Spill
from nexttick.prepare.scaler import Scaler
from nexttick.prepare.splits import Split, chronological_split
from nexttick.ticks.gaps import pieces, segment_starts, usual_max_gap_ns
from nexttick.ticks.record import Fingerprint, TickError, fingerprint

_ROWS = 1 << 17  # events whose features are computed in one call


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
        empty: makes arrays, in memory or on disk.
    """

    events: pl.DataFrame
    spec: FeatureSpec
    starts: NDArray[np.int64]
    features_NF: NDArray[np.float32]
    labels: Labels
    split: Split
    scaler: Scaler
    data_hash: str
    empty: Empty = np.empty

    @cached_property
    def x_NF(self) -> NDArray[np.float32]:
        """The scaled features, computed once."""
        return self.scaler.scaled(self.features_NF, self.empty)


def prepare_ticks(ticks: pl.DataFrame, recipe: Recipe) -> Prepared:
    """Merge, cut, compute features and labels, and split; whatever is fitted sees training only.

    Raises:
        TickError: there are too few ticks to learn from, or their price never changes.
    """
    events = merge_events(ticks, raw_ticks=recipe.events.raw_ticks)
    split = chronological_split(len(events), recipe.split)
    return prepare_events(events, recipe, split, fingerprint(ticks))


def prepare_chunks(
    chunks: Iterable[pl.DataFrame], most_ticks: int, recipe: Recipe, folder: Path
) -> Prepared:
    """`prepare_ticks` over consecutive pieces of a long history, with equal numbers.

    Everything of the length of the history lies in files of `folder` without a name, and is seen
    as memory maps: memory is bounded, and what the machine has of it is used.

    Args:
        chunks: the tick record, cleaned and in time order, in pieces of any length.
        most_ticks: that there may be in all.
        recipe: as for `prepare_ticks`.
        folder: room for about 350 bytes an event.
    """
    spill = Spill(folder)
    events, data_hash = spilled_events(chunks, most_ticks, spill, recipe.events.raw_ticks)
    split = chronological_split(len(events), recipe.split)
    return prepare_events(events, recipe, split, data_hash, spill.empty)


def spilled_events(
    chunks: Iterable[pl.DataFrame], most_ticks: int, spill: Spill, raw_ticks: bool
) -> tuple[pl.DataFrame, str]:
    """Events of a long history as memory maps, and the fingerprint of its ticks."""
    digest, columns, n = Fingerprint(), dict[str, NDArray[Any]](), 0
    for events in merge_chunks(digest.over(chunks), raw_ticks=raw_ticks):
        for name in events.columns:
            values = events[name].to_numpy()
            if name not in columns:
                columns[name] = spill.empty(most_ticks, values.dtype)
            columns[name][n : n + len(events)] = values
        n += len(events)
    return pl.DataFrame({name: values[:n] for name, values in columns.items()}), str(digest)


def _features(events: pl.DataFrame, spec: FeatureSpec, empty: Empty) -> NDArray[np.float32]:
    """Features of all events, piece by piece."""
    out_NF, state = empty((len(events), len(spec.names)), np.float32), spec.initial_state()
    for begin, stop in pieces(len(events), _ROWS):
        out_NF[begin:stop] = compute_features(events[begin:stop], spec, state)
    return out_NF


def prepare_events(
    events: pl.DataFrame,
    recipe: Recipe,
    split: Split,
    data_hash: str,
    empty: Empty = np.empty,
) -> Prepared:
    """The same from events and a split of them."""
    time_ns = events["time"].to_numpy()
    _check_enough(events, split, recipe)
    max_gap_ns = resolve_max_gap_ns(time_ns[: split.train_stop], recipe.events.max_gap)
    spec = recipe_spec(recipe, max_gap_ns)
    features_NF = _features(events, spec, empty)
    return Prepared(
        events,
        spec,
        segment_starts(time_ns, max_gap_ns),
        features_NF,
        make_labels(events, recipe.labels, max_gap_ns, empty),
        split,
        Scaler.fit(features_NF[: split.train_stop]),
        data_hash,
        empty,
    )


def prepare_for(
    ticks: pl.DataFrame, recipe: Recipe, spec: FeatureSpec, scaler: Scaler, raw_ticks: bool
) -> Prepared:
    """The same with a trained predictor's own features, gap and scaler; nothing is fitted."""
    events = merge_events(ticks, raw_ticks=raw_ticks)
    return prepare_events_for(events, recipe, spec, scaler, fingerprint(ticks))


def prepare_events_for(
    events: pl.DataFrame,
    recipe: Recipe,
    spec: FeatureSpec,
    scaler: Scaler,
    data_hash: str,
    empty: Empty = np.empty,
) -> Prepared:
    """The same from events."""
    n = len(events)
    return Prepared(
        events,
        spec,
        segment_starts(events["time"].to_numpy(), spec.max_gap_ns),
        _features(events, spec, empty),
        make_labels(events, recipe.labels, spec.max_gap_ns, empty),
        Split(valid=0, test=0, end=n),
        scaler,
        data_hash,
        empty,
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


def recipe_spec(recipe: Recipe, max_gap_ns: int) -> FeatureSpec:
    """The features that a recipe asks for, with the pause that ends a segment."""
    return FeatureSpec(max_gap_ns, **dataclasses.asdict(recipe.features))
