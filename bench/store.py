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
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl
from rich.table import Table

from bench import running
from nexttick.prepare.events import merge_chunks
from nexttick.prepare.features import FeatureSpec, compute_features
from nexttick.ticks.days import DAY_NS, by_day
from nexttick.ticks.simulated import SimulatedMarket, simulate
from nexttick.ticks.source import Series
from nexttick.ticks.store import Store
from nexttick.ticks.store.records import Provenance
from nexttick.ticks.store.series import StoredSeries
from nexttick.ticks.store.writer import writing

SERIES = Series("simulated", "BTC/USDT")
ORIGIN = Provenance("simulator", True, {})
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


def measure_ways(rows: int, repeats: int) -> running.Result:
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
        return {"rows": rows, "seconds": running.in_turns(ways, repeats, shuffled=True)}


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
    "describe": StoredSeries.describe,
    "featurise": featurise,
    "score": score,
}


def run_stage(name: str, folder: Path, ticks: int) -> running.Result:
    """One stage, in a process of its own."""
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
        "peak_mib": running.memory_mib(),
    }


def measure(args: argparse.Namespace) -> running.Result:
    if args.ticks is None:
        return measure_ways(args.rows, args.repeats)
    with tempfile.TemporaryDirectory() as folder:
        store = args.keep or Path(folder)
        names = ("make", *STAGES)
        return {"stages": [running.apart(run_stage, name, store, args.ticks) for name in names]}


def show(result: running.Result) -> Iterator[Table]:
    if stages := result.get("stages"):
        keys = {
            "ticks": "{:,}",
            "seconds": "{:.1f}",
            "ticks_per_s": "{:,.0f}",
            "peak_mib": "{:,.0f}",
        }
        headings = ("", "ticks", "seconds", "ticks/s", "peak memory, MiB")
        rows = (
            (one["stage"], *(form.format(one[key]) for key, form in keys.items())) for one in stages
        )
        yield running.table(*headings, rows=rows)
        return
    seconds = result["seconds"]
    bare = {name: seconds[f"{name.split(',')[0]}, Polars"] for name in seconds}
    yield running.table(
        *("", "seconds", "million ticks/s", "speed of bare Polars"),
        rows=(
            (name, f"{s:.3f}", f"{result['rows'] / s / 1e6:.1f}", f"{bare[name] / s:.2f}")
            for name, s in seconds.items()
        ),
    )


def main(words: Sequence[str] | None = None) -> None:
    options = running.parser(__doc__, rows=4_000_000, repeats=7)
    options.add_argument(
        "--ticks", type=int, help="make a store of so many ticks and go through it"
    )
    options.add_argument("--keep", type=Path, help="where to make it, and leave it")
    running.run(options, measure, show, words)


if __name__ == "__main__":
    main()
