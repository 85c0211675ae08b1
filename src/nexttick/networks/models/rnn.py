"""`rnn`: the lecture's recurrent network: recurrent layers and a linear head on every tick.

`sequence_length` is the burn-in (its outputs carry no loss) and, in training, the truncation of
back-propagation through time: the state goes on, gradients stop (Williams & Peng 1990).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from nexttick.networks.layers.block import State
from nexttick.networks.layers.recurrent import Recurrent
from nexttick.networks.models.base import Past, TickModel
from nexttick.networks.models.encoding import encoder
from nexttick.options import ModelOptions


class RNN(TickModel):
    """`num_layers` recurrent layers and a linear head: `lstm`, `gru` or `rnn`, PyTorch's own.

    LSTM: Hochreiter & Schmidhuber 1997; GRU: Cho et al. 2014; simple RNN: Elman 1990. Shapes:
    x_BTF to logits_BKH with K = T - sequence_length + 1.
    """

    shares_threads = False
    layers_of: ClassVar[dict[str, type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]]] = {
        "lstm": nn.LSTM,
        "gru": nn.GRU,
        "rnn": nn.RNN,
    }

    def __init__(self, options: ModelOptions, num_features: int, num_horizons: int):
        super().__init__()
        self.context = options.sequence_length
        self.encoder, channels = encoder(num_features, options.bins, options.hidden_size)
        self.layers = self.make_layers(channels, options)
        self.head = nn.Linear(options.hidden_size, num_horizons)

    def make_layers(self, channels: int, options: ModelOptions) -> nn.Module:
        """The recurrent layers."""
        dropout = options.dropout if options.num_layers > 1 else 0.0
        kind = self.layers_of[options.arch or "lstm"]
        width, depth = options.hidden_size, options.num_layers
        return kind(channels, width, depth, batch_first=True, dropout=dropout)

    def run(self, x_BTC: Tensor, state: State) -> tuple[Tensor, State]:
        """Ticks in, the last layer's h at each of them and the state after the last."""
        # An LSTM takes and gives a pair (h, c), the others h alone.
        h_BTC, after = self.layers(x_BTC, state if len(state) > 1 else state[0])
        return h_BTC, after if isinstance(after, tuple) else (after,)

    def forward(self, x_BTF: Tensor) -> Tensor:
        """Logits of every tick behind the burn-in, from a state of zeros."""
        x_BTC, state = self.encoder(x_BTF), self.initial_state(len(x_BTF))
        h_BTC = self._truncated(x_BTC, state) if self.training else self.run(x_BTC, state)[0]
        return self.head(h_BTC[:, self.context - 1 :])

    def initial_state(self, batch: int) -> State:
        """Hidden state, and for an LSTM cell state, of every layer: zeros."""
        assert isinstance(self.layers, nn.RNNBase)
        shape = (self.layers.num_layers, batch, self.layers.hidden_size)
        parts = 2 if isinstance(self.layers, nn.LSTM) else 1
        return tuple(self.head.weight.new_zeros(shape) for _ in range(parts))

    def step(self, x_BF: Tensor, state: State) -> tuple[Tensor, State]:
        """One tick through all layers."""
        h_B1C, after = self.run(self.encoder(x_BF).unsqueeze(1), state)
        return self.head(h_B1C.squeeze(1)), after

    def advance(self, x_TF: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """Logits with the state carried through, as in `step`."""
        seen, state = past or Past(0, self.initial_state(1))
        h_1TC, state = self.run(self.encoder(x_TF.unsqueeze(0)), state)
        ready = max(self.context - 1 - seen, 0)
        return self.head(h_1TC[0, ready:]), Past(seen + len(x_TF), state)

    def _truncated(self, x_BTC: Tensor, state: State) -> Tensor:
        pieces = []
        for x_piece in x_BTC.split(self.context, dim=1):
            h_piece, state = self.run(x_piece, state)
            # The numbers go on, the gradient stops: a step costs one stretch, whatever the history.
            state = tuple(part.detach() for part in state)
            pieces.append(h_piece)
        return torch.cat(pieces, dim=1)


class PureRNN(RNN):
    """`pure`: LSTM cells as the equations stand, unrolled tick by tick, as the lecture does it.

    The numbers are those of `lstm` with the same weights; only the speed is not.
    """

    layers: Recurrent

    def make_layers(self, channels: int, options: ModelOptions) -> nn.Module:
        """A stack of cells."""
        width, depth = options.hidden_size, options.num_layers
        return Recurrent(channels, width, "lstm", depth, dropout=options.dropout)

    def run(self, x_BTC: Tensor, state: State) -> tuple[Tensor, State]:
        """Unrolled."""
        return self.layers.run(x_BTC, state)

    def initial_state(self, batch: int) -> State:
        """H and c of every cell: zeros."""
        return self.layers.initial_state(batch)
