"""A look at every n-th step of a training: gradients, updates, dead units, saturated gates.

It reads and never writes: weights, gradients and random numbers are those of a training without
it, to the last bit. Norms and copies of weights are cheap beside a step, one reduction an
activation nearly so; gates are computed a second time, for one segment only. So it stays under
3 % of the time of training (`python -m bench.health`).

In a loop of one's own:

    monitor = Monitor(model)
    for x, y in batches:
        monitor.before_step()
        loss = criterion(model(x), y)
        loss.backward()
        monitor.after_backward()
        norm = clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        monitor.after_step()
    health = monitor.report(losses, norms, clip_norm)  # the next step begins a new epoch
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nexttick.networks.gradients.gates import GateWatch, is_saturated, watch_gates
from nexttick.networks.gradients.verdicts import Epoch, Layers, verdicts_of
from nexttick.networks.layers.block import Block, short_name
from nexttick.networks.layers.normalisation import ChannelNorm
from nexttick.networks.layers.residual import Bottleneck, Residual

EVERY = 16  # steps from one look to the next

# They give nothing, or next to nothing, for what is not positive. The residual blocks end in a
# ReLU that is no module of its own.
_RECTIFIERS = (nn.ReLU, nn.LeakyReLU, Residual, Bottleneck)
_SQUASHERS = (nn.Sigmoid, nn.Tanh)
_CHANNELS_FIRST = (nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, ChannelNorm, Block)
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.RNNBase)
_WATCHED = (*_RECTIFIERS, *_SQUASHERS, *_CHANNELS_FIRST, *_CHANNELS_LAST)
Weights = dict[str, list[Tensor]]


class Monitor:
    """Looks at one step in `every`, at none if it is 0, and says after an epoch what it saw."""

    def __init__(self, model: nn.Module, every: int = EVERY):
        self._model, self._every = model, every
        self._weights = layer_weights(model)
        self._gates = watch_gates(model)
        self._look: Look | None = None
        self._step = 0
        self._seen: list[Layers] = []

    def before_step(self) -> None:
        """Call before the forward pass."""
        self.close()
        if self._every and self._step % self._every == 0:
            self._look = Look(self._model, self._weights, self._gates)
        self._step += 1

    def after_backward(self) -> None:
        """Call between the backward pass and clipping."""
        if self._look is not None:
            self._look.see_gradients()

    def after_step(self) -> None:
        """Call after the optimizer's step."""
        if self._look is not None:
            self._look.see_updates()
            self._seen.append(self._look.seen)
            self.close()

    def close(self) -> None:
        """Take every hook off the model; a step that was cut short is forgotten."""
        if self._look is not None:
            self._look.close()
            self._look = None

    def report(
        self, losses: ArrayLike, norms: ArrayLike, clip_norm: float = math.inf
    ) -> dict[str, Any]:
        """What an epoch was like, in plain numbers and words; the next step begins a new one.

        Of every step, and there must be one, `losses` are in nats and `norms` are those of the
        gradient before it was clipped to `clip_norm`.

        Returns:
            `verdict`: what is wrong, by name, or `healthy`; `words`: a sentence and a cure for
            each; `looks`: steps looked at; `layers`: by layer, medians over the looks: `grad_norm`
            (before clipping) and `update_ratio` of layers with weights, `dead` of rectifiers,
            `saturated` of tanh, sigmoid and recurrent layers (of which `GateWatch` says more).
        """
        if np.size(losses) == 0:
            raise ValueError("no step was taken since the last report: nothing can be said of it")
        looks, layers = len(self._seen), _middle(self._seen) if self._seen else {}
        self._seen, self._step = [], 0
        epoch = Epoch(np.asarray(losses), np.asarray(norms), clip_norm, layers, looks)
        verdicts = verdicts_of(epoch)
        return {
            "verdict": ", ".join(verdicts) or "healthy",
            "words": list(verdicts.values()),
            "looks": looks,
            "layers": layers,
        }


class Look:
    """One step looked at, with hooks on the model until `close`."""

    def __init__(self, model: nn.Module, weights: Weights, gates: list[GateWatch]):
        self.seen: Layers = {name: {} for name in weights}  # what was measured, by layer
        self._weights, self._gates = weights, gates
        self._before = {name: [w.detach().clone() for w in own] for name, own in weights.items()}
        # Their axis in what the latest layer gave.
        self._channels = 1
        self._dead: dict[str, list[Tensor]] = {}
        self._handles: list[RemovableHandle] = []
        for path, module in model.named_modules():
            if isinstance(module, _WATCHED):
                see = partial(self._see, short_name(path) or type(module).__name__)
                self._handles.append(module.register_forward_hook(see))
        for watch in gates:
            self._handles += watch.attach()

    def see_gradients(self) -> None:
        """Norm of each layer's gradient; what the forward pass left is summed up too."""
        for name, own in self._weights.items():
            grads = [weight.grad for weight in own if weight.grad is not None]
            self.seen[name]["grad_norm"] = _norm(grads)
        for name, calls in self._dead.items():
            self.seen.setdefault(name, {})["dead"] = torch.cat(calls).float().mean().item()
        for watch in self._gates:
            for name, measures in watch.measure().items():
                self.seen.setdefault(name, {}).update(measures)

    def see_updates(self) -> None:
        """How far the step moved each layer, as a share of its weights' norm."""
        for name, own in self._weights.items():
            before = self._before[name]
            moved = _norm([new.detach() - old for new, old in zip(own, before, strict=True)])
            if (size := _norm(before)) > 0:
                self.seen[name]["update_ratio"] = moved / size

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _see(self, name: str, module: nn.Module, _: object, out: Any) -> None:
        if isinstance(module, _RECTIFIERS):
            # A unit is dead if it is positive nowhere in the batch. Calls count by themselves: one
            # ReLU may stand behind several layers, of several widths.
            axis = self._channels if out.dim() > 2 else -1
            largest_C = out.detach().movedim(axis, -1).reshape(-1, out.shape[axis]).amax(dim=0)
            self._dead.setdefault(name, []).append(~(largest_C > 0))
        elif isinstance(module, _SQUASHERS):
            saturated = is_saturated(out.detach(), tanh=isinstance(module, nn.Tanh))
            self.seen.setdefault(name, {})["saturated"] = saturated.float().mean().item()
        else:
            self._channels = 1 if isinstance(module, _CHANNELS_FIRST) else -1


def layer_weights(model: nn.Module) -> Weights:
    """The trainable weights of every module that has its own, a recurrent stack's by layer."""
    weights: Weights = {}
    for path, module in model.named_modules():
        for name, weight in module.named_parameters(recurse=False):
            layer = re.search(r"_l(\d+)", name) if isinstance(module, nn.RNNBase) else None
            parts = [short_name(path) or type(module).__name__, *(layer.groups() if layer else ())]
            if weight.requires_grad:
                weights.setdefault(".".join(parts), []).append(weight)
    return weights


def _norm(tensors: list[Tensor]) -> float:
    if not tensors:
        return 0.0
    return torch.stack([torch.linalg.vector_norm(one) for one in tensors]).norm().item()


def _middle(values: list[Any]) -> Any:
    """Medians, to four digits, of numbers or of dicts of them, key by key."""
    if isinstance(values[0], dict):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: _middle([value[key] for value in values if key in value]) for key in keys}
    middle = float(np.median(values))
    return float(f"{middle:.4g}") if math.isfinite(middle) else None
