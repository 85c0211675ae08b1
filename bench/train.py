"""Ticks trained a second: dense, against a loop as the lecture writes it, on the same layers.

    python -m bench.train [--json] [--lengths 32 256] [--repeats 5] [--slice-s 2]

`loop` is a Dataset that slices a DataFrame for each sample, in a DataLoader with shuffling and
batches of 64 windows; `dense` is `nexttick.learn.epochs`, gradients clipped and weights stepped as
in a real run; `bare` is forward and backward alone, on one dense batch that already lies in memory.
All use the same network (4 layers, 64 wide), sequence length, features and threads. They take turns
of `--slice-s` seconds within one run and medians are compared: absolute times mean nothing on a
shared machine. All have all CPU threads. `dense` and `bare` take 16 segments a step
(`--batch-size 16`); on a machine that does other work too, an LSTM trains faster on one thread,
nexttick's default.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import pandas as pd
import torch
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench import running
from nexttick.learn.batches import gather, shuffled_batches
from nexttick.learn.checkpoint import Fitting
from nexttick.learn.epochs import TrainingData, segment_length, train_steps
from nexttick.learn.train import training_data
from nexttick.networks.models import build_model
from nexttick.networks.models.base import TickModel
from nexttick.options import LabelOptions, ModelOptions, Recipe, TrainOptions
from nexttick.prepare.dataset import Prepared, prepare_ticks
from nexttick.ticks.simulated import SimulatedMarket, simulate

CPU = torch.device("cpu")
BATCH = 16


class FrameDataset(Dataset[tuple[Tensor, Tensor]]):
    """The lecture's custom dataset: a slice of a DataFrame for each sample."""

    def __init__(self, frame: pd.DataFrame, rise: pd.Series, sequence_length: int):
        self.frame, self.rise, self.length = frame, rise, sequence_length

    def __len__(self) -> int:
        return len(self.frame) - self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        window = self.frame.iloc[index : index + self.length]
        rise = self.rise.iloc[index + self.length - 1]
        return torch.tensor(window.to_numpy()), torch.tensor([rise], dtype=torch.float32)


def dense_steps(model: TickModel, data: TrainingData) -> Iterator[int]:
    """Steps of a real training, epoch after epoch; yields predictions trained."""
    options = TrainOptions(batch_size=BATCH)
    fitting = Fitting.fresh(model, options)
    epoch = 0
    while True:
        yield from (
            s.ticks for s in train_steps(fitting, data, options, np.random.default_rng(epoch))
        )
        epoch += 1


def bare_steps(model: TickModel, data: TrainingData) -> Iterator[int]:
    """Forward and backward on one batch in memory; yields predictions."""
    length = segment_length(model.context)
    runs = next(shuffled_batches(data.train, length, BATCH, np.random.default_rng(0)))
    batch = gather(data.x_NF, data.train_y_NH, runs, model.context, length)
    target = batch.y_BKH.clamp(min=0)
    criterion = nn.BCEWithLogitsLoss()
    model.train()
    while True:
        model.zero_grad()
        criterion(model(batch.x_BTF), target).backward()
        yield BATCH * length


def loop_steps(model: TickModel, prepared: Prepared) -> Iterator[int]:
    """The lecture's loop; yields samples trained."""
    columns = list(prepared.spec.names)
    frame = pd.DataFrame(prepared.x_NF, columns=columns)
    rise = pd.Series(prepared.labels.y_NH[:, 0])
    dataset = FrameDataset(frame, rise, model.context)
    loader = DataLoader(dataset, batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters())
    criterion = nn.BCEWithLogitsLoss()
    model.train()
    while True:
        for x_BLF, y_BH in loader:
            optimizer.zero_grad()
            criterion(model(x_BLF)[:, 0], y_BH).backward()
            optimizer.step()
            yield len(x_BLF)


def rates(contestants: dict[str, Iterator[int]], repeats: int, slice_s: float) -> dict[str, float]:
    """Median ticks a second of each contestant, timed in turn; the first turn warms up."""
    seen: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(repeats + 1):
        for name, steps in contestants.items():
            next(steps)
            ticks, start = 0, time.perf_counter()
            while (spent := time.perf_counter() - start) < slice_s:
                ticks += sum(islice(steps, 2))
            if turn:
                seen[name].append(ticks / spent)
    return {name: statistics.median(values) for name, values in seen.items()}


def measure_network(
    kind: str, length: int, prepared: Prepared, args: argparse.Namespace
) -> dict[str, float]:
    options = ModelOptions(type=kind, num_layers=4, hidden_size=64, sequence_length=length)

    def fresh() -> TickModel:
        torch.manual_seed(0)
        return build_model(options, len(prepared.spec.names), 1)

    data = training_data(prepared, fresh(), CPU)
    contestants = {
        "dense": dense_steps(fresh(), data),
        "bare": bare_steps(fresh(), data),
        "loop": loop_steps(fresh(), prepared),
    }
    rate = rates(contestants, args.repeats, args.slice_s)
    return {
        "dense_ticks_per_s": rate["dense"],
        "loop_samples_per_s": rate["loop"],
        "ratio": rate["dense"] / rate["loop"],
        "bare_share": rate["dense"] / rate["bare"],
    }


def measure(args: argparse.Namespace) -> running.Result:
    ticks = simulate(SimulatedMarket(ticks=60_000, seed=0))
    prepared = prepare_ticks(ticks, Recipe(labels=LabelOptions(horizon=("1",))))
    return {
        kind: {str(n): measure_network(kind, n, prepared, args) for n in args.lengths}
        for kind in ("cnn", "rnn")
    }


def show(result: running.Result) -> Iterator[Table]:
    forms = {
        "dense_ticks_per_s": "{:,.0f}",
        "loop_samples_per_s": "{:,.0f}",
        "ratio": "{:.1f}",
        "bare_share": "{:.3f}",
    }
    headings = ("network", "sequence length", "dense, ticks/s", "loop, samples/s", "ratio")
    yield running.table(
        *(*headings, "bare share"),
        rows=(
            (kind, length, *(form.format(row[key]) for key, form in forms.items()))
            for kind, by_length in result.items()
            for length, row in by_length.items()
        ),
    )


def main(words: Sequence[str] | None = None) -> None:
    options = running.parser(__doc__, lengths=[32, 256], repeats=5, slice_s=2.0)
    running.run(options, measure, show, words)


if __name__ == "__main__":
    main()
