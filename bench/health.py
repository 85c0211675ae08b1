"""Share of training time that looking at the gradients' health costs.

    python -m bench.health [--json] [--pairs 300]

The default CNN and the default LSTM are trained on a simulated market, each with the batches and
threads that a run has. Steps take turns, one that is looked at and one without a monitor, on the
same batch and in an order drawn at random. A look costs the median over pairs of the difference in
time; training pays for it once in `EVERY` steps. The margin is half the width of the 95 % interval
that the pairs' ranks give. Wall-clock time on a shared machine: only pairs say something.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from rich.table import Table

from bench import running
from nexttick.learn.batches import gather, shuffled_batches
from nexttick.learn.checkpoint import Fitting
from nexttick.learn.epochs import (
    TrainingData,
    segment_length,
    set_threads,
    train_step,
    update_average,
)
from nexttick.learn.train import training_data
from nexttick.networks.gradients.monitor import EVERY, Monitor
from nexttick.networks.models import build_model
from nexttick.networks.models.encoding import fit_encodings
from nexttick.options import ModelOptions, Recipe, TrainOptions
from nexttick.prepare.dataset import Prepared, prepare_ticks
from nexttick.ticks.simulated import SimulatedMarket, simulate

BATCH = 8  # the default of a file that is not small
WARM_UP = 5  # pairs


def step_s(fitting: Fitting, data: TrainingData, seed: int) -> float:
    """Seconds that a step takes, from indices to the mean of the weights."""
    options, context = TrainOptions(), fitting.model.context
    length = segment_length(context)
    runs = next(shuffled_batches(data.train, length, BATCH, np.random.default_rng(seed)))
    start = time.perf_counter()
    batch = gather(data.x_NF, data.train_y_NH, runs, context, length)
    train_step(fitting, batch, options.clip_norm)
    update_average(fitting, options.average)
    return time.perf_counter() - start


def measure_kind(kind: str, prepared: Prepared, pairs: int) -> dict[str, float]:
    """Times of pairs of steps; the first pairs warm up."""
    torch.manual_seed(0)
    features, horizons = len(prepared.spec.names), len(prepared.labels.names)
    model = build_model(ModelOptions(type=kind), features, horizons)
    fit_encodings(model, prepared.x_NF)
    set_threads(model, None)
    model.train()
    data = training_data(prepared, model, torch.device("cpu"))
    fitting = Fitting.fresh(model, TrainOptions())
    monitors = {"looked at": Monitor(model, every=1), "bare": Monitor(model, every=0)}
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in monitors}
    for pair in range(-WARM_UP, pairs):
        for name in rng.permutation(list(monitors)):
            fitting.monitor = monitors[name]
            spent_s = step_s(fitting, data, seed=pair + WARM_UP)
            if pair >= 0:
                seconds[name].append(spent_s)
    bare = np.array(seconds["bare"])
    return cost(np.array(seconds["looked at"]) - bare, float(np.median(bare)))


def cost(looks_s: np.ndarray, step_s: float) -> dict[str, float]:
    """Median cost of a look with its interval, and that as a share of the steps that share it."""
    ranked = np.sort(looks_s)
    half = 0.98 * math.sqrt(len(ranked))  # 1.96 standard deviations of Binomial(n, 1/2)
    low = ranked[max(0, math.floor(len(ranked) / 2 - half))]
    high = ranked[min(len(ranked) - 1, math.ceil(len(ranked) / 2 + half))]
    look_s, paid_by_s = float(np.median(ranked)), EVERY * step_s
    return {
        "step_ms": step_s * 1e3,
        "look_ms": look_s * 1e3,
        "share": look_s / paid_by_s,
        "margin": float(high - low) / 2 / paid_by_s,
    }


def measure(args: argparse.Namespace) -> running.Result:
    prepared = prepare_ticks(simulate(SimulatedMarket(ticks=args.ticks, seed=0)), Recipe())
    return {kind: measure_kind(kind, prepared, args.pairs) for kind in ("cnn", "rnn")}


def show(result: running.Result) -> Iterator[Table]:
    yield running.table(
        *("network", "a step, ms", "a look, ms", "share of training time", "±"),
        rows=(
            (
                kind,
                *(f"{row[key]:.1f}" for key in ("step_ms", "look_ms")),
                *(f"{row[key]:.2%}" for key in ("share", "margin")),
            )
            for kind, row in result.items()
        ),
    )


def main(words: Sequence[str] | None = None) -> None:
    running.run(running.parser(__doc__, pairs=300, ticks=60_000), measure, show, words)


if __name__ == "__main__":
    main()
