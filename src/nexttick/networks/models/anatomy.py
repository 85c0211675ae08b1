"""What a model is made of: each layer's shape, weights, work a tick, and how far back it looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nexttick.networks.layers.crf import DenseCRF
from nexttick.networks.layers.normalisation import ChannelNorm
from nexttick.networks.models.base import TickModel

CONVS = (nn.Conv1d, nn.Conv2d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, ChannelNorm)
_TIME_LAST = (*CONVS, *TRANSPOSED, *NORMS, DenseCRF)
LEARNING = (*CONVS, *TRANSPOSED, *NORMS, nn.Linear, nn.RNNBase, DenseCRF)  # layers with weights
_BATCH = 16  # markets looked at together: no unit is behind a dead ReLU in all of them


class Call(NamedTuple):
    """One call of a layer with weights; of a recurrent one y is the outputs, not the state."""

    name: str
    layer: nn.Module
    x: Tensor
    y: Tensor


def count_parameters(module: nn.Module) -> int:
    """Numbers that training moves."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def calls_of(module: nn.Module, run: Callable[[], object]) -> list[Call]:
    """Each call of a layer with weights while `run` runs, the module being in evaluation mode."""
    calls: list[Call] = []

    def record(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        y = output[0] if isinstance(output, tuple) else output
        calls.append(Call(name, layer, inputs[0], y))

    hooks = [
        layer.register_forward_hook(partial(record, name))
        for name, layer in module.named_modules()
        if isinstance(layer, LEARNING)
    ]
    was_training = module.training
    try:
        module.eval()
        run()
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    return calls


@torch.no_grad()
def multiply_adds(module: nn.Module, *inputs: object) -> int:
    """Products summed in one pass, without biases, norms and activations.

    Weights that pruning has zeroed still cost, as long as their layer has not been condensed.
    """
    calls = calls_of(module, lambda: module(*inputs))
    return sum(products_of(layer, x, y) for _, layer, x, y in calls)


def products_of(layer: nn.Module, x: Tensor, y: Tensor) -> int:
    """Of one call: each output, or each input of a transposed layer, times the weights it meets."""
    if isinstance(layer, NORMS):
        return 0
    if isinstance(layer, CONVS):
        return y.numel() * layer.weight[0].numel()
    if isinstance(layer, TRANSPOSED):
        return x.numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        return y.numel() * layer.in_features
    if isinstance(layer, DenseCRF):
        return y.numel() * layer.steps * (layer.before + layer.after)
    matrices = sum(weight.numel() for weight in layer.parameters() if weight.dim() == 2)
    return y.shape[:-1].numel() * matrices


@dataclass(frozen=True)
class Layer:
    """One layer with weights."""

    name: str  # where it stands in the network
    kind: str
    channels: int  # numbers that it gives for a tick
    parameters: int
    multiply_adds: int  # for one live tick
    receptive_field: int | None  # ticks that its newest output looks at; None for all before


def describe_model(model: TickModel, num_features: int) -> list[Layer]:
    """Every layer with weights, in the order of a tick's way through them.

    Dense runs cost the same for a tick as a step does, but for their first `context - 1` ticks.
    The model is on the CPU, and its weights are not touched.
    """
    live = model.initial_state(1)
    with torch.no_grad():
        stepped = calls_of(model, lambda: model.step(torch.zeros(1, num_features), live))
    work = Counter[str]()
    for name, layer, x, y in stepped:
        work[name] += products_of(layer, x, y)
    ticks = 2 * model.context if model.dense else model.context
    generator = torch.Generator().manual_seed(0)
    x_BTF = torch.randn(_BATCH, ticks, num_features, generator=generator).requires_grad_()
    newest = {call.name: call for call in calls_of(model, lambda: model(x_BTF))}
    layers = []
    for name, layer, _, out in newest.values():
        # Cells give one tick after the other, all else a run.
        last = (..., -1) if isinstance(layer, _TIME_LAST) else (slice(None), -1)
        y = out[last] if out.dim() > 2 else out
        # A tick is looked at where it has a gradient. Weights are random, since values that were
        # normalised sum to a constant, which has none.
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        (grad_BTF,) = torch.autograd.grad((y * weights).sum(), x_BTF, retain_graph=True)
        seen_T = grad_BTF.abs().sum(dim=(0, 2)) > 0
        seen = ticks - int(seen_T.nonzero()[0])
        # A random field steps in another form than it runs, which no hook sees.
        multiply_adds = work[name] or products_of(layer, y, y) // _BATCH
        reaches = seen if seen <= model.context else None
        kind = type(layer).__name__.removeprefix("Parametrized")
        parameters = count_parameters(layer)
        layers.append(Layer(name, kind, y.shape[1], parameters, multiply_adds, reaches))
    return layers
