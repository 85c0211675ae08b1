"""Residual connections: the layers learn what to add to their input.

He et al. 2015, "Deep Residual Learning for Image Recognition" (arXiv:1512.03385), figure 5:
y = ReLU(F(x) + x). Where widths or strides differ, x goes through a projection (the paper's
option B): a convolution with kernel 1 and a norm.
"""

from __future__ import annotations

from abc import ABC
from functools import partial

from torch import Tensor, nn

from nexttick.networks.layers.block import Chain, PathBlock
from nexttick.networks.layers.convolution import normed
from nexttick.networks.layers.shapes import Padding, check_positive


class Shortcut(PathBlock, ABC):
    """ReLU(F(x) + x): a path, and beside it its input or a projection of it.

    Shapes: (B, in_channels, T) to (B, out_channels, T'), T' = ceil(T / stride) with padding.
    Without padding, the shortcut takes the last tick that the path sees, and of an image the
    middle. Receptive field: the path's.
    """

    def __init__(self, path: Chain, norm: str, padding: Padding):
        super().__init__(path, padding)
        stride, c_in, c_out = int(path.stride), path.in_channels, path.out_channels
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            projection = normed(c_in, c_out, 1, norm, stride=stride, nd=path.nd, padding="none")
            self.shortcut = nn.Sequential(*projection)

    def combine(self, x: Tensor, y: Tensor) -> Tensor:
        """ReLU(F(x) + x)."""
        return nn.functional.relu(y + self.shortcut(x))


class Residual(Shortcut):
    """Two convolutions and a shortcut: the paper's block of ResNet-18 and ResNet-34.

    The stride is that of the first. Receptive field: 1 + dilation (kernel_size - 1)(1 + stride).
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
        conv = partial(normed, dilation=dilation, nd=nd, padding=padding)
        path = Chain(
            *conv(in_channels, out_channels, kernel_size, norm, stride=stride),
            nn.ReLU(),
            *conv(out_channels, out_channels, kernel_size, norm),
        )
        super().__init__(path, norm, padding)


class Bottleneck(Shortcut):
    """Narrow, convolve, widen, and a shortcut: the paper's block of ResNet-50 and deeper.

    Kernels 1, `kernel_size`, 1. Stride and dilation are those of the middle one, as torchvision
    has it; the paper's stride stands at the first and throws inputs away unseen. Receptive field:
    1 + dilation (kernel_size - 1).

    Args:
        reduction: how many times narrower than `out_channels` the middle is; 4 in the paper.
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
        conv = partial(normed, norm=norm, nd=nd, padding=padding)
        path = Chain(
            *conv(in_channels, narrow, 1),
            nn.ReLU(),
            *conv(narrow, narrow, kernel_size, stride=stride, dilation=dilation),
            nn.ReLU(),
            *conv(narrow, out_channels, 1),
        )
        super().__init__(path, norm, padding)
