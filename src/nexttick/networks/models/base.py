"""The contract of every model: dense logits over runs of ticks, and the same one tick at a time.

Axes: B segments, T ticks, F features, H horizons, K = T - context + 1 predictions, L window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nexttick.networks.layers.block import State


class Past(NamedTuple):
    """What `advance` remembers of a segment: how many ticks, and a state or the newest of them."""

    seen: int
    kept: State


class TickModel(nn.Module, ABC):
    """A network that says of each tick how likely a rise is at each horizon.

    Attributes:
        context: ticks of history that the first prediction needs, itself included.
        dense: whether windows that overlap share their work.
        shares_threads: whether one step of training is work enough for several CPU threads.
        stages: how often training changes the network itself, pruning it say; 0 for never.
        stage: how many of these changes are done. Losses of two stages are those of two networks.
    """

    context: int
    dense = True
    shares_threads = True
    stages: int = 0

    @property
    def stage(self) -> int:
        """See above."""
        return 0

    def begin_epoch(self, progress: float) -> None:
        """Called before each epoch with the share of the epochs that is done."""

    def penalty(self) -> Tensor | None:
        """What is added to the loss while training, in nats; None for nothing."""
        return None

    def finished(self) -> TickModel:
        """The form that leaves training; equal in output from the last stage on."""
        return self

    @abstractmethod
    def forward(self, x_BTF: Tensor) -> Tensor:
        """Logits of shape (B, K, H); the k-th speaks about tick k + context - 1.

        No tick later than that may touch it. Probabilities are the sigmoid of logits.
        """

    @abstractmethod
    def initial_state(self, batch: int) -> State:
        """The state before the first tick of `batch` markets."""

    @abstractmethod
    def step(self, x_BF: Tensor, state: State) -> tuple[Tensor, State]:
        """One tick in: logits of shape (B, H) and the next state.

        From tick `context` on, the numbers are those of the dense call over the same ticks.
        """

    def stream(self, x_TF: Tensor, chunk: int) -> Iterator[Tensor]:
        """Logits of one long segment, shape (k, H) each, in memory bounded by `chunk` ticks.

        Together they are those of `step` over all ticks, from tick `context` on.
        """
        past: Past | None = None
        for x_piece in x_TF.split(chunk):
            logits_KH, past = self.advance(x_piece, past)
            if len(logits_KH):
                yield logits_KH

    def advance(self, x_TF: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """The next ticks of one segment: logits of the last of them, and what to remember.

        `past` is None at the start of a segment; the logits, shape (k, H), are those of the k ticks
        that have enough history. This is the form for finite memory: the last `context - 1` ticks
        are kept, and seen again.
        """
        seen = len(x_TF) + (past.seen if past else 0)
        x_TF = torch.cat([past.kept[0], x_TF]) if past else x_TF
        kept = x_TF[max(len(x_TF) - self.context + 1, 0) :]
        enough = len(x_TF) >= self.context
        return self(x_TF.unsqueeze(0))[0] if enough else x_TF[:0], Past(seen, (kept,))
