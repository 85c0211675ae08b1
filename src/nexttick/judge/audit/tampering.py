"""Nothing may move when the future changes: ticks are cut off and tampered with, then compared.

A look ahead is proved by its effect: features and predictions of the events before a cut are
computed again from ticks that end there, and from ticks that are others from there on. The event
just before a cut is the one that would show a look ahead of a single tick.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.judge.audit.facts import Finding
from nexttick.learn.predictor.predictor import Predictor
from nexttick.prepare.dataset import Prepared
from nexttick.prepare.events import merge_events
from nexttick.prepare.features import compute_features

_AHEAD = 1000  # ticks that are tampered with behind a cut
_BEFORE = 10_000  # events of history that predictions are compared over
_CHUNK = 65_536  # events whose features are held at once
_PAUSE_NS = 1_000_000_000  # between a cut and what is tampered with, so that no event spans it
# Probabilities may differ by the rounding of float32 when arrays have other lengths.
TOLERANCE = 1e-6


def check_features(
    prepared: Prepared, ticks: pl.DataFrame, raw_ticks: bool, rng: np.random.Generator, cuts: int
) -> Finding:
    """Features of the events before a cut, computed from tampered ticks, must be bit-equal.

    They are compared with the ones that training and test take, to the event that ends at the
    cut. This finds features that look ahead, and columns that were moved against the ticks.
    """
    moved: set[str] = set()
    compared = 0
    for cut in _cuts(prepared, rng, cuts):
        for other in _variants(ticks, _first_tick(prepared, cut), rng):
            events = merge_events(other, raw_ticks=raw_ticks)
            moved |= _moved_features(prepared, events, cut)
            compared += cut
    name, numbers = "features and the future", {"events": compared, "features_moved": len(moved)}
    if compared == 0:
        return Finding(name, None, "There are too few events to cut.", numbers)
    if moved:
        told = ", ".join(sorted(moved)[:3]) + (" and others" if len(moved) > 3 else "")
        sentence = f"{len(moved)} features change when later ticks do: {told}."
    else:
        sentence = f"No feature of {compared:,} events changed when later ticks did."
    return Finding(name, not moved, sentence, numbers)


def check_predictions(
    predictor: Predictor,
    prepared: Prepared,
    ticks: pl.DataFrame,
    rng: np.random.Generator,
    cuts: int,
) -> Finding:
    """Predictions for the events before a cut must stay within `TOLERANCE`."""
    largest, compared = 0.0, 0
    history = max(_BEFORE, 2 * predictor.model.context)
    for cut in _cuts(prepared, rng, cuts):
        begin = max(0, cut - history)
        first, at = _first_tick(prepared, begin), _first_tick(prepared, cut)
        given = ticks[first : at + _AHEAD]
        p_NH = _probabilities(predictor, given, cut - begin)
        compared += int(np.isfinite(p_NH).sum())
        for other in _variants(given, at - first, rng):
            largest = max(largest, _distance(p_NH, _probabilities(predictor, other, cut - begin)))
    name = "predictions and the future"
    numbers = {"predictions": compared, "largest_change": largest}
    if compared == 0:
        return Finding(name, None, "No event has enough history to be predicted.", numbers)
    sentence = (
        f"{compared:,} predictions changed by {largest:.1g} at most when later ticks did; "
        f"{TOLERANCE:g} is rounding."
    )
    return Finding(name, largest <= TOLERANCE, sentence, numbers)


def tampered(ticks: pl.DataFrame, at: int, rng: np.random.Generator) -> pl.DataFrame:
    """The same ticks up to `at`; prices, amounts, sides and pauses from there on are others."""
    past, future = ticks[:at], ticks[at : at + _AHEAD]
    n = len(future)
    noise_NM = np.exp(rng.normal(size=(n, 2)))
    pause_ns = np.diff(future["time"].to_numpy(), prepend=future["time"][0])
    slower = future["time"][0] + _PAUSE_NS + np.cumsum(2 * pause_ns)
    future = future.with_columns(
        time=pl.Series(slower),
        price=pl.col("price") * noise_NM[:, 0],
        amount=pl.col("amount") * noise_NM[:, 1],
        side=-pl.col("side"),
    )
    return pl.concat([past, future])


def _cuts(prepared: Prepared, rng: np.random.Generator, cuts: int) -> list[int]:
    """Events that the future begins with, the last of them among the last events."""
    n = len(prepared.events)
    bounds = np.linspace(n // 10, n, cuts + 1).astype(int)
    return [int(rng.integers(a, b)) for a, b in pairwise(bounds) if 0 < a < b]


def _first_tick(prepared: Prepared, event: int) -> int:
    return int(prepared.events["count"][:event].sum())


def _variants(ticks: pl.DataFrame, at: int, rng: np.random.Generator) -> Iterator[pl.DataFrame]:
    yield ticks[:at]
    yield tampered(ticks, at, rng)


def _moved_features(prepared: Prepared, events: pl.DataFrame, cut: int) -> set[str]:
    """Names of the features that are others before the cut, given these events."""
    state = prepared.spec.initial_state()
    moved_F = np.zeros(len(prepared.spec.names), bool)
    for begin in range(0, cut, _CHUNK):
        rows = slice(begin, min(begin + _CHUNK, cut))
        again = compute_features(events[rows], prepared.spec, state)
        moved_F |= _differs(again, prepared.features_NF[rows]).any(axis=0)
    return {name for name, moved in zip(prepared.spec.names, moved_F, strict=True) if moved}


def _differs(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.bool_]:
    return (a != b) & ~(np.isnan(a) & np.isnan(b))


def _probabilities(predictor: Predictor, ticks: pl.DataFrame, count: int) -> NDArray[np.float64]:
    columns = [f"p_{name}" for name in predictor.horizons]
    table = predictor.predict(ticks).select(pl.col(columns).cast(pl.Float64).fill_null(np.nan))
    return table[:count].to_numpy()


def _distance(p_NH: NDArray[np.float64], q_NH: NDArray[np.float64]) -> float:
    """The largest difference; infinite where only one of them is a number."""
    if (np.isnan(p_NH) != np.isnan(q_NH)).any():
        return np.inf
    return float(np.nanmax(np.abs(p_NH - q_NH), initial=0.0))
