"""Predictions of all folds pooled, and all that is said of them, as plain values.

What is returned here is `metrics.json`; the report draws the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.judge.folds import BASELINES, TEST, Task
from nexttick.learn.baselines import is_leaky
from nexttick.prepare.labels import MISSING
from nexttick.scores.intervals import Evaluation, evaluate
from nexttick.scores.metrics import log_losses
from nexttick.scores.reliability import reliability_curve
from nexttick.ticks.record import TickError

ROC_POINTS = 101


@dataclass(frozen=True)
class Pooled:
    """Out-of-sample answers of all contestants.

    Attributes:
        table: a row an event of any test part: `event`, `fold`, `time`, `price`, and for each
            horizon `y_h`, `tie_h` and `<contestant>_h`, and `raw_<network>_h`.
        networks: names of the networks, the first one leads.
        baselines: names of the baselines.
        horizons: H names.
    """

    table: pl.DataFrame
    networks: tuple[str, ...]
    baselines: tuple[str, ...]
    horizons: tuple[str, ...]

    def rows(self, horizon: str) -> pl.DataFrame:
        """Events whose label is known and of which every contestant says something."""
        said = [pl.col(f"{name}_{horizon}").is_finite() for name in self.networks + self.baselines]
        known = pl.col(f"y_{horizon}") != MISSING
        rows = self.table.filter(known, *said)
        if rows.is_empty():
            raise TickError(f"no event of any fold can be scored at {horizon}: give more ticks")
        return rows


def pool(tasks: Sequence[Task], events: pl.DataFrame, horizons: tuple[str, ...]) -> Pooled:
    """Bring the test parts of all tasks together."""
    numbers = sorted({task.number for task in tasks})
    table = pl.concat([_fold_table(tasks, number, horizons) for number in numbers])
    at = table["event"].to_numpy()
    table = table.with_columns(time=events["time"].gather(at), price=events["price"].gather(at))
    networks = tuple(dict.fromkeys(t.contestant for t in tasks if t.contestant != BASELINES))
    others = ("y", "tie", *networks, *(f"raw_{name}" for name in networks))
    first = f"_{horizons[0]}"
    contestants = [name.removesuffix(first) for name in table.columns if name.endswith(first)]
    baselines = tuple(name for name in contestants if name not in others)
    return Pooled(table, networks, baselines, horizons)


def _fold_table(tasks: Sequence[Task], number: int, horizons: tuple[str, ...]) -> pl.DataFrame:
    own = [task for task in tasks if task.number == number]
    (last,) = (task for task in own if task.contestant == BASELINES)
    table = last.read().drop("part").with_columns(fold=pl.lit(number))
    for task in own:
        if task is not last:
            answers = task.read().filter(pl.col("part") == TEST).drop("part")
            names = {f"p_{h}": f"{task.contestant}_{h}" for h in horizons}
            names |= {f"raw_{h}": f"raw_{task.contestant}_{h}" for h in horizons}
            table = table.join(answers.rename(names), on="event", how="left", validate="1:1")
    return table


def score_all(pooled: Pooled, resamples: int = 1000) -> dict[str, Evaluation]:
    """Scores of all contestants by horizon, with intervals."""
    return {horizon: _score_horizon(pooled, horizon, resamples) for horizon in pooled.horizons}


def _score_horizon(pooled: Pooled, horizon: str, resamples: int) -> Evaluation:
    rows = pooled.rows(horizon)
    y, tie = (rows[f"{name}_{horizon}"].to_numpy() for name in ("y", "tie"))
    p_by = {
        name: rows[f"{name}_{horizon}"].to_numpy() for name in pooled.networks + pooled.baselines
    }
    sign = np.where(y == 1, 1, np.where(tie, 0, -1)).astype(np.int8)
    return evaluate(y, p_by, sign=sign, resamples=resamples)


def report_scores(pooled: Pooled, scored: Mapping[str, Evaluation]) -> dict[str, Any]:
    """`test`, `networks`, `baselines`, `differences` and `bootstrap` of `metrics.json`."""

    def told(name: str) -> dict[str, Any]:
        return {horizon: _scores_of(one, name) for horizon, one in scored.items()}

    networks = {name: told(name) for name in pooled.networks}
    return {
        "test": networks[pooled.networks[0]],
        "networks": networks,
        "baselines": {name: told(name) for name in pooled.baselines},
        "leaky": [name for name in pooled.baselines if is_leaky(name)],
        "differences": {
            network: {
                other: {h: _differences(one, network, other) for h, one in scored.items()}
                for other in pooled.networks + pooled.baselines
                if other != network
            }
            for network in pooled.networks
        },
        "bootstrap": {
            horizon: {
                "block_events": one.resampler.block,
                "blocks": one.resampler.blocks,
                "long_enough": bool(one.resampler.long_enough),
            }
            for horizon, one in scored.items()
        },
    }


def _scores_of(scored: Evaluation, name: str) -> dict[str, Any]:
    intervals = scored.intervals(name)
    return {
        **scored.scores[name],
        "intervals": {key: [one.low, one.high] for key, one in intervals.items()},
    }


def _differences(scored: Evaluation, one: str, other: str) -> dict[str, list[float]]:
    keys = ("bits", "auc", "brier", "mcc", "accuracy")
    told = scored.differences(one, other)
    return {key: list(told[key]) for key in keys}


def report_truth(
    pooled: Pooled, truth_N: NDArray[np.float64], resamples: int = 1000
) -> dict[str, Any]:
    """On a simulated market, how much of what can be known of the next price each one knows.

    Args:
        pooled: answers at `rise@1`, where unchanged prices are no rise.
        truth_N: the true probability of each of all events.
        resamples: of the intervals.

    Returns:
        `share` of the attainable information, (loss of base rate - loss) / (loss of base rate -
        loss of truth), and `bits_over_truth` with its interval, by contestant.
    """
    rows = pooled.rows("rise@1")
    names = pooled.networks + pooled.baselines
    p_by = {name: rows[f"{name}_rise@1"].to_numpy() for name in names}
    p_by["truth"] = truth_N[rows["event"].to_numpy()]
    scored = evaluate(rows["y_rise@1"].to_numpy(), p_by, resamples=resamples)
    attainable = scored.scores["truth"]["bits"]
    return {
        name: {
            "share": scored.scores[name]["bits"] / attainable,
            "bits_over_truth": list(scored.differences(name, "truth")["bits"]),
        }
        for name in names
    }


def report_folds(pooled: Pooled) -> list[dict[str, Any]]:
    """Each fold's bits an event over its base rate, by contestant and horizon."""
    return [_report_fold(pooled, number) for number in pooled.table["fold"].unique().sort()]


