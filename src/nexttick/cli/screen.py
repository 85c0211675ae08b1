"""What the commands print: tables and one progress bar, by rich."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    import polars as pl

    from nexttick.learn.checkpoint import EpochRecord
    from nexttick.learn.epochs import Step
    from nexttick.networks.models.anatomy import Layer
    from nexttick.networks.models.base import TickModel
    from nexttick.prepare.dataset import Prepared

console = Console(highlight=False)
_errors = Console(highlight=False, stderr=True)
_REFRESH_S = 0.2

COLUMNS = {
    "log_loss": "log loss",
    "bits": "bits",
    "auc": "AUC",
    "mcc": "MCC",
    "brier": "Brier",
    "accuracy": "accuracy",
}


def note(text: str) -> None:
    """Print a line where it is no part of what a program reads: on standard error."""
    _errors.print(text, markup=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line."""
    console.print(text, markup=False, soft_wrap=True)


def print_json(report: dict[str, Any]) -> None:
    """Print one JSON object, as it is."""
    sys.stdout.write(json.dumps(report, indent=1, allow_nan=False) + "\n")


def plain_table(title: str | None, *headings: str, left: int = 1, wrap: bool = False) -> Table:
    """A table narrow enough for 80 columns: its first columns words, the others numbers."""
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for k, heading in enumerate(headings):
        table.add_column(heading, justify="left" if k < left else "right", no_wrap=not wrap)
    return table


def number(value: float | None) -> str:
    """A score; `none` where it is not defined."""
    return "none" if value is None or not math.isfinite(value) else f"{value:.4f}"


def interval(low: float | None, high: float | None) -> str:
    """The bounds of a score; nothing where there are none."""
    known = None not in (low, high) and math.isfinite(low or 0.0)
    return f"[{low:.4f}, {high:.4f}]" if known else ""


def show_set_aside(set_aside: pl.DataFrame) -> None:
    """Where rows went that did not become ticks as they stood."""
    if set_aside.is_empty():
        return
    table = Table(title="Rows set aside or mended", title_justify="left")
    for heading in ("file", "what", "rows", "then", "first at", "for example"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "rows" else "left")
    for row in set_aside.iter_rows(named=True):
        table.add_row(
            Path(row["file"]).name,
            row["reason"],
            f"{row['rows']:,}",
            "kept" if row["kept"] else "set aside",
            "" if row["first"] is None else str(row["first"]),
            row["example"] or "",
        )
    console.print(table)


def show_description(report: dict[str, Any]) -> None:
    """What `describe` found, a line each."""
    table = Table(show_header=False)
    for name, value in report.items():
        table.add_row(name.replace("_", " "), _readable(value))
    console.print(table)


def _readable(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def show_model(name: str, model: TickModel, layers: list[Layer]) -> None:
    """The layers of a network, one a row, and what they are in all."""
    from nexttick.networks.layers.block import short_name

    headings = ("layer", "kind", "channels", "parameters", "multiply-adds", "sees ticks")
    table = plain_table(f"{name}: context {model.context} ticks", *headings, left=2)
    for layer in layers:
        sees = "all before" if layer.receptive_field is None else str(layer.receptive_field)
        counts = (f"{layer.channels:,}", f"{layer.parameters:,}", f"{layer.multiply_adds:,}")
        table.add_row(short_name(layer.name), layer.kind, *counts, sees)
    parameters, work = _totals(layers)
    table.add_section()
    table.add_row("in all", "", "", f"{parameters:,}", f"{work:,}", "")
    console.print(table)
    say("Multiply-adds are those of one tick.")
    if not model.dense:
        say("It is not the same for every tick of a run, so each window is computed by itself.")


def show_cost(name: str, layers: list[Layer], plain: list[Layer]) -> None:
    """What a network costs against the regular convolutions of the same sizes."""
    say(f"Against regular convolutions of the same sizes (--arch plain) {name} has")
    body, plain_body = (
        [layer for layer in some if layer.name.startswith("body.")] for some in (layers, plain)
    )
    parts = [("in all", layers, plain), ("between encoding and head", body, plain_body)]
    for what, ours, theirs in parts if body else parts[:1]:
        (parameters, work), (their_parameters, their_work) = _totals(ours), _totals(theirs)
        say(
            f"  {what}: {parameters:,} parameters ({parameters / their_parameters:.2f} times) "
            f"and {work:,} multiply-adds a tick ({work / their_work:.2f} times)"
        )


def _totals(layers: list[Layer]) -> tuple[int, int]:
    return sum(one.parameters for one in layers), sum(one.multiply_adds for one in layers)


class Training:
    """A progress bar over the steps of each epoch, and a line for each epoch."""

    def __init__(self, prepared: Prepared, epochs: int, device: str, quiet: bool):
        self.records: list[EpochRecord] = []
        self._quiet, self._epochs, self._device = quiet, epochs, device
        self._prepared = prepared
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  {task.fields[speed]:,.0f} ticks/s"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet,
        )
        steps = prepared.split.valid
        self._task = self._progress.add_task("", total=steps, epoch=1, loss=0, speed=0)
        self._pending, self._shown_s = 0, time.monotonic()

    def __enter__(self) -> Training:
        if not self._quiet:
            split, names = self._prepared.split, len(self._prepared.spec.names)
            say(
                f"{split.valid:,} events to train on, {split.test - split.valid:,} to choose the "
                f"epoch, {split.end - split.test:,} to test; {names} features; {self._device}"
            )
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def show_step(self, step: Step) -> None:
        """Move the bar, at most five times a second: an update costs more than a small step."""
        self._pending += step.ticks
        now_s = time.monotonic()
        if now_s - self._shown_s >= _REFRESH_S:
            speed = self._pending / (now_s - self._shown_s)
            self._progress.update(self._task, advance=self._pending, loss=step.loss, speed=speed)
            self._pending, self._shown_s = 0, now_s

    def show_epoch(self, record: EpochRecord) -> None:
        """Print the epoch and begin the next one."""
        self._progress.reset(
            self._task, epoch=record.epoch + 1, loss=record.train_loss, speed=record.ticks_per_s
        )
        self._pending = 0
        if not self._quiet:
            say(
                f"epoch {record.epoch:3}/{self._epochs}  train {record.train_loss:.4f}  "
                f"valid {record.valid_loss:.4f}{'*' if record.best else ' '}  "
                f"{record.ticks_per_s:,.0f} ticks/s  {record.seconds:.1f} s"
            )
            for words in record.health.get("words", ()):
                say(f"           {words}")
