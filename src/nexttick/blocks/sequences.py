"""The five shapes of a recurrent network, through one interface.

One to one, one to many, many to one, many to many aligned, many to many delayed (Karpathy 2015,
"The Unreasonable Effectiveness of Recurrent Neural Networks"). All but the aligned one are the
same: read T inputs, then go on without input, and take the outputs from the last input on.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from nexttick.blocks.recurrent import Recurrent
from nexttick.blocks.shapes import check_positive

Shape = Literal["one-to-one", "one-to-many", "many-to-one", "aligned", "delayed"]


class SequenceNet(nn.Module):
    """A recurrent stack and a linear head, read in one of the lecture's five shapes.

    - `one-to-one`: x_B1C to y_B1K.
    - `one-to-many`: x_B1C to y_BNK, the first output at the input, the others after it.
    - `many-to-one`: x_BTC to y_B1K, the output at the last input.
    - `aligned`: x_BTC to y_BTK, an output at each input.
    - `delayed`: x_BTC to y_BNK, the first output at the last input, the others after it.

    Where there is no input any more, zeros stand in its place.

    Args:
        stack: the recurrent layers.
        outputs: K, values of one output.
        shape: one of the five.
    """

    def __init__(self, stack: Recurrent, outputs: int, shape: Shape = "aligned"):
        super().__init__()
        check_positive("SequenceNet", outputs=outputs)
        if shape not in get_args(Shape):
            raise ValueError(f"SequenceNet: shape={shape!r}; choose from {get_args(Shape)}")
        self.stack, self.shape = stack, shape
        self.head = nn.Linear(stack.out_channels, outputs)

    def forward(self, x_BTC: Tensor, count: int = 1) -> Tensor:
        """Outputs y of the network's shape.

        Args:
            x_BTC: the inputs; T is 1 for the shapes that start with one.
            count: N, for `one-to-many` and `delayed`.

        Raises:
            ValueError: for more inputs or outputs than the shape has.
        """
        self._check(x_BTC.shape[1], count)
        if self.shape == "aligned":
            return self.head(self.stack.run(x_BTC)[0])
        silence = x_BTC.new_zeros(len(x_BTC), count - 1, x_BTC.shape[2])
        h_BTC, _ = self.stack.run(torch.cat([x_BTC, silence], dim=1))
        return self.head(h_BTC[:, -count:])

    def _check(self, ticks: int, count: int) -> None:
        check_positive("SequenceNet", ticks=ticks, count=count)
        if self.shape.startswith("one-") and ticks > 1:
            raise ValueError(f"SequenceNet: {self.shape} of {ticks} ticks; give one")
        if self.shape not in ("one-to-many", "delayed") and count > 1:
            raise ValueError(
                f"SequenceNet: {self.shape} with count={count}; "
                "leave count at 1, or take 'one-to-many' or 'delayed'"
            )
