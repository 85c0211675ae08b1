"""What a network costs: parameters and multiply-adds, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from nexttick.networks.layers.crf import DenseCRF
from nexttick.networks.layers.normalisation import ChannelNorm

CONVS = (nn.Conv1d, nn.Conv2d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, ChannelNorm)
LEARNING = (*CONVS, *TRANSPOSED, *NORMS, nn.Linear, nn.RNNBase, DenseCRF)  # layers with weights

Called = Callable[[str, nn.Module, tuple[Tensor, ...], Tensor], None]


@dataclass(frozen=True)
class LayerCost:
    """One layer with weights, in one pass.

    Attributes:
        name: where it stands in the network.
        shape: of its output.
        multiply_adds: products summed in the pass, without biases, norms and activations.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def count_parameters(module: nn.Module) -> int:
    """Numbers that training moves."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


@contextmanager
def watching(module: nn.Module, called: Called) -> Iterator[None]:
    """Tell of each call of a layer with weights: name, layer, inputs, output; in evaluation mode.

    Of a recurrent layer the outputs are told, not the state.
    """

    def tell(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        y = output[0] if isinstance(output, tuple) else output
        assert isinstance(y, Tensor)
        called(name, layer, inputs, y)

    hooks = [
        layer.register_forward_hook(partial(tell, name))
        for name, layer in module.named_modules()
        if isinstance(layer, LEARNING)
    ]
    was_training = module.training
    try:
        module.eval()
        yield
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()


def layer_costs(module: nn.Module, *inputs: object, method: str = "forward") -> list[LayerCost]:
    """The cost of every layer with weights, in order of the pass: a `method` called with inputs.

    Weights that pruning has zeroed still cost, as long as their layer has not been condensed. The
    network's mode is kept, and its weights are not touched.
    """
    costs: list[LayerCost] = []

    def record(name: str, layer: nn.Module, x: tuple[Tensor, ...], y: Tensor) -> None:
        kind = type(layer).__name__.removeprefix("Parametrized")
        products = products_of(layer, x[0], y)
        costs.append(LayerCost(name, kind, tuple(y.shape), count_parameters(layer), products))

    with torch.no_grad(), watching(module, record):
        # A module's own forward is reached through the call, which runs hooks.
        (module if method == "forward" else getattr(module, method))(*inputs)
    return costs


def multiply_adds(module: nn.Module, *inputs: object) -> int:
    """The sum over all layers of one pass."""
    return sum(cost.multiply_adds for cost in layer_costs(module, *inputs))


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
