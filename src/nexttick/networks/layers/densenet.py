"""DenseNet: every layer sees the outputs of all layers before it, side by side.

Huang et al. 2016, "Densely Connected Convolutional Networks" (arXiv:1608.06993), the variant
DenseNet-BC: each layer first narrows to a few times its growth, each transition compresses.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nexttick.networks.layers.block import Block, Chain, PathBlock
from nexttick.networks.layers.convolution import Average, Conv
from nexttick.networks.layers.normalisation import norm_layer
from nexttick.networks.layers.shapes import Padding, check_positive


class Beside(PathBlock):
    """A path whose output stands beside its own input: [x, F(x)] (the paper's equation 2).

    Shapes: (B, in_channels, T) to (B, in_channels + path's, T'). Receptive field: the path's.

    Args:
        path: layers of stride 1.
        padding: of the path; without, x is trimmed to the path's length as `trim` says.
    """

    def __init__(self, path: Chain, padding: Padding):
        super().__init__(path.in_channels, path.in_channels + path.out_channels, path, padding)

    def combine(self, x: Tensor, y: Tensor) -> Tensor:
        """The input, and behind it what the path makes of it."""
        return torch.cat([x, y], dim=1)


def dense_layer(
    in_channels: int,
    growth: int,
    kernel_size: int = 3,
    *,
    bottleneck: int = 4,
    norm: str = "batch",
    dropout: float = 0.0,
    nd: int = 1,
    padding: Padding = "causal",
) -> Beside:
    """One layer of DenseNet-BC: norm, ReLU, 1-conv to bottleneck growth; norm, ReLU, conv.

    Shapes: (B, in_channels, T) to (B, in_channels + growth, T'). Receptive field: `kernel_size`.
    Arguments as in `DenseBlock`.
    """
    check_positive("dense_layer", growth=growth, bottleneck=bottleneck)
    narrow = bottleneck * growth
    path = Chain(
        norm_layer(norm, in_channels, nd),
        nn.ReLU(),
        Conv(in_channels, narrow, 1, bias=norm != "batch", nd=nd, padding="none"),
        norm_layer(norm, narrow, nd),
        nn.ReLU(),
        Conv(narrow, growth, kernel_size, bias=False, nd=nd, padding=padding),
        nn.Dropout(dropout),
    )
    return Beside(path, padding)


class DenseBlock(PathBlock):
    """`num_layers` dense layers, each seeing all before it.

    Shapes: (B, in_channels, T) to (B, in_channels + num_layers growth, T). Receptive field:
    1 + num_layers (kernel_size - 1).

    Args:
        in_channels: channels in.
        growth: channels that each layer adds; the paper's k.
        num_layers: dense layers.
        kernel_size: of each layer's second convolution.
        bottleneck: width between a layer's convolutions, in growths; 4 in the paper.
        norm: `batch` (the paper's), `layer` or `none`.
        dropout: probability with which training silences a new value.
        nd: 1 for ticks, 2 for images.
        padding: `causal` (ticks only), `symmetric` or `none`.
    """

    def __init__(
        self,
        in_channels: int,
        growth: int,
        num_layers: int = 4,
        kernel_size: int = 3,
        *,
        bottleneck: int = 4,
        norm: str = "batch",
        dropout: float = 0.0,
        nd: int = 1,
        padding: Padding = "causal",
    ):
        check_positive("DenseBlock", num_layers=num_layers)
        path = Chain(
            *(
                dense_layer(
                    in_channels + before * growth,
                    growth,
                    kernel_size,
                    bottleneck=bottleneck,
                    norm=norm,
                    dropout=dropout,
                    nd=nd,
                    padding=padding,
                )
                for before in range(num_layers)
            )
        )
        super().__init__(in_channels, path.out_channels, path)


class Transition(PathBlock):
    """Between dense blocks: norm, ReLU, 1-conv to fewer channels, average of `pool` inputs.

    Shapes: (B, in_channels, T) to (B, out_channels, ceil(T / pool)) with padding. Receptive
    field: `pool`. With pool 1 every tick keeps its own output.

    Args:
        in_channels: channels in.
        out_channels: channels out; half of those in, in the paper.
        pool: inputs of an average.
        norm: `batch` (the paper's), `layer` or `none`.
        nd: 1 for ticks, 2 for images.
        padding: of the average; `causal` (ticks only), `symmetric` or `none`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        pool: int = 2,
        *,
        norm: str = "batch",
        nd: int = 1,
        padding: Padding = "causal",
    ):
        last: Block = Average(out_channels, pool, nd=nd, padding=padding)
        path = Chain(
            norm_layer(norm, in_channels, nd),
            nn.ReLU(),
            Conv(in_channels, out_channels, 1, bias=False, nd=nd, padding="none"),
            last,
        )
        super().__init__(in_channels, out_channels, path)
