"""DenseNet: every layer sees the outputs of all layers before it, side by side.

Huang et al. 2016, "Densely Connected Convolutional Networks" (arXiv:1608.06993), the variant
DenseNet-BC: each layer first narrows to a few times its growth, each transition compresses.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nexttick.networks.layers.block import Chain, PathBlock
from nexttick.networks.layers.convolution import Average, Conv, normed
from nexttick.networks.layers.normalisation import norm_layer
from nexttick.networks.layers.shapes import Padding, check_positive


class Beside(PathBlock):
    """A path whose output stands beside its own input: [x, F(x)] (the paper's equation 2).

    Shapes: (B, in_channels, T) to (B, in_channels + path's, T'). Receptive field: the path's, which
    has stride 1.
    """

    def __init__(self, path: Chain, padding: Padding):
        super().__init__(path, padding, more=path.in_channels)

    def combine(self, x: Tensor, y: Tensor) -> Tensor:
        """The input, and behind it what the path makes of it."""
        return torch.cat([x, y], dim=1)


class DenseBlock(PathBlock):
    """`num_layers` dense layers, each seeing all before it.

    A layer of DenseNet-BC: norm, ReLU, 1-convolution to bottleneck growth; norm, ReLU, convolution.
    Shapes: (B, in_channels, T) to (B, in_channels + num_layers growth, T). Receptive field:
    1 + num_layers (kernel_size - 1).

    Args:
        growth: channels that each layer adds; the paper's k.
        kernel_size: of each layer's second convolution.
        bottleneck: width between a layer's convolutions, in growths; 4 in the paper.
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
        check_positive("DenseBlock", num_layers=num_layers, growth=growth, bottleneck=bottleneck)
        narrow = bottleneck * growth
        layers = [
            Chain(
                *(norm_layer(norm, channels, nd), nn.ReLU()),
                *normed(channels, narrow, 1, norm=norm, nd=nd, padding="none"),
                nn.ReLU(),
                Conv(narrow, growth, kernel_size, bias=False, nd=nd, padding=padding),
                nn.Dropout(dropout),
            )
            for channels in range(in_channels, in_channels + num_layers * growth, growth)
        ]
        super().__init__(Chain(*(Beside(layer, padding) for layer in layers)))


class Transition(PathBlock):
    """Between dense blocks: norm, ReLU, 1-conv to fewer channels, average of `pool` inputs.

    Shapes: (B, in_channels, T) to (B, out_channels, ceil(T / pool)) with padding; in the paper the
    channels are halved. Receptive field: `pool`. With pool 1 every tick keeps its own output.
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
        path = Chain(
            norm_layer(norm, in_channels, nd),
            nn.ReLU(),
            Conv(in_channels, out_channels, 1, bias=False, nd=nd, padding="none"),
            Average(out_channels, pool, nd=nd, padding=padding),
        )
        super().__init__(path)
