"""What the commands on ticks alone do, and what all commands do with their files; no torch here."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from nexttick.cli import screen
from nexttick.options import ReadOptions
from nexttick.ticks.reading.files import expand
from nexttick.ticks.reading.read import describe, read_ticks
from nexttick.ticks.simulated import SimulatedMarket
from nexttick.ticks.simulated import simulate as simulate_market
from nexttick.ticks.writing import check_table_path, write_table


def ticks(files: Sequence[str], read: ReadOptions, convert: Path | None, *, as_json: bool) -> None:
    """`nexttick ticks`: read, check, describe and convert."""
    if convert is not None:
        check_output(convert, files)
    table, set_aside = read_named(files, read)
    if convert is not None:
        write_table(table, convert)
    if as_json:
        report = {"ticks": describe(table), "set_aside": set_aside.to_dicts()}
        sys.stdout.write(json.dumps(report, indent=1, allow_nan=False) + "\n")
        return
    screen.show_description(describe(table))
    screen.show_set_aside(set_aside)
    if convert is not None:
        screen.say(f"{len(table):,} ticks written to {convert}")


def simulate(output: Path, ticks: int, signal: float, seed: int) -> None:
    """`nexttick simulate`: a market whose truth is known."""
    check_table_path(output)
    write_table(simulate_market(SimulatedMarket(ticks=ticks, signal=signal, seed=seed)), output)
    screen.say(f"{ticks:,} simulated ticks written to {output}")


def check_output(output: Path, files: Sequence[str]) -> None:
    """Find out before the work whether the output can be written, and is none of the inputs."""
    check_table_path(output)
    inputs = (one for file in files for one in expand(file, []))
    if output.exists() and any(output.samefile(one) for one in inputs):
        raise ValueError(f"{output} is one of the files to read: give another name")


def read_named(files: Sequence[str], read: ReadOptions) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ticks of the files of a command line, and what was set aside."""
    if not files:
        raise ValueError("no file of ticks was named: give files, folders or globs, e.g. ticks.csv")
    return read_ticks(list(files), **dataclasses.asdict(read))
