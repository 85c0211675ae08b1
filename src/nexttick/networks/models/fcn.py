"""`cnn --arch fcn`: an encoder-decoder over the window of each tick (Long et al. 2014).

It divides time by its strides, so what an output sees hangs on where it stands, and a run of
ticks is no sum of its windows: every window is computed by itself, through the adapter.
"""

from __future__ import annotations

from torch import Tensor, nn

from nexttick.networks.layers.transposed import EncoderDecoder
from nexttick.networks.models.encoding import encoder
from nexttick.networks.models.own import Windowed
from nexttick.options import ModelOptions


class WindowFCN(nn.Module):
    """The encoder-decoder labels every tick of a window; the newest tick's label is the answer.

    Shapes: x_BLF to logits_BH.
    """

    def __init__(self, options: ModelOptions, num_features: int, num_horizons: int):
        super().__init__()
        width = options.hidden_size
        self.encoder, channels = encoder(num_features, options.bins, width)
        self.labels = EncoderDecoder(
            channels,
            num_horizons,
            width,
            options.num_layers,
            kernel_size=options.kernel_size,
            norm=options.norm,
        )
        self.newest = nn.Linear(channels, num_horizons)

    def forward(self, x_BLF: Tensor) -> Tensor:
        """Logits of the window's last tick."""
        x_BLC = self.encoder(x_BLF)
        return self.labels(x_BLC.transpose(1, 2))[..., -1] + self.newest(x_BLC[:, -1])


def build_fcn(options: ModelOptions, num_features: int, num_horizons: int) -> Windowed:
    """The network behind the windowing adapter; `num_layers` times the length is halved."""
    network = WindowFCN(options, num_features, num_horizons)
    return Windowed(network, options.sequence_length, num_features)
