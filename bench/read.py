"""Rows a second of `read_ticks`, cleaning and checks included, against bare CSV readers.

    python -m bench.read [--json] [--rows 5000000] [--repeats 9]

All readers read the same file in turn, several times over, and medians are compared: absolute
times mean nothing on a shared machine. The file is `time,price,amount` in Unix seconds, with a
few rows that cleaning sets aside, so that its slower paths are timed too.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from rich.table import Table

from bench import running
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


def measure(args: argparse.Namespace) -> running.Result:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ticks.csv"
        write_market(path, args.rows)
        readers: dict[str, Callable[[], object]] = {
            "read_ticks": lambda: read_ticks(path),
            "polars": lambda: pl.read_csv(path),
            "pandas": lambda: pd.read_csv(path),
        }
        seconds = running.in_turns(readers, args.repeats, shuffled=True)
    return {
        "rows": args.rows,
        "seconds": seconds,
        "rows_per_s": {name: args.rows / s for name, s in seconds.items()},
        "times_polars": seconds["read_ticks"] / seconds["polars"],
        "times_pandas": seconds["read_ticks"] / seconds["pandas"],
    }


def show(result: running.Result) -> Iterator[Table]:
    bare = result["seconds"]["polars"]
    yield running.table(
        *("reader", "seconds", "million rows a second", "times bare Polars"),
        rows=(
            (name, f"{s:.3f}", f"{result['rows_per_s'][name] / 1e6:.1f}", f"{s / bare:.2f}")
            for name, s in result["seconds"].items()
        ),
    )


def main(words: Sequence[str] | None = None) -> None:
    running.run(running.parser(__doc__, rows=5_000_000, repeats=9), measure, show, words)


if __name__ == "__main__":
    main()
