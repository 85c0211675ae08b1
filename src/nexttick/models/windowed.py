"""Any network from a window to logits, as a model: the windows are unfolded.

Slower than a dense model by about the window's length, since windows that overlap share no work,
and so the yardstick that dense models are tested and timed against.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nexttick.blocks.block import State
from nexttick.models.base import TickModel


class Windowed(TickModel):
    """Adapter of a network `x_BLF -> logits_BH`.

    Args:
        network: takes windows of shape (B, L, F), gives logits of shape (B, H).
        sequence_length: L, the ticks of a window; also the context.
        num_features: F.
    """

    dense = False

    def __init__(self, network: nn.Module, sequence_length: int, num_features: int):
        super().__init__()
        self.network = network
        self.context = sequence_length
        self.num_features = num_features

    def forward(self, x_BTF: Tensor) -> Tensor:
        """Logits of every window of the run."""
        x_BKLF = x_BTF.unfold(1, self.context, 1).transpose(2, 3)
        logits = self.network(x_BKLF.flatten(0, 1).contiguous())
        return logits.unflatten(0, x_BKLF.shape[:2])

    def initial_state(self, batch: int) -> State:
        """The ticks of the window before the newest one."""
        device = next(self.parameters()).device
        return (torch.zeros(batch, self.context - 1, self.num_features, device=device),)

    def step(self, x_BF: Tensor, state: State) -> tuple[Tensor, State]:
        """Slide the window by one tick and compute it whole."""
        window = torch.cat([state[0], x_BF.unsqueeze(1)], dim=1)
        return self.network(window), (window[:, 1:],)
