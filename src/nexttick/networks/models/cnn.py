"""`cnn`: the lecture's convolutional network, made fully convolutional, over any body.

The lecture's network takes a window of `sequence_length` ticks: several times (Conv1d, batch
norm, LeakyReLU), then one linear layer over all that is left. Written without padding, with the
linear layer as a last convolution, it is the same function of every window and shares the work
of windows that overlap (Long et al. 2014, arXiv:1411.4038, section 3.1). `bodies.py` has what
can stand in the place of the lecture's layers.

Deviation: the newest tick also has a line of its own to the answer (Cheng et al. 2016, wide &
deep, arXiv:1606.07792). Without it, short histories were fitted worse than by a linear model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nexttick.checks import too_short
from nexttick.networks.layers import condensenet
from nexttick.networks.layers.block import Chain, State
from nexttick.networks.models.base import TickModel
from nexttick.networks.models.bodies import BODIES
from nexttick.networks.models.encoding import encoder
from nexttick.options import ModelOptions

_SMALL = 0.1  # of the head at first: the newest tick speaks, its history corrects
_LASSO = 1e-5  # weight of CondenseNet's group lasso, the paper's


class CNN(TickModel):
    """A body of convolutions, then a head that sees exactly `sequence_length` ticks.

    Shapes: x_BTF to logits_BKH with K = T - sequence_length + 1.
    """

    after_head: int = 0  # ticks of history that are left for what a subclass puts behind the head

    def __init__(self, options: ModelOptions, num_features: int, num_horizons: int):
        super().__init__()
        self.encoder, channels = encoder(num_features, options.bins, options.hidden_size)
        self.body = self.make_body(channels, options)
        self.context = options.sequence_length
        lags = options.sequence_length - self.after_head - int(self.body.receptive_field) + 1
        if lags < 1:
            raise ValueError(too_short(options, options.sequence_length + 1 - lags))
        self.head = WideConv(self.body.out_channels, num_horizons, lags)
        with torch.no_grad():
            self.head.weight.mul_(_SMALL)
        self.newest = nn.Linear(channels, num_horizons)

    def make_body(self, channels: int, options: ModelOptions) -> Chain:
        """The layers between encoding and head."""
        return BODIES[options.arch or "plain"](channels, options)

    def forward(self, x_BTF: Tensor) -> Tensor:
        """Logits of every tick that has `sequence_length` ticks of history."""
        x_BTC = self.encoder(x_BTF)
        y_BHK = self.head(self.body(x_BTC.transpose(1, 2)))
        return y_BHK.transpose(1, 2) + self.newest(x_BTC[:, -y_BHK.shape[2] :])

    def initial_state(self, batch: int) -> State:
        """For each convolution, the ticks before this one that its kernel still covers."""
        return *self.body.initial_state(batch), self.head.initial_state(batch)

    def step(self, x_BF: Tensor, state: State) -> tuple[Tensor, State]:
        """Each convolution sees its last inputs and the new one, and gives one output."""
        x_BC = self.encoder(x_BF)
        y_BC, after = self.body.step(x_BC, state[:-1])
        y_BH, window = self.head.step(y_BC, state[-1])
        return y_BH + self.newest(x_BC), (*after, window)


class CondenseCNN(CNN):
    """A CNN whose 1-convolutions are pruned in stages while it trains (Huang et al. 2017).

    Trained, it holds grouped convolutions over the inputs that are left.
    """

    def __init__(self, options: ModelOptions, num_features: int, num_horizons: int):
        super().__init__(options, num_features, num_horizons)
        self.stages = max(conv.factor for conv in condensenet.learned_group_convs(self)) - 1

    @property
    def stage(self) -> int:
        """Stages of pruning that are done; all where the convolutions are grouped ones by now."""
        convs = condensenet.learned_group_convs(self)
        return min((conv.stage for conv in convs), default=self.stages)

    def begin_epoch(self, progress: float) -> None:
        """Prune to the stage that is due."""
        condensenet.condense_to(self, progress)

    def penalty(self) -> Tensor:
        """The group lasso, which makes the filters of a group agree on what to drop."""
        return _LASSO * condensenet.group_lasso(self)

    def finished(self) -> TickModel:
        """Pruned to the end, with grouped convolutions in the place of the learned ones."""
        condensenet.condense_to(self, 1.0)
        model = condensenet.condensed(self)
        assert isinstance(model, TickModel)
        return model


class WideConv(nn.Conv1d):
    """A convolution with a long kernel and few channels out, as one matrix product.

    Every lag's weights are applied to every tick, and the products of one window, which lie on a
    diagonal, are summed. Libraries pad few channels to many; here nothing is padded, which is 7
    to 16 times faster at 16 to 240 lags. Shapes as in `torch.nn.Conv1d` without padding.
    """

    def initial_state(self, batch: int) -> Tensor:
        """The ticks before this one that the kernel still covers: zeros."""
        return self.weight.new_zeros(batch, self.in_channels, self.kernel_size[0] - 1)

    def step(self, x_BC: Tensor, past_BCT: Tensor) -> tuple[Tensor, Tensor]:
        """One tick in: shape (B, H), and the window moved on."""
        window = torch.cat([past_BCT, x_BC.unsqueeze(2)], dim=2)
        return self(window).squeeze(2), window[:, :, 1:]

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Shape (B, C, T) to (B, H, T - kernel + 1)."""
        B, C, T = x_BCT.shape
        (lags,) = self.kernel_size
        K = T - lags + 1
        # Most products would lie outside every window.
        if lags > K:
            return super().forward(x_BCT)
        weight = self.weight.transpose(1, 2).reshape(-1, C)
        products = (weight @ x_BCT).view(B, -1, lags * T)
        # Rows one longer than T turn the diagonals (lag, k + lag) into columns k.
        skewed = nn.functional.pad(products, (0, lags)).view(B, -1, lags, T + 1)
        y_BHK = skewed[..., :K].sum(dim=2)
        return y_BHK if self.bias is None else y_BHK + self.bias[:, None]
