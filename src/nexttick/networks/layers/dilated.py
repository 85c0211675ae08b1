"""Dilated convolution (atrous, "with holes"): the same weights, more context.

A kernel of k weights with dilation d covers 1 + d (k - 1) inputs and is the same as a kernel of
that length with d - 1 zeros between its weights. `Conv`, `ConvBlock`, `Residual` and `Separable`
take `dilation`; here stands the pyramid of several dilations side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from nexttick.networks.layers.block import Block, Chain, State
from nexttick.networks.layers.convolution import Conv, normed
from nexttick.networks.layers.shapes import Padding, reach, trim


class AtrousPyramid(Block):
    """Atrous spatial pyramid pooling: context of several lengths at once, summed.

    Chen et al. 2016, "DeepLab" (v2, arXiv:1606.00915), section 3.2: parallel dilated
    convolutions, each followed by its own 1-convs, and the sum of all. Deviation: one 1-conv a
    branch instead of two, and a norm where the paper has none.

    Shapes: (B, in_channels, T) to (B, out_channels, T), shorter by the receptive field less one
    without padding. Receptive field: 1 + max(rates)(kernel_size - 1).

    Args:
        out_channels: of each branch and of their sum.
        rates: dilation of each branch; 6, 12, 18, 24 in the paper, for images.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        rates: Sequence[int] = (1, 2, 4, 8),
        kernel_size: int = 3,
        *,
        width: int | None = None,
        norm: str = "batch",
        nd: int = 1,
        padding: Padding = "causal",
    ):
        super().__init__(in_channels, out_channels, nd)
        if not rates:
            raise ValueError("AtrousPyramid: rates=(); give at least one dilation")
        inside = out_channels if width is None else width
        conv = partial(normed, norm=norm, nd=nd, padding=padding)
        branches = [
            Chain(
                *conv(in_channels, inside, kernel_size, dilation=rate),
                nn.ReLU(),
                Conv(inside, out_channels, 1, nd=nd, padding="none"),
            )
            for rate in rates
        ]
        self.branches = nn.ModuleList(branches)
        self.parts = sum(branch.parts for branch in branches)
        # Branches that look back less far begin later, so that all end at the same tick.
        behind = [max(rates) - rate if padding == "none" else 0 for rate in rates]
        self.lost = [reach(kernel_size, rate) for rate in behind]

    def forward(self, x: Tensor) -> Tensor:
        """The sum of the branches, each over as much context as its dilation gives."""
        branches = zip(self.branches, self.lost, strict=True)
        outputs = [branch(trim(x, lost, self.nd)) for branch, lost in branches]
        return sum(outputs[1:], start=outputs[0])

    def initial_state(self, batch: int) -> State:
        """Those of all branches, one after the other."""
        return tuple(part for one in self._chains() for part in one.initial_state(batch))

    def step(self, x_BC: Tensor, state: State) -> tuple[Tensor, State]:
        """The sum of the branches at one tick."""
        outputs: list[Tensor] = []
        after: State = ()
        for branch in self._chains():
            y_BC, own = branch.step(x_BC, state[: branch.parts])
            state, after = state[branch.parts :], after + own
            outputs.append(y_BC)
        return sum(outputs[1:], start=outputs[0]), after

    def span(self, first: float, last: float) -> tuple[float, float]:
        """What the branch with the largest dilation sees."""
        return self._widest().span(first, last)

    def output_length(self, length: int) -> int:
        """That of the branch with the largest dilation."""
        return self._widest().output_length(length)

    def _widest(self) -> Chain:
        return max(self._chains(), key=lambda branch: branch.receptive_field)

    def _chains(self) -> list[Chain]:
        return [branch for branch in self.branches if isinstance(branch, Chain)]
