"""Convolution with causal, symmetric or no padding; with a norm and LeakyReLU; and averages."""

from __future__ import annotations

from fractions import Fraction
from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn

from nexttick.networks.layers import shapes
from nexttick.networks.layers.block import Block, Chain, PathBlock, State
from nexttick.networks.layers.normalisation import norm_layer
from nexttick.networks.layers.shapes import Padding, check_positive, margins


class Conv(Block):
    """`torch.nn.Conv1d` or `Conv2d` that also pads causally (LeCun et al. 1989).

    Causal padding is that of van den Oord et al. 2016 (WaveNet, arXiv:1609.03499): zeros before
    the first tick only, so that output t sees inputs up to t stride.

    Shapes: (B, in_channels, T) to (B, out_channels, T'), T' = ceil(T / stride) with padding and
    floor((T - dilation (kernel_size - 1) - 1) / stride) + 1 without. Receptive field:
    1 + dilation (kernel_size - 1). `groups` are parts of the channels that do not see each other.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        nd: int = 1,
        padding: Padding = "causal",
    ):
        super().__init__(in_channels, out_channels, nd)
        check_positive("Conv", kernel_size=kernel_size, stride=stride, dilation=dilation)
        check_positive("Conv", groups=groups)
        channels = {"in_channels": (in_channels, groups), "out_channels": (out_channels, groups)}
        shapes.check_divides("Conv", **channels)
        self.reach = shapes.reach(kernel_size, dilation)
        self.margins = margins(self.reach, padding, nd)
        self.stride = Fraction(stride)
        self.parts = 1
        kind = nn.Conv1d if nd == 1 else nn.Conv2d
        self.layer = kind(in_channels, out_channels, kernel_size, stride, 0, dilation, groups, bias)
        # torch's default shrinks the signal in every layer, and without a norm nothing repairs it.
        nn.init.kaiming_normal_(self.layer.weight, nonlinearity="leaky_relu", a=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Pad, then convolve."""
        return self.layer(pad(x, self.margins, self.nd))

    def initial_state(self, batch: int) -> State:
        """The ticks before this one that the kernel still covers: zeros."""
        return (self.layer.weight.new_zeros(batch, self.in_channels, self.reach),)

    def step(self, x_BC: Tensor, state: State) -> tuple[Tensor, State]:
        """The kernel at its newest place."""
        if self.nd != 1 or self.stride != 1 or self.margins[1]:
            return super().step(x_BC, state)
        window = torch.cat([state[0], x_BC.unsqueeze(2)], dim=2)
        return self.layer(window).squeeze(2), (window[:, :, 1:],)

    def span(self, first: float, last: float) -> tuple[float, float]:
        """Inputs under the kernel, from its first place to its last."""
        stride, (before, _) = int(self.stride), self.margins
        return first * stride - before, last * stride - before + self.reach

    def output_length(self, length: int) -> int:
        """Places at which the kernel fits."""
        stride, padded = int(self.stride), sum(self.margins)
        return shapes.output_length(length, self.reach + 1, stride=stride, padded=padded)


class Average(Block):
    """Mean over windows of `size` inputs, one every `size`: `torch.nn.AvgPool1d` or `AvgPool2d`.

    Shapes: (B, C, T) to (B, C, ceil(T / size)) with padding, floor(T / size) without. With causal
    padding output i is the mean of inputs (i - 1) size + 1 to i size. Averages of images have no
    middle for an even size, so `symmetric` fills up behind the end. Receptive field: `size`.
    """

    def __init__(self, channels: int, size: int = 2, *, nd: int = 1, padding: Padding = "causal"):
        super().__init__(channels, channels, nd)
        check_positive("Average", size=size)
        self.size = size
        self.stride = Fraction(size)
        self.fills = padding == "symmetric"
        self.before = 0 if self.fills else margins(size - 1, padding, nd)[0]
        self.layer = (nn.AvgPool1d if nd == 1 else nn.AvgPool2d)(
            size, ceil_mode=self.fills, count_include_pad=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Pad, then average."""
        return self.layer(pad(x, (self.before, 0), self.nd))

    def step(self, x_BC: Tensor, state: State) -> tuple[Tensor, State]:
        """The tick itself, where an average is over one."""
        return (x_BC, state) if self.size == 1 else super().step(x_BC, state)

    def span(self, first: float, last: float) -> tuple[float, float]:
        """The windows from the first to the last."""
        start = first * self.size - self.before
        return start, start + (last - first + 1) * self.size - 1

    def output_length(self, length: int) -> int:
        """Windows, whole ones or with a rest."""
        if self.fills:
            return -(-length // self.size)
        return shapes.output_length(length, self.size, stride=self.size, padded=self.before)


class ConvOptions(TypedDict, total=False):
    """Options that a block hands on to a `Conv`, where their defaults stand."""

    stride: int
    dilation: int
    groups: int
    nd: int
    padding: Padding


class Options(ConvOptions, total=False):
    """Options that a block hands on to its convolutions and norms."""

    norm: str


def normed(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    norm: str = "batch",
    **options: Unpack[ConvOptions],
) -> list[nn.Module]:
    """A convolution and its norm; no bias before batch norm, which has a shift of its own."""
    conv = Conv(in_channels, out_channels, kernel_size, bias=norm != "batch", **options)
    return [conv, norm_layer(norm, out_channels, conv.nd)]


class ConvBlock(PathBlock):
    """Convolution, norm, LeakyReLU (Maas et al. 2013) and dropout: the lecture's layer.

    Shapes and receptive field: those of `Conv`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        dropout: float = 0.0,
        **options: Unpack[Options],
    ):
        conv = normed(in_channels, out_channels, kernel_size, **options)
        super().__init__(Chain(*conv, nn.LeakyReLU(), nn.Dropout(dropout)))


class Separable(PathBlock):
    """Depthwise convolution, norm, ReLU; pointwise convolution, norm, ReLU.

    Howard et al. 2017, "MobileNets" (arXiv:1704.04861), section 3.1. Stride, dilation and padding
    are those of the depthwise half. Shapes: (B, in_channels, T) to (B, out_channels, T'),
    T' = ceil(T / stride) with padding. Receptive field: 1 + dilation (kernel_size - 1).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, **options: Unpack[Options]
    ):
        options["groups"] = in_channels
        depthwise = normed(in_channels, in_channels, kernel_size, **options)
        options |= {"groups": 1, "stride": 1, "dilation": 1, "padding": "none"}
        pointwise = normed(in_channels, out_channels, 1, **options)
        super().__init__(Chain(*depthwise, nn.ReLU(), *pointwise, nn.ReLU()))


def pad(x: Tensor, zeros: tuple[int, int], nd: int) -> Tensor:
    """`x` with zeros before and after, on each of its `nd` last axes."""
    return nn.functional.pad(x, zeros * nd) if any(zeros) else x
