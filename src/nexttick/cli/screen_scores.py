"""What judging prints: a progress line a task of an evaluation, then scores and audit."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from nexttick.cli.screen import COLUMNS, console, interval, number, say
from nexttick.learn.run_folder import read_log

if TYPE_CHECKING:
    from nexttick.judge.folds import Task

_REFRESH_S = 0.5


class Folds:
    """A progress line for each task, fed by the logs that the tasks' processes write."""

    def __init__(self, tasks: list[Task], quiet: bool):
        self._tasks = tasks
        self._progress = Progress(
            TextColumn("fold {task.fields[number]}  {task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._plain = not (quiet or console.is_terminal)
        self._lines: dict[tuple[int, str], TaskID] = {}
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Folds:
        width = max(len(task.contestant) for task in self._tasks)
        for task in self._tasks:
            name, number = task.contestant.ljust(width), task.number
            line = self._progress.add_task(name, start=False, total=1, number=number, state="waits")
            self._lines[number, task.contestant] = line
        self._progress.start()
        self._watcher.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._watcher.join()
        self._progress.stop()

    def show_done(self, task: Task) -> None:
        """Mark a task as done; a line of its own where there is no terminal to draw on."""
        if self._plain:
            say(f"fold {task.number}  {task.contestant}  done")
        line = self._lines[task.number, task.contestant]
        self._progress.update(line, completed=1, total=1, state="done")
        self._progress.stop_task(line)

    def _watch(self) -> None:
        while not self._over.wait(_REFRESH_S):
            for task in self._tasks:
                if not task.is_done:
                    self._show_epochs(task)

    def _show_epochs(self, task: Task) -> None:
        """How far a task is, of the log that it writes; a folder without one is a beginning."""
        if not task.folder.is_dir():
            return
        line = self._lines[task.number, task.contestant]
        self._progress.start_task(line)
        log = read_log(task.folder) if (task.folder / "log.jsonl").exists() else []
        state = f"epoch {log[-1]['epoch']}  valid {log[-1]['valid_loss']:.4f}" if log else "runs"
        epochs = task.recipe.train.epochs
        self._progress.update(line, completed=len(log), total=epochs, state=state)


def show_scores(metrics: dict[str, Any]) -> None:
    """A table a horizon, networks, then baselines, and what each network knows more than those."""
    contestants = {**metrics["networks"], **metrics["baselines"]}
    parts = " of all folds" if len(metrics["folds"]) > 1 else ""
    headings = [*COLUMNS.values()]
    headings.insert(2, "95 %")  # beside the bits that it is of
    for horizon, first in metrics["test"].items():
        title = f"{horizon}: {first['n']:,} events{parts}, {first['base_rate']:.1%} rise"
        table = _table(title, headings)
        for name, by_horizon in contestants.items():
            scores = by_horizon[horizon]
            cells = [number(scores[key]) for key in COLUMNS]
            cells.insert(2, interval(*scores["intervals"]["bits"]))
            table.add_row(name, *cells, style="bold" if name in metrics["networks"] else None)
        console.print(table)
    for network in metrics["networks"]:
        for horizon in metrics["test"]:
            say(sentence(metrics, network, horizon))
    if "truth" in metrics:
        table = _table("What can be known of rise@1", ("attained", "bits over the truth", "95 %"))
        for name, known in metrics["truth"].items():
            bits, *bounds = known["bits_over_truth"]
            share = "none" if known["share"] is None else f"{known['share']:.1%}"
            style = "bold" if name in metrics["networks"] else None
            table.add_row(name, share, f"{bits:+.4f}", interval(*bounds), style=style)
        console.print(table)


def _table(title: str, headings: Iterable[str]) -> Table:
    """A table of numbers narrow enough for 80 columns: a name may be folded, no number is cut."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def show_comparison(compared: dict[str, Any]) -> None:
    """A table a horizon: each run's scores, and what it knows more than the first one."""
    for horizon, one in compared.items():
        title = f"{horizon}: {one['n']:,} events in common, {one['base_rate']:.1%} rise"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for heading in ("", "log loss", "AUC", "Brier", "bits more than the first", "95 %"):
            table.add_column(heading, justify="right" if heading else "left", overflow="fold")
        for name, scores in one["scores"].items():
            more = one["differences"].get(name, {}).get("bits")
            cells = [number(scores[key][0]) for key in ("log_loss", "auc", "brier")]
            cells += [f"{more[0]:+.4f}", interval(*more[1:])] if more else ["", ""]
            table.add_row(name, *cells)
        console.print(table)


def sentence(metrics: dict[str, Any], network: str, horizon: str) -> str:
    """Whether a network knows more than its best honest baseline, in words."""
    honest = [name for name in metrics["baselines"] if name not in metrics["leaky"]]
    best = min(honest, key=lambda name: metrics["baselines"][name][horizon]["log_loss"])
    bits, low, high = metrics["differences"][network][best][horizon]["bits"]
    if low is None or low <= 0 <= high:
        knows = "is not surely different from"
    else:
        knows = "knows more than" if bits > 0 else "knows less than"
    more = f"{bits:+.4f} {interval(low, high)}"
    return f"At {horizon} {network} {knows} its best baseline, {best}: {more} bits an event."


def show_audit(audit: dict[str, Any]) -> None:
    """Whether the audit passed, and what each of its checks found."""
    if audit["passed"] is None:
        say("No audit was made.")
        return
    say("The audit passed." if audit["passed"] else "THE AUDIT FAILED.")
    for network, findings in audit["findings"].items():
        for finding in findings:
            if finding["passed"] is not None:
                outcome = "ok    " if finding["passed"] else "FAILED"
                say(f"  {outcome} {network}, {finding['name']}: {finding['sentence']}")
    say("What was noted and can neither pass nor fail is in the report.")
