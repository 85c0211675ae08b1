"""Depthwise separable convolution: first each channel along time, then all channels at a tick.

Howard et al. 2017, "MobileNets" (arXiv:1704.04861), figure 3: batch norm and ReLU after each
half. Against a regular convolution it needs 1 / out_channels + 1 / kernel_size^nd of the weights
and the multiply-adds (the paper's section 3.1); `nexttick.blocks.cost` counts both.
"""

from __future__ import annotations

from torch import nn

from nexttick.blocks.block import Chain, PathBlock
from nexttick.blocks.convolution import Conv
from nexttick.blocks.normalisation import norm_layer
from nexttick.blocks.shapes import Padding


class Separable(PathBlock):
    """Depthwise convolution, norm, ReLU; pointwise convolution, norm, ReLU.

    Shapes: (B, in_channels, T) to (B, out_channels, T'), T' = ceil(T / stride) with padding.
    Receptive field: 1 + dilation (kernel_size - 1).

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: of the depthwise half.
        stride: of the depthwise half.
        dilation: of the depthwise half.
        norm: `batch` (the paper's), `layer` or `none`.
        nd: 1 for ticks, 2 for images.
        padding: `causal` (ticks only), `symmetric` or `none`.
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
        bias = norm != "batch"
        depthwise = Conv(
            in_channels,
            in_channels,
            kernel_size,
            stride=stride,
            dilation=dilation,
            groups=in_channels,
            bias=bias,
            nd=nd,
            padding=padding,
        )
        pointwise = Conv(in_channels, out_channels, 1, bias=bias, nd=nd, padding="none")
        path = Chain(
            *(depthwise, norm_layer(norm, in_channels, nd), nn.ReLU()),
            *(pointwise, norm_layer(norm, out_channels, nd), nn.ReLU()),
        )
        super().__init__(in_channels, out_channels, path)
