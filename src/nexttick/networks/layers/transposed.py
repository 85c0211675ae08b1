"""Transposed convolution, and the fully convolutional encoder-decoder that labels every tick.

Long et al. 2014, "Fully Convolutional Networks for Semantic Segmentation" (arXiv:1411.4038).
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial

import torch
from torch import Tensor, nn

from nexttick.networks.layers.block import Block
from nexttick.networks.layers.convolution import Conv, ConvBlock
from nexttick.networks.layers.shapes import Padding, check_positive, cut, margins, transposed_length


class TransposedConv(Block):
    """`torch.nn.ConvTranspose1d` or `ConvTranspose2d`: makes its input `stride` times longer.

    The adjoint of a convolution with the same weights: input i is spread over outputs i stride to
    i stride + kernel_size - 1. With padding, what is over T stride outputs is cut off, causally
    behind the end, so that output o sees inputs up to floor(o / stride); symmetrically on both
    sides.

    Shapes: (B, in_channels, T) to (B, out_channels, T stride) with padding, and
    (T - 1) stride + kernel_size without. Receptive field: ceil(kernel_size / stride).

    Args:
        kernel_size: outputs over which an input is spread; 2 stride - stride % 2 if not given,
            the kernel of linear interpolation.
        stride: outputs per input.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | None = None,
        *,
        stride: int = 2,
        bias: bool = True,
        nd: int = 1,
        padding: Padding = "causal",
    ):
        super().__init__(in_channels, out_channels, nd)
        kernel = 2 * stride - stride % 2 if kernel_size is None else kernel_size
        check_positive("TransposedConv", kernel_size=kernel, stride=stride)
        if kernel < stride:
            raise ValueError(
                f"TransposedConv: kernel_size={kernel} leaves holes at stride={stride}; "
                f"give a kernel of {stride} or more"
            )
        self.kernel_size = kernel
        # What pads a convolution's input crops its adjoint's output.
        behind, before = margins(kernel - stride, padding, nd)
        self.cropped = (before, behind)
        self.stride, self.period = Fraction(1, stride), stride
        kind = nn.ConvTranspose1d if nd == 1 else nn.ConvTranspose2d
        self.layer = kind(in_channels, out_channels, kernel, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Spread, then crop."""
        return cut(self.layer(x), *self.cropped, self.nd)

    def span(self, first: float, last: float) -> tuple[float, float]:
        """Inputs that are spread over any of these outputs."""
        before = self.cropped[0]
        start = -((self.kernel_size - 1 - before - first) // self.period)
        return start, (last + before) // self.period

    def output_length(self, length: int) -> int:
        """`length` times the stride, and without padding the kernel's rest."""
        cropped = sum(self.cropped)
        return transposed_length(length, self.kernel_size, stride=self.period, cropped=cropped)

    @torch.no_grad()
    def interpolate(self) -> TransposedConv:
        """Start as linear interpolation of each channel by itself (the paper's section 3.3).

        Causal cropping delays what it interpolates by half a kernel.
        """
        place = torch.arange(self.kernel_size, dtype=self.layer.weight.dtype)
        tent = 1 - (place - (self.kernel_size - 1) / 2).abs() / self.period
        tents = tent if self.nd == 1 else tent[:, None] * tent
        self.layer.weight.zero_()
        for channel in range(min(self.in_channels, self.out_channels)):
            self.layer.weight[channel, channel] = tents.clamp(min=0)
        return self


class EncoderDecoder(Block):
    """A fully convolutional network: narrow in steps, score, widen in steps, a label a tick.

    As FCN-8s does, the scores of each resolution are brought to the next finer one by a
    transposed convolution that starts as linear interpolation, and added to the scores there.

    Shapes: (B, in_channels, T) to (B, out_channels, T). What an output sees repeats with period
    stride^depth, and so is not the same for every tick; the receptive field is the largest of
    them. At depth 1, stride 2 and kernel 3, causally: 7 and 8 inputs in turn.

    Args:
        out_channels: scores of each tick.
        depth: how often the length is divided.
        stride: by how much.
    """

    paddings = ("causal", "symmetric")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int | None = None,
        depth: int = 2,
        *,
        stride: int = 2,
        kernel_size: int = 3,
        norm: str = "batch",
        nd: int = 1,
        padding: Padding = "causal",
    ):
        super().__init__(in_channels, out_channels, nd)
        check_positive("EncoderDecoder", depth=depth, stride=stride)
        if padding == "none":
            raise ValueError("EncoderDecoder: padding='none' loses ticks; 'causal' or 'symmetric'")
        inside = out_channels if width is None else width
        conv = partial(ConvBlock, kernel_size=kernel_size, norm=norm, nd=nd, padding=padding)
        up = partial(TransposedConv, stride=stride, bias=False, nd=nd, padding=padding)
        self.stem = conv(in_channels, inside)
        self.downs = nn.ModuleList(conv(inside, inside, stride=stride) for _ in range(depth))
        self.scores = nn.ModuleList(
            Conv(inside, out_channels, 1, nd=nd, padding="none") for _ in range(depth + 1)
        )
        self.ups = nn.ModuleList(up(out_channels, out_channels).interpolate() for _ in range(depth))
        self.period = stride**depth

    def forward(self, x: Tensor) -> Tensor:
        """Down to the coarsest scores, and up again, adding the finer ones."""
        levels = [self.stem(x)]
        for down in self.downs:
            levels.append(down(levels[-1]))
        *finer, score = [score(level) for score, level in zip(self.scores, levels, strict=True)]
        for up, fine in zip(reversed(self.ups), reversed(finer), strict=True):
            # What was no multiple of the stride going down is longer coming up.
            score = fine + up(score)[(..., *map(slice, fine.shape[2:]))]
        return score

    def span(self, first: float, last: float) -> tuple[float, float]:
        """The hull of what all resolutions see."""
        return self.stem.span(*self._level_span(0, first, last))

    def _level_span(self, level: int, first: float, last: float) -> tuple[float, float]:
        if level == len(self.ups):
            return first, last
        up, down = self.ups[level], self.downs[level]
        assert isinstance(up, Block)
        assert isinstance(down, Block)
        coarse = self._level_span(level + 1, *up.span(first, last))
        low, high = down.span(*coarse)
        return min(first, low), max(last, high)
