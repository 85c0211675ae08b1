"""Ticks a second of the feature step, and peak memory against the length of the file.

    python -m bench.features [--json] [--millions 1 5 20]

A simulated market is written to Parquet, then read in chunks, merged into events and turned into
features in a process of its own, whose peak memory is asked of the operating system. Memory must
not grow with the length. One thread does the work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nexttick.prepare.events import merge_chunks
from nexttick.prepare.features import FeatureSpec, compute_features
from nexttick.ticks.reading.read import read_chunks
from nexttick.ticks.simulated import SimulatedMarket, simulate

CHUNK = 500_000


def measure_one(path: Path) -> dict[str, float]:
    """Compute the features of a file, chunk by chunk; runs in a process of its own."""
    spec = FeatureSpec(max_gap_ns=600_000_000_000)
    first = next(iter(read_chunks(path, 1000)))
    compute_features(next(merge_chunks([first])), spec)  # compiles
    state, ticks, spent_s, start = spec.initial_state(), 0, 0.0, time.perf_counter()
    for events in merge_chunks(read_chunks(path, CHUNK)):
        begun = time.perf_counter()
        compute_features(events, spec, state)
        spent_s += time.perf_counter() - begun
        ticks += int(events["count"].sum())
    return {
        "ticks": ticks,
        "features_ticks_per_s": ticks / spent_s,
        "with_reading_ticks_per_s": ticks / (time.perf_counter() - start),
        "peak_mib": peak_mib(),
    }


def peak_mib() -> float:
    """Peak resident memory of this process.

    `getrusage` would not do: it remembers what the parent held before this program was started.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def write_market(path: Path, ticks: int) -> None:
    """A simulated market as Parquet."""
    simulate(SimulatedMarket(ticks=ticks, seed=0)).write_parquet(path)


def measure(millions: list[int]) -> list[dict[str, float]]:
    results = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "market.parquet"
        for length in millions:
            write_market(path, length * 1_000_000)
            command = [sys.executable, "-m", "bench.features", "--file", str(path)]
            environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
            told = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            results.append(json.loads(told.stdout))
    return results


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--millions", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.file is not None:
        print(json.dumps(measure_one(args.file)))
        return
    results = measure(args.millions)
    if args.json:
        print(json.dumps({"lengths": results}))
        return
    table = Table("ticks", "features, ticks/s", "with reading, ticks/s", "peak memory, MiB")
    for told in results:
        table.add_row(
            f"{told['ticks']:,}",
            f"{told['features_ticks_per_s']:,.0f}",
            f"{told['with_reading_ticks_per_s']:,.0f}",
            f"{told['peak_mib']:,.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
