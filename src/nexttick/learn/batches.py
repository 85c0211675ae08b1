"""The only index arithmetic: features and labels to tensors, runs of ticks to batches.

A run is `segment_length` predictions in a row and the `context - 1` ticks of history before the
first of them; `--segment-length` and `--batch-size` call it a segment, which is here all that
lies between two gaps. Runs are gathered on the device that holds the ticks, so that a training step
moves indices only. For people who come from PyTorch, two Datasets give the same rows to any
DataLoader, one window or one segment a sample.

Axes: N events, F features, H horizons, B runs, K predictions a run, T = context - 1 + K, L window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from nexttick.prepare.labels import MISSING

Ranges = list[tuple[int, int]]  # [first, stop) of events


@dataclass(frozen=True)
class Batch:
    """Features and labels of B runs, float32; a label is `MISSING` where there is none."""

    x_BTF: Tensor
    y_BKH: Tensor


@dataclass(frozen=True)
class Runs:
    """Where runs lie: index of the first prediction of each, and the last one it may make."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]

    def predictions(self, length: int) -> int:
        """How many predictions the runs hold, cut short where they must be."""
        return int(np.minimum(self.last - self.first + 1, length).sum())


def predictable(starts: NDArray[np.int64], n: int, context: int, part: tuple[int, int]) -> Ranges:
    """Ranges [first, stop) of a part whose events have `context` ticks of history.

    Its own tick is one of them, and the others may lie before the part, in the same segment.
    """
    ends = np.append(starts[1:], n)
    first = np.maximum(starts + context - 1, part[0])
    stop = np.minimum(ends, part[1])
    return [(int(a), int(b)) for a, b in zip(first, stop, strict=True) if a < b]


def cut_runs(ranges: Ranges, length: int, offset: int = 0) -> Runs:
    """Cut ranges into runs of `length` predictions; each event is in one run at least.

    A run at the end of a range may be cut short, its surplus masked by `gather`. A positive
    `offset` moves the cuts, so that epochs see different runs.
    """
    empty = np.empty(0, np.int64)
    first, last = [empty], [empty]
    for start, stop in ranges:
        # What lies before a moved grid's first cut is a run of its own, or epochs would skip it.
        cuts = np.arange(start + offset, stop, length)
        begins = cuts if offset == 0 else np.concatenate([[start], cuts])
        first.append(begins)
        last.append(np.full(len(begins), stop - 1))
    return Runs(np.concatenate(first), np.concatenate(last))


def shuffled_batches(
    ranges: Ranges, length: int, batch: int, rng: np.random.Generator
) -> Iterator[Runs]:
    """Runs cut anew at a random offset, in random order, `batch` at a time."""
    runs = cut_runs(ranges, length, int(rng.integers(length)))
    order = rng.permutation(len(runs.first))
    for k in range(0, len(order), batch):
        chosen = order[k : k + batch]
        yield Runs(runs.first[chosen], runs.last[chosen])


def gather(x_NF: Tensor, y_NH: Tensor, runs: Runs, context: int, length: int) -> Batch:
    """Features and labels of runs, on the device of `x_NF`.

    Ticks behind the last one that a run may see are replaced by that last tick, their labels by
    `MISSING`: neither a gap nor the end of a part is ever crossed.
    """
    first = torch.from_numpy(runs.first).to(x_NF.device)[:, None]
    last = torch.from_numpy(runs.last).to(x_NF.device)[:, None]
    steps = torch.arange(1 - context, length, device=x_NF.device)
    # Every batch has one shape, whatever its runs: short ones repeat their last tick, unlabelled.
    rows_BT = torch.minimum(first + steps, last)
    beyond_BK = first + steps[context - 1 :] > last
    y_BKH = y_NH[rows_BT[:, context - 1 :]].float()
    return Batch(x_NF[rows_BT], y_BKH.masked_fill(beyond_BK.unsqueeze(2), MISSING))


class WindowDataset(Dataset[tuple[Tensor, Tensor]]):
    """One window a sample, as the lecture's custom dataset: (x_LF, y_H).

    `x_NF` is scaled. A window has the label of its last tick, and crosses no start of a segment.
    """

    def __init__(
        self,
        x_NF: NDArray[np.float32],
        y_NH: NDArray[np.int8],
        starts: NDArray[np.int64],
        sequence_length: int,
    ):
        self.x_NF, self.y_NH = torch.from_numpy(x_NF), torch.from_numpy(y_NH)
        self.length = sequence_length
        n = len(x_NF)
        ranges = predictable(starts, n, sequence_length, (0, n))
        rows = np.concatenate([np.arange(*r) for r in ranges] or [np.empty(0, np.int64)])
        self.rows = rows[(y_NH[rows] != MISSING).all(axis=1)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        row = self.rows[index]
        return self.x_NF[row - self.length + 1 : row + 1], self.y_NH[row].float()


class SegmentDataset(Dataset[tuple[Tensor, Tensor]]):
    """One run of `length` predictions a sample, for dense training in any DataLoader: (x_TF, y_KH).

    `x_NF` is scaled, and the first prediction needs `context` ticks of it. No run crosses a start
    of a segment; a label is `MISSING` (-1) where there is none, also behind a segment's end.
    """

    def __init__(
        self,
        x_NF: NDArray[np.float32],
        y_NH: NDArray[np.int8],
        starts: NDArray[np.int64],
        context: int,
        length: int,
    ):
        self.x_NF, self.y_NH = torch.from_numpy(x_NF), torch.from_numpy(y_NH)
        self.context, self.length = context, length
        self.runs = cut_runs(predictable(starts, len(x_NF), context, (0, len(x_NF))), length)

    def __len__(self) -> int:
        return len(self.runs.first)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        one = Runs(self.runs.first[index : index + 1], self.runs.last[index : index + 1])
        batch = gather(self.x_NF, self.y_NH, one, self.context, self.length)
        return batch.x_BTF[0], batch.y_BKH[0]
