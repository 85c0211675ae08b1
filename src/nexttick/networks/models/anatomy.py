"""What a model is made of: each layer's shape, weights, work a tick, and how far back it looks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nexttick.networks.layers.cost import (
    CONVS,
    NORMS,
    TRANSPOSED,
    count_parameters,
    layer_costs,
    products_of,
    watching,
)
from nexttick.networks.layers.crf import DenseCRF
from nexttick.networks.models.base import TickModel

_TIME_LAST = (*CONVS, *TRANSPOSED, *NORMS, DenseCRF)
_BATCH = 16  # markets looked at together: no unit is behind a dead ReLU in all of them


@dataclass(frozen=True)
class Layer:
    """One layer with weights.

    Attributes:
        name: where it stands in the network.
        channels: numbers that it gives for a tick.
        multiply_adds: products summed for one live tick.
        receptive_field: ticks that its newest output looks at; None for all that came before.
    """

    name: str
    kind: str
    channels: int
    parameters: int
    multiply_adds: int
    receptive_field: int | None


def describe_model(model: TickModel, num_features: int) -> list[Layer]:
    """Every layer with weights, in the order of a tick's way through them.

    Dense runs cost the same for a tick as a step does, but for their first `context - 1` ticks.
    The model is on the CPU, and its weights are not touched.
    """
    live = model.initial_state(1)
    work = Counter[str]()
    for cost in layer_costs(model, torch.zeros(1, num_features), live, method="step"):
        work[cost.name] += cost.multiply_adds
    ticks = 2 * model.context if model.dense else model.context
    generator = torch.Generator().manual_seed(0)
    x_BTF = torch.randn(_BATCH, ticks, num_features, generator=generator).requires_grad_()
    newest: dict[str, tuple[nn.Module, Tensor]] = {}

    def record(name: str, layer: nn.Module, _: tuple[Tensor, ...], y: Tensor) -> None:
        if y.dim() > 2:  # cells give one tick after the other, all else a run
            y = y[..., -1] if isinstance(layer, _TIME_LAST) else y[:, -1]
        newest[name] = layer, y

    with watching(model, record):
        model(x_BTF)
    layers = []
    for name, (layer, y) in newest.items():
        # A tick is looked at where it has a gradient. Weights are random, since values that were
        # normalised sum to a constant, which has none.
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        (grad_BTF,) = torch.autograd.grad((y * weights).sum(), x_BTF, retain_graph=True)
        seen_T = grad_BTF.abs().sum(dim=(0, 2)) > 0
        seen = ticks - int(seen_T.nonzero()[0])
        kind = type(layer).__name__.removeprefix("Parametrized")
        # A random field steps in another form than it runs, which no hook sees.
        multiply_adds = work[name] or products_of(layer, y, y) // _BATCH
        reaches = seen if seen <= model.context else None
        parameters = count_parameters(layer)
        layers.append(Layer(name, kind, y.shape[1], parameters, multiply_adds, reaches))
    return layers
