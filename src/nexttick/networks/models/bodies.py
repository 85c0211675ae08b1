"""The convolutional layers of each architecture, between the encoding and the head.

A body is a chain of blocks without padding, stride 1, so that every tick keeps its own output and
windows that overlap share their work. All take `--num-layers`, `--hidden-size` and
`--kernel-size`; what they see of the past is their receptive field.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from torch import nn

from nexttick.networks.layers.block import Block, Chain
from nexttick.networks.layers.condensenet import CondenseBlock
from nexttick.networks.layers.convolution import ConvBlock, Separable
from nexttick.networks.layers.densenet import DenseBlock, Transition
from nexttick.networks.layers.residual import Bottleneck, Residual
from nexttick.options import ModelOptions

_CONDENSED = 4  # groups, and the factor by which each group's inputs are cut


def plain(channels: int, options: ModelOptions) -> Chain:
    """The lecture's layer, `num_layers` times: convolution, norm, LeakyReLU."""
    return _convolutions(channels, options, [1] * options.num_layers)


def dilated(channels: int, options: ModelOptions) -> Chain:
    """The same with dilations 1, 2, 4, … as in WaveNet (van den Oord et al. 2016)."""
    return _convolutions(channels, options, [2**layer for layer in range(options.num_layers)])


def _convolutions(channels: int, options: ModelOptions, dilations: list[int]) -> Chain:
    block = partial(ConvBlock, norm=options.norm, dropout=options.dropout, padding="none")
    widths = zip(_widths(channels, options), dilations, strict=True)
    return Chain(*(block(*ends, options.kernel_size, dilation=d) for ends, d in widths))


def repeated(
    kind: type[Residual] | type[Bottleneck] | type[Separable], channels: int, options: ModelOptions
) -> Chain:
    """`num_layers` blocks of a kind, each with dropout behind it."""
    layers: list[nn.Module] = []
    for c_in, c_out in _widths(channels, options):
        block = kind(c_in, c_out, options.kernel_size, norm=options.norm, padding="none")
        layers += [block, nn.Dropout(options.dropout)]
    return Chain(*layers)


def dense(channels: int, options: ModelOptions) -> Chain:
    """A dense block of `num_layers` layers, then back to `hidden_size` (Huang et al. 2016)."""
    return _compressed(DenseBlock, channels, options)


def condense(channels: int, options: ModelOptions) -> Chain:
    """The same whose layers learn which inputs they need (Huang et al. 2017)."""
    if channels % _CONDENSED:
        raise ValueError(
            f"--arch condense drops {channels} channels in {_CONDENSED} equal parts: give a "
            f"--hidden-size (and with --bins 0 a number of features) that divides by {_CONDENSED}"
        )
    block = partial(CondenseBlock, groups=_CONDENSED, factor=_CONDENSED)
    return _compressed(block, channels, options)


def _compressed(make: Callable[..., Block], channels: int, options: ModelOptions) -> Chain:
    # What a dense layer adds is near a quarter of the width, in whole groups.
    growth = max(1, options.hidden_size // 16) * _CONDENSED
    sizes = (channels, growth, options.num_layers, options.kernel_size)
    block = make(*sizes, norm=options.norm, padding="none")
    # A pool of one tick keeps every tick's output its own; the paper's pool of two would not.
    transition = Transition(block.out_channels, options.hidden_size, 1, norm=options.norm)
    return Chain(block, nn.Dropout(options.dropout), transition)


def _widths(channels: int, options: ModelOptions) -> list[tuple[int, int]]:
    return list(pairwise([channels] + [options.hidden_size] * options.num_layers))


BODIES: dict[str, Callable[[int, ModelOptions], Chain]] = {
    "plain": plain,
    "residual": partial(repeated, Residual),
    "bottleneck": partial(repeated, Bottleneck),
    "dense": dense,
    "condense": condense,
    "dilated": dilated,
    "separable": partial(repeated, Separable),
}
