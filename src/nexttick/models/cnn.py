"""`cnn`: the lecture's convolutional network, made fully convolutional.

The lecture's network takes a window of `sequence_length` ticks: several times (Conv1d, batch
norm, LeakyReLU), then one linear layer over all that is left. Written without padding, with the
linear layer as a last convolution, it is the same function of every window and shares the work
of windows that overlap (Long et al. 2014, arXiv:1411.4038, section 3.1).

Deviation: the newest tick also has a line of its own to the answer (Cheng et al. 2016, wide &
deep, arXiv:1606.07792). Without it, short histories were fitted worse than by a linear model.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from nexttick.blocks.normalisation import norm_layer
from nexttick.config import ModelOptions
from nexttick.models.base import State, TickModel
from nexttick.models.encoding import encoder

_SMALL = 0.1  # of the head at first: the newest tick speaks, its history corrects


class CNN(TickModel):
    """`num_layers` convolutions, then a head that sees exactly `sequence_length` ticks.

    Shapes: x_BTF to logits_BKH with K = T - sequence_length + 1.
    """

    def __init__(self, options: ModelOptions, num_features: int, num_horizons: int):
        super().__init__()
        self.context = options.sequence_length
        kernel, width = options.kernel_size, options.hidden_size
        self.encoder, channels = encoder(num_features, options.bins, width)
        widths = [channels] + [width] * options.num_layers
        self.layers = nn.ModuleList(
            _layer(c_in, c_out, kernel, options) for c_in, c_out in pairwise(widths)
        )
        left = options.sequence_length - options.num_layers * (kernel - 1)
        self.head = WideConv(width, num_horizons, left)
        with torch.no_grad():
            self.head.weight.mul_(_SMALL)
        self.newest = nn.Linear(channels, num_horizons)

    def forward(self, x_BTF: Tensor) -> Tensor:
        """Logits of every tick that has `sequence_length` ticks of history."""
        x_BTC = self.encoder(x_BTF)
        x_BCT = x_BTC.transpose(1, 2)
        for layer in self.layers:
            x_BCT = layer(x_BCT)
        return self.head(x_BCT).transpose(1, 2) + self.newest(x_BTC[:, self.context - 1 :])

    def initial_state(self, batch: int) -> State:
        """For each convolution, the ticks before this one that its kernel still covers."""
        weight = self.head.weight
        return tuple(
            weight.new_zeros(batch, conv.in_channels, conv.kernel_size[0] - 1)
            for conv in self._convolutions()
        )

    def step(self, x_BF: Tensor, state: State) -> tuple[Tensor, State]:
        """Each convolution sees its last inputs and the new one, and gives one output."""
        x_BC = self.encoder(x_BF)
        x_BC1, after = x_BC.unsqueeze(2), []
        for layer, past in zip([*self.layers, self.head], state, strict=True):
            window = torch.cat([past, x_BC1], dim=2)
            after.append(window[:, :, 1:])
            x_BC1 = layer(window)
        return x_BC1.squeeze(2) + self.newest(x_BC), tuple(after)

    def _convolutions(self) -> list[nn.Conv1d]:
        return [module for module in self.modules() if isinstance(module, nn.Conv1d)]


class WideConv(nn.Conv1d):
    """A convolution with a long kernel and few channels out, as one matrix product.

    Every lag's weights are applied to every tick, and the products of one window, which lie on a
    diagonal, are summed. Libraries pad few channels to many; here nothing is padded, which is 7
    to 16 times faster at 16 to 240 lags. Shapes as in `torch.nn.Conv1d` without padding.
    """

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Shape (B, C, T) to (B, H, T - kernel + 1)."""
        B, C, T = x_BCT.shape
        (lags,) = self.kernel_size
        K = T - lags + 1
        if lags > K:  # most products would lie outside every window
            return super().forward(x_BCT)
        weight = self.weight.transpose(1, 2).reshape(-1, C)
        products = (weight @ x_BCT).view(B, -1, lags * T)
        # Rows one longer than T turn the diagonals (lag, k + lag) into columns k.
        skewed = nn.functional.pad(products, (0, lags)).view(B, -1, lags, T + 1)
        y_BHK = skewed[..., :K].sum(dim=2)
        return y_BHK if self.bias is None else y_BHK + self.bias[:, None]


def _layer(c_in: int, c_out: int, kernel: int, options: ModelOptions) -> nn.Sequential:
    norm = norm_layer(options.norm, c_out, nd=1)
    bias = options.norm != "batch"  # batch norm has a shift of its own
    conv = nn.Conv1d(c_in, c_out, kernel, bias=bias)
    # PyTorch's default shrinks the signal in every layer, and without a norm nothing repairs it.
    nn.init.kaiming_normal_(conv.weight, nonlinearity="leaky_relu", a=0.01)
    return nn.Sequential(conv, norm, nn.LeakyReLU(), nn.Dropout(options.dropout))
