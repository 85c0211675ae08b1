"""What the figures of an epoch mean, in words and with a cure.

The limits lie between what was measured of trainings that went well and of trainings that did not
(docs/lab.md). Rules of thumb, then: a verdict says where to look, and no verdict is no proof of
health. The share of clipped steps alone is no rule: a CNN that learns well has most of its first
epoch's steps clipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Layers = dict[str, dict[str, Any]]
Floats = NDArray[np.float64]

COIN = math.log(2)  # nats: the loss of saying 1/2
MOST_LOSS = 4 * COIN
MOST_NORM = 100.0  # of the gradient, in an epoch's last quarter
MOST_GROWTH = 3.0  # of its norm, from the first quarter to the last, where clipping is at work
AT_WORK = 0.25  # share of steps clipped from which it is
LEAST_GRADIENT = 1e-4  # of a layer, as a share of the largest of any layer
MOST_SATURATED = 0.95  # share of gates; a forget gate that stays open counts too
MOST_DEAD = 0.8  # share of units
MOST_UPDATE, LEAST_UPDATE = 0.2, 1e-5  # of one step, as a share of the weights
LEAST_LOOKS = 3  # that a median wants: the first steps move weights that are small yet by a lot


@dataclass(frozen=True)
class Epoch:
    """What an epoch is judged by: what `Monitor.report` is given and what it measures by layer."""

    losses: Floats
    norms: Floats
    clip_norm: float
    layers: Layers
    looks: int

    def measured(self, measure: str) -> dict[str, float]:
        """A measure of every layer that has it and whose value is finite."""
        values = {name: measures.get(measure) for name, measures in self.layers.items()}
        return {name: value for name, value in values.items() if value is not None}


def verdicts_of(epoch: Epoch) -> dict[str, str]:
    """What is wrong, by name, each with a sentence and a cure; nothing where all is well."""
    verdicts = {name: words for name, rule in RULES.items() if (words := rule(epoch))}
    # Weights also stand still where no gradient reaches them, and then --lr is no cure.
    ratios = [] if verdicts else list(epoch.measured("update_ratio").values())
    if ratios and (middle := float(np.median(ratios))) < LEAST_UPDATE:
        verdicts["frozen"] = (
            f"hardly anything moves: a step changes weights by {middle:.1g} of them; raise --lr"
        )
    return verdicts


def _exploding(epoch: Epoch) -> str:
    norms, quarter = epoch.norms, max(1, len(epoch.norms) // 4)
    first, last = float(np.median(norms[:quarter])), float(np.median(norms[-quarter:]))
    at_work = float((norms[-quarter:] > epoch.clip_norm).mean()) > AT_WORK
    loss, largest = float(epoch.losses.mean()), float(norms.max())
    grows = at_work and last > MOST_GROWTH * first
    if loss <= MOST_LOSS and last <= MOST_NORM and not grows:  # what is not finite is no less
        return ""
    share = float((norms > epoch.clip_norm).mean())
    clipped = f"{100 * share:.0f} % of steps clipped" if share else "no step clipped"
    figures = f"{clipped}, the gradient's norm up to {largest:.3g}; lower --lr or --clip-norm"
    if loss <= MOST_LOSS:
        return f"the gradient explodes: {figures}"
    return f"the loss explodes: {loss:.3g} nats, where a coin has {COIN:.2f}; {figures}"


def _vanishing(epoch: Epoch) -> str:
    norms = epoch.measured("grad_norm")
    least = min(norms, key=norms.__getitem__, default="")
    most = max(norms, key=norms.__getitem__, default="")
    if not norms or norms[least] >= LEAST_GRADIENT * norms[most]:
        return ""
    share = norms[least] / norms[most]
    return (
        f"the gradient vanishes: that of {least} is {share:.1g} of that of {most}; "
        f"give fewer --num-layers, --arch residual or lower --lr"
    )


def _beyond(measure: str, limit: float, what: str, cure: str, epoch: Epoch) -> str:
    """`95 % of the gates of lstm.0 (and many of 1 other layer) are`, where a layer is beyond."""
    beyond = {name: share for name, share in epoch.measured(measure).items() if share > limit}
    if not beyond:
        return ""
    worst, more = max(beyond, key=beyond.__getitem__), len(beyond) - 1
    others = f" (and many of {more} other layer{'s' if more > 1 else ''})" if more else ""
    return f"{100 * beyond[worst]:.0f} % of the {what} of {worst}{others} are {cure}"


def _too_fast(epoch: Epoch) -> str:
    ratios = epoch.measured("update_ratio") if epoch.looks >= LEAST_LOOKS else {}
    fastest = max(ratios, key=ratios.__getitem__, default="")
    if not fastest or ratios[fastest] <= MOST_UPDATE:
        return ""
    return (
        f"steps are too large: one moves the weights of {fastest} by "
        f"{100 * ratios[fastest]:.0f} %; lower --lr"
    )


_GATES_CURE = "saturated, hardly any gradient passes; lower --lr or give --bins 0"
_UNITS_CURE = "dead, never positive; lower --lr or give --norm batch"
RULES: dict[str, Callable[[Epoch], str]] = {
    "exploding": _exploding,
    "vanishing": _vanishing,
    "saturated": partial(_beyond, "saturated", MOST_SATURATED, "gates", _GATES_CURE),
    "dead": partial(_beyond, "dead", MOST_DEAD, "units", _UNITS_CURE),
    "too fast": _too_fast,
}
