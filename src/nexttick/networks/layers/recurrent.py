"""Recurrent cells as their equations stand, and stacks of them.

Every cell holds its weights as `torch.nn.RNN`, `LSTM` and `GRU` do: one map of the input and one
of the hidden state, each with a bias, the gates side by side. W [h, x] + b of the textbooks is
W_h h + W_x x + (b_h + b_x). Where speed matters, take the layers of torch, which give the same
numbers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from nexttick.networks.layers.block import Block, State
from nexttick.networks.layers.shapes import Padding, check_positive

Reset = Literal["after", "before"]


class Cell(nn.Module, ABC):
    """One tick of a recurrent layer."""

    gates: ClassVar[int] = 1  # maps of input and state that stand side by side
    parts: ClassVar[int] = 1  # tensors of a state, (B, hidden_size) each; the first is the output h

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        check_positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.hidden_size = hidden_size
        self.from_input = nn.Linear(input_size, self.gates * hidden_size)
        self.from_hidden = nn.Linear(hidden_size, self.gates * hidden_size)
        for weight in self.parameters():  # as torch's layers start
            nn.init.uniform_(weight, -1 / math.sqrt(hidden_size), 1 / math.sqrt(hidden_size))

    def initial_state(self, batch: int) -> State:
        """Zeros."""
        weight = self.from_hidden.weight
        return (weight.new_zeros(batch, self.hidden_size),) * self.parts

    def forward(self, x_BC: Tensor, state: State) -> State:
        """One tick of shape (B, input_size): the next state."""
        return self.advance(self.from_input(x_BC), state)

    @abstractmethod
    def advance(self, input_BG: Tensor, state: State) -> State:
        """The next state, of what the input says to each gate, shape (B, gates hidden_size)."""

    @abstractmethod
    def gate_values(self, input_BG: Tensor, hidden_BG: Tensor) -> dict[str, Tensor]:
        """Each gate by its name, of what input and state say to them; (B, hidden_size) each."""


class RNNCell(Cell):
    """A simple RNN (Elman 1990): h' = tanh(W_x x + b_x + W_h h + b_h)."""

    def advance(self, input_BG: Tensor, state: State) -> State:
        """The equation."""
        (h,) = state
        return (self.gate_values(input_BG, self.from_hidden(h))["candidate"],)

    def gate_values(self, input_BG: Tensor, hidden_BG: Tensor) -> dict[str, Tensor]:
        """No gate, but what becomes h."""
        return {"candidate": torch.tanh(input_BG + hidden_BG)}


