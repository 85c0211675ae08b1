"""Ticks to what a network sees: events, scaled features, labels and parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.options import Recipe, parse_duration_ns
from nexttick.prepare.events import merge_chunks
from nexttick.prepare.features import FeatureSpec, compute_features
from nexttick.prepare.labels import Labels, make_labels
from nexttick.prepare.on_disk import Empty, OnDisk
from nexttick.prepare.splits import Split, chronological_split
from nexttick.ticks.gaps import pieces, segment_starts, usual_max_gap_ns
from nexttick.ticks.record import Fingerprint, TickError

_ROWS = 1 << 17  # events whose features are computed, or scaled, in one call


@dataclass(frozen=True)
class Scaler:
    """Affine scaling of the features, fitted on training rows only: (x - mean) / scale."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def fit(cls, x_NF: NDArray[np.float32]) -> Scaler:
        """Mean and standard deviation of each feature; a constant feature is only centred."""
        rows = [slice(*piece) for piece in pieces(len(x_NF), _ROWS)]
        mean = sum(x_NF[one].sum(axis=0, dtype=np.float64) for one in rows) / len(x_NF)
        square = sum(((x_NF[one] - mean) ** 2).sum(axis=0) for one in rows) / len(x_NF)
        scale = np.sqrt(square)
        scale[scale < 1e-6] = 1.0
        return cls(mean.astype(np.float32), scale.astype(np.float32))

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale rows or one row of features."""
        return (x - self.mean) / self.scale

    def scaled(self, x_NF: NDArray[np.float32], empty: Empty) -> NDArray[np.float32]:
        """Scale many rows into an array that `empty` makes."""
        out_NF = empty(x_NF.shape, np.float32)
        for rows in pieces(len(x_NF), _ROWS):
            out_NF[slice(*rows)] = self(x_NF[slice(*rows)])
        return out_NF


class Trained(Protocol):
    """What a trained predictor brings along, so that nothing is fitted again."""

    spec: FeatureSpec
    scaler: Scaler
    raw_ticks: bool


@dataclass(frozen=True)
class Prepared:
    """Ticks on their way to tensors: N events with features and labels, and their parts."""

    events: pl.DataFrame
    spec: FeatureSpec
    starts: NDArray[np.int64]  # of the segments
    features_NF: NDArray[np.float32]  # unscaled
    labels: Labels
    split: Split
    scaler: Scaler  # fitted on the training part, or a trained predictor's
    data_hash: str  # fingerprint of the ticks
    empty: Empty = np.empty

    @cached_property
    def x_NF(self) -> NDArray[np.float32]:
        """The scaled features, computed once."""
        return self.scaler.scaled(self.features_NF, self.empty)


def prepare_ticks(
    ticks: pl.DataFrame | Iterable[pl.DataFrame],
    recipe: Recipe,
    trained: Trained | None = None,
    on_disk: OnDisk | None = None,
) -> Prepared:
    """Merge, cut, compute features and labels, and split; whatever is fitted sees training only.

    Args:
        ticks: the tick record, cleaned and in time order, whole or in consecutive pieces of any
            length; the numbers are the same.
        recipe: which events, features, labels and parts.
        trained: a predictor whose own features, gap and scaler are taken. Nothing is fitted then,
            and all events are the test part.
        on_disk: where everything of the length of the history lies, about 350 bytes an event, so
            that memory is bounded; in memory by default.

    Raises:
        TickError: there are too few ticks to learn from, or their price never changes.
    """
    digest = Fingerprint()
    chunks = digest.over([ticks] if isinstance(ticks, pl.DataFrame) else ticks)
    raw_ticks = trained.raw_ticks if trained else recipe.events.raw_ticks
    merged = merge_chunks(chunks, raw_ticks=raw_ticks)
    events = on_disk.table(merged) if on_disk else pl.concat(merged, rechunk=True)
    n = len(events)
    split = Split(0, 0, n) if trained else chronological_split(n, recipe.split)
    empty = on_disk.empty if on_disk else np.empty
    return prepare_events(events, recipe, split, str(digest), trained, empty)


def prepare_events(
    events: pl.DataFrame,
    recipe: Recipe,
    split: Split,
    data_hash: str,
    trained: Trained | None = None,
    empty: Empty = np.empty,
) -> Prepared:
    """The same from events and a split of them, as a walk-forward makes them fold by fold."""
    time_ns = events["time"].to_numpy()
    if trained is None:
        least, price = recipe.model.sequence_length, events["price"]
        if min(split.train_stop, split.valid_stop - split.valid) < least:
            raise TickError(
                f"{len(events)} events leave {split.train_stop} to train on and "
                f"{split.valid_stop - split.valid} to validate; one window alone takes {least}: "
                f"give more ticks or a shorter --sequence-length"
            )
        if price[: split.train_stop].n_unique() == 1:
            raise TickError(
                f"all {split.train_stop} prices of the training part are {price[0]:g}: nothing "
                f"ever rises, so nothing can be learned; check --columns, or give ticks of a "
                f"market that moves"
            )
        max_gap_ns = resolve_max_gap_ns(time_ns[: split.train_stop], recipe.events.max_gap)
        spec = recipe_spec(recipe, max_gap_ns)
    else:
        spec = trained.spec
    features_NF, state = empty((len(events), len(spec.names)), np.float32), spec.initial_state()
    for begin, stop in pieces(len(events), _ROWS):
        features_NF[begin:stop] = compute_features(events[begin:stop], spec, state)
    return Prepared(
        events,
        spec,
        segment_starts(time_ns, spec.max_gap_ns),
        features_NF,
        make_labels(events, recipe.labels, spec.max_gap_ns, empty),
        split,
        trained.scaler if trained else Scaler.fit(features_NF[: split.train_stop]),
        data_hash,
        empty,
    )


def resolve_max_gap_ns(time_ns: NDArray[np.int64], max_gap: str | None) -> int:
    """The gap that is asked for, or else the rule of `usual_max_gap_ns` over the training part."""
    if max_gap is None:
        return usual_max_gap_ns(time_ns)
    duration_ns = parse_duration_ns(max_gap)
    if duration_ns is None:
        raise ValueError(f"--max-gap {max_gap!r} is no duration: e.g. 10m")
    return duration_ns


def recipe_spec(recipe: Recipe, max_gap_ns: int) -> FeatureSpec:
    """The features that a recipe asks for, with the pause that ends a segment."""
    return FeatureSpec(max_gap_ns, **dataclasses.asdict(recipe.features))
