"""Share of training time that looking at the gradients' health costs.

    python -m bench.health [--json] [--pairs 60]

The default CNN and the default LSTM are trained on a simulated market, each with the batches and
threads that a run has. Stretches of 16 steps take turns, one with the monitor (which looks at one
step of them) and one without, in an order drawn at random. The share is the median over pairs of
the difference in time, by the median time without; its margin is half the width of the 95 %
interval that the pairs' ranks give. Wall-clock time on a shared machine: only pairs say something.
"""

from __future__ import annotations

import argparse
import json
import math
import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from nexttick.batches import gather, shuffled_batches
from nexttick.config import ModelOptions, Recipe, TrainOptions
from nexttick.health.monitor import EVERY, Monitor
from nexttick.job import Prepared, prepare, training_data
from nexttick.models import build_model
from nexttick.models.encoding import fit_encodings
from nexttick.sources.simulated import SimulatedMarket, simulate
from nexttick.train import (
    Fitting,
    TrainingData,
    segment_length,
    set_threads,
    train_step,
    update_average,
)

BATCH = 8  # the default of a file that is not small


def stretch_s(fitting: Fitting, data: TrainingData, seed: int) -> float:
    """Seconds that the steps between two looks take, the first of them looked at."""
    options, context = TrainOptions(), fitting.model.context
    length = segment_length(context)
    batches = shuffled_batches(data.train, length, BATCH, np.random.default_rng(seed))
    chosen = [next(batches) for _ in range(EVERY)]
    start = time.perf_counter()
    for runs in chosen:
        batch = gather(data.x_NF, data.train_y_NH, runs, context, length)
        train_step(fitting, batch, options.clip_norm)
        update_average(fitting, options.average)
    return time.perf_counter() - start


def measure(kind: str, prepared: Prepared, pairs: int) -> dict[str, float]:
    """Times of pairs of stretches on the same batches; the first pair warms up."""
    torch.manual_seed(0)
    model = build_model(
        ModelOptions(type=kind), len(prepared.spec.names), len(prepared.labels.names)
    )
    fit_encodings(model, prepared.x_NF)
    set_threads(model, None)
    model.train()
    data = training_data(prepared, model, torch.device("cpu"))
    fitting = Fitting.fresh(model, TrainOptions())
    monitors = {"with": Monitor(model), "without": Monitor(model, every=0)}
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    for pair in range(pairs + 1):
        for name in rng.permutation(list(monitors)):
            fitting.monitor = monitors[name]
            spent_s = stretch_s(fitting, data, pair)
            if pair:
                seconds[name].append(spent_s)
    without = np.array(seconds["without"])
    return share(np.array(seconds["with"]) - without, float(np.median(without)))


def share(difference_s: np.ndarray, usual_s: float) -> dict[str, float]:
    """Median of the differences with its interval, as shares of the usual time."""
    ranked = np.sort(difference_s)
    half = 0.98 * math.sqrt(len(ranked))  # 1.96 standard deviations of Binomial(n, 1/2)
    low = ranked[max(0, math.floor(len(ranked) / 2 - half))]
    high = ranked[min(len(ranked) - 1, math.ceil(len(ranked) / 2 + half))]
    return {
        "share": float(np.median(ranked)) / usual_s,
        "margin": float(high - low) / 2 / usual_s,
        "step_ms": usual_s / EVERY * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=60)
    args = parser.parse_args()
    prepared = prepare(simulate(SimulatedMarket(ticks=60_000, seed=0)), Recipe())
    result = {kind: measure(kind, prepared, args.pairs) for kind in ("cnn", "rnn")}
    if args.json:
        print(json.dumps(result))
        return
    table = Table("network", "a step, ms", "cost of looking", "±")
    for kind, told in result.items():
        table.add_row(
            kind, f"{told['step_ms']:.1f}", f"{told['share']:.2%}", f"{told['margin']:.2%}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
