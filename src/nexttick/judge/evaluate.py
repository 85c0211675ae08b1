"""An evaluation from ticks to `metrics.json`: what is judged, scored, audited and written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from nexttick.judge.audit import AuditFinding, audit, passed
from nexttick.judge.costs.backtest import Costs
from nexttick.judge.folds import BASELINES_TASK, Task
from nexttick.judge.pooling import Pooled, report, report_data
from nexttick.learn.predictor.predictor import Predictor
from nexttick.options import EvaluationRecipe
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
    how: EvaluationRecipe

    @classmethod
    def of(cls, ticks: pl.DataFrame, set_aside: pl.DataFrame, how: EvaluationRecipe) -> Subject:
        """Merge the events."""
        events = merge_events(ticks, raw_ticks=how.recipe.events.raw_ticks)
        return cls(ticks, set_aside, events, fingerprint(ticks), how)


def measure(
    subject: Subject, tasks: list[Task], pooled: Pooled, say: Callable[[str], None]
) -> dict[str, Any]:
    """All of `metrics.json`; `say` announces what takes a while."""
    recipe, options = subject.how.recipe, subject.how.evaluate
    # The gap rule is that of the past of the first fold, for all folds: one market, one rule.
    first_test = int(pooled.table["event"][0])
    past_ns = subject.events["time"].to_numpy()[:first_test]
    max_gap_ns = resolve_max_gap_ns(past_ns, recipe.events.max_gap)
    labels = make_labels(subject.events, recipe.labels, max_gap_ns)
    metrics = report(pooled, subject.events)
    costs = Costs.of(subject.events, labels, max_gap_ns, first_test, options)
    metrics["backtest"] = costs.report(tasks, pooled.networks)
    if options.audit:
        metrics["audit"] = _audit(subject, tasks, say)
    metrics["data"] = report_data(
        pooled, subject.events, subject.data_hash, max_gap_ns, subject.how.files
    )
    return with_nulls(metrics)


def _audit(subject: Subject, tasks: list[Task], say: Callable[[str], None]) -> dict[str, Any]:
    """The audit of each network on its last fold."""
    findings: dict[str, list[AuditFinding]] = {}
    last = max(task.number for task in tasks)
    for task in tasks:
        if task.number != last or task.contestant == BASELINES_TASK:
            continue
        say(f"Auditing {task.contestant}")
        fold = task.fold
        begin, end = fold.start, fold.start + fold.split.end
        events = subject.events[begin:end]
        before, own = (int(some["count"].sum()) for some in (subject.events[:begin], events))
        ticks = subject.ticks[before : before + own]
        prepared = prepare_events(events, task.recipe, fold.split, fingerprint(ticks))
        predictor = Predictor.load(task.folder / "predictor")
        findings[task.contestant] = audit(
            predictor, prepared, ticks, task.recipe, set_aside=subject.set_aside
        )
    return {
        "passed": passed(finding for found in findings.values() for finding in found),
        "findings": {name: [asdict(one) for one in found] for name, found in findings.items()},
    }
