"""The same recipe on a market where nothing can be known beyond the bounce."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from nexttick.audit.finding import Finding
from nexttick.config import Recipe, SplitOptions
from nexttick.job import Prepared, check_parts, prepare, train_network
from nexttick.labels import MISSING
from nexttick.metrics import Comparison, compare
from nexttick.predictor import Predictor
from nexttick.sources.placebo import Placebo, make_placebo
from nexttick.ticks import TickError
from nexttick.train import DivergenceError

_NAME = "placebo"


def check_placebo(
    prepared: Prepared, ticks: pl.DataFrame, recipe: Recipe, *, events: int, epochs: int, seed: int
) -> Finding:
    """Train on a placebo of the first events; whoever beats its truth has seen the answers.

    The verdict is on horizons counted in events, whose truth is known in closed form: the 95 %
    interval of the bits that the network has over the truth must not lie above zero.

    Args:
        prepared: of the user's ticks.
        ticks: the user's.
        recipe: what is trained.
        events: how many of the user's events the placebo is made from, at the most.
        epochs: the most that are trained, for speed.
        seed: of the placebo's price path.
    """
    if recipe.labels.smooth or not _event_horizons(recipe):
        return Finding(_NAME, None, "No horizon has a truth that is known in closed form.", {})
    some = prepared.events[:events]
    placebo = make_placebo(ticks[: int(some["count"].sum())], some, seed)
    recipe = _shortened(recipe, epochs)
    try:
        nothing = prepare(placebo.ticks, recipe)
        check_parts(nothing, recipe, tested=True)
        predictor = train_network(nothing, recipe)
    except (TickError, DivergenceError) as error:
        return Finding(_NAME, None, f"The recipe can't be trained on a placebo: {error}", {})
    return _told(over_truth(predictor, nothing, placebo, recipe), len(some))


def over_truth(
    predictor: Predictor, prepared: Prepared, placebo: Placebo, recipe: Recipe
) -> dict[str, Comparison]:
    """What a network has over the truth on the test part, at each horizon counted in events."""
    p_NH = predictor.score(prepared.x_NF, prepared.starts)
    compared = {}
    for horizon, h in _event_horizons(recipe).items():
        y_N, p_N = prepared.labels.y_NH[:, h], p_NH[:, h]
        rows = np.flatnonzero((y_N != MISSING) & np.isfinite(p_N))
        rows = rows[rows >= prepared.split.test]
        truth_N = placebo.truth(horizon, recipe.labels.ties)
        compared[prepared.labels.names[h]] = compare("truth", y_N[rows], p_N[rows], truth_N[rows])
    return compared


def _event_horizons(recipe: Recipe) -> dict[int, int]:
    """Number of events and column of each horizon that is counted in events."""
    return {int(text): h for h, text in enumerate(recipe.labels.horizon) if text.isdecimal()}


def _shortened(recipe: Recipe, epochs: int) -> Recipe:
    split = recipe.split if recipe.split.test else SplitOptions()
    train = replace(recipe.train, epochs=min(epochs, recipe.train.epochs))
    return replace(recipe, split=split, train=train)


def _told(compared: dict[str, Comparison], events: int) -> Finding:
    numbers: dict[str, float] = {"events": events}
    for name, one in compared.items():
        numbers |= {name: one.bits, f"{name} margin": one.margin}
    found = [name for name, one in compared.items() if one.bits > one.margin]
    bits = ", ".join(f"{one.bits:+.4f} ± {one.margin:.4f} at {k}" for k, one in compared.items())
    if found:
        sentence = (
            f"On a market without a signal the same recipe knows more than can be known: {bits} "
            f"bits an event. It has seen answers."
        )
    else:
        sentence = (
            f"On a market without a signal beyond the bounce the same recipe finds none: {bits} "
            f"bits an event over the truth."
        )
    return Finding(_NAME, not found, sentence, numbers)
