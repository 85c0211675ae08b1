"""Normalisation: batch norm as its algorithm reads, and the choice of a layer by name.

Ioffe & Szegedy 2015, "Batch Normalization" (arXiv:1502.03167), algorithms 1 and 2. The functions
are for reading and for checking; blocks use `torch.nn.BatchNorm1d` and `BatchNorm2d`, which give
the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RunningStatistics:
    """What batch norm remembers of the batches it has seen: of each channel mean and variance."""

    mean_C: Tensor
    var_C: Tensor
    batches: int = 0

    @classmethod
    def fresh(cls, channels: int, dtype: torch.dtype = torch.float32) -> RunningStatistics:
        """Mean 0 and variance 1, before any batch."""
        return cls(torch.zeros(channels, dtype=dtype), torch.ones(channels, dtype=dtype))


def batch_norm_training(
    x: Tensor,
    gamma_C: Tensor,
    beta_C: Tensor,
    running: RunningStatistics,
    momentum: float | None = 0.1,
    epsilon: float = 1e-5,
) -> tuple[Tensor, RunningStatistics]:
    """Normalise by the statistics of this very batch, then scale and shift.

    The batch is normalised by its biased variance (divided by m), and remembered by its unbiased
    one (divided by m - 1), as the paper's step 10 and torch have it. Of x, shape (B, C, ...), the m
    values of a channel are all of its batch and places. `momentum` is the share of this batch in
    the statistics that are returned beside it; None for a plain mean over batches. `epsilon` keeps
    the square root from zero. One value a channel has no variance: a ValueError.
    """
    axes = [0, *range(2, x.dim())]
    m = x.numel() // x.shape[1]
    if m < 2:
        raise ValueError(f"x of shape {tuple(x.shape)}: one value a channel; give a larger batch")
    mean_C, var_C = x.mean(dim=axes), x.var(dim=axes, correction=0)
    y = batch_norm_evaluation(x, gamma_C, beta_C, RunningStatistics(mean_C, var_C), epsilon)
    batches = running.batches + 1
    share = 1 / batches if momentum is None else momentum
    mean_C = torch.lerp(running.mean_C, mean_C.detach(), share)
    var_C = torch.lerp(running.var_C, var_C.detach() * m / (m - 1), share)
    return y, RunningStatistics(mean_C, var_C, batches)


def batch_norm_evaluation(
    x: Tensor, gamma_C: Tensor, beta_C: Tensor, running: RunningStatistics, epsilon: float = 1e-5
) -> Tensor:
    """Normalise by given statistics: one affine map of each value by itself.

    Shapes and arguments as in `batch_norm_training`.
    """

    def along(values_C: Tensor) -> Tensor:
        return values_C.view(-1, *[1] * (x.dim() - 2))

    x_hat = (x - along(running.mean_C)) / torch.sqrt(along(running.var_C) + epsilon)
    return along(gamma_C) * x_hat + along(beta_C)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of one place (Ba et al. 2016, arXiv:1607.06450).

    Shapes: (B, C, ...) is kept. Receptive field: 1, in training too, where batch norm mixes all
    places of a batch.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each place by itself."""
        y = super().forward(x.movedim(1, -1)).movedim(-1, 1)
        # The copy is cheaper than backward passes along the wrong axis.
        return y.contiguous()


def norm_layer(norm: str, channels: int, nd: int) -> nn.Module:
    """The layer called `batch`, `layer` or `none`, for `channels` channels."""
    if norm == "batch":
        return nn.BatchNorm1d(channels) if nd == 1 else nn.BatchNorm2d(channels)
    if norm == "layer":
        return ChannelNorm(channels)
    if norm == "none":
        return nn.Identity()
    raise ValueError(f"norm={norm!r}: choose 'batch', 'layer' or 'none'")
