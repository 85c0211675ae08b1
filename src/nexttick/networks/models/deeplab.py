"""`cnn --arch deeplab`: convolutions, an atrous pyramid, and a random field over the answers.

Chen et al. 2016, "DeepLab" (v2, arXiv:1606.00915), brought to ticks: every tick is labelled as
every pixel is there, and the dense conditional random field lets near ticks at like prices agree,
causally. Deviation: `--num-layers` plain convolutions where the paper has a ResNet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nexttick.networks.layers.block import Chain, State
from nexttick.networks.layers.crf import DenseCRF
from nexttick.networks.layers.dilated import AtrousPyramid
from nexttick.networks.models.bodies import plain
from nexttick.networks.models.cnn import CNN
from nexttick.options import ModelOptions
from nexttick.prepare.features import FIXED

_STEPS = 2  # of the mean field; each one looks a window further back
RETURN, PAUSE = FIXED.index("return"), FIXED.index("pause")


class DeepLab(CNN):
    """Convolutions, pyramid, head, and the field over each horizon's two labels.

    Of the ticks that the convolutions leave of `sequence_length`, the field takes near a third,
    the pyramid most of the rest. The field's distances come from the features themselves: price
    from the scaled returns, time from the exponential of the scaled log pauses.

    Shapes: x_BTF to logits_BKH with K = T - sequence_length + 1.
    """

    def __init__(self, options: ModelOptions, num_features: int, num_horizons: int):
        super().__init__(options, num_features, num_horizons)
        self.field = DenseCRF(2, self.after_head // _STEPS, _STEPS)

    def make_body(self, channels: int, options: ModelOptions) -> Chain:
        """The convolutions, then dilations 1, 2, 4, … side by side as far as there are ticks."""
        convolutions = plain(channels, options)
        left = options.sequence_length - int(convolutions.receptive_field)
        self.after_head = _STEPS * max(1, left // (3 * _STEPS))
        farthest = max(1, (left - self.after_head) // 2)
        rates = [2**k for k in range(farthest.bit_length())]
        width = options.hidden_size
        pyramid = AtrousPyramid(width, width, rates, norm=options.norm, padding="none")
        return Chain(convolutions, pyramid)

    def forward(self, x_BTF: Tensor) -> Tensor:
        """Logits after the field has spoken."""
        logits_BTH = super().forward(x_BTF)
        B, T, H = logits_BTH.shape
        labels_ELT = _labels(logits_BTH.transpose(1, 2).reshape(B * H, T))
        elapsed_BT, change_BT = x_BTF[:, -T:, PAUSE].exp(), x_BTF[:, -T:, RETURN]
        log_q = self.field(labels_ELT, _each(elapsed_BT, H), _each(change_BT, H))
        logits_BHT = (log_q[:, 1] - log_q[:, 0]).view(B, H, T)
        return logits_BHT.transpose(1, 2)[:, self.after_head :]

    def initial_state(self, batch: int) -> State:
        """The convolutions' windows, and the field's, one a market and horizon."""
        field = self.field.initial_state(batch * self.newest.out_features)
        return *super().initial_state(batch), *field

    def step(self, x_BF: Tensor, state: State) -> tuple[Tensor, State]:
        """Convolutions, then the field at this tick."""
        own = self.field.parts
        logits_BH, after = super().step(x_BF, state[:-own])
        B, H = logits_BH.shape
        labels_EL = _labels(logits_BH.reshape(B * H, 1)).squeeze(2)
        elapsed_B, change_B = x_BF[:, PAUSE].exp(), x_BF[:, RETURN]
        log_q, field = self.field.step(
            labels_EL, state[-own:], _each(elapsed_B, H), _each(change_B, H)
        )
        return (log_q[:, 1] - log_q[:, 0]).view(B, H), (*after, *field)


def _labels(logits_ET: Tensor) -> Tensor:
    """Binary logits as those of two labels: (E, T) to (E, 2, T)."""
    return torch.stack([torch.zeros_like(logits_ET), logits_ET], dim=1)


def _each(values_B: Tensor, horizons: int) -> Tensor:
    """The same for each horizon of a market: (B, ...) to (B H, ...)."""
    return values_B.repeat_interleave(horizons, dim=0)
