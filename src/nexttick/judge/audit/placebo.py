"""The same recipe on a market where nothing can be known beyond the bounce."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from nexttick.judge.audit.facts import AuditFinding
from nexttick.learn.epochs import DivergenceError
from nexttick.learn.train import check_parts, fresh_network, train_network
from nexttick.options import Recipe, SplitOptions
from nexttick.prepare.dataset import Prepared, prepare_ticks
from nexttick.prepare.labels import MISSING
from nexttick.scores.intervals import bits_over
from nexttick.ticks.placebo import make_placebo
from nexttick.ticks.record import TickError

_NAME = "placebo"


def check_placebo(
    prepared: Prepared, ticks: pl.DataFrame, recipe: Recipe, *, events: int, epochs: int, seed: int
) -> AuditFinding:
    """Train on a placebo of the first events; whoever beats its truth has seen the answers.

    The verdict is on horizons counted in events, whose truth is known in closed form: the 95 %
    interval of the bits that the network has over the truth must not lie above zero. The placebo is
    made of so many events of the user's at the most, and trained for so many epochs at the most.
    """
    counted = {int(text): h for h, text in enumerate(recipe.labels.horizon) if text.isdecimal()}
    if recipe.labels.smooth or not counted:
        return AuditFinding(_NAME, None, "No horizon has a truth that is known in closed form.", {})
    some = prepared.events[:events]
    placebo = make_placebo(ticks[: int(some["count"].sum())], some, seed)
    recipe = replace(
        recipe,
        split=recipe.split if recipe.split.test else SplitOptions(),
        train=replace(recipe.train, epochs=min(epochs, recipe.train.epochs)),
    )
    try:
        nothing = prepare_ticks(placebo.ticks, recipe)
        network = fresh_network(recipe)
        check_parts(nothing, network.context, tested=True)
        predictor = train_network(nothing, recipe, network=network)
    except (TickError, DivergenceError) as error:
        return AuditFinding(_NAME, None, f"The recipe can't be trained on a placebo: {error}", {})
    p_NH = predictor.score(nothing.x_NF, nothing.starts).p_NH
    numbers: dict[str, float] = {"events": len(some)}
    bits, found = [], False
    for horizon, h in counted.items():
        y_N, name = nothing.labels.y_NH[:, h], nothing.labels.names[h]
        known = np.flatnonzero((y_N != MISSING) & np.isfinite(p_NH[:, h]))
        rows = known[known >= nothing.split.test]
        y, truth = y_N[rows], placebo.truth(horizon, recipe.labels.ties)[rows]
        over = bits_over(y, p_NH[rows, h], truth)
        # What the bounce tells: the truth over the share of rises.
        bounce = bits_over(y, truth, np.full(len(y), y.mean())).value
        numbers |= {name: over.value, f"{name} margin": over.margin, f"{name} truth": bounce}
        bits.append(
            f"{over.value:+.4f} ± {over.margin:.4f} bits an event over a truth of {bounce:.4f} at "
            f"{name}"
        )
        found = found or over.low > 0
    what = "knows more than can be known" if found else "finds nothing beyond the bounce"
    sentence = f"Without a signal the same recipe {what}: {', '.join(bits)}."
    return AuditFinding(_NAME, not found, sentence, numbers)
