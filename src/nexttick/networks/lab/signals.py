"""The error signal on its way back: |dE_t/dh_k| against t - k, exactly.

Bengio et al. 1994, "Learning long-term dependencies with gradient descent is difficult", and the
lecture's sum: dE_t/dW = sum over k of dE_t/dy_t dy_t/ds_t (ds_t/ds_k) ds_k/dW, where ds_t/ds_k is
the product of the Jacobians of all ticks between. That product is never formed here: one backward
pass through the unrolled cells gives dE_t/ds_k of every k; a test multiplies the Jacobians out, and
holds both equal. The state of an LSTM is h and c side by side.

In a stack of convolutions, h_k is what its k-th layer gives, and t is the last. What fades with
ticks in the one fades with layers in the other, and so does the cure: a way around.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nexttick.networks.lab.nets import ConvNet, RecurrentNet
from nexttick.networks.lab.tasks import MemoryTask
from nexttick.networks.layers.block import State


@dataclass(frozen=True)
class Signal:
    """An error signal on its way back."""

    back: list[int]  # ticks, or convolutions, between h_k and the loss
    norm: list[float]  # |dE_t/dh_k| there, median over sequences


def signal_through_ticks(net: RecurrentNet, task: MemoryTask, x_BTC: Tensor, y_B: Tensor) -> Signal:
    """The norm of dE_t/ds_k of every tick k, in double precision.

    E_t is the task's error of the network's last answer to sequences x_BTC, which should be y_B.
    """
    stack = net.unrolled()
    states = [stack.initial_state(len(x_BTC))]
    for x_BC in x_BTC.double().unbind(dim=1):
        _, state = stack.step(x_BC, states[-1])
        # Copies, so that the parts of a state, of which one is made of the other within a tick,
        # count as independent inputs of the next.
        states.append(tuple(part.clone() for part in state))
    return _signal(task.loss(net.answer(states[-1]), y_B), states[1:], stride=1)


def signal_through_layers(net: ConvNet, task: MemoryTask, x_BTC: Tensor, y_B: Tensor) -> Signal:
    """The norm of dE/dh_k of every stage k, over all ticks of a sequence, in double precision.

    Arguments as in `signal_through_ticks`. Batch norm lets sequences see each other; then E is the
    sum over the batch.
    """
    net = copy.deepcopy(net).double()
    hs = net.hidden(x_BTC.double())
    return _signal(task.loss(net.answer(hs[-1]), y_B), [(h,) for h in hs], stride=net.span)


def _signal(loss_B: Tensor, states: list[State], stride: int) -> Signal:
    """Norms of each sequence's gradient, the newest state first; a part without use has none."""
    flat = [part for state in states for part in state]
    gradients = torch.autograd.grad(loss_B.sum(), flat, allow_unused=True, materialize_grads=True)
    parts = len(states[0])
    norms = []
    for k in reversed(range(len(states))):
        own = [gradient.flatten(1) for gradient in gradients[k * parts : (k + 1) * parts]]
        norms.append(torch.cat(own, dim=1).norm(dim=1).median().item())
    return Signal([k * stride for k in range(len(states))], norms)


def relative(signal: dict[str, Any]) -> list[float]:
    """The norms of a `Signal`, as plain values, as shares of that of the newest h."""
    newest = signal["norm"][0]
    return [norm / newest if newest else math.nan for norm in signal["norm"]]
