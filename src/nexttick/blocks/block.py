"""What every block can say of itself: its channels, its output length, the inputs it sees.

Axes: B segments, C channels, T ticks; images have H rows and W columns in the place of T.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from functools import reduce
from math import prod
from typing import ClassVar

from torch import Tensor, nn

from nexttick.blocks.normalisation import ChannelNorm
from nexttick.blocks.shapes import Padding, check_positive


class Block(nn.Module, ABC):
    """A layer or a few, from (B, in_channels, T) to (B, out_channels, T'), or images alike.

    Attributes:
        nds: dimensions that the class can be built for.
        paddings: paddings that the class can be built with, in one dimension.
        in_channels: channels in.
        out_channels: channels out.
        nd: 1 for ticks, 2 for images.
        stride: inputs per output; below 1 where a block makes its input longer.
        period: the pattern of what outputs see repeats after so many outputs.
    """

    nds: ClassVar[tuple[int, ...]] = (1, 2)
    paddings: ClassVar[tuple[Padding, ...]] = ("causal", "symmetric", "none")
    stride: Fraction = Fraction(1)
    period: int = 1

    def __init__(self, in_channels: int, out_channels: int, nd: int = 1):
        super().__init__()
        owner = type(self).__name__
        check_positive(owner, in_channels=in_channels, out_channels=out_channels)
        if nd not in self.nds:
            raise ValueError(f"{owner}: nd={nd}; choose from {self.nds}")
        self.in_channels, self.out_channels, self.nd = in_channels, out_channels, nd

    @abstractmethod
    def span(self, first: float, last: float) -> tuple[float, float]:
        """The first and last input that outputs `first` to `last` see, on one axis.

        Inputs below 0 or behind the end are padding. `-inf` stands for "all that came before".
        """

    @abstractmethod
    def output_length(self, length: int) -> int:
        """Outputs of `length` inputs, on one axis."""

    @property
    def receptive_field(self) -> float:
        """Inputs on one axis that the best-informed output sees; `inf` for a memory without end."""
        spans = [self.span(output, output) for output in range(self.period)]
        return max(last - first + 1 for first, last in spans)


# Layers that treat each tick by itself, once trained, and so widen no receptive field.
POINTWISE = (
    nn.BatchNorm1d, nn.BatchNorm2d, ChannelNorm, nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh,
    nn.ChannelShuffle, nn.Dropout, nn.Identity,
)  # fmt: skip


class Chain(Block):
    """Blocks and pointwise layers one after the other; spans, lengths and strides compose.

    Shapes: those of the first block in, of the last block out. Receptive field: for plain
    convolutions 1 + sum over layers of dilation (kernel - 1) times the strides before it.

    Args:
        layers: blocks, and layers of `POINTWISE` between them; at least one block.
    """

    def __init__(self, *layers: nn.Module):
        blocks = [layer for layer in layers if isinstance(layer, Block)]
        _check_chain(layers, blocks)
        super().__init__(blocks[0].in_channels, blocks[-1].out_channels, blocks[0].nd)
        self.layers = nn.Sequential(*layers)
        self.stride = prod((block.stride for block in blocks), start=Fraction(1))
        self.period = prod(block.period for block in blocks)

    @property
    def blocks(self) -> list[Block]:
        """The layers that are no pointwise ones."""
        return [layer for layer in self.layers if isinstance(layer, Block)]

    def forward(self, x: Tensor) -> Tensor:
        """Through all layers."""
        return self.layers(x)

    def span(self, first: float, last: float) -> tuple[float, float]:
        """Back through the blocks, last to first."""
        return reduce(lambda ends, block: block.span(*ends), reversed(self.blocks), (first, last))

    def output_length(self, length: int) -> int:
        """Forward through the blocks."""
        return reduce(lambda count, block: block.output_length(count), self.blocks, length)


class PathBlock(Block, ABC):
    """A block whose lengths and spans are those of one path of layers.

    What a subclass puts beside the path sees no input that the path does not see.
    """

    def __init__(self, in_channels: int, out_channels: int, path: Chain):
        super().__init__(in_channels, out_channels, path.nd)
        self.path = path
        self.stride, self.period = path.stride, path.period

    def span(self, first: float, last: float) -> tuple[float, float]:
        """What the path sees."""
        return self.path.span(first, last)

    def output_length(self, length: int) -> int:
        """What the path gives."""
        return self.path.output_length(length)


def _check_chain(layers: tuple[nn.Module, ...], blocks: list[Block]) -> None:
    strange = [
        type(layer).__name__ for layer in layers if not isinstance(layer, (Block, *POINTWISE))
    ]
    if strange:
        raise ValueError(f"Chain: what {', '.join(strange)} sees is unknown; wrap it as a Block")
    if not blocks:
        raise ValueError("Chain: no block among the layers; give at least one")
    if len({block.nd for block in blocks}) > 1:
        raise ValueError(f"Chain: nd={[block.nd for block in blocks]}; give all the same nd")