def _report_fold(pooled: Pooled, number: int) -> dict[str, Any]:
    own = pooled.table.filter(pl.col("fold") == number)
    told: dict[str, Any] = {
        "number": number,
        "events": len(own),
        "from_ns": own["time"][0],
        "to_ns": own["time"][-1],
        "bits": {},
    }
    for horizon in pooled.horizons:
        rows = pooled.rows(horizon).filter(pl.col("fold") == number)
        y = rows[f"y_{horizon}"].to_numpy()
        losses = {
            name: float(log_losses(y, rows[f"{name}_{horizon}"].to_numpy()).mean())
            for name in pooled.networks + pooled.baselines
            if len(y)
        }
        told["bits"][horizon] = {
            name: (losses["base_rate"] - loss) / math.log(2) for name, loss in losses.items()
        }
    return told


def report_reliability(pooled: Pooled, scored: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Reliability diagrams of each network, before (`raw`) and after calibration."""
    told: dict[str, Any] = {}
    for network in pooled.networks:
        for horizon, one in scored.items():
            rows = pooled.rows(horizon)
            y = rows[f"y_{horizon}"].to_numpy()
            for name, column in (("before", f"raw_{network}"), ("after", network)):
                p = rows[f"{column}_{horizon}"].to_numpy()
                curve = reliability_curve(y, p, resampler=one.resampler).to_dict(as_series=False)
                told.setdefault(network, {}).setdefault(horizon, {})[name] = curve
    return told


def report_roc(pooled: Pooled) -> dict[str, Any]:
    """ROC curves at evenly spaced false positive rates."""
    told: dict[str, Any] = {}
    grid = np.linspace(0, 1, ROC_POINTS)
    for horizon in pooled.horizons:
        rows = pooled.rows(horizon)
        rise = rows[f"y_{horizon}"].to_numpy() == 1
        told[horizon] = {"false_positive_rate": grid.tolist()}
        for name in pooled.networks + pooled.baselines:
            told[horizon][name] = _roc(rise, rows[f"{name}_{horizon}"].to_numpy(), grid).tolist()
    return told


def _roc(
    rise: NDArray[np.bool_], p: NDArray[np.floating], grid: NDArray[np.float64]
) -> NDArray[np.float64]:
    order = np.argsort(-p, kind="stable")
    last = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)  # equal p come together
    hits = np.cumsum(rise[order])[last]
    alarms = last + 1 - hits
    positives, negatives = max(1, int(rise.sum())), max(1, int((~rise).sum()))
    return np.interp(grid, np.append(0, alarms / negatives), np.append(0, hits / positives))
