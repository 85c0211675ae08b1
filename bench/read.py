"""Rows a second of `read_ticks`, cleaning and checks included, against bare CSV readers.

    python -m bench.read [--json] [--rows 5000000] [--repeats 9]

All readers read the same file in turn, several times over, and medians are compared: absolute
times mean nothing on a shared machine. The file is `time,price,amount` in Unix seconds, with a
few rows that cleaning sets aside, so that its slower paths are timed too.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from rich.console import Console
from rich.table import Table

from nexttick.ticks.reading.read import read_ticks


def write_market(path: Path, rows: int, seed: int = 0) -> None:
    """Write a random walk with ties, bursts within one second, two outliers and two zeros."""
    rng = np.random.default_rng(seed)
    price = np.round(8000.0 * np.exp(np.cumsum(rng.normal(0.0, 1e-4, rows))), 2)
    amount = np.maximum(np.round(rng.lognormal(-2.0, 1.5, rows), 8), 1e-8)
    price[[rows // 3, rows // 2]] = 10_000_000.0
    amount[[rows // 4, rows // 5]] = 0.0
    seconds = 1_500_000_000 + np.cumsum(rng.poisson(1.0, rows))
    frame = pl.DataFrame({"time": seconds, "price": price, "amount": amount})
    frame.write_csv(path)


def median_seconds(readers: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Time the readers in turn and return each one's median; the first turn warms up.

    The order is drawn anew for each turn, for a reader finds memory as the one before left it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    draw = random.Random(0)
    for turn in range(repeats + 1):
        for name in draw.sample(list(readers), len(readers)):
            start = time.perf_counter()
            readers[name]()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def measure(rows: int, repeats: int) -> dict[str, dict[str, float] | float | int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ticks.csv"
        write_market(path, rows)
        readers: dict[str, Callable[[], object]] = {
            "read_ticks": lambda: read_ticks(path),
            "polars": lambda: pl.read_csv(path),
            "pandas": lambda: pd.read_csv(path),
        }
        seconds = median_seconds(readers, repeats)
    return {
        "rows": rows,
        "seconds": seconds,
        "rows_per_s": {name: rows / s for name, s in seconds.items()},
        "times_polars": seconds["read_ticks"] / seconds["polars"],
        "times_pandas": seconds["read_ticks"] / seconds["pandas"],
    }


def table_of(result: dict) -> Table:
    table = Table("reader", "seconds", "million rows a second", "times bare Polars")
    for name, seconds in result["seconds"].items():
        speed = result["rows_per_s"][name] / 1e6
        share = seconds / result["seconds"]["polars"]
        table.add_row(name, f"{seconds:.3f}", f"{speed:.1f}", f"{share:.2f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Time read_ticks against bare CSV readers.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    result = measure(options.rows, options.repeats)
    if options.json:
        print(json.dumps(result))
    else:
        Console().print(table_of(result))


if __name__ == "__main__":
    main()
