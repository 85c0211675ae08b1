"""Residual connections: the layers learn what to add to their input.

He et al. 2015, "Deep Residual Learning for Image Recognition" (arXiv:1512.03385), figure 5:
y = ReLU(F(x) + x). Where widths or strides differ, x goes through a projection (the paper's
option B): a convolution with kernel 1 and a norm.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from nexttick.networks.layers.block import Chain, PathBlock
from nexttick.networks.layers.convolution import Conv
from nexttick.networks.layers.normalisation import norm_layer
from nexttick.networks.layers.shapes import Padding, check_positive


class Residual(PathBlock):
    """Two convolutions and a shortcut: the paper's block of ResNet-18 and ResNet-34.

    Shapes: (B, in_channels, T) to (B, out_channels, T'), T' = ceil(T / stride) with padding.
    Receptive field: 1 + dilation (kernel_size - 1)(1 + stride).

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: of both convolutions.
        stride: of the first convolution and the shortcut.
        dilation: of both convolutions.
        norm: `batch` (the paper's), `layer` or `none`.
        nd: 1 for ticks, 2 for images.
        padding: `causal` (ticks only), `symmetric` or `none`. Without padding, the shortcut takes
            the last tick that the path sees, and of an image the middle.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: str = "batch",
        nd: int = 1,
        padding: Padding = "causal",
    ):
        conv = partial(_normed, kernel_size=kernel_size, dilation=dilation, norm=norm, nd=nd)
        path = Chain(
            *conv(in_channels, out_channels, stride=stride, padding=padding),
            nn.ReLU(),
            *conv(out_channels, out_channels, padding=padding),
        )
        super().__init__(in_channels, out_channels, path, padding)
        self.shortcut = shortcut(path, norm)

    def combine(self, x: Tensor, y: Tensor) -> Tensor:
        """ReLU(F(x) + x)."""
        return nn.functional.relu(y + self.shortcut(x))


class Bottleneck(PathBlock):
    """Narrow, convolve, widen, and a shortcut: the paper's block of ResNet-50 and deeper.

    Kernels 1, `kernel_size`, 1. The stride stands at the middle one, as torchvision has it; the
    paper's stands at the first and throws inputs away unseen. Shapes as in `Residual`. Receptive
    field: 1 + dilation (kernel_size - 1).

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: of the middle convolution.
        stride: of the middle convolution and the shortcut.
        dilation: of the middle convolution.
        reduction: how many times narrower than `out_channels` the middle is; 4 in the paper.
        norm: `batch` (the paper's), `layer` or `none`.
        nd: 1 for ticks, 2 for images.
        padding: as in `Residual`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        reduction: int = 4,
        norm: str = "batch",
        nd: int = 1,
        padding: Padding = "causal",
    ):
        check_positive("Bottleneck", reduction=reduction)
        narrow = max(1, out_channels // reduction)
        conv = partial(_normed, norm=norm, nd=nd, padding=padding)
        path = Chain(
            *conv(in_channels, narrow, kernel_size=1),
            nn.ReLU(),
            *conv(narrow, narrow, kernel_size=kernel_size, stride=stride, dilation=dilation),
            nn.ReLU(),
            *conv(narrow, out_channels, kernel_size=1),
        )
        super().__init__(in_channels, out_channels, path, padding)
        self.shortcut = shortcut(path, norm)

    def combine(self, x: Tensor, y: Tensor) -> Tensor:
        """ReLU(F(x) + x)."""
        return nn.functional.relu(y + self.shortcut(x))


def shortcut(path: Chain, norm: str) -> nn.Module:
    """The input itself, or a projection of it to the channels and the stride of a path."""
    stride, c_in, c_out = int(path.stride), path.in_channels, path.out_channels
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    parts = _normed(c_in, c_out, kernel_size=1, stride=stride, norm=norm, nd=path.nd)
    return nn.Sequential(*parts)


def _normed(
    c_in: int,
    c_out: int,
    *,
    kernel_size: int,
    stride: int = 1,
    dilation: int = 1,
    norm: str,
    nd: int,
    padding: Padding = "none",
) -> list[nn.Module]:
    conv = Conv(
        c_in,
        c_out,
        kernel_size,
        stride=stride,
        dilation=dilation,
        bias=norm != "batch",
        nd=nd,
        padding=padding,
    )
    return [conv, norm_layer(norm, c_out, nd)]
