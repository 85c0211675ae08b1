"""`rnn`: the lecture's recurrent network: LSTM layers and a linear head on every tick.

`sequence_length` is the burn-in (its outputs carry no loss) and, in training, the truncation of
back-propagation through time: the state goes on, gradients stop (Williams & Peng 1990).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nexttick.config import ModelOptions
from nexttick.models.base import State, TickModel
from nexttick.models.encoding import encoder


class RNN(TickModel):
    """`num_layers` LSTM layers (Hochreiter & Schmidhuber 1997) and a linear head.

    Shapes: x_BTF to logits_BKH with K = T - sequence_length + 1.
    """

    shares_threads = False

    def __init__(self, options: ModelOptions, num_features: int, num_horizons: int):
        super().__init__()
        self.context = options.sequence_length
        self.encoder, channels = encoder(num_features, options.bins, options.hidden_size)
        dropout = options.dropout if options.num_layers > 1 else 0.0
        self.lstm = nn.LSTM(
            channels,
            options.hidden_size,
            options.num_layers,
            batch_first=True,
            dropout=dropout,
        )
        self.head = nn.Linear(options.hidden_size, num_horizons)

    def forward(self, x_BTF: Tensor) -> Tensor:
        """Logits of every tick behind the burn-in, from a state of zeros."""
        x_BTC = self.encoder(x_BTF)
        h_BTC = self._truncated(x_BTC) if self.training else self.lstm(x_BTC)[0]
        return self.head(h_BTC[:, self.context - 1 :])

    def initial_state(self, batch: int) -> State:
        """Hidden and cell state of every layer, zeros."""
        shape = (self.lstm.num_layers, batch, self.lstm.hidden_size)
        return (self.head.weight.new_zeros(shape), self.head.weight.new_zeros(shape))

    def step(self, x_BF: Tensor, state: State) -> tuple[Tensor, State]:
        """One tick through all layers."""
        h_B1C, after = self._run(x_BF.unsqueeze(1), state)
        return self.head(h_B1C.squeeze(1)), after

    def stream(self, x_TF: Tensor, chunk: int) -> Iterator[Tensor]:
        """Logits of one long segment with the state carried through, as in `step`."""
        state = self.initial_state(1)
        for begin in range(0, len(x_TF), chunk):
            h_1TC, state = self._run(x_TF[begin : begin + chunk].unsqueeze(0), state)
            yield self.head(h_1TC[0, max(self.context - 1 - begin, 0) :])

    def _run(self, x_BTF: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        h_BTC, after = self.lstm(self.encoder(x_BTF), state)
        return h_BTC, after

    def _truncated(self, x_BTC: Tensor) -> Tensor:
        state = self.initial_state(x_BTC.shape[0])
        pieces = []
        for x_piece in x_BTC.split(self.context, dim=1):
            h_piece, state = self.lstm(x_piece, state)
            state = (state[0].detach(), state[1].detach())
            pieces.append(h_piece)
        return torch.cat(pieces, dim=1)
