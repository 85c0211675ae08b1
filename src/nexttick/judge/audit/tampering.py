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

from nexttick.judge.audit.facts import AuditFinding
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
) -> AuditFinding:
    """Features of the events before a cut, computed from tampered ticks, must be bit-equal.

    They are compared with the ones that training and test take, to the event that ends at the
    cut. This finds features that look ahead, and columns that were moved against the ticks.
    """
    spec, compared = prepared.spec, 0
    moved_F = np.zeros(len(spec.names), bool)
    for cut in _cuts(prepared, rng, cuts):
        for other in _variants(ticks, _first_tick(prepared, cut), rng):
            events, state = merge_events(other, raw_ticks=raw_ticks), spec.initial_state()
            for begin in range(0, cut, _CHUNK):
                rows = slice(begin, min(begin + _CHUNK, cut))
                again = compute_features(events[rows], spec, state)
                given = prepared.features_NF[rows]
                moved_F |= ((again != given) & ~(np.isnan(again) & np.isnan(given))).any(axis=0)
            compared += cut
    moved = sorted(name for name, is_moved in zip(spec.names, moved_F, strict=True) if is_moved)
    name, numbers = "features and the future", {"events": compared, "features_moved": len(moved)}
    if compared == 0:
        return AuditFinding(name, None, "There are too few events to cut.", numbers)
    sentence = f"No feature of {compared:,} events changed when later ticks did."
    if moved:
        some = ", ".join(moved[:3]) + (" and others" if len(moved) > 3 else "")
        sentence = f"{len(moved)} features change when later ticks do: {some}."
    return AuditFinding(name, not moved, sentence, numbers)


def check_predictions(
    predictor: Predictor,
    prepared: Prepared,
    ticks: pl.DataFrame,
    rng: np.random.Generator,
    cuts: int,
) -> AuditFinding:
    """Predictions for the events before a cut must stay within `TOLERANCE`."""
    largest, compared = 0.0, 0
    history = max(_BEFORE, 2 * predictor.model.context)
    columns = pl.col([f"p_{name}" for name in predictor.horizons]).cast(pl.Float64)

    def probabilities(ticks: pl.DataFrame, count: int) -> NDArray[np.float64]:
        return predictor.predict(ticks).select(columns.fill_null(np.nan))[:count].to_numpy()

    for cut in _cuts(prepared, rng, cuts):
        begin = max(0, cut - history)
        first, at = _first_tick(prepared, begin), _first_tick(prepared, cut)
        given = ticks[first : at + _AHEAD]
        p_NH = probabilities(given, cut - begin)
        compared += int(np.isfinite(p_NH).sum())
        for other in _variants(given, at - first, rng):
            q_NH = probabilities(other, cut - begin)
            # One that is there for some ticks only hangs on what comes later, whatever it says.
            alike = bool((np.isnan(p_NH) == np.isnan(q_NH)).all())
            change = np.nanmax(np.abs(p_NH - q_NH), initial=0.0) if alike else np.inf
            largest = max(largest, float(change))
    name = "predictions and the future"
    numbers = {"predictions": compared, "largest_change": largest}
    if compared == 0:
        return AuditFinding(name, None, "No event has enough history to be predicted.", numbers)
    sentence = (
        f"{compared:,} predictions changed by {largest:.1g} at most when later ticks did; "
        f"{TOLERANCE:g} is rounding."
    )
    return AuditFinding(name, largest <= TOLERANCE, sentence, numbers)


def _cuts(prepared: Prepared, rng: np.random.Generator, cuts: int) -> list[int]:
    """Events that the future begins with, the last of them among the last events."""
    n = len(prepared.events)
    bounds = np.linspace(n // 10, n, cuts + 1).astype(int)
    return [int(rng.integers(a, b)) for a, b in pairwise(bounds) if 0 < a < b]


def _first_tick(prepared: Prepared, event: int) -> int:
    return int(prepared.events["count"][:event].sum())


def _variants(ticks: pl.DataFrame, at: int, rng: np.random.Generator) -> Iterator[pl.DataFrame]:
    """The same ticks up to `at`, and then none, or other prices, amounts, sides and pauses."""
    past, future = ticks[:at], ticks[at : at + _AHEAD]
    yield past
    noise_NM = np.exp(rng.normal(size=(len(future), 2)))
    pause_ns = np.diff(future["time"].to_numpy(), prepend=future["time"][0])
    slower = future["time"][0] + _PAUSE_NS + np.cumsum(2 * pause_ns)
    future = future.with_columns(
        time=pl.Series(slower),
        price=pl.col("price") * noise_NM[:, 0],
        amount=pl.col("amount") * noise_NM[:, 1],
        side=-pl.col("side"),
    )
    yield pl.concat([past, future])
