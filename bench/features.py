"""Ticks a second of the feature step, and peak memory against the length of the file.

    python -m bench.features [--json] [--millions 1 5 20]

A simulated market is written to Parquet, then read in chunks, merged into events and turned into
features in a process of its own, whose peak memory is asked of the operating system. Memory must
not grow with the length. One thread does the work.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from bench import running
from nexttick.prepare.events import merge_chunks
from nexttick.prepare.features import FeatureSpec, compute_features
from nexttick.ticks.reading.long import read_chunks
from nexttick.ticks.simulated import SimulatedMarket, simulate

CHUNK = 500_000


def measure_file(path: Path) -> dict[str, float]:
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
        "peak_mib": running.memory_mib(),
    }


def measure(args: argparse.Namespace) -> running.Result:
    results = []
    os.environ["POLARS_MAX_THREADS"] = "1"  # of the processes to come
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "market.parquet"
        for millions in args.millions:
            ticks = round(millions * 1e6)
            simulate(SimulatedMarket(ticks=ticks, seed=0)).write_parquet(path)
            results.append(running.apart(measure_file, path))
    return {"lengths": results}


def show(result: running.Result) -> Iterator[Table]:
    keys = ("ticks", "features_ticks_per_s", "with_reading_ticks_per_s", "peak_mib")
    headings = ("ticks", "features, ticks/s", "with reading, ticks/s", "peak memory, MiB")
    rows = ((f"{row[key]:,.0f}" for key in keys) for row in result["lengths"])
    yield running.table(*headings, rows=rows)


def main(words: Sequence[str] | None = None) -> None:
    running.run(running.parser(__doc__, millions=[1.0, 5.0, 20.0]), measure, show, words)


if __name__ == "__main__":
    main()
