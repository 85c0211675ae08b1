"""Markets without a signal: does anyone beat the truth?

    python -m bench.no_signal [--json] [--seeds 20] [--ticks 60000] [--types cnn rnn] [--epochs 12]

Simulated markets with `signal=0`, whose true probability of a rise hangs on the bounce alone. For
every baseline and network, at rise@1 on the last fifth: in how many markets the 95 % interval of
its own bits over the base rate covers those of the truth (`own covers`), and in how many the paired
interval of what it has over the truth lies above zero, covers it, or lies below. The second is far
narrower: it also shows what a fit on so few ticks costs. Nothing may lie above more often than by
chance, one in 40.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from rich.table import Table

from bench import running
from nexttick.learn.baselines import BASELINES, fit_on_training
from nexttick.learn.baselines.base import Seen
from nexttick.learn.train import train_network
from nexttick.options import LabelOptions, Recipe
from nexttick.prepare.dataset import Prepared, prepare_ticks
from nexttick.prepare.labels import MISSING
from nexttick.scores.bootstrap import Estimate
from nexttick.scores.intervals import bits_over, evaluate
from nexttick.ticks.simulated import SimulatedMarket, simulate


class AgainstTruth(NamedTuple):
    """A contestant against the truth: paired, and whether its own interval covers it."""

    paired: Estimate
    own_covers: bool


def against_truth(prepared: Prepared, p_N: np.ndarray, rows: np.ndarray) -> AgainstTruth:
    y, truth = prepared.labels.y_NH[rows, 0], prepared.events["truth"].to_numpy()[rows]
    known = prepared.labels.y_NH[: prepared.split.train_stop, 0]
    rate = np.full(len(y), known[known != MISSING].mean())
    judged = evaluate(y, {"own": p_N, "truth": truth, "base_rate": rate})
    bits = judged.intervals("own")["bits"]
    covers = bits.low <= judged.scores["truth"]["bits"] <= bits.high
    return AgainstTruth(bits_over(y, p_N, truth), covers)


def measure_one(ticks: int, seed: int, types: list[str], epochs: int) -> dict[str, AgainstTruth]:
    """Everyone against the truth on one market."""
    recipe = Recipe(labels=LabelOptions(("1",)))
    recipe = replace(recipe, train=replace(recipe.train, epochs=epochs, threads=1))
    prepared = prepare_ticks(simulate(SimulatedMarket(ticks, seed, signal=0.0)), recipe)
    rows = np.arange(prepared.split.test, prepared.split.end)
    rows = rows[prepared.labels.y_NH[rows, 0] != MISSING]
    seen, fitted = Seen.of(prepared, 0), fit_on_training(prepared, BASELINES)
    contestants = {
        name: against_truth(prepared, one.predict(seen, rows), rows)
        for name, (one,) in fitted.items()
    }
    for kind in types:
        predictor = train_network(prepared, replace(recipe, model=replace(recipe.model, type=kind)))
        p_NH = predictor.score(prepared.x_NF, prepared.starts).p_NH
        contestants[kind] = against_truth(prepared, p_NH[rows, 0], rows)
    return contestants


def measure(args: argparse.Namespace) -> running.Result:
    """Counts over all markets, a row for each contestant."""
    markets = [measure_one(args.ticks, seed, args.types, args.epochs) for seed in range(args.seeds)]
    contestants = [
        {
            "contestant": name,
            "own_covers": sum(market[name].own_covers for market in markets),
            "above": sum(market[name].paired.low > 0 for market in markets),
            "covers": sum(
                market[name].paired.low <= 0 <= market[name].paired.high for market in markets
            ),
            "below": sum(market[name].paired.high < 0 for market in markets),
            "mean_bits": float(np.mean([market[name].paired.value for market in markets])),
            "highest_bits": max(market[name].paired.value for market in markets),
        }
        for name in markets[0]
    ]
    return {"markets": args.seeds, "contestants": contestants}


def show(result: running.Result) -> Iterator[Table]:
    counts = ("contestant", "own_covers", "above", "covers", "below")
    bits = ("mean_bits", "highest_bits")
    yield running.table(
        *(key.replace("_", " ") for key in (*counts, *bits)),
        rows=(
            (*(row[key] for key in counts), *(f"{row[key]:+.5f}" for key in bits))
            for row in result["contestants"]
        ),
    )


def main(words: Sequence[str] | None = None) -> None:
    options = running.parser(__doc__, seeds=20, ticks=60_000, epochs=12)
    options.add_argument("--types", nargs="*", default=["cnn", "rnn"])
    running.run(options, measure, show, words)


if __name__ == "__main__":
    main()
