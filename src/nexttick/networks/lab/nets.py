"""The networks of the vanishing experiment, recurrent and convolutional, by name.

What decides whether an error signal lives is how a network starts. The forget gate of a fresh LSTM
of torch is half open, so that its highway loses half of the signal every tick. Opened by its bias
(Gers et al. 2000; 1 or more: Jozefowicz et al. 2015), it keeps sigmoid(bias) of it: 0.73, 0.88 or
0.95 a tick at 1, 2 or 3, nothing after 1,000. A memory of T ticks wants sigmoid(bias) = 1 - 1/T,
so biases are drawn here after Tallec & Ollivier 2018 (arXiv:1804.11188): forget log U(1, T - 1),
input the negative of it; of a GRU the update gate, which keeps in torch's convention,
log U(1, T - 1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nexttick.networks.lab.tasks import MemoryTask
from nexttick.networks.layers import Conv, ConvBlock, Recurrent, Residual
from nexttick.networks.layers.block import State

_LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
RECURRENT = {  # cell, and whether its gates are opened for the length
    "RNN": ("rnn", False),
    "LSTM, torch's start": ("lstm", False),
    "GRU, open gates": ("gru", True),
    "LSTM, open gates": ("lstm", True),
}
CONVOLUTIONAL = {  # norm, whether the weights are torch's own, and whether there are shortcuts
    "plain, torch's start": ("none", True, False),
    "plain, He's start": ("none", False, False),
    "plain, batch norm": ("batch", False, False),
    "residual, batch norm": ("batch", False, True),
}


class RecurrentNet(nn.Module):
    """A recurrent layer of torch and a linear map of its last output.

    Shapes: x_BTC to out_BK, as many channels as the task has. `kind` is one of `RECURRENT`; where
    its gates are opened, they are so for a memory of `length` ticks.
    """

    def __init__(self, kind: str, task: MemoryTask, hidden_size: int, length: int):
        super().__init__()
        self.cell, open_gates = RECURRENT[kind]
        self.layer: nn.RNNBase = _LAYERS[self.cell](task.inputs, hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, task.outputs)
        if open_gates:
            open_the_gates(self.layer, length)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """The answer after the last tick."""
        return self.head(self.layer(x_BTC)[0][:, -1])

    def unrolled(self) -> Recurrent:
        """The same layer as cells, in double precision."""
        sizes = self.layer.input_size, self.layer.hidden_size
        return Recurrent(*sizes, self.cell).double().load_torch(self.layer)

    def answer(self, state: State) -> Tensor:
        """What the head says of a state, in double precision."""
        return nn.functional.linear(state[0], self.head.weight.double(), self.head.bias.double())


@torch.no_grad()
def open_the_gates(layer: nn.RNNBase, length: int) -> None:
    """Biases for a memory of `length` ticks, see above; for an LSTM or a GRU of one layer."""
    size = layer.hidden_size
    keep_H = torch.empty(size).uniform_(1, length - 1).log()
    weights = dict(layer.named_parameters())
    bias_G = weights["bias_hh_l0"].zero_()
    weights["bias_ih_l0"].zero_()
    bias_G[size : 2 * size] = keep_H  # an LSTM's forget gate, a GRU's update gate
    if layer.mode == "LSTM":
        bias_G[:size] = -keep_H


class ConvNet(nn.Module):
    """A stack of causal convolutions of kernel 3, and a linear map of its last tick.

    Shapes: x_BTC to out_BK, as many channels as the task has. `kind` is one of `CONVOLUTIONAL`, and
    `depth` an even number of convolutions.
    """

    def __init__(self, kind: str, task: MemoryTask, channels: int, depth: int):
        super().__init__()
        norm, torchs_start, shortcuts = CONVOLUTIONAL[kind]
        self.stem = Conv(task.inputs, channels, 1)
        self.span = 2 if shortcuts else 1  # convolutions of one stage
        self.stages = nn.ModuleList(
            Residual(channels, channels, norm=norm)
            if shortcuts
            else ConvBlock(channels, channels, norm=norm)
            for _ in range(depth // self.span)
        )
        self.head = nn.Linear(channels, task.outputs)
        if torchs_start:
            for module in self.stages.modules():
                if isinstance(module, nn.Conv1d):
                    module.reset_parameters()

    def forward(self, x_BTC: Tensor) -> Tensor:
        """The answer after the last tick."""
        return self.answer(self.hidden(x_BTC)[-1])

    def answer(self, h_BCT: Tensor) -> Tensor:
        """What the head says of the last stage's last tick."""
        return self.head(h_BCT[:, :, -1])

    def hidden(self, x_BTC: Tensor) -> list[Tensor]:
        """What the stem and every stage give, shape (B, C, T) each."""
        hs = [self.stem(x_BTC.transpose(1, 2))]
        for stage in self.stages:
            hs.append(stage(hs[-1]))
        return hs
