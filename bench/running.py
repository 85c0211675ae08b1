"""What the benchmarks have alike: their options, turns on one clock, recorded ticks, and the end.

A benchmark is two functions, one from its options to a JSON object and one from that to tables;
`run` does the rest. What a user can mend ends with one line and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console, RenderableType
from rich.table import Table

from nexttick.ticks.reading.read import read_ticks
from nexttick.ticks.simulated import SimulatedMarket, simulate

RECORDED = Path(__file__).parents[2] / "shared" / "data"  # unless NEXTTICK_DATA names another
BITFLYER, BITFLYER_DAY = "bitflyer/*.csv.gz", "bitflyer/*.20180121.*.csv.gz"
FALLBACK = 200_000  # simulated ticks, where there are no recorded ones
WIDTH = 160  # of tables that do not go to a terminal

Result = dict[str, Any]


def parser(doc: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """Options of a benchmark: `--json`, and one for each default; a list takes several words."""
    named = re.search(r"python -m bench\.\w+", doc or "")
    options = argparse.ArgumentParser(
        prog=named[0] if named else None,
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--json", action="store_true", help="print one JSON object")
    for name, default in defaults.items():
        many = isinstance(default, list)
        kind = type(default[0] if many else default)
        flag = f"--{name.replace('_', '-')}"
        options.add_argument(flag, type=kind, nargs="+" if many else None, default=default)
    return options


def run(
    options: argparse.ArgumentParser,
    measure: Callable[[argparse.Namespace], Result],
    show: Callable[[Result], Iterable[RenderableType]],
    words: Sequence[str] | None = None,
) -> Result:
    """Measure, and print one JSON object or tables."""
    args = options.parse_args(words)
    try:
        result = measure(args)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if os.environ.get("NEXTTICK_TRACEBACK"):
            raise  # as the commands do: a message does not say where a bug of ours lies
        print(f"{options.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    if args.json:
        print(json.dumps(result))
    else:
        console = Console(width=None if sys.stdout.isatty() else WIDTH)
        for one in show(result):
            (print if isinstance(one, str) else console.print)(one)
    return result


def table(*headings: str, title: str | None = None, rows: Iterable[Iterable[object]]) -> Table:
    """A table of rows whose cells are written already."""
    made = Table(*headings, title=title, title_justify="left")
    for row in rows:
        made.add_row(*map(str, row))
    return made


# --- time and memory


def in_turns(
    ways: Mapping[str, Callable[[], object]], repeats: int, *, shuffled: bool = False
) -> dict[str, float]:
    """Median seconds of each way, timed in turn; the first turn warms up.

    Args:
        ways: what is timed, by name.
        repeats: turns that count.
        shuffled: whether each turn has an order of its own: a way that allocates much finds memory
            as the one before left it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    draw = random.Random(0)
    for turn in range(repeats + 1):
        for name in draw.sample(list(ways), len(ways)) if shuffled else ways:
            start = time.perf_counter()
            ways[name]()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(spent) for name, spent in seconds.items()}


@contextmanager
def one_core() -> Iterator[None]:
    """This process on one core, where the system can bind it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def apart(function: Callable[..., Result], *args: object) -> Result:
    """The answer of a function in a fresh process, whose peak memory is its own."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as process:
        return process.submit(function, *args).result()


def memory_mib(key: str = "VmHWM") -> float:
    """Memory of this process: its peak (`VmHWM`), or what it holds now (`RssAnon`).

    `getrusage` would not do: it remembers what the parent held before this program was started.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{key}:")[1].split()[0]) / 1024


# --- ticks


def ticks_of(files: str | Sequence[str], recorded: str, fallback: int) -> tuple[str, pl.DataFrame]:
    """Ticks to measure on, and what they are called.

    Args:
        files: those that a user named; none means recorded ticks.
        recorded: pattern of the recorded ticks, below their folder.
        fallback: how many simulated ticks stand in where there are no recorded ones.
    """
    if files:
        return str(files), read_ticks(files)[0]
    folder = Path(os.environ.get("NEXTTICK_DATA") or RECORDED)
    if found := sorted(map(str, folder.glob(recorded))):
        return recorded, read_ticks(found)[0]
    name = f"a simulated market of {fallback:,} ticks"
    print(f"no recorded ticks ({folder / recorded}): {name} stands in", file=sys.stderr)
    return name, simulate(SimulatedMarket(ticks=fallback, seed=0)).drop("truth")