class LSTMCell(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate by Gers et al. 2000).

    f = sigmoid(W_f [h, x] + b_f), i = sigmoid(W_i [h, x] + b_i), o = sigmoid(W_o [h, x] + b_o);
    c' = f c + i tanh(W_c [h, x] + b_c); h' = o tanh(c'). Through c the gradient passes without a
    squashing function, multiplied by f alone.
    """

    gates = 4
    parts = 2

    def advance(self, input_BG: Tensor, state: State) -> State:
        """The equations."""
        h, c = state
        gates = self.gate_values(input_BG, self.from_hidden(h))
        c = gates["forget"] * c + gates["input"] * gates["candidate"]
        return gates["output"] * c.tanh(), c

    def gate_values(self, input_BG: Tensor, hidden_BG: Tensor) -> dict[str, Tensor]:
        """I, f, o and the candidate, which stand in torch's order."""
        i, f, candidate, o = (input_BG + hidden_BG).chunk(4, dim=-1)
        gates = {"input": i.sigmoid(), "forget": f.sigmoid(), "output": o.sigmoid()}
        return gates | {"candidate": candidate.tanh()}


class GRUCell(Cell):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078).

    r = sigmoid(W_r [h, x] + b_r), z = sigmoid(W_z [h, x] + b_z), h' = (1 - z) n + z h, where the
    candidate n has two conventions:

    - `reset="after"`, torch's: n = tanh(W_nx x + b_nx + r (W_nh h + b_nh)). The reset gate weighs
      what the state says, after its matrix, which lets libraries compute all gates in one product.
    - `reset="before"`, the one most often printed: n = tanh(W_nx x + b_nx + W_nh (r h) + b_nh).
      The reset gate weighs the state itself.

    They are different functions of the same weights, equal only where W_nh is diagonal and b_nh
    zero. What z keeps is a convention too: some print h' = (1 - z) h + z n. That is this cell with
    the weights and biases of z negated, since 1 - sigmoid(a) = sigmoid(-a).
    """

    gates = 3

    def __init__(self, input_size: int, hidden_size: int, reset: Reset = "after"):
        super().__init__(input_size, hidden_size)
        if reset not in ("after", "before"):
            raise ValueError(f"GRUCell: reset={reset!r}; choose 'after' (torch's) or 'before'")
        self.reset = reset

    def advance(self, input_BG: Tensor, state: State) -> State:
        """The equations."""
        (h,) = state
        gates = self.gate_values(input_BG, self.from_hidden(h))
        z = gates["update"]
        if self.reset == "before":
            weight, bias = (part.chunk(3)[2] for part in self.from_hidden.parameters())
            hidden_n = nn.functional.linear(gates["reset"] * h, weight, bias)
            gates["candidate"] = torch.tanh(input_BG.chunk(3, dim=-1)[2] + hidden_n)
        return ((1 - z) * gates["candidate"] + z * h,)

    def gate_values(self, input_BG: Tensor, hidden_BG: Tensor) -> dict[str, Tensor]:
        """R and z in torch's order, and n where it needs no product of its own."""
        input_r, input_z, input_n = input_BG.chunk(3, dim=-1)
        hidden_r, hidden_z, hidden_n = hidden_BG.chunk(3, dim=-1)
        r, z = (input_r + hidden_r).sigmoid(), (input_z + hidden_z).sigmoid()
        gates = {"reset": r, "update": z}
        if self.reset == "after":
            gates["candidate"] = torch.tanh(input_n + r * hidden_n)
        return gates


CELLS: dict[str, type[RNNCell] | type[LSTMCell] | type[GRUCell]] = {
    "rnn": RNNCell,
    "lstm": LSTMCell,
    "gru": GRUCell,
}


