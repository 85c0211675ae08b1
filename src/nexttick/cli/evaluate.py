"""Commands that judge: a recipe fold by fold, and runs side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nexttick.checks import check_device, validate_evaluation
from nexttick.cli import arguments, screen
from nexttick.cli.arguments import Files, Flag, Judging, Output, RunFolders
from nexttick.cli.run import open_folder, resumed
from nexttick.cli.screen_scores import Folds, show_audit, show_comparison, show_scores
from nexttick.cli.ticks import check_inputs, read_named
from nexttick.learn import run_folder
from nexttick.options import (
    BASELINES,
    EvaluateOptions,
    EvaluationRecipe,
    OutputOptions,
    Recipe,
    network_recipes,
    read_recipe,
)

_BASELINES = {"none": (), "all": BASELINES}  # beside the cheap ones, which are always there


def evaluate(
    files: Files = (),
    recipe: arguments.Recipe = Recipe(),
    judging: Judging = EvaluateOptions(),
    output: Output = OutputOptions(),
) -> int:
    """Judge fold by fold: scores, baselines, audit, costs, a report.

    Scores come with intervals. The exit code is 1 where the audit failed.

    Args:
        files: files, folders or globs of ticks; or a recipe (.toml) first.
    """
    asked = _asked(files, recipe, judging, output)
    validate_evaluation(asked.recipe, asked.evaluate)
    check_device(asked.recipe.train.device)
    recipes = network_recipes(asked.recipe, asked.evaluate)
    if not output.resume:
        run_folder.check_free(output.out, output.overwrite)
    check_inputs(asked.files, asked.recipe.read)

    from nexttick.judge.evaluate import Subject, measure
    from nexttick.judge.folds import plan, pool, run_tasks
    from nexttick.judge.report.page import render
    from nexttick.learn.baselines import choose
    from nexttick.learn.train import fresh_network
    from nexttick.ticks.writing import write_table, write_text

    named = asked.evaluate.baselines
    for one in recipes.values():
        # Refused now, before anything is read, where it cannot be built.
        fresh_network(one)
    names = choose(_BASELINES.get(named[0], named) if len(named) == 1 else named)
    ticks, set_aside = read_named(asked.files, asked.recipe.read)
    if not output.quiet:
        screen.show_set_aside(set_aside)
    subject = Subject.of(ticks, set_aside, asked)
    config = run_folder.RunConfig(asked.recipe, asked.files, subject.data_hash, asked.evaluate)
    name = f"evaluate-{run_folder.name_of(next(iter(recipes)), asked.files)}"
    folder = open_folder(output, name, config)
    time_ns = subject.events["time"].to_numpy()
    tasks = plan(folder, time_ns, recipes, asked.evaluate, names)
    jobs = asked.evaluate.jobs or min(os.cpu_count() or 1, len(tasks))
    with Folds(tasks, output.quiet) as progress:
        for task in run_tasks(tasks, subject.events, subject.data_hash, jobs):
            progress.show_done(task)
    pooled = pool(tasks, subject.events)
    metrics = measure(subject, tasks, pooled, (lambda _: None) if output.quiet else screen.say)
    write_table(pooled.table, folder / "predictions.parquet")
    run_folder.write_metrics(folder, metrics)
    write_text(folder / "report.html", render(folder))
    show_scores(metrics)
    show_audit(metrics["audit"])
    screen.say(f"The report is {folder / 'report.html'}; everything else is beside it.")
    return 0 if metrics["audit"]["passed"] is not False else 1


def compare(runs: RunFolders, json: Flag = False) -> None:
    """Put runs side by side on the events that all of them speak of.

    Differences come with paired intervals.

    Args:
        runs: run folders of run, test or evaluate; the others are compared with the first.
        json: print one JSON object instead of tables.
    """
    if not runs:
        raise ValueError("there is nothing to compare: name at least two runs")
    for one in runs:
        run_folder.read_config(one)

    from nexttick.judge.compare import compare_runs

    show = screen.print_json if json else show_comparison
    show(compare_runs(runs))


def _asked(
    files: Sequence[str], recipe: Recipe, options: EvaluateOptions, output: OutputOptions
) -> EvaluationRecipe:
    """Recipe and files of the command line, of a recipe file, or of the run that goes on."""
    given = EvaluationRecipe(recipe, options, tuple(files))
    if output.resume:
        config = resumed(given, output, "evaluation")
        assert config.evaluate is not None
        return EvaluationRecipe(config.recipe, config.evaluate, config.files)
    if not (files and files[0].endswith(".toml")):
        return given
    if (recipe, options) != (Recipe(), EvaluateOptions()):
        raise ValueError(f"{files[0]} is a recipe: change it there, or give options and no recipe")
    read = read_recipe(Path(files[0]))
    return replace(read, files=tuple(files[1:]) or read.files)
