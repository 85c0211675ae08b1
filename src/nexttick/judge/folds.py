"""A recipe trained afresh on each fold's past and asked about its future.

Each contestant is a task of its own on each fold: the tasks run in parallel processes, each leaves
a folder with what it trained and its predictions, and a task whose predictions are there is not
run again. Whatever a task fits (scaler, network, epoch, calibration, baselines) sees its past only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.learn import run_folder
from nexttick.learn.baselines import fit_on_training
from nexttick.learn.baselines.base import Seen
from nexttick.learn.checkpoint import EpochRecord
from nexttick.learn.train import train_network
from nexttick.options import EvaluateOptions, Recipe, parse_duration_ns
from nexttick.prepare.dataset import Prepared, prepare_events
from nexttick.prepare.splits import Fold, walk_forward
from nexttick.ticks.writing import write_table

BASELINES = "baselines"  # the task that fits them all
PREDICTIONS = "predictions.parquet"
VALID, TEST = 0, 1  # parts that a prediction can be of


@dataclass(frozen=True)
class Task:
    """One contestant on one fold.

    Attributes:
        contestant: name of a network, or `BASELINES`.
        number: of the fold, from 1.
        fold: its events.
        recipe: with the network's own model.
        baselines: those that are fitted beside the cheap ones.
        folder: where its results go.
    """

    contestant: str
    number: int
    fold: Fold
    recipe: Recipe
    baselines: tuple[str, ...]
    folder: Path

    @property
    def is_done(self) -> bool:
        """Whether its predictions are there; they are written last."""
        return (self.folder / PREDICTIONS).exists()

    def read(self) -> pl.DataFrame:
        """Its predictions: `event` (of all events), `part`, and columns of answers."""
        return pl.read_parquet(self.folder / PREDICTIONS)


def plan(
    folder: Path,
    time_ns: NDArray[np.int64],
    recipes: Mapping[str, Recipe],
    options: EvaluateOptions,
    baselines: tuple[str, ...],
) -> list[Task]:
    """The tasks of an evaluation, fold by fold.

    Args:
        folder: of the evaluation.
        time_ns: of all events.
        recipes: by network.
        options: folds, scheme and embargo.
        baselines: beside the cheap ones.
    """
    first = next(iter(recipes.values()))
    folds = walk_forward(
        time_ns,
        options.folds,
        first.split.valid,
        sliding=options.scheme == "sliding",
        embargo_ns=parse_duration_ns(options.embargo or "") or 0,
    )
    contestants = {**recipes, BASELINES: first}
    return [
        Task(name, k, fold, recipe, baselines, folder / "folds" / str(k) / name)
        for k, fold in enumerate(folds, start=1)
        for name, recipe in contestants.items()
    ]


def run_tasks(tasks: list[Task], events: pl.DataFrame, data_hash: str, jobs: int) -> Iterator[Task]:
    """Run what is not done yet, in parallel processes of one thread each; yields what is done."""
    yield from (task for task in tasks if task.is_done)
    waiting = [task for task in tasks if not task.is_done]
    if jobs == 1 or len(waiting) < 2:
        yield from (run_task(task, events, data_hash) for task in waiting)
        return
    single = [replace(task, recipe=_on_one_thread(task.recipe)) for task in waiting]
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    yield from parallel(joblib.delayed(run_task)(task, events, data_hash) for task in single)


def _on_one_thread(recipe: Recipe) -> Recipe:
    return replace(recipe, train=replace(recipe.train, threads=1))


def run_task(task: Task, events: pl.DataFrame, data_hash: str) -> Task:
    """Train and predict; the table of predictions is the last thing written."""
    fold = task.fold
    own = events[fold.start : fold.start + fold.split.end]
    prepared = prepare_events(own, task.recipe, fold.split, data_hash)
    task.folder.mkdir(parents=True, exist_ok=True)
    run = run_baselines if task.contestant == BASELINES else run_network
    table = run(task, prepared)
    write_table(table.with_columns(pl.col("event") + fold.start), task.folder / PREDICTIONS)
    return task


def run_network(task: Task, prepared: Prepared) -> pl.DataFrame:
    """Train, then predict the validation and the test part, calibrated and raw.

    Raises:
        KeyboardInterrupt: training was stopped; its checkpoint is there to go on from.
    """
    records: list[EpochRecord] = []

    def on_epoch(record: EpochRecord) -> None:
        records.append(record)
        run_folder.write_log(task.folder, records)

    predictor = train_network(prepared, task.recipe, task.folder / run_folder.CHECKPOINT, on_epoch)
    if predictor.provenance["stopped"]:
        raise KeyboardInterrupt
    p_NH, raw_NH, _ = predictor.score(prepared.x_NF, prepared.starts)
    predictor.save(task.folder / "predictor")
    (task.folder / run_folder.CHECKPOINT).unlink(missing_ok=True)
    split = prepared.split
    valid, test = np.arange(split.valid, split.valid_stop), np.arange(split.test, split.end)
    rows = np.concatenate([valid, test])
    part = np.repeat(np.array([VALID, TEST], np.int8), [len(valid), len(test)])
    columns = {"event": rows, "part": part}
    for h, name in enumerate(prepared.labels.names):
        columns[f"p_{name}"] = p_NH[rows, h]
        columns[f"raw_{name}"] = raw_NH[rows, h]
    return pl.DataFrame(columns)


def run_baselines(task: Task, prepared: Prepared) -> pl.DataFrame:
    """Fit all baselines on the training part; predict the test part, with its labels beside."""
    fitted = fit_on_training(prepared, task.baselines)
    rows = np.arange(prepared.split.test, prepared.split.end)
    labels = prepared.labels
    columns: dict[str, NDArray[np.generic]] = {"event": rows, "part": np.full(len(rows), TEST)}
    for h, horizon in enumerate(labels.names):
        columns[f"y_{horizon}"] = labels.y_NH[rows, h]
        columns[f"tie_{horizon}"] = labels.tie_NH[rows, h]
        for name, ones in fitted.items():
            columns[f"{name}_{horizon}"] = ones[h].predict(Seen.of(prepared, h), rows)
    return pl.DataFrame(columns)
