"""Tasks that cannot be done without memory.

Both are from Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", Neural Computation 9(8):
the adding problem is their experiment 4, and copying one symbol over a stretch that says nothing
is the plainest of their long-lag tasks (experiment 2). The answer is asked for at the last tick.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy


class MemoryTask(ABC):
    """Sequences and what must be known after their last tick."""

    inputs: ClassVar[int]  # channels of a tick
    outputs: ClassVar[int]  # numbers that a network gives at the last tick
    chance: ClassVar[float]  # share of right answers without any memory

    @abstractmethod
    def draw(self, batch: int, length: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Sequences x_BTC and answers y_B."""

    @abstractmethod
    def loss(self, out_BK: Tensor, y_B: Tensor) -> Tensor:
        """The error E of each sequence, shape (B,)."""

    @abstractmethod
    def right(self, out_BK: Tensor, y_B: Tensor) -> Tensor:
        """Which answers are right, shape (B,)."""


class Adding(MemoryTask):
    """The sum of two numbers among many, both marked: one of the first ten, one of the first half.

    A tick is a number between -1 and 1 and a mark. The answer is 1/2 + (X_1 + X_2) / 4, right
    within 0.04, as in the paper. Deviations: lengths do not vary, and the ends carry no mark.
    """

    inputs = 2
    outputs = 1
    chance = 1 - (1 - 0.04 * 4 / 2) ** 2  # of always saying 1/2: X_1 + X_2 is triangular

    def draw(self, batch: int, length: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Numbers, marks and sums."""
        number_BT = torch.rand(batch, length, generator=generator) * 2 - 1
        first_B = torch.randint(min(10, length // 2), (batch,), generator=generator)
        second_B = torch.randint(length // 2 - 1, (batch,), generator=generator)
        second_B += second_B >= first_B  # any but the first
        rows_B = torch.arange(batch)
        mark_BT = torch.zeros(batch, length)
        mark_BT[rows_B, first_B] = mark_BT[rows_B, second_B] = 1
        y_B = 0.5 + (number_BT * mark_BT).sum(dim=1) / 4
        return torch.stack([number_BT, mark_BT], dim=2), y_B

    def loss(self, out_BK: Tensor, y_B: Tensor) -> Tensor:
        """Squared error."""
        return (out_BK[:, 0] - y_B).square()

    def right(self, out_BK: Tensor, y_B: Tensor) -> Tensor:
        """Within 0.04."""
        return (out_BK[:, 0] - y_B).abs() < 0.04


class Copy(MemoryTask):
    """One of eight symbols at the first tick, then nothing, then a mark that asks for it."""

    inputs = 9
    outputs = 8
    chance = 1 / 8

    def draw(self, batch: int, length: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Symbols as one of eight channels, the mark in the ninth."""
        y_B = torch.randint(self.outputs, (batch,), generator=generator)
        x_BTC = torch.zeros(batch, length, self.inputs)
        x_BTC[torch.arange(batch), 0, y_B] = 1
        x_BTC[:, -1, -1] = 1
        return x_BTC, y_B

    def loss(self, out_BK: Tensor, y_B: Tensor) -> Tensor:
        """Cross-entropy, nats."""
        return cross_entropy(out_BK, y_B, reduction="none")

    def right(self, out_BK: Tensor, y_B: Tensor) -> Tensor:
        """The likeliest symbol is the one that was shown."""
        return out_BK.argmax(dim=1) == y_B


TASKS: dict[str, MemoryTask] = {"adding": Adding(), "copy": Copy()}
