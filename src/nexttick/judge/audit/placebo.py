"""The same recipe on a market where nothing can be known beyond the bounce."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from nexttick.judge.audit.facts import Finding
from nexttick.learn.epochs import DivergenceError
from nexttick.learn.predictor.predictor import Predictor
from nexttick.learn.train import check_parts, fresh_network, train_network
from nexttick.options import Recipe, SplitOptions
from nexttick.prepare.dataset import Prepared, prepare_ticks
from nexttick.prepare.labels import MISSING
from nexttick.scores.metrics import Comparison, compare
from nexttick.ticks.placebo import Placebo, make_placebo
from nexttick.ticks.record import TickError

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
        nothing = prepare_ticks(placebo.ticks, recipe)
        network = fresh_network(recipe)
        check_parts(nothing, network.context, tested=True)
        predictor = train_network(nothing, recipe, network=network)
    except (TickError, DivergenceError) as error:
        return Finding(_NAME, None, f"The recipe can't be trained on a placebo: {error}", {})
    return _told(over_truth(predictor, nothing, placebo, recipe), len(some))


@dataclass(frozen=True)
class OverTruth:
    """What a network has over the truth of a placebo at one horizon.

    Attributes:
        network: the network against the truth.
        truth: the truth against the base rate: what the bounce tells.
    """

    network: Comparison
    truth: Comparison


def over_truth(
    predictor: Predictor, prepared: Prepared, placebo: Placebo, recipe: Recipe
) -> dict[str, OverTruth]:
    """Score the test part against the truth, at each horizon counted in events."""
    p_NH = predictor.score(prepared.x_NF, prepared.starts).p_NH
    compared = {}
    for horizon, h in _event_horizons(recipe).items():
        known = (prepared.labels.y_NH[:, h] != MISSING) & np.isfinite(p_NH[:, h])
        rows = np.flatnonzero(known[prepared.split.test :]) + prepared.split.test
        y, truth = prepared.labels.y_NH[rows, h], placebo.truth(horizon, recipe.labels.ties)[rows]
        compared[prepared.labels.names[h]] = OverTruth(
            compare("truth", y, p_NH[rows, h], truth),
            compare("base_rate", y, truth, np.full(len(y), y.mean())),
        )
    return compared


def _event_horizons(recipe: Recipe) -> dict[int, int]:
    """Number of events and column of each horizon that is counted in events."""
    return {int(text): h for h, text in enumerate(recipe.labels.horizon) if text.isdecimal()}


def _shortened(recipe: Recipe, epochs: int) -> Recipe:
    split = recipe.split if recipe.split.test else SplitOptions()
    train = replace(recipe.train, epochs=min(epochs, recipe.train.epochs))
    return replace(recipe, split=split, train=train)


def _told(compared: dict[str, OverTruth], events: int) -> Finding:
    numbers: dict[str, float] = {"events": events}
    for name, one in compared.items():
        numbers |= {name: one.network.bits, f"{name} margin": one.network.margin}
        numbers[f"{name} truth"] = one.truth.bits
    found = any(one.network.verdict == "more" for one in compared.values())
    bits = ", ".join(
        f"{one.network.bits:+.4f} ± {one.network.margin:.4f} bits an event over a truth of "
        f"{one.truth.bits:.4f} at {name}"
        for name, one in compared.items()
    )
    if found:
        sentence = f"Without a signal the same recipe knows more than can be known: {bits}."
    else:
        sentence = f"Without a signal the same recipe finds nothing beyond the bounce: {bits}."
    return Finding(_NAME, not found, sentence, numbers)
