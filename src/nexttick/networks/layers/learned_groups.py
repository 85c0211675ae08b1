"""Learned group convolution: a 1-convolution that drops inputs, and what is left of it.

Huang et al. 2017, "CondenseNet" (arXiv:1711.09224), section 3; `condensenet` has
the schedule and the layers made of it.
"""

from __future__ import annotations

from abc import ABC

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nexttick.networks.layers.block import Block, State
from nexttick.networks.layers.convolution import Conv
from nexttick.networks.layers.shapes import check_divides, check_positive


class _Kept(nn.Module):
    """A weight of shape (out, in, 1, ...), zero where its group has dropped the input."""

    kept_GI: Tensor

    def __init__(self, groups: int, in_channels: int):
        super().__init__()
        self.register_buffer("kept_GI", torch.ones(groups, in_channels, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        by_group = weight.view(len(self.kept_GI), -1, *weight.shape[1:])
        mask = self.kept_GI.view(len(self.kept_GI), 1, -1, *[1] * (weight.dim() - 2))
        return (by_group * mask).view_as(weight)


class PlaceByPlace(Block, ABC):
    """A block that treats each place by itself, as long as its input. Receptive field: 1."""

    paddings = ("none",)

    def step(self, x_BC: Tensor, state: State) -> tuple[Tensor, State]:
        """The same at one tick."""
        return self(x_BC.unsqueeze(2)).squeeze(2), state

    def span(self, first: float, last: float) -> tuple[float, float]:
        """Each output sees its own input."""
        return first, last


class LearnedGroupConv(PlaceByPlace):
    """A 1-convolution that learns its groups (section 3 of the paper).

    Shapes: (B, in_channels, T) to (B, out_channels, T).

    Args:
        in_channels: a multiple of `factor`.
        out_channels: a multiple of `groups`.
        groups: G, the groups of filters that choose together.
        factor: C, the condensation factor: 1 / C of the weights are left in the end.
    """

    def __init__(
        self, in_channels: int, out_channels: int, groups: int = 4, factor: int = 4, *, nd: int = 1
    ):
        super().__init__(in_channels, out_channels, nd)
        owner = "LearnedGroupConv"
        check_positive(owner, groups=groups, factor=factor)
        check_divides(owner, in_channels=(in_channels, factor), out_channels=(out_channels, groups))
        self.groups, self.factor = groups, factor
        self.conv = Conv(in_channels, out_channels, 1, bias=False, nd=nd, padding="none")
        parametrize.register_parametrization(self.conv.layer, "weight", _Kept(groups, in_channels))

    @property
    def kept_GI(self) -> Tensor:
        """Which inputs each group still looks at."""
        (kept_GI,) = self.conv.layer.buffers()
        return kept_GI

    @property
    def stage(self) -> int:
        """Stages of pruning so far, 0 to `factor - 1`."""
        left = int(self.kept_GI[0].sum())
        return self.factor - left * self.factor // self.in_channels

    def forward(self, x: Tensor) -> Tensor:
        """The convolution with what is left of its weights."""
        return self.conv(x)

    def weight_GOI(self) -> Tensor:
        """Weights by group, filter of the group and input; zero where dropped."""
        weight = self.conv.layer.weight
        return weight.reshape(self.groups, -1, self.in_channels)

    @torch.no_grad()
    def prune(self) -> None:
        """One stage: each group drops the in_channels / C inputs that weigh least.

        Raises:
            ValueError: after the last stage.
        """
        if self.stage == self.factor - 1:
            raise ValueError(f"prune: all {self.stage} stages are done; condense() comes next")
        kept_GI = self.kept_GI
        weighs_GI = self.weight_GOI().abs().sum(dim=1).masked_fill(~kept_GI, torch.inf)
        least_GI = weighs_GI.argsort(dim=1)[:, : self.in_channels // self.factor]
        kept_GI.scatter_(1, least_GI, value=False)

    def group_lasso(self) -> Tensor:
        """Sum over groups and inputs of the norm of the group's weights for that input."""
        return torch.linalg.vector_norm(self.weight_GOI(), dim=1).sum()

    @torch.no_grad()
    def condense(self) -> CondensedConv:
        """The same function as an index and a grouped convolution.

        Raises:
            ValueError: before the last stage of pruning.
        """
        if self.stage < self.factor - 1:
            raise ValueError(
                f"condense: stage {self.stage} of {self.factor - 1}; "
                "prune to the end first, or condense_to(model, 1.0)"
            )
        left = self.in_channels // self.factor
        small = CondensedConv(self.in_channels, self.out_channels, self.groups, left, nd=self.nd)
        weight = self.weight_GOI()
        index_GI = self.kept_GI.nonzero()[:, 1].view(self.groups, 1, left)
        weight = weight.gather(2, index_GI.expand(-1, weight.shape[1], -1))
        small.to(weight.device, weight.dtype).index.copy_(index_GI.flatten())
        small.conv.layer.weight.copy_(weight.reshape(small.conv.layer.weight.shape))
        return small.train(self.training)


class CondensedConv(PlaceByPlace):
    """What a learned group convolution becomes: an index layer and a grouped 1-convolution.

    Shapes: (B, in_channels, T) to (B, out_channels, T).

    Args:
        groups: groups of filters.
        left: inputs of each group.
    """

    index: Tensor

    def __init__(self, in_channels: int, out_channels: int, groups: int, left: int, *, nd: int = 1):
        super().__init__(in_channels, out_channels, nd)
        check_positive("CondensedConv", groups=groups, left=left)
        self.register_buffer("index", torch.zeros(groups * left, dtype=torch.long))
        self.conv = Conv(
            groups * left, out_channels, 1, groups=groups, bias=False, nd=nd, padding="none"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Gather each group's inputs, then convolve group by group."""
        return self.conv(x.index_select(1, self.index))
