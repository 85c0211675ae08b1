"""Speed of the store against bare Polars on one file, and memory over a store of any length.

    python -m bench.store [--json] [--rows 4000000] [--repeats 7]
    python -m bench.store --ticks 100000000 [--keep FOLDER]

The first form writes the same ticks as days of a store (sorted, hashed, measured, forced to the
disk) and as one bare zstd Parquet file, and reads both, in turn, and compares medians: absolute
times mean nothing on a shared machine.

The second makes a store of so many simulated ticks day by day, then describes it, computes its
features and scores it with the default CNN, each in a process of its own whose peak memory is asked
of the operating system.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from bench.features import peak_mib
from bench.read import median_seconds
from nexttick.prepare.events import merge_chunks
from nexttick.prepare.features import FeatureSpec, compute_features
from nexttick.ticks.days import DAY_NS, by_day
from nexttick.ticks.simulated import SimulatedMarket, simulate
from nexttick.ticks.source import Series
from nexttick.ticks.store import Store
from nexttick.ticks.store.describing import describe
from nexttick.ticks.store.records import Origin
from nexttick.ticks.store.series import StoredSeries
from nexttick.ticks.store.writer import writing

SERIES = Series("simulated", "BTC/USDT")
ORIGIN = Origin("simulator", True, {})
START_NS = 19_723 * DAY_NS  # 2024-01-01
PER_DAY = 2_500_000
PAUSE_S = 0.011  # so that these fill some 22.6 hours of the day
CHUNK = 500_000
FITTED = 100_000


def write_store(folder: Path, ticks: pl.DataFrame) -> StoredSeries:
    """The ticks as days of a fresh store."""
    stored = Store(tempfile.mkdtemp(dir=folder)).open(SERIES)
    last = int(ticks["time"][-1])
    with writing(stored) as writer:
        for _, span in by_day((START_NS, last + 1)):
            writer.write(ticks, span, ORIGIN)
    return stored


def write_bare(path: Path, ticks: pl.DataFrame) -> None:
    """The ticks as one file, compressed as the store's are."""
    ticks.write_parquet(path, compression="zstd")


def measure(rows: int, repeats: int) -> dict[str, Any]:
    """Median seconds of each way of writing and reading."""
    market = SimulatedMarket(rows, seed=0, typical_pause_s=PAUSE_S)
    ticks = simulate(market).drop("truth")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored, bare = write_store(folder, ticks), folder / "bare.parquet"
        write_bare(bare, ticks)
        ways: dict[str, Callable[[], object]] = {
            "write, store": lambda: write_store(folder, ticks),
            "write, Polars": lambda: write_bare(folder / "again.parquet", ticks),
            "read, store": lambda: stored.scan().collect(),
            "read, store in chunks": lambda: sum(map(len, stored.chunks(CHUNK))),
            "read, Polars": lambda: pl.read_parquet(bare),
        }
        return {"rows": rows, "seconds": median_seconds(ways, repeats)}


# --- a long store


def make(folder: Path, ticks: int) -> None:
    """A store of simulated ticks, each day a market of its own seed."""
    with writing(Store(folder).open(SERIES)) as writer:
        for day in range(-(-ticks // PER_DAY)):
            rows = min(PER_DAY, ticks - day * PER_DAY)
            start_ns = START_NS + day * DAY_NS
            market = SimulatedMarket(
                rows, seed=day, typical_pause_s=PAUSE_S, start_time_ns=start_ns
            )
            table = simulate(market).drop("truth")
            table = table.with_columns(id=pl.col("id") + day * PER_DAY)
            writer.write(table, (start_ns, start_ns + DAY_NS), ORIGIN)


def featurise(stored: StoredSeries) -> int:
    """Compute all features, chunk by chunk; returns how many events there were."""
    spec = FeatureSpec(max_gap_ns=600_000_000_000)
    state, events = spec.initial_state(), 0
    for chunk in merge_chunks(stored.chunks(CHUNK, outliers=True)):
        events += len(compute_features(chunk, spec, state))
    return events


def score(stored: StoredSeries) -> int:
    """Let the default CNN speak about every event; returns about how many it did.

    What it knows does not matter here: it is trained for one epoch on the first ticks.
    """
    from nexttick import Recipe, prepare_ticks, train_network
    from nexttick.options import TrainOptions

    recipe = Recipe(train=TrainOptions(epochs=1))
    predictor = train_network(prepare_ticks(next(stored.chunks(FITTED)), recipe), recipe)
    tables = predictor.predict_chunks(stored.chunks(CHUNK, outliers=True))
    return sum(len(table) - table["p_rise@1"].null_count() for table in tables)


STAGES: dict[str, Callable[[StoredSeries], object]] = {
    "describe": describe,
    "featurise": featurise,
    "score": score,
}


def run_stage(name: str, folder: Path, ticks: int) -> dict[str, Any]:
    """One stage, in this process."""
    start = time.perf_counter()
    if name == "make":
        make(folder, ticks)
    else:
        STAGES[name](Store(folder).open(SERIES))
    seconds = time.perf_counter() - start
    rows = sum(one.rows for one in Store(folder).open(SERIES).records().values())
    return {
        "stage": name,
        "ticks": rows,
        "ticks_per_s": rows / seconds,
        "seconds": seconds,
        "peak_mib": peak_mib(),
    }


def run_stages(folder: Path, ticks: int) -> list[dict[str, Any]]:
    """All stages, each in a process of its own."""
    results = []
    for name in ("make", *STAGES):
        options = ["--ticks", str(ticks), "--keep", str(folder), "--stage", name]
        command = [sys.executable, "-m", "bench.store", *options]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results.append(json.loads(told.stdout))
    return results


# --- printing


def table_of(result: dict) -> Table:
    seconds = result["seconds"]
    table = Table("", "seconds", "million ticks/s", "speed of bare Polars")
    for name, took in seconds.items():
        bare = seconds[f"{name.split(',')[0]}, Polars"]
        table.add_row(
            name, f"{took:.3f}", f"{result['rows'] / took / 1e6:.1f}", f"{bare / took:.2f}"
        )
    return table


def table_of_stages(results: list[dict[str, Any]]) -> Table:
    table = Table("", "ticks", "seconds", "ticks/s", "peak memory, MiB")
    for one in results:
        table.add_row(
            str(one["stage"]),
            f"{one['ticks']:,}",
            f"{one['seconds']:.1f}",
            f"{one['ticks_per_s']:,.0f}",
            f"{one['peak_mib']:,.0f}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the store, and measure its memory.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--ticks", type=int, help="make a store of so many ticks and go through it")
    parser.add_argument("--keep", type=Path, help="where to make it, and leave it")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        print(json.dumps(run_stage(args.stage, args.keep, args.ticks)))
        return
    if args.ticks is None:
        result = measure(args.rows, args.repeats)
        shown = table_of(result)
    else:
        with tempfile.TemporaryDirectory() as folder:
            stages = run_stages(args.keep or Path(folder), args.ticks)
        result, shown = {"stages": stages}, table_of_stages(stages)
    if args.json:
        print(json.dumps(result))
    else:
        Console().print(shown)


if __name__ == "__main__":
    main()
