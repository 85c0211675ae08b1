"""Runs side by side: what each said of the same events, and paired differences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
class Answers:
    """What one network of a run said.

    Attributes:
        name: of the run, and of the network where it judged several.
        recipe: of the run; its labels say what was asked.
        max_gap_ns: the pause that ends a segment.
        table: `time`, `price`, and `p_rise@h` of each horizon, an event a row.
    """

    name: str
    recipe: Recipe
    max_gap_ns: int
    table: pl.DataFrame


def compare_runs(folders: Sequence[Path]) -> dict[str, Any]:
    """Score all networks of some runs on the events that all of them speak of.

    Returns:
        By horizon that all were asked about: `n`, `scores` of each network with intervals, and
        `differences` of each to the first one.

    Raises:
        ValueError: there is one network only, a folder holds no predictions, or the runs have no
            event or no horizon in common, or call different things a rise.
    """
    answers = [one for folder in folders for one in read_answers(folder)]
    if len(answers) < 2:
        raise ValueError("there is nothing to compare: name at least two runs")
    first, *others = answers
    for other in others:
        if other.recipe.labels.ties != first.recipe.labels.ties or (
            other.recipe.labels.smooth != first.recipe.labels.smooth
        ):
            raise ValueError(f"{first.name} and {other.name} call different things a rise")
    asked = [set(one.recipe.labels.horizon) for one in answers]
    common = [h for h in first.recipe.labels.horizon if set.intersection(*asked) >= {h}]
    if not common:
        raise ValueError("the runs have no horizon in common")
    table = _joined(answers)
    return {f"rise@{h}": _compared(table, f"rise@{h}", answers) for h in common}


def read_answers(folder: Path) -> Iterator[Answers]:
    """The networks of a run or of an evaluation, and what they said of its test part.

    Raises:
        ValueError: it is no finished run.
    """
    config = run_folder.read_config(folder)
    try:
        table = pl.read_parquet(folder / "predictions.parquet")
        metrics = json.loads((folder / "metrics.json").read_text())
        max_gap_ns = round(metrics["data"]["max_gap_s"] * 1e9)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder}: no finished run ({error}): train and test it first") from error
    horizons = [f"rise@{h}" for h in config.recipe.labels.horizon]
    if config.evaluate is None:
        yield Answers(folder.name, config.recipe, max_gap_ns, table)
        return
    for network in metrics["networks"]:
        columns = {f"p_{h}": pl.col(f"{network}_{h}") for h in horizons}
        own = table.select("time", "price", **columns)
        yield Answers(f"{folder.name}: {network}", config.recipe, max_gap_ns, own)


def _joined(answers: Sequence[Answers]) -> pl.DataFrame:
    """The events that all speak of, with the labels of the first and the answers of all."""
    first = answers[0]
    table = _numbered(first.table).select(_EVENT)
    labels = make_labels(table, first.recipe.labels, first.max_gap_ns)
    ys = {f"y_{name}": labels.y_NH[:, h] for h, name in enumerate(labels.names)}
    table = table.with_columns(**{name: pl.Series(y) for name, y in ys.items()})
    for k, one in enumerate(answers):
        names = [name for name in one.table.columns if name.startswith("p_")]
        said = _numbered(one.table).rename({name: f"{k} {name}" for name in names})
        table = table.join(said, on=_EVENT, how="inner", maintain_order="left")
    if table.is_empty():
        raise ValueError("the runs have no event in common: they must speak of the same ticks")
    return table


def _numbered(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(nth=pl.int_range(pl.len()).over("time"))


def _compared(table: pl.DataFrame, horizon: str, answers: Sequence[Answers]) -> dict[str, Any]:
    columns = [f"{k} p_{horizon}" for k in range(len(answers))]
    rows = table.filter(
        pl.col(f"y_{horizon}") != MISSING, *(pl.col(name).is_finite() for name in columns)
    )
    if rows.is_empty():
        raise ValueError(f"no event has an answer of every run at {horizon}")
    y = rows[f"y_{horizon}"].to_numpy()
    names = [one.name for one in answers]
    p_by = {name: rows[column].to_numpy() for name, column in zip(names, columns, strict=True)}
    scored = evaluate(y, p_by | {_BASE: np.full(len(y), y.mean())}, base=_BASE)
    scores = {name: _told(scored.intervals(name)) for name in names}
    differences = {name: _told(scored.differences(name, names[0])) for name in names[1:]}
    told = {"n": len(y), "base_rate": float(y.mean())}
    return with_nulls({**told, "scores": scores, "differences": differences})


def _told(estimates: Mapping[str, Estimate]) -> dict[str, list[float]]:
    return {key: list(estimates[key]) for key in _KEYS}
