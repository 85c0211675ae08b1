"""What a network costs: parameters and multiply-adds, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

CONVS = (nn.Conv1d, nn.Conv2d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d)
COUNTED = (*CONVS, *TRANSPOSED, nn.Linear, nn.RNNBase)


@dataclass(frozen=True)
class LayerCost:
    """One layer that multiplies, in one pass.

    Attributes:
        name: where it stands in the network.
        kind: its class.
        shape: of its output.
        parameters: numbers it learns.
        multiply_adds: products summed in the pass, without biases and activations.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def count_parameters(module: nn.Module) -> int:
    """Numbers that training moves."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def layer_costs(module: nn.Module, *inputs: Tensor) -> list[LayerCost]:
    """The cost of every convolution, linear and recurrent layer, in order of the pass.

    Weights that pruning has zeroed still cost, as long as their layer has not been condensed.

    Args:
        module: a network; its mode is kept and its weights are not touched.
        *inputs: what it is called with.
    """
    costs: list[LayerCost] = []
    hooks = [
        layer.register_forward_hook(partial(_record, costs, name))
        for name, layer in module.named_modules()
        if isinstance(layer, COUNTED)
    ]
    was_training = module.training
    try:
        with torch.no_grad():
            module.eval()(*inputs)
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    return costs


def multiply_adds(module: nn.Module, *inputs: Tensor) -> int:
    """The sum over all layers of one pass."""
    return sum(cost.multiply_adds for cost in layer_costs(module, *inputs))


def _record(
    costs: list[LayerCost], name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: object
) -> None:
    y = output[0] if isinstance(output, tuple) else output
    assert isinstance(y, Tensor)
    kind = type(layer).__name__.removeprefix("Parametrized")
    products = _products(layer, inputs[0], y)
    costs.append(LayerCost(name, kind, tuple(y.shape), count_parameters(layer), products))


def _products(layer: nn.Module, x: Tensor, y: Tensor) -> int:
    """Each output, or each input of a transposed layer, times the weights that it meets."""
    if isinstance(layer, CONVS):
        return y.numel() * layer.weight[0].numel()
    if isinstance(layer, TRANSPOSED):
        return x.numel() * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        return y.numel() * layer.in_features
    matrices = sum(weight.numel() for weight in layer.parameters() if weight.dim() == 2)
    return y.shape[:-1].numel() * matrices
