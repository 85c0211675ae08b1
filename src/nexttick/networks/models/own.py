"""`--type MODULE:CLASS`: a network of the user's own.

The class is called with the model's options, the number of features and the number of horizons.
A `TickModel` is taken as it is; any other `torch.nn.Module` maps a window x_BLF of
`sequence_length` ticks to logits_BH and goes through the windowing adapter.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from nexttick.networks.layers.block import State
from nexttick.networks.models.base import TickModel
from nexttick.options import ModelOptions


def build_own(options: ModelOptions, num_features: int, num_horizons: int) -> TickModel:
    """Import the class that `options.type` names, and build its network."""
    name = options.type
    module_name, _, class_name = name.partition(":")
    here = str(Path.cwd())
    # An installed command does not look where it is started.
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"--type {name!r}: module {module_name!r} cannot be imported ({error}); start where "
            f"{module_name}.py lies, or install it"
        ) from error
    found = getattr(module, class_name, None)
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise ValueError(
            f"--type {name!r}: {module_name} has no subclass of torch.nn.Module called "
            f"{class_name!r}"
        )
    network = found(options, num_features, num_horizons)
    if isinstance(network, TickModel):
        return network
    model = Windowed(network, options.sequence_length, num_features)
    with torch.no_grad():
        shape = tuple(model.eval()(torch.zeros(2, model.context, num_features)).shape)
    if shape != (2, 1, num_horizons):
        raise ValueError(
            f"--type {name!r}: windows of shape (2, {model.context}, {num_features}) give "
            f"{(shape[0], *shape[2:])}; logits of shape (2, {num_horizons}) are asked for"
        )
    return model


class Windowed(TickModel):
    """Adapter of a network from windows x_BLF of `sequence_length` ticks to logits_BH."""

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
