"""A recipe trained afresh on each fold's past and asked about its future.

Each contestant is a task of its own on each fold: the tasks run in parallel processes, each leaves
a folder with what it trained and its predictions, and a task whose predictions are there is not
run again. Whatever a task fits (scaler, network, epoch, calibration, baselines) sees its past only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.judge.pooling import Pooled, ask_baselines, ask_network
from nexttick.learn import run_folder
from nexttick.learn.baselines import fit_on_training
from nexttick.learn.checkpoint import EpochRecord
from nexttick.learn.train import train_network
from nexttick.options import EvaluateOptions, Recipe, parse_duration_ns
from nexttick.prepare.dataset import prepare_events
from nexttick.prepare.splits import Fold, walk_forward
from nexttick.ticks.writing import write_table

BASELINES_TASK = "baselines"  # the task that fits them all
PREDICTIONS = "predictions.parquet"
VALID, TEST = 0, 1  # parts that a prediction can be of


@dataclass(frozen=True)
class Task:
    """One contestant on one fold: a network's name with its recipe, or `BASELINES_TASK`.

    Folds are numbered from 1. `baselines` are those that are fitted beside the cheap ones.
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
    """The tasks of an evaluation of events at these times, fold by fold.

    Recipes are those of the networks, by name; the first one's labels and split are those of all.
    """
    first = next(iter(recipes.values()))
    folds = walk_forward(
        time_ns,
        options.folds,
        first.split.valid,
        sliding=options.scheme == "sliding",
        embargo_ns=parse_duration_ns(options.embargo or "") or 0,
    )
    contestants = {**recipes, BASELINES_TASK: first}
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
    single = [
        replace(task, recipe=replace(task.recipe, train=replace(task.recipe.train, threads=1)))
        for task in waiting
    ]
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
    yield from parallel(joblib.delayed(run_task)(task, events, data_hash) for task in single)


def run_task(task: Task, events: pl.DataFrame, data_hash: str) -> Task:
    """Train and predict; the table of predictions is the last thing written.

    Training that was stopped is a `KeyboardInterrupt`; its checkpoint is there to go on from.
    """
    fold = task.fold
    own = events[fold.start : fold.start + fold.split.end]
    prepared = prepare_events(own, task.recipe, fold.split, data_hash)
    split = prepared.split
    task.folder.mkdir(parents=True, exist_ok=True)
    test = np.arange(split.test, split.end)
    records: list[EpochRecord] = []

    def on_epoch(record: EpochRecord) -> None:
        records.append(record)
        run_folder.write_log(task.folder, records)

    if task.contestant == BASELINES_TASK:
        rows, part = test, np.full(len(test), TEST)
        answers = ask_baselines(fit_on_training(prepared, task.baselines), prepared, rows)
    else:
        # The validation part is predicted too: thresholds of a backtest are chosen on it.
        valid = np.arange(split.valid, split.valid_stop)
        rows = np.concatenate([valid, test])
        part = np.repeat(np.array([VALID, TEST], np.int8), [len(valid), len(test)])
        checkpoint = task.folder / run_folder.CHECKPOINT
        predictor = train_network(prepared, task.recipe, checkpoint, on_epoch)
        if predictor.provenance["stopped"]:
            raise KeyboardInterrupt
        predictor.save(task.folder / "predictor")
        checkpoint.unlink(missing_ok=True)
        answers = ask_network(predictor, prepared, rows)
    table = pl.DataFrame({"event": rows + fold.start, "part": part, **answers})
    write_table(table, task.folder / PREDICTIONS)
    return task


def pool(tasks: Sequence[Task], events: pl.DataFrame) -> Pooled:
    """Bring the test parts of all tasks together."""
    horizons = tuple(f"rise@{horizon}" for horizon in tasks[0].recipe.labels.horizon)
    tables = []
    for number in sorted({task.number for task in tasks}):
        own = [task for task in tasks if task.number == number]
        (last,) = (task for task in own if task.contestant == BASELINES_TASK)
        table = last.read().drop("part").with_columns(fold=pl.lit(number))
        for task in own:
            if task is not last:
                answers = task.read().filter(pl.col("part") == TEST).drop("part")
                names = {f"p_{h}": f"{task.contestant}_{h}" for h in horizons}
                names |= {f"raw_{h}": f"raw_{task.contestant}_{h}" for h in horizons}
                table = table.join(answers.rename(names), on="event", how="left", validate="1:1")
        tables.append(table)
    networks = dict.fromkeys(t.contestant for t in tasks if t.contestant != BASELINES_TASK)
    return Pooled.of(pl.concat(tables), events, tuple(networks), horizons)
