"""Runs side by side: what each said of the same events, and paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from nexttick.learn import run_folder
from nexttick.options import Recipe
from nexttick.prepare.labels import MISSING, make_labels
from nexttick.scores.bootstrap import Estimate
from nexttick.scores.intervals import evaluate
from nexttick.ticks.writing import with_nulls

_BASE = "base rate"  # of the compared events themselves
_KEYS = ("bits", "log_loss", "auc", "brier")
_EVENT = ("time", "nth", "price")  # what tells events apart; nth of those of one time stamp


@dataclass(frozen=True)
class NetworkAnswers:
    """What one network of a run said; the labels of the recipe say what was asked.

    The table holds `time`, `nth` of those of one time, `price`, and `p_rise@h` of each horizon.
    """

    name: str
    recipe: Recipe
    max_gap_ns: int
    table: pl.DataFrame


def compare_runs(folders: Sequence[Path]) -> dict[str, Any]:
    """Score all networks of some runs on the events that all of them speak of.

    By horizon that all were asked about: `n`, `scores` of each network with intervals, and
    `differences` of each to the first one. Runs that cannot be compared are a `ValueError`.
    """
    answers = [one for folder in folders for one in read_answers(folder)]
    if len(answers) < 2:
        raise ValueError("there is nothing to compare: name at least two runs")
    first, *others = answers
    options = first.recipe.labels
    for other in others:
        if (other.recipe.labels.ties, other.recipe.labels.smooth) != (options.ties, options.smooth):
            raise ValueError(f"{first.name} and {other.name} call different things a rise")
    common = [h for h in options.horizon if all(h in one.recipe.labels.horizon for one in answers)]
    if not common:
        raise ValueError("the runs have no horizon in common")
    # Labels come from the first one's events before any is left out: a horizon counts all of them.
    labels = make_labels(first.table, options, first.max_gap_ns)
    ys = {f"y_{name}": pl.Series(labels.y_NH[:, h]) for h, name in enumerate(labels.names)}
    table = first.table.select(_EVENT).with_columns(**ys)
    for k, one in enumerate(answers):
        said = one.table.columns[len(_EVENT) :]
        numbered = one.table.rename({name: f"{k} {name}" for name in said})
        table = table.join(numbered, on=_EVENT, how="inner", maintain_order="left")
    if table.is_empty():
        raise ValueError("the runs have no event in common: they must speak of the same ticks")
    names = [one.name for one in answers]
    return {f"rise@{h}": _compare_at(table, f"rise@{h}", names) for h in common}


def read_answers(folder: Path) -> Iterator[NetworkAnswers]:
    """The networks of a run or of an evaluation, and what they said of its test part."""
    config = run_folder.read_config(folder)
    try:
        table = pl.read_parquet(folder / "predictions.parquet")
        metrics = run_folder.read_metrics(folder)
        max_gap_ns = round(metrics["data"]["max_gap_s"] * 1e9)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder}: no finished run ({error}): train and test it first") from error
    table = table.with_columns(nth=pl.int_range(pl.len()).over("time"))
    for network in metrics["networks"]:
        # A run has one network, whose answers go by no name; an evaluation names each one's.
        named = config.evaluate is not None
        columns = {
            f"p_rise@{h}": pl.col(f"{network}_rise@{h}" if named else f"p_rise@{h}")
            for h in config.recipe.labels.horizon
        }
        name = f"{folder.name}: {network}" if named else folder.name
        yield NetworkAnswers(name, config.recipe, max_gap_ns, table.select(*_EVENT, **columns))


def _compare_at(table: pl.DataFrame, horizon: str, names: Sequence[str]) -> dict[str, Any]:
    columns = [f"{k} p_{horizon}" for k in range(len(names))]
    known = pl.col(f"y_{horizon}") != MISSING
    rows = table.filter(known, *(pl.col(name).is_finite() for name in columns))
    if rows.is_empty():
        raise ValueError(f"no event has an answer of every run at {horizon}")
    y = rows[f"y_{horizon}"].to_numpy()
    p_by = {name: rows[column].to_numpy() for name, column in zip(names, columns, strict=True)}
    scored = evaluate(y, p_by | {_BASE: np.full(len(y), y.mean())}, base=_BASE)

    def shown(estimates: dict[str, Estimate]) -> dict[str, list[float]]:
        return {key: list(estimates[key]) for key in _KEYS}

    return with_nulls(
        {
            "n": len(y),
            "base_rate": float(y.mean()),
            "scores": {name: shown(scored.intervals(name)) for name in names},
            "differences": {
                other: shown(scored.differences(other, names[0])) for other in names[1:]
            },
        }
    )
