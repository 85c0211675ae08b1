"""What a commit to the journal costs.

    python -m bench.journal [--json] [--rates 1000 20000] [--seconds 5] [--batches 1 10 100]

Trades come at a rate, in batches of so many; each is an event with two predictions and settles two
outcomes. A checkpoint of 100 kB is kept every 10,000 trades. Rates are kept by sleeping, so that
the syncing thread works as it does in life. Times are those of a batch, its records included.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import RenderableType

from bench import running
from nexttick.learn.predictor.training_shares import TrainingShares
from nexttick.live.drift import Drift
from nexttick.live.journal.journal import Journal
from nexttick.live.journal.schema import Identity
from nexttick.live.outcomes import OutcomeTracker
from nexttick.live.promises import Promise
from nexttick.live.records import Checkpoint, Outcome, Prediction
from nexttick.live.scoring import LiveScores
from nexttick.options import LabelOptions
from nexttick.venues.messages import Trade

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


def measure_rate(rate: int, batch: int, seconds: float) -> dict[str, float]:
    took_s, log_bytes, cpu_s = [], 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.journal"
        with Journal(path, IDENTITY) as journal:
            start_s = time.perf_counter()
            while (now_s := time.perf_counter()) < start_s + seconds:
                began_s = time.thread_time()
                append(journal, batch)
                cpu_s += time.thread_time() - began_s
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
        "cpu_us_a_tick": 1e6 * cpu_s / trades,
        "log_mb": log_bytes / 1e6,
        "bytes_a_tick": file_bytes / trades,
    }


def bookkeeping(events: int) -> dict[str, float]:
    """CPU time of what else is done for each event: outcomes, scores, drift; two horizons."""
    rng = np.random.default_rng(0)
    price = (100 + 0.1 * np.cumsum(rng.choice([-1, 0, 0, 1], events))).tolist()
    x_NF = rng.normal(size=(events, 48)).astype(np.float32)
    drift = Drift(TrainingShares.fit(x_NF), tuple(map(str, range(48))))
    drift.take(x_NF[0])
    tracker = OutcomeTracker(LabelOptions(("1", "10")), 10**12)
    scores = LiveScores({name: Promise(0.3) for name in IDENTITY.horizons})
    said = [Prediction(i, i * 10**8, one, i, 0, (0.25, 0.375)) for i, one in enumerate(price)]
    start_s = time.thread_time()
    for prediction in said:
        known = tracker.take(prediction)
    outcomes_s = time.thread_time()
    for _ in range(events):
        scores.add(known)
    scores_s = time.thread_time()
    for x_F in x_NF:
        drift.take(x_F)
    drift_s = time.thread_time()
    spent = {
        "outcomes": outcomes_s - start_s,
        "scores": scores_s - outcomes_s,
        "drift": drift_s - scores_s,
    }
    return {f"{name}_cpu_us": 1e6 * took_s / events for name, took_s in spent.items()}


def measure(args: argparse.Namespace) -> running.Result:
    rates = [measure_rate(rate, n, args.seconds) for rate in args.rates for n in args.batches]
    return {"journal": rates, "bookkeeping": bookkeeping(args.events)}


def show(result: running.Result) -> Iterator[RenderableType]:
    rows = result["journal"]
    headings = (name.replace("_", " ") for name in rows[0])
    yield running.table(*headings, rows=((f"{v:,.4g}" for v in row.values()) for row in rows))
    for name, value in result["bookkeeping"].items():
        yield f"{name.replace('_', ' ')} an event: {value:.2f}"


def main(words: Sequence[str] | None = None) -> None:
    options = running.parser(
        __doc__, rates=[1_000, 20_000], batches=[1, 10, 100], seconds=5.0, events=50_000
    )
    running.run(options, measure, show, words)


if __name__ == "__main__":
    main()
