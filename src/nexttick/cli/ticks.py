"""Commands on ticks alone, and what all commands do with their files; no torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from nexttick.cli import screen
from nexttick.cli.arguments import Files, Flag, OutFile, Reading, words
from nexttick.options import ReadOptions
from nexttick.ticks.writing import check_table_path, write_table

if TYPE_CHECKING:
    import polars as pl


def ticks(
    files: Files,
    read: Reading = ReadOptions(),
    convert: Annotated[Path | None, words("FILE")] = None,
    json: Flag = False,
) -> None:
    """Read, check and describe files of ticks; convert them.

    Args:
        files: files, folders or globs of ticks.
        convert: write the cleaned ticks to this .parquet or .csv file.
        json: print one JSON object instead of tables.
    """
    if convert is not None:
        check_output(convert, files)
    check_inputs(files, read)
    table, set_aside = read_named(files, read)
    if convert is not None:
        write_table(table, convert)
    from nexttick.ticks.describing import describe

    report = describe(table)
    if json:
        screen.print_json({"ticks": report, "set_aside": set_aside.to_dicts()})
        return
    screen.show_description(report)
    screen.show_set_aside(set_aside)
    if convert is not None:
        screen.say(f"{len(table):,} ticks written to {convert}")


def simulate(
    output: OutFile,
    ticks: Annotated[int, words("N")] = 300_000,
    signal: Annotated[float, words("SHARE")] = 1.0,
    seed: Annotated[int, words("N")] = 0,
) -> None:
    """Write a simulated market whose true probabilities are known.

    They are those of a rise, tick by tick.

    Args:
        output: Parquet or CSV file to write.
        ticks: number of ticks.
        signal: how much can be known beyond the bid-ask bounce, 0 to 1.
        seed: seed of the random numbers.
    """
    check_table_path(output)
    from nexttick.ticks import simulated

    market = simulated.SimulatedMarket(ticks=ticks, signal=signal, seed=seed)
    write_table(simulated.simulate(market), output)
    screen.say(f"{ticks:,} simulated ticks written to {output}")


def check_inputs(files: Sequence[str], read: ReadOptions) -> None:
    """Find out, before anything heavy is loaded, whether there are such files to read so."""
    from nexttick.ticks.reading.dialects import check_time_unit, parse_columns
    from nexttick.ticks.reading.files import expand

    if not files:
        raise ValueError("no file of ticks was named: give files, folders or globs, e.g. ticks.csv")
    parse_columns(read.columns)
    check_time_unit(read.time_unit)
    for file in files:
        expand(file, [])


def check_output(output: Path, files: Sequence[str]) -> None:
    """Find out before the work whether the output can be written, and is none of the inputs."""
    check_table_path(output)
    from nexttick.ticks.reading.files import expand

    inputs = (one for file in files for one in expand(file, []))
    if output.exists() and any(output.samefile(one) for one in inputs):
        raise ValueError(f"{output} is one of the files to read: give another name")


def read_named(files: Sequence[str], read: ReadOptions) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ticks of the files of a command line, and what was set aside."""
    from nexttick.ticks.reading.read import read_ticks

    return read_ticks(list(files), **dataclasses.asdict(read))
