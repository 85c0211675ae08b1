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

from collections.abc import Iterator
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn

from nexttick.networks.layers.block import Chain, PathBlock
from nexttick.networks.layers.convolution import Conv
from nexttick.networks.layers.densenet import Beside
from nexttick.networks.layers.learned_groups import LearnedGroupConv
from nexttick.networks.layers.normalisation import norm_layer
from nexttick.networks.layers.shapes import Padding, check_positive


class CondenseBlock(PathBlock):
    """`num_layers` layers of CondenseNet, each seeing all before it.

    A layer: norm, ReLU, learned groups; norm, ReLU, shuffle, grouped convolution. The shuffle lets
    every group of the second convolution see every group of the first. Shapes: (B, in_channels, T)
    to (B, in_channels + num_layers growth, T). Receptive field: 1 + num_layers (kernel_size - 1).

    Args:
        in_channels: a multiple of `factor`.
        growth: channels that each layer adds; a multiple of `factor` and `groups`.
        kernel_size: of each layer's second convolution.
        groups: groups of both convolutions.
        factor: condensation factor of the first.
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

    Raises:
        ValueError: for a progress outside 0 to 1.
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
    """A copy whose learned group convolutions have become grouped ones; equal in output.

    Raises:
        ValueError: where pruning is not at its end.
    """
    copy = deepcopy(model)
    if isinstance(copy, LearnedGroupConv):
        return copy.condense()
    for parent in list(copy.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LearnedGroupConv):
                setattr(parent, name, child.condense())
    return copy
