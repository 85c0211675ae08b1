"""CondenseNet: layers learn which inputs they need, and end as fast grouped convolutions.

Huang et al. 2017, "CondenseNet: An Efficient DenseNet using Learned Group Convolutions"
(arXiv:1711.09224). The filters of a 1-convolution form G groups. In C - 1 stages during the first
half of training, each group drops the in_channels / C inputs whose weights are smallest in sum of
magnitudes, so that 1 / C of them are left; a group lasso makes a group's filters agree on which.
After training the dropped weights are cut out: an index gathers each group's inputs, and an
ordinary grouped convolution does the rest.

In a training loop: `condense_to(model, progress)` before each epoch, `loss + strength *
group_lasso(model)` in each step, `condensed(model)` at the end.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nexttick.networks.layers.block import Block, Chain, PathBlock, State
from nexttick.networks.layers.convolution import Conv
from nexttick.networks.layers.densenet import Beside
from nexttick.networks.layers.normalisation import norm_layer
from nexttick.networks.layers.shapes import Padding, check_divides, check_positive


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
        """One stage: each group drops the in_channels / C inputs that weigh least."""
        if self.stage == self.factor - 1:
            raise ValueError(f"prune: all {self.stage} stages are done; condense() comes next")
        # What was dropped before weighs without end, so that it is not chosen a second time.
        kept_GI = self.kept_GI
        weighs_GI = self.weight_GOI().abs().sum(dim=1).masked_fill(~kept_GI, torch.inf)
        least_GI = weighs_GI.argsort(dim=1)[:, : self.in_channels // self.factor]
        kept_GI.scatter_(1, least_GI, value=False)

    def group_lasso(self) -> Tensor:
        """Sum over groups and inputs of the norm of the group's weights for that input."""
        return torch.linalg.vector_norm(self.weight_GOI(), dim=1).sum()

    @torch.no_grad()
    def condense(self) -> CondensedConv:
        """The same function as an index and a grouped convolution, once all stages are done."""
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

    Shapes: (B, in_channels, T) to (B, out_channels, T). Each group has `left` inputs.
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


class CondenseBlock(PathBlock):
    """`num_layers` layers of CondenseNet, each seeing all before it.

    A layer: norm, ReLU, learned groups; norm, ReLU, shuffle, grouped convolution. The shuffle lets
    every group of the second convolution see every group of the first. Shapes: (B, in_channels, T)
    to (B, in_channels + num_layers growth, T). Receptive field: 1 + num_layers (kernel_size - 1).

    Args:
        in_channels: a multiple of `factor`.
        growth: channels that each layer adds; a multiple of `factor` and `groups`.
        kernel_size: of each layer's second convolution.
        groups: of both convolutions.
        factor: of the first.
        bottleneck: width between a layer's convolutions, in growths; 4 in the paper.
    """

    def __init__(
        self,
        in_channels: int,
        growth: int,
        num_layers: int = 4,
        kernel_size: int = 3,
        *,
        groups: int = 4,
        factor: int = 4,
        bottleneck: int = 4,
        norm: str = "batch",
        nd: int = 1,
        padding: Padding = "causal",
    ):
        check_positive("CondenseBlock", num_layers=num_layers, growth=growth, bottleneck=bottleneck)
        narrow = bottleneck * growth
        grouped = partial(Conv, groups=groups, bias=False, nd=nd, padding=padding)
        layers = [
            Chain(
                *(norm_layer(norm, channels, nd), nn.ReLU()),
                LearnedGroupConv(channels, narrow, groups, factor, nd=nd),
                *(norm_layer(norm, narrow, nd), nn.ReLU(), nn.ChannelShuffle(groups)),
                grouped(narrow, growth, kernel_size),
            )
            for channels in range(in_channels, in_channels + num_layers * growth, growth)
        ]
        super().__init__(Chain(*(Beside(layer, padding) for layer in layers)))


def learned_group_convs(model: nn.Module) -> Iterator[LearnedGroupConv]:
    """All learned group convolutions of a model."""
    return (module for module in model.modules() if isinstance(module, LearnedGroupConv))


def stage_at(progress: float, factor: int) -> int:
    """Stages of pruning due when `progress` (0 to 1) of training is done.

    The C - 1 stages divide the first half of training evenly; in the second half what is left
    trains on (the paper's figure 5).
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress={progress}: give the share of training done, 0 to 1")
    return min(factor - 1, int(2 * (factor - 1) * progress))


def condense_to(model: nn.Module, progress: float) -> None:
    """Prune every learned group convolution to the stage due at `progress` of training."""
    for conv in learned_group_convs(model):
        for _ in range(conv.stage, stage_at(progress, conv.factor)):
            conv.prune()


def group_lasso(model: nn.Module) -> Tensor:
    """The paper's regulariser over a whole model, to be scaled and added to a loss; a scalar."""
    terms = [conv.group_lasso() for conv in learned_group_convs(model)]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def condensed(model: nn.Module) -> nn.Module:
    """A copy, equal in output, whose learned group convolutions, pruned to the end, are grouped."""
    copy = deepcopy(model)
    if isinstance(copy, LearnedGroupConv):
        return copy.condense()
    for parent in list(copy.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LearnedGroupConv):
                setattr(parent, name, child.condense())
    return copy