class Recurrent(Block):
    """Layers of cells over ticks, unrolled tick by tick, dropout between layers.

    Equal to `torch.nn.RNN`, `LSTM` and `GRU` with batch_first and the same weights (`load_torch`).

    Shapes: (B, in_channels, T) to (B, hidden_size, T) as a block; `run` takes and gives x_BTC.
    Receptive field: all that came before.

    Args:
        hidden_size: channels of each layer and out.
        cell: `rnn`, `lstm` or `gru`.
        num_layers: cells on top of each other.
        reset: of `gru`: see `GRUCell`.
    """

    nds = (1,)
    paddings = ("causal",)

    def __init__(
        self,
        in_channels: int,
        hidden_size: int,
        cell: str = "lstm",
        num_layers: int = 1,
        *,
        dropout: float = 0.0,
        reset: Reset = "after",
        nd: int = 1,
        padding: Padding = "causal",
    ):
        super().__init__(in_channels, hidden_size, nd)
        check_positive("Recurrent", num_layers=num_layers)
        if cell not in CELLS or padding != "causal":
            raise ValueError(
                f"Recurrent: cell={cell!r}, padding={padding!r}; choose a cell from "
                f"{', '.join(CELLS)} and padding 'causal'"
            )
        widths = [in_channels] + [hidden_size] * (num_layers - 1)
        options = {"reset": reset} if cell == "gru" else {}
        self.cells = nn.ModuleList(CELLS[cell](width, hidden_size, **options) for width in widths)
        self.parts = sum(cell.parts for cell in self._cells())
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """The last layer's h at every tick, from a state of zeros."""
        return self.run(x_BCT.transpose(1, 2))[0].transpose(1, 2)

    def initial_state(self, batch: int) -> State:
        """Zeros, as `step` takes them: the parts of the first layer, of the second, ..."""
        return tuple(part for cell in self._cells() for part in cell.initial_state(batch))

    def step(self, x_BC: Tensor, state: State) -> tuple[Tensor, State]:
        """One tick through all layers: h of the last, shape (B, hidden_size), and the state."""
        h_B1C, after = self.run(x_BC.unsqueeze(1), state)
        return h_B1C.squeeze(1), after

    def run(self, x_BTC: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Ticks in, the last layer's h at each of them and the state after the last."""
        state = self.initial_state(len(x_BTC)) if state is None else state
        after: State = ()
        for layer, cell in enumerate(self._cells()):
            x_BTC = self.dropout(x_BTC) if layer else x_BTC
            own, outputs = state[layer * cell.parts : (layer + 1) * cell.parts], []
            for input_BG in cell.from_input(x_BTC).unbind(dim=1):  # all ticks' in one product
                own = cell.advance(input_BG, own)
                outputs.append(own[0])
            x_BTC = torch.stack(outputs, dim=1)
            after += own
        return x_BTC, after

    def span(self, first: float, last: float) -> tuple[float, float]:
        """All ticks up to the last."""
        return -math.inf, last

    @torch.no_grad()
    def load_torch(self, layer: nn.RNNBase) -> Recurrent:
        """Take the weights of a torch layer of the same cell and sizes, one direction."""
        theirs = list(layer.parameters())
        ours = [
            weight
            for cell in self._cells()
            for weight in (
                cell.from_input.weight, cell.from_hidden.weight,
                cell.from_input.bias, cell.from_hidden.bias,
            )
        ]  # fmt: skip
        if [weight.shape for weight in ours] != [weight.shape for weight in theirs]:
            raise ValueError(
                f"load_torch: {layer} has other shapes; give the same cell, sizes and layers"
            )
        for our, their in zip(ours, theirs, strict=True):
            our.copy_(their)
        return self

    def _cells(self) -> list[Cell]:
        return [cell for cell in self.cells if isinstance(cell, Cell)]


Shape = Literal["one-to-one", "one-to-many", "many-to-one", "aligned", "delayed"]


class SequenceNet(nn.Module):
    """A recurrent stack and a linear head, read in one of the lecture's five shapes.

    - `one-to-one`: x_B1C to y_B1K.
    - `one-to-many`: x_B1C to y_BNK, the first output at the input, the others after it.
    - `many-to-one`: x_BTC to y_B1K, the output at the last input.
    - `aligned`: x_BTC to y_BTK, an output at each input.
    - `delayed`: x_BTC to y_BNK, the first output at the last input, the others after it.

    K is `outputs`. Where there is no input any more, zeros stand in its place.
    """

    def __init__(self, stack: Recurrent, outputs: int, shape: Shape = "aligned"):
        super().__init__()
        check_positive("SequenceNet", outputs=outputs)
        if shape not in get_args(Shape):
            raise ValueError(f"SequenceNet: shape={shape!r}; choose from {get_args(Shape)}")
        self.stack, self.shape = stack, shape
        self.head = nn.Linear(stack.out_channels, outputs)

    def forward(self, x_BTC: Tensor, count: int = 1) -> Tensor:
        """Outputs y of the network's shape; `count` is N, for `one-to-many` and `delayed`."""
        ticks = x_BTC.shape[1]
        check_positive("SequenceNet", ticks=ticks, count=count)
        if self.shape.startswith("one-") and ticks > 1:
            raise ValueError(f"SequenceNet: {self.shape} of {ticks} ticks; give one")
        if self.shape not in ("one-to-many", "delayed") and count > 1:
            raise ValueError(
                f"SequenceNet: {self.shape} with count={count}; "
                "leave count at 1, or take 'one-to-many' or 'delayed'"
            )
        if self.shape == "aligned":
            return self.head(self.stack.run(x_BTC)[0])
        silence = x_BTC.new_zeros(len(x_BTC), count - 1, x_BTC.shape[2])
        h_BTC, _ = self.stack.run(torch.cat([x_BTC, silence], dim=1))
        return self.head(h_BTC[:, -count:])
