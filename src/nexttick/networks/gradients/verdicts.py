"""What the figures of an epoch mean, in words and with a cure.

The limits lie between what was measured of trainings that went well and of trainings that did not
(docs/lab.md). Rules of thumb, then: a verdict says where to look, and no verdict is no proof of
health. The share of clipped steps alone is no rule: a CNN that learns well has most of its first
epoch's steps clipped.
"""

from __future__ import annotations

import math
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


def judge_health(
    losses: Floats, norms: Floats, clip_norm: float, layers: Layers, looks: int
) -> dict[str, str]:
    """What is wrong, by name, each with a sentence and a cure; nothing where all is well.

    Args:
        losses: of every step of an epoch, nats.
        norms: of the gradient before clipping, of every step.
        clip_norm: what it was clipped to.
        layers: measures by layer, as in `Monitor.report`.
        looks: steps that they are medians of.
    """
    sentences = {
        "exploding": _exploding(losses, norms, clip_norm),
        "vanishing": _vanishing(layers),
        "saturated": _saturated(layers),
        "dead": _dead(layers),
        "too fast": _too_fast(layers) if looks >= LEAST_LOOKS else "",
    }
    verdicts = {name: words for name, words in sentences.items() if words}
    # Weights also stand still where no gradient reaches them, and then --lr is no cure.
    frozen = "" if verdicts else _frozen(layers)
    return {"frozen": frozen} if frozen else verdicts


def _exploding(losses: Floats, norms: Floats, clip_norm: float) -> str:
    quarter = max(1, len(norms) // 4)
    first, last = float(np.median(norms[:quarter])), float(np.median(norms[-quarter:]))
    at_work = float((norms[-quarter:] > clip_norm).mean()) > AT_WORK
    loss, largest = float(losses.mean()), float(norms.max())
    grows = at_work and last > MOST_GROWTH * first
    if loss <= MOST_LOSS and last <= MOST_NORM and not grows:  # what is not finite is no less
        return ""
    share = float((norms > clip_norm).mean())
    clipped = f"{_percent(share)} of steps clipped" if share else "no step clipped"
    figures = f"{clipped}, the gradient's norm up to {largest:.3g}; lower --lr or --clip-norm"
    if loss <= MOST_LOSS:
        return f"the gradient explodes: {figures}"
    return f"the loss explodes: {loss:.3g} nats, where a coin has {COIN:.2f}; {figures}"


def _vanishing(layers: Layers) -> str:
    norms = _measured(layers, "grad_norm")
    if not norms:
        return ""
    least, most = min(norms, key=norms.__getitem__), max(norms, key=norms.__getitem__)
    if norms[least] >= LEAST_GRADIENT * norms[most]:
        return ""
    share = norms[least] / norms[most]
    return (
        f"the gradient vanishes: that of {least} is {share:.1g} of that of {most}; "
        f"give fewer --num-layers, --arch residual or lower --lr"
    )


def _saturated(layers: Layers) -> str:
    where = _worst(layers, "saturated", MOST_SATURATED, "gates")
    if not where:
        return ""
    return f"{where} are saturated, hardly any gradient passes; lower --lr or give --bins 0"


def _dead(layers: Layers) -> str:
    where = _worst(layers, "dead", MOST_DEAD, "units")
    if not where:
        return ""
    return f"{where} are dead, never positive; lower --lr or give --norm batch"


def _worst(layers: Layers, measure: str, limit: float, what: str) -> str:
    """`95 % of the gates of lstm.0 (and 1 layer more)`, or nothing where no layer is beyond."""
    beyond = {name: v for name, v in _measured(layers, measure).items() if v > limit}
    if not beyond:
        return ""
    worst = max(beyond, key=beyond.__getitem__)
    more = len(beyond) - 1
    others = f" (and many of {more} other layer{'s' if more > 1 else ''})" if more else ""
    return f"{_percent(beyond[worst])} of the {what} of {worst}{others}"


def _too_fast(layers: Layers) -> str:
    ratios = _measured(layers, "update_ratio")
    fastest = max(ratios, key=ratios.__getitem__, default="")
    if not fastest or ratios[fastest] <= MOST_UPDATE:
        return ""
    return (
        f"steps are too large: one moves the weights of {fastest} by "
        f"{_percent(ratios[fastest])}; lower --lr"
    )


def _frozen(layers: Layers) -> str:
    ratios = list(_measured(layers, "update_ratio").values())
    if not ratios or (middle := float(np.median(ratios))) >= LEAST_UPDATE:
        return ""
    return f"hardly anything moves: a step changes weights by {middle:.1g} of them; raise --lr"


def _measured(layers: Layers, measure: str) -> dict[str, float]:
    """A measure of every layer that has it and whose value is finite."""
    return {
        name: measures[measure]
        for name, measures in layers.items()
        if measures.get(measure) is not None
    }


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
