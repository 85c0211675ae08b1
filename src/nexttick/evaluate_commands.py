"""What `nexttick evaluate` does: train fold by fold, score, audit, and write it all down."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from nexttick import runs, screen
from nexttick.audit import Finding, audit, passed
from nexttick.baselines import choose
from nexttick.checks import validate_evaluation
from nexttick.compare import compare_runs
from nexttick.config import EvaluateOptions, OutputOptions, Recipe, named_model
from nexttick.evaluate_screen import Folds, show_comparison, show_evaluation
from nexttick.events import merge_events
from nexttick.job import check_model, prepare_events, resolve_max_gap_ns
from nexttick.labels import make_labels
from nexttick.pooling import (
    Pooled,
    pool,
    report_folds,
    report_reliability,
    report_roc,
    report_scores,
    report_truth,
    score_all,
)
from nexttick.predictor import Predictor
from nexttick.recipes import EvaluationRecipe, read_recipe
from nexttick.report import write_report
from nexttick.tick_commands import read_named
from nexttick.ticks import fingerprint
from nexttick.walkforward import BASELINES, Task, plan, run_tasks
from nexttick.worth import Worth
from nexttick.writing import with_nulls, write_table


def evaluate(
    files: Sequence[str], recipe: Recipe, options: EvaluateOptions, output: OutputOptions
) -> int:
    """`nexttick evaluate`: walk forward, score, audit, report; 1 where the audit failed."""
    told = _told(files, recipe, options, output)
    validate_evaluation(told.recipe, told.evaluate)
    recipes = network_recipes(told.recipe, told.evaluate)
    for one in recipes.values():
        check_model(one)
    names = _baselines(told.evaluate)
    if not output.resume:
        runs.check_free(output.out, output.overwrite)
    ticks, set_aside = read_named(told.files, told.recipe.read)
    if not output.quiet:
        screen.show_set_aside(set_aside)
    subject = Subject.of(ticks, set_aside, told)
    folder = _folder(told, output, subject.data_hash, next(iter(recipes)))
    time_ns = subject.events["time"].to_numpy()
    tasks = plan(folder, time_ns, recipes, told.evaluate, names)
    jobs = told.evaluate.jobs or min(os.cpu_count() or 1, len(tasks))
    with Folds(tasks, output.quiet) as progress:
        for task in run_tasks(tasks, subject.events, subject.data_hash, jobs):
            progress.show_done(task)
    pooled = pool(tasks, subject.events, recipe_horizons(told.recipe))
    metrics = measure(subject, tasks, pooled, output.quiet)
    write_table(pooled.table, folder / "predictions.parquet")
    runs.write_json(folder / "metrics.json", metrics)
    write_report(folder)
    show_evaluation(metrics)
    screen.say(f"The report is {folder / 'report.html'}; everything else is beside it.")
    return 0 if metrics["audit"]["passed"] is not False else 1


def compare(folders: Sequence[Path], *, as_json: bool) -> None:
    """`nexttick compare`: runs side by side, with paired intervals."""
    told = compare_runs(folders)
    if as_json:
        screen.say(json.dumps(told, indent=1))
    else:
        show_comparison(told)


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


def measure(subject: Subject, tasks: list[Task], pooled: Pooled, quiet: bool) -> dict[str, Any]:
    """All of `metrics.json`."""
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
            "audit": _audit(subject, tasks, quiet) if options.audit else {"passed": None},
            "data": _data(subject, pooled, max_gap_ns),
        }
    )


def _truth(subject: Subject, pooled: Pooled) -> dict[str, Any]:
    """What can be known at all, where the market is a simulated one and was asked about it."""
    events, labels = subject.events, subject.told.recipe.labels
    if "truth" not in events.columns or "1" not in labels.horizon or labels.ties != "down":
        return {}
    return {"truth": report_truth(pooled, events["truth"].to_numpy())}


def network_recipes(recipe: Recipe, options: EvaluateOptions) -> dict[str, Recipe]:
    """The recipe of each network that is judged, by its name."""
    models = [named_model(name, recipe.model) for name in options.networks] or [recipe.model]
    return {model.name: replace(recipe, model=model) for model in models}


def recipe_horizons(recipe: Recipe) -> tuple[str, ...]:
    """Names of what is asked, `rise@h`."""
    return tuple(f"rise@{horizon}" for horizon in recipe.labels.horizon)


def _baselines(options: EvaluateOptions) -> tuple[str, ...]:
    if options.baselines == ("none",):
        return choose(())
    if options.baselines == ("all",):
        return choose(("trees", "lecture_2018_leaky"))
    return choose(options.baselines)


def _told(
    files: Sequence[str], recipe: Recipe, options: EvaluateOptions, output: OutputOptions
) -> EvaluationRecipe:
    """Recipe and files of the command line, of a recipe file, or of the run that goes on."""
    given = EvaluationRecipe(recipe, options, tuple(files))
    if output.resume:
        return _resumed(given, output)
    if not (files and files[0].endswith(".toml")):
        return given
    if (recipe, options) != (Recipe(), EvaluateOptions()):
        raise ValueError(f"{files[0]} is a recipe: change it there, or give options and no recipe")
    read = read_recipe(Path(files[0]))
    return replace(read, files=tuple(files[1:]) or read.files)


def _resumed(given: EvaluationRecipe, output: OutputOptions) -> EvaluationRecipe:
    if output.out is None:
        raise ValueError("--resume needs --out: which evaluation shall go on?")
    config = runs.read_config(output.out)
    if config.evaluate is None:
        raise ValueError(f"{output.out} is no evaluation: go on with it by nexttick run --resume")
    kept = EvaluationRecipe(config.recipe, config.evaluate, config.files)
    if given not in (EvaluationRecipe(), replace(EvaluationRecipe(), files=kept.files), kept):
        raise ValueError(
            f"--resume goes on with the recipe in {output.out / 'config.json'}, and what is given "
            f"here differs from it: leave it out, or start a new evaluation"
        )
    return kept


def _folder(told: EvaluationRecipe, output: OutputOptions, data_hash: str, network: str) -> Path:
    if output.resume and output.out is not None:
        if runs.read_config(output.out).data_hash != data_hash:
            raise ValueError(f"the files of {output.out} hold other ticks than when it was started")
        return output.out
    config = runs.RunConfig(told.recipe, told.files, data_hash, told.evaluate)
    name = f"evaluate-{runs.name_of(network, told.files)}"
    return runs.create(output.out, name, output.overwrite, config)


def _audit(subject: Subject, tasks: list[Task], quiet: bool) -> dict[str, Any]:
    """The audit of each network on its last fold."""
    findings: dict[str, list[Finding]] = {}
    last = max(task.number for task in tasks)
    for task in tasks:
        if task.number == last and task.contestant != BASELINES:
            if not quiet:
                screen.say(f"Auditing {task.contestant}")
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
