"""What a commit to the journal costs.

    python -m bench.journal [--json] [--rates 1000 20000] [--seconds 5] [--batches 1 10 100]

Trades come at a rate, in batches of so many; each is an event with two predictions and settles two
outcomes. A checkpoint of 100 kB is kept every 10,000 trades. Rates are kept by sleeping, so that
the syncing thread works as it does in life. Times are those of a batch, its records included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nexttick.live.journal import Journal
from nexttick.live.journal_schema import Identity
from nexttick.live.messages import Trade
from nexttick.live.records import Checkpoint, Outcome, Prediction

IDENTITY = Identity(
    "f" * 64, "bench", "BTC/USDT", ("rise@1", "rise@10"), "down", False, 1, False, (0.3, 0.4)
)
DELAYS = (1, 10)
STATE = bytes(100_000)
START_NS = 1_700_000_000_000_000_000


def append(journal: Journal, trades: int) -> None:
    first = journal.trades
    numbers = range(first, first + trades)
    messages = [Trade(START_NS + i, 100.5, 0.25, 1, i, START_NS + i) for i in numbers]
    said = [Prediction(i, START_NS + i, 100.5, i, START_NS + i, (0.3125, 0.4375)) for i in numbers]
    outcomes = [
        Outcome(i - delay, h, i % 2, False, START_NS + i, 0.3125)
        for i in numbers
        for h, delay in enumerate(DELAYS)
        if i >= delay
    ]
    due = first // 10_000 != (first + trades) // 10_000
    checkpoint = Checkpoint(first + trades, first + trades, STATE) if due else None
    journal.append(messages, said, outcomes, checkpoint=checkpoint)


def measure(rate: int, batch: int, seconds: float) -> dict[str, float]:
    took_s, log_bytes = [], 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.journal"
        with Journal(path, IDENTITY) as journal:
            start_s = time.perf_counter()
            while (now_s := time.perf_counter()) < start_s + seconds:
                append(journal, batch)
                took_s.append(time.perf_counter() - now_s)
                log_bytes = max(log_bytes, Path(f"{path}-wal").stat().st_size)
                ahead_s = start_s + journal.trades / rate - time.perf_counter()
                time.sleep(max(0.0, ahead_s))
            trades = journal.trades
        file_bytes = path.stat().st_size
    cuts = statistics.quantiles(took_s, n=1000)
    return {
        "rate": rate,
        "batch": batch,
        "kept_rate": trades / seconds,
        "median_us": 1e6 * cuts[499],
        "p99_us": 1e6 * cuts[989],
        "p999_us": 1e6 * cuts[998],
        "max_ms": 1e3 * max(took_s),
        "us_a_tick": 1e6 * sum(took_s) / trades,
        "log_mb": log_bytes / 1e6,
        "bytes_a_tick": file_bytes / trades,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rates", type=int, nargs="+", default=[1_000, 20_000])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    results = [measure(rate, n, args.seconds) for rate in args.rates for n in args.batches]
    if args.json:
        print(json.dumps({"journal": results}))
        return
    table = Table(*(name.replace("_", " ") for name in results[0]))
    for row in results:
        table.add_row(*(f"{value:,.4g}" for value in row.values()))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
