"""Residual connections: the layers learn what to add to their input.

He et al. 2015, "Deep Residual Learning for Image Recognition" (arXiv:1512.03385), figure 5:
y = ReLU(F(x) + x). Where widths or strides differ, x goes through a projection (the paper's
option B): a convolution with kernel 1 and a norm.
"""

from __future__ import annotations

from abc import ABC
from typing import Unpack

from torch import Tensor, nn

from nexttick.networks.layers.block import Chain, PathBlock
from nexttick.networks.layers.convolution import Options, normed
from nexttick.networks.layers.shapes import check_positive


class Shortcut(PathBlock, ABC):
    """ReLU(F(x) + x): a path, and beside it its input or a projection of it.

    Shapes: (B, in_channels, T) to (B, out_channels, T'), T' = ceil(T / stride) with padding.
    Without padding, the shortcut takes the last tick that the path sees, and of an image the
    middle. Receptive field: the path's.
    """

    def __init__(self, path: Chain, options: Options):
        super().__init__(path, options.get("padding", "causal"))
        c_in, c_out = path.in_channels, path.out_channels
        self.shortcut: nn.Module = nn.Identity()
        if path.stride != 1 or c_in != c_out:
            beside = options | {"stride": int(path.stride), "dilation": 1, "padding": "none"}
            self.shortcut = nn.Sequential(*normed(c_in, c_out, 1, **beside))

    def combine(self, x: Tensor, y: Tensor) -> Tensor:
        """ReLU(F(x) + x)."""
        return nn.functional.relu(y + self.shortcut(x))


class Residual(Shortcut):
    """Two convolutions and a shortcut: the paper's block of ResNet-18 and ResNet-34.

    The stride is that of the first. Receptive field: 1 + dilation (kernel_size - 1)(1 + stride).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, **options: Unpack[Options]
    ):
        first = normed(in_channels, out_channels, kernel_size, **options)
        second = normed(out_channels, out_channels, kernel_size, **options | {"stride": 1})
        super().__init__(Chain(*first, nn.ReLU(), *second), options)


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
        reduction: int = 4,
        **options: Unpack[Options],
    ):
        check_positive("Bottleneck", reduction=reduction)
        narrow = max(1, out_channels // reduction)
        around = options | {"stride": 1, "dilation": 1}
        path = Chain(
            *(*normed(in_channels, narrow, 1, **around), nn.ReLU()),
            *(*normed(narrow, narrow, kernel_size, **options), nn.ReLU()),
            *normed(narrow, out_channels, 1, **around),
        )
        super().__init__(path, options)
