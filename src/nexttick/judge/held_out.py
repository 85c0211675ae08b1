"""The test of one held-out part: a network and its baselines on the same events, side by side.

It is one fold, reported as `nexttick evaluate` reports many (`pooling`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nexttick.judge.pooling import Pooled, ask_baselines, ask_network, report, report_data
from nexttick.learn.baselines import Fitted
from nexttick.learn.predictor.predictor import Predictor, as_table
from nexttick.learn.run_folder import write_metrics
from nexttick.prepare.dataset import Prepared
from nexttick.prepare.labels import MISSING
from nexttick.ticks.record import TickError
from nexttick.ticks.writing import with_nulls, write_table


@dataclass(frozen=True)
class Tested:
    """What a test says: all of `metrics.json`, and predictions of the part as `predict` gives."""

    metrics: dict[str, Any]
    predictions: pl.DataFrame

    def write(self, run: Path) -> None:
        """Write `predictions.parquet` and `metrics.json`."""
        write_table(self.predictions, run / "predictions.parquet")
        write_metrics(run, self.metrics)


def judge(
    predictor: Predictor,
    fitted: Fitted,
    prepared: Prepared,
    begin: int,
    files: Sequence[str] = (),
) -> Tested:
    """Score the network and the baselines on the events from `begin` on.

    All are scored on the same events: those with a known label and enough history; none is a
    `TickError`. `files` are what the ticks come from, for the record.
    """
    rows, split = np.arange(begin, len(prepared.events)), prepared.split
    said = ask_network(predictor, prepared, rows)
    for h, name in enumerate(predictor.horizons):
        if not ((prepared.labels.y_NH[rows, h] != MISSING) & np.isfinite(said[f"p_{name}"])).any():
            raise TickError(
                f"no event can be scored at {name}: none has {predictor.model.context} events of "
                f"history and a known label; give more ticks"
            )
    network = predictor.model_options.name
    columns = {"event": rows, "fold": np.ones(len(rows), np.int32)}
    for name in predictor.horizons:
        columns[f"{network}_{name}"] = said[f"p_{name}"]
        columns[f"raw_{network}_{name}"] = said[f"raw_{name}"]
    columns |= ask_baselines(fitted, prepared, rows)
    pooled = Pooled.of(pl.DataFrame(columns), prepared.events, [network], predictor.horizons)
    data = report_data(
        pooled, prepared.events, prepared.data_hash, prepared.spec.max_gap_ns, files
    ) | {"train_events": split.valid, "valid_events": split.test - split.valid}
    p_NH = np.stack([said[f"p_{name}"] for name in predictor.horizons], axis=1)
    table = as_table(prepared.events[begin:], predictor.horizons, p_NH)
    return Tested(with_nulls({**report(pooled, prepared.events), "data": data}), table)
