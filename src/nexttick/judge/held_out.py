"""The test: a network and its baselines on the same events, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.learn.baselines import Fitted, is_leaky
from nexttick.learn.baselines.base import Seen
from nexttick.learn.predictor.predictor import Predictor, as_table
from nexttick.learn.run_folder import write_json
from nexttick.prepare.dataset import Prepared
from nexttick.prepare.labels import MISSING
from nexttick.scores.metrics import Comparison, compare, log_losses, score
from nexttick.ticks.record import TickError
from nexttick.ticks.writing import with_nulls, write_table

NETWORK = "network"  # its name among the contestants


@dataclass(frozen=True)
class HorizonTest:
    """What a test says of one horizon.

    Attributes:
        scores: of the network and of each baseline.
        comparison: the network against its best baseline, the leaky ones left out.
        attainable: share of the attainable information of each of them, on a simulated market,
            whose true probabilities are known; else empty.
    """

    scores: dict[str, dict[str, float]]
    comparison: Comparison
    attainable: dict[str, float]


@dataclass(frozen=True)
class Tested:
    """What a test says.

    Attributes:
        horizons: by name, `rise@h`.
        predictions: a row for each event of the part, as `predict` gives them.
    """

    horizons: dict[str, HorizonTest]
    predictions: pl.DataFrame

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines that were tested."""
        (test, *_) = self.horizons.values()
        return [name for name in test.scores if name != NETWORK]

    def scores_of(self, contestant: str) -> dict[str, dict[str, float]]:
        """Scores of the network or a baseline by horizon."""
        return {name: told.scores[contestant] for name, told in self.horizons.items()}

    def attainable_of(self, contestant: str) -> dict[str, float]:
        """Its share of the attainable information by horizon, where that is known."""
        tests = self.horizons.items()
        return {name: told.attainable[contestant] for name, told in tests if told.attainable}

    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` holds of the test; null where a score is not defined."""
        told: dict[str, Any] = {
            "test": self.scores_of(NETWORK),
            "baselines": {name: self.scores_of(name) for name in self.baselines},
            "comparison": {
                name: {
                    "best_baseline": test.comparison.baseline,
                    "bits_more": test.comparison.bits,
                    "margin_95": test.comparison.margin,
                }
                for name, test in self.horizons.items()
            },
        }
        if self.attainable_of(NETWORK):
            told["attainable"] = self.attainable_of(NETWORK)
            told["attainable_baselines"] = {
                name: self.attainable_of(name) for name in self.baselines
            }
        return with_nulls(told)


def judge(predictor: Predictor, fitted: Fitted, prepared: Prepared, begin: int) -> Tested:
    """Score the network and the baselines on the events from `begin` on.

    All are scored on the same events: those with a known label and enough history.

    Raises:
        TickError: there is no such event.
    """
    p_NH = predictor.score(prepared.x_NF, prepared.starts).p_NH
    horizons = {}
    for h, name in enumerate(predictor.horizons):
        rows = _scorable(prepared.labels.y_NH[:, h], p_NH[:, h], begin)
        if len(rows) == 0:
            raise TickError(
                f"no event can be scored at {name}: none has {predictor.model.context} events of "
                f"history and a known label; give more ticks"
            )
        seen = Seen.of(prepared, h)
        p_by = {NETWORK: p_NH[rows, h]}
        p_by |= {baseline: ones[h].predict_all(seen, rows) for baseline, ones in fitted.items()}
        horizons[name] = _judge_horizon(prepared, rows, h, p_by)
    table = as_table(prepared.events[begin:], predictor.horizons, p_NH[begin:])
    return Tested(horizons, table)


def _scorable(y_N: NDArray[np.int8], p_N: NDArray[np.float32], begin: int) -> NDArray[np.int64]:
    rows = np.arange(begin, len(y_N))
    return rows[(y_N[rows] >= 0) & np.isfinite(p_N[rows])]


def _judge_horizon(
    prepared: Prepared, rows: NDArray[np.int64], h: int, p_by: dict[str, NDArray[np.floating]]
) -> HorizonTest:
    y = prepared.labels.y_NH[rows, h]
    base = score(y, p_by["base_rate"], 0.0)["log_loss"]
    scores = {name: score(y, p, base) for name, p in p_by.items()}
    honest = [name for name in scores if name != NETWORK and not is_leaky(name)]
    best = min(honest, key=lambda name: scores[name]["log_loss"])
    comparison = compare(best, y, p_by[NETWORK], p_by[best])
    truth = _log_loss_of_truth(prepared, rows, h)
    attainable = {
        name: (base - one["log_loss"]) / (base - truth) for name, one in scores.items() if truth
    }
    return HorizonTest(scores, comparison, attainable)


def _log_loss_of_truth(prepared: Prepared, rows: NDArray[np.int64], h: int) -> float | None:
    """Of the true probabilities, where the market gives them and they answer this question.

    They are those of a rise among all next prices: where ties are left out, they are no measure.
    """
    y_N, ties_N = prepared.labels.y_NH[:, h], prepared.labels.tie_NH[:, h]
    known = "truth" in prepared.events.columns and prepared.labels.names[h] == "rise@1"
    if not known or (ties_N & (y_N == MISSING)).any():
        return None
    return float(log_losses(y_N[rows], prepared.events["truth"].to_numpy()[rows]).mean())


def write_test(run: Path, tested: Tested, data: dict[str, Any]) -> None:
    """Write `predictions.parquet` and `metrics.json`."""
    write_table(tested.predictions, run / "predictions.parquet")
    write_json(run / "metrics.json", {**tested.metrics(), "data": data})
