"""The test: a network and its baselines on the same events, side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.baselines import DIRECTION, Fitted, Seen, fit_baselines, last_moves
from nexttick.job import Prepared
from nexttick.labels import MISSING
from nexttick.metrics import Comparison, compare, log_losses, score
from nexttick.predictor import Predictor, Scaler, as_table
from nexttick.splits import purged
from nexttick.ticks import TickError

Scores = dict[str, dict[str, float]]  # by horizon, by metric


@dataclass(frozen=True)
class Tested:
    """What a test says.

    Attributes:
        network: scores of the network by horizon.
        baselines: the same for each baseline.
        attainable: share of the attainable information by horizon and contestant, on a simulated
            market, whose true probabilities are known; else empty.
        comparisons: by horizon, the network against its best baseline.
        predictions: a row for each event of the part, as `predict` gives them.
    """

    network: Scores
    baselines: dict[str, Scores]
    attainable: dict[str, dict[str, float]]
    comparisons: dict[str, Comparison]
    predictions: pl.DataFrame

    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` holds of the test; null where a score is not defined."""
        told: dict[str, Any] = {"test": self.network, "baselines": self.baselines}
        told["comparison"] = {
            name: {"best_baseline": c.baseline, "bits_more": c.bits, "margin_95": c.margin}
            for name, c in self.comparisons.items()
        }
        if self.attainable:
            told["attainable"] = {name: by["network"] for name, by in self.attainable.items()}
            told["attainable_baselines"] = {
                name: {key: share for key, share in by.items() if key != "network"}
                for name, by in self.attainable.items()
            }
        return _with_nulls(told)


def _with_nulls(told: Any) -> Any:
    if isinstance(told, dict):
        return {key: _with_nulls(value) for key, value in told.items()}
    return None if isinstance(told, float) and not math.isfinite(told) else told


def see(prepared: Prepared, scaler: Scaler) -> Seen:
    """What baselines see of the events."""
    direction = prepared.features_NF[:, DIRECTION]
    return Seen(scaler(prepared.features_NF), last_moves(direction, prepared.starts))


def fit_on_training(prepared: Prepared) -> Fitted:
    """The baselines, fitted on the training part with the labels known at its end."""
    stop = prepared.split.valid
    y_NH = purged(prepared.labels, 0, stop)
    return fit_baselines(see(prepared, prepared.scaler)[:stop], y_NH[:stop])


def judge(predictor: Predictor, fitted: Fitted, prepared: Prepared, begin: int) -> Tested:
    """Score the network and the baselines on the events from `begin` on.

    All are scored on the same events: those with a known label and enough history.

    Raises:
        TickError: there is no such event.
    """
    seen = see(prepared, predictor.scaler)
    p_NH = predictor.score(seen.x_NF, prepared.starts)
    tested = Tested(
        {}, {name: {} for name in fitted}, {}, {}, _table(predictor, prepared, p_NH, begin)
    )
    for h, horizon in enumerate(predictor.horizons):
        rows = _scorable(prepared.labels.y_NH[:, h], p_NH[:, h], begin)
        if len(rows) == 0:
            raise TickError(
                f"no event can be scored at {horizon}: none has "
                f"{predictor.model.context} events of history and a known label; give more ticks"
            )
        contestants = {name: ones[h].predict(seen[rows]) for name, ones in fitted.items()}
        _judge_horizon(
            tested, horizon, prepared, rows, h, {"network": p_NH[rows, h], **contestants}
        )
    return tested


def _scorable(y_N: NDArray[np.int8], p_N: NDArray[np.float32], begin: int) -> NDArray[np.int64]:
    rows = np.arange(begin, len(y_N))
    return rows[(y_N[rows] >= 0) & np.isfinite(p_N[rows])]


def _judge_horizon(
    tested: Tested,
    horizon: str,
    prepared: Prepared,
    rows: NDArray[np.int64],
    h: int,
    contestants: dict[str, NDArray[np.floating]],
) -> None:
    """Add the scores of one horizon to `tested`."""
    y = prepared.labels.y_NH[rows, h]
    base = float(log_losses(y, contestants["base_rate"]).mean())
    scores = {name: score(y, p, base) for name, p in contestants.items()}
    tested.network[horizon] = scores["network"]
    for name, by_horizon in tested.baselines.items():
        by_horizon[horizon] = scores[name]
    best = min(tested.baselines, key=lambda name: scores[name]["log_loss"])
    tested.comparisons[horizon] = compare(best, y, contestants["network"], contestants[best])
    ties_N = prepared.labels.tie_NH[:, h]
    # The truth is that of a rise among all next prices: where ties are left out, it is no measure.
    asked = horizon == "rise@1" and not (ties_N & (prepared.labels.y_NH[:, h] == MISSING)).any()
    if asked and "truth" in prepared.events.columns:
        truth = log_losses(y, prepared.events["truth"].to_numpy()[rows]).mean()
        tested.attainable[horizon] = {
            name: float((base - one["log_loss"]) / (base - truth)) for name, one in scores.items()
        }


def _table(
    predictor: Predictor, prepared: Prepared, p_NH: NDArray[np.float32], begin: int
) -> pl.DataFrame:
    return as_table(prepared.events[begin:], predictor.horizons, p_NH[begin:])
