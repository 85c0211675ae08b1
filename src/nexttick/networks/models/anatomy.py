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
        kind: its class.
        channels: numbers that it gives for a tick.
        parameters: numbers that it learns.
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

    Args:
        model: on the CPU; its weights are not touched.
        num_features: F.
    """
    live = model.initial_state(1)
    work = Counter[str]()
    for cost in layer_costs(model, torch.zeros(1, num_features), live, method="step"):
        work[cost.name] += cost.multiply_adds
    newest = newest_outputs(model, num_features)
    layers = dict(model.named_modules())
    return [
        Layer(
            name,
            type(layers[name]).__name__.removeprefix("Parametrized"),
            y.shape[1],
            count_parameters(layers[name]),
            work[name] or _work_alone(layers[name]) * (len(y) // _BATCH),
            seen if seen <= model.context else None,
        )
        for name, (y, seen) in newest.items()
    ]


def newest_outputs(model: TickModel, num_features: int) -> dict[str, tuple[Tensor, int]]:
    """Of each layer its newest output, (B, C), and the ticks of a dense run that it looks at.

    A tick is looked at where it has a gradient. Layers come in the order of their first call.
    """
    ticks = 2 * model.context if model.dense else model.context
    generator = torch.Generator().manual_seed(0)
    x_BTF = torch.randn(_BATCH, ticks, num_features, generator=generator).requires_grad_()
    newest: dict[str, Tensor] = {}

    def record(name: str, layer: nn.Module, _: tuple[Tensor, ...], y: Tensor) -> None:
        if y.dim() > 2:  # cells give one tick after the other, all else a run
            y = y[..., -1] if isinstance(layer, _TIME_LAST) else y[:, -1]
        newest[name] = y

    with watching(model, record):
        model(x_BTF)
    return {name: (y, _reach(x_BTF, y)) for name, y in newest.items()}


def _reach(x_BTF: Tensor, newest: Tensor) -> int:
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(newest.shape, generator=generator)  # normalised sums have no gradient
    (grad_BTF,) = torch.autograd.grad((newest * weights).sum(), x_BTF, retain_graph=True)
    seen_T = grad_BTF.abs().sum(dim=(0, 2)) > 0
    return len(seen_T) - int(seen_T.nonzero()[0])


def _work_alone(layer: nn.Module) -> int:
    """Products a tick of what steps in another form than it runs: a random field of one horizon."""
    return layer.in_channels * layer.steps * layer.before if isinstance(layer, DenseCRF) else 0
