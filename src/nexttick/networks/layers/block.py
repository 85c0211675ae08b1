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

from nexttick.networks.layers.normalisation import ChannelNorm
from nexttick.networks.layers.shapes import Padding, check_positive, trim

State = tuple[Tensor, ...]


class Block(nn.Module, ABC):
    """A layer or a few, from (B, in_channels, T) to (B, out_channels, T'), or images alike.

    Attributes:
        nds: dimensions that the class can be built for.
        paddings: paddings that the class can be built with, in one dimension.
        stride: inputs per output; below 1 where a block makes its input longer.
        period: the pattern of what outputs see repeats after so many outputs.
        parts: tensors that `step` remembers.
    """

    nds: ClassVar[tuple[int, ...]] = (1, 2)
    paddings: ClassVar[tuple[Padding, ...]] = ("causal", "symmetric", "none")
    stride: Fraction = Fraction(1)
    period: int = 1
    parts: int = 0

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

    def output_length(self, length: int) -> int:
        """Outputs of `length` inputs, on one axis; as many, if a block doesn't say otherwise."""
        return length

    def initial_state(self, batch: int) -> State:
        """What `step` remembers before the first tick of `batch` markets."""
        return ()

    def step(self, x_BC: Tensor, state: State) -> tuple[Tensor, State]:
        """One tick in, (B, in_channels): its output, (B, out_channels), and the next state.

        From the receptive field on, the numbers are those of the whole call without padding; with
        causal padding they are so from the first tick. A block that gives no output of its own for
        each tick refuses with a ValueError.
        """
        raise ValueError(
            f"{type(self).__name__} has no tick-by-tick form (nd={self.nd}, stride={self.stride}, "
            f"period={self.period}, or it looks ahead): compute it window by window"
        )

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
    """Blocks, and layers of `POINTWISE` between them; spans, lengths and strides compose.

    Shapes: those of the first block in, of the last block out. Receptive field: for plain
    convolutions 1 + sum over layers of dilation (kernel - 1) times the strides before it.
    """

    def __init__(self, *layers: nn.Module):
        known = (Block, *POINTWISE)
        strange = [type(layer).__name__ for layer in layers if not isinstance(layer, known)]
        if strange:
            raise ValueError(
                f"Chain: what {', '.join(strange)} sees is unknown; wrap it as a Block"
            )
        blocks = [layer for layer in layers if isinstance(layer, Block)]
        if not blocks:
            raise ValueError("Chain: no block among the layers; give at least one")
        if len({block.nd for block in blocks}) > 1:
            raise ValueError(f"Chain: nd={[block.nd for block in blocks]}; give all the same nd")
        super().__init__(blocks[0].in_channels, blocks[-1].out_channels, blocks[0].nd)
        self.layers = nn.Sequential(*layers)
        self.stride = prod((block.stride for block in blocks), start=Fraction(1))
        self.period = prod(block.period for block in blocks)
        self.parts = sum(block.parts for block in blocks)

    @property
    def blocks(self) -> list[Block]:
        """The layers that are no pointwise ones."""
        return [layer for layer in self.layers if isinstance(layer, Block)]

    def forward(self, x: Tensor) -> Tensor:
        """Through all layers."""
        return self.layers(x)

    def initial_state(self, batch: int) -> State:
        """Those of all blocks, one after the other."""
        return tuple(part for block in self.blocks for part in block.initial_state(batch))

    def step(self, x_BC: Tensor, state: State) -> tuple[Tensor, State]:
        """The tick through all layers."""
        if self.nd != 1:
            return super().step(x_BC, state)
        after: State = ()
        for layer in self.layers:
            # One flat tuple holds the states of all blocks: each takes its parts from the front.
            if isinstance(layer, Block):
                x_BC, own = layer.step(x_BC, state[: layer.parts])
                state, after = state[layer.parts :], after + own
            else:
                x_BC = layer(x_BC.unsqueeze(2)).squeeze(2)
        return x_BC, after

    def span(self, first: float, last: float) -> tuple[float, float]:
        """Back through the blocks, last to first."""
        return reduce(lambda ends, block: block.span(*ends), reversed(self.blocks), (first, last))

    def output_length(self, length: int) -> int:
        """Forward through the blocks."""
        return reduce(lambda count, block: block.output_length(count), self.blocks, length)


class PathBlock(Block, ABC):
    """A path of layers, and what a subclass puts beside it, which sees no more than the path.

    Shapes and receptive field: the path's. `padding` is the path's too: without, what stands beside
    it is trimmed to its length. `more` are the channels out beside those of the path.
    """

    def __init__(self, path: Chain, padding: Padding = "causal", more: int = 0):
        super().__init__(path.in_channels, path.out_channels + more, path.nd)
        self.path = path
        self.stride, self.period, self.parts = path.stride, path.period, path.parts
        # A path without padding has no output for its first inputs, and what stands beside it none
        # to stand beside.
        self.lost = int(path.receptive_field) - 1 if padding == "none" else 0

    def combine(self, x: Tensor, y: Tensor) -> Tensor:
        """The block's output, of its input (as long as the path's output) and the path's output."""
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Through the path, and combined with the input."""
        return self.combine(trim(x, self.lost, self.nd), self.path(x))

    def initial_state(self, batch: int) -> State:
        """The path's."""
        return self.path.initial_state(batch)

    def step(self, x_BC: Tensor, state: State) -> tuple[Tensor, State]:
        """The tick through the path, and combined with the tick."""
        y_BC, after = self.path.step(x_BC, state)
        return self.combine(x_BC.unsqueeze(2), y_BC.unsqueeze(2)).squeeze(2), after

    def span(self, first: float, last: float) -> tuple[float, float]:
        """What the path sees."""
        return self.path.span(first, last)

    def output_length(self, length: int) -> int:
        """What the path gives."""
        return self.path.output_length(length)


def short_name(path: str) -> str:
    """The path of a module without the parts that only hold others; empty where nothing is left."""
    return ".".join(part for part in path.split(".") if part not in ("layers", "path", "layer"))
