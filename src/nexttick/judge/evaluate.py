"""An evaluation from ticks to `metrics.json`: what is judged, scored, audited and written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from nexttick.judge.audit import Finding, audit, passed
from nexttick.judge.costs.costs import Worth
from nexttick.judge.folds import BASELINES, Task
from nexttick.judge.pooling import (
    Pooled,
    report_folds,
    report_reliability,
    report_roc,
    report_scores,
    report_truth,
    score_all,
)
from nexttick.learn.baselines import choose
from nexttick.learn.predictor.predictor import Predictor
from nexttick.options import EvaluateOptions, EvaluationRecipe, Recipe
from nexttick.prepare.dataset import prepare_events, resolve_max_gap_ns
from nexttick.prepare.events import merge_events
from nexttick.prepare.labels import make_labels
from nexttick.ticks.record import fingerprint
from nexttick.ticks.writing import with_nulls


@dataclass(frozen=True)
class Subject:
    """What is evaluated: ticks, their events, and how."""

    ticks: pl.DataFrame
    set_aside: pl.DataFrame
    events: pl.DataFrame
    data_hash: str
    told: EvaluationRecipe

    @classmethod
    def of(cls, ticks: pl.DataFrame, set_aside: pl.DataFrame, told: EvaluationRecipe) -> Subject:
        """Merge the events."""
        events = merge_events(ticks, raw_ticks=told.recipe.events.raw_ticks)
        return cls(ticks, set_aside, events, fingerprint(ticks), told)


def measure(
    subject: Subject, tasks: list[Task], pooled: Pooled, say: Callable[[str], None]
) -> dict[str, Any]:
    """All of `metrics.json`; `say` is told what takes a while."""
    recipe, options = subject.told.recipe, subject.told.evaluate
    first_test = int(pooled.table["event"][0])
    past_ns = subject.events["time"].to_numpy()[:first_test]
    max_gap_ns = resolve_max_gap_ns(past_ns, recipe.events.max_gap)
    labels = make_labels(subject.events, recipe.labels, max_gap_ns)
    scored = score_all(pooled)
    worth = Worth.of(subject.events, labels, max_gap_ns, first_test, options)
    return with_nulls(
        {
            **report_scores(pooled, scored),
            **_truth(subject, pooled),
            "folds": report_folds(pooled),
            "reliability": report_reliability(pooled, scored),
            "roc": report_roc(pooled),
            "backtest": worth.report(pooled, tasks),
            "audit": _audit(subject, tasks, say) if options.audit else {"passed": None},
            "data": _data(subject, pooled, max_gap_ns),
        }
    )


def _truth(subject: Subject, pooled: Pooled) -> dict[str, Any]:
    """What can be known at all, where the market is a simulated one and was asked about it."""
    events, labels = subject.events, subject.told.recipe.labels
    if "truth" not in events.columns or "1" not in labels.horizon or labels.ties != "down":
        return {}
    return {"truth": report_truth(pooled, events["truth"].to_numpy())}


def recipe_horizons(recipe: Recipe) -> tuple[str, ...]:
    """Names of what is asked, `rise@h`."""
    return tuple(f"rise@{horizon}" for horizon in recipe.labels.horizon)


def _baselines(options: EvaluateOptions) -> tuple[str, ...]:
    if options.baselines == ("none",):
        return choose(())
    if options.baselines == ("all",):
        return choose(("trees", "lecture_2018_leaky"))
    return choose(options.baselines)


def _audit(subject: Subject, tasks: list[Task], say: Callable[[str], None]) -> dict[str, Any]:
    """The audit of each network on its last fold."""
    findings: dict[str, list[Finding]] = {}
    last = max(task.number for task in tasks)
    for task in tasks:
        if task.number == last and task.contestant != BASELINES:
            say(f"Auditing {task.contestant}")
            findings[task.contestant] = _audit_task(subject, task)
    everything = [finding for found in findings.values() for finding in found]
    return {
        "passed": passed(everything),
        "findings": {name: [asdict(one) for one in found] for name, found in findings.items()},
    }


def _audit_task(subject: Subject, task: Task) -> list[Finding]:
    fold = task.fold
    begin, end = fold.start, fold.start + fold.split.end
    events = subject.events[begin:end]
    before, own = (int(some["count"].sum()) for some in (subject.events[:begin], events))
    ticks = subject.ticks[before : before + own]
    prepared = prepare_events(events, task.recipe, fold.split, fingerprint(ticks))
    predictor = Predictor.load(task.folder / "predictor")
    return audit(predictor, prepared, ticks, task.recipe, set_aside=subject.set_aside)


def _data(subject: Subject, pooled: Pooled, max_gap_ns: int) -> dict[str, Any]:
    """What `metrics.json` says of the data."""
    events, table = subject.events, pooled.table
    return {
        "files": list(subject.told.files),
        "hash": subject.data_hash,
        "ticks": len(subject.ticks),
        "events": len(events),
        "max_gap_s": max_gap_ns / 1e9,
        "first_ns": events["time"][0],
        "test_from_ns": table["time"][0],
        "last_ns": events["time"][-1],
        "test_events": len(table),
        "ties": {name: float(table[f"tie_{name}"].to_numpy().mean()) for name in pooled.horizons},
    }
