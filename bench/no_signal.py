"""Markets without a signal: does anyone beat the truth?

    python -m bench.no_signal [--json] [--seeds 20] [--ticks 60000] [--types cnn rnn] [--epochs 2]

Simulated markets with `signal=0`, whose true probability of a rise hangs on the bounce alone. For
every baseline and network: in how many of them the 95 % interval of what it has over the truth, in
bits an event at rise@1 on the last fifth, lies above zero, covers it, or lies below. Nothing may
lie above zero more often than by chance, one in 40.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from nexttick.baselines import BASELINES
from nexttick.config import LabelOptions, Recipe
from nexttick.job import Prepared, prepare, train_network
from nexttick.judge import fit_on_training, see
from nexttick.labels import MISSING
from nexttick.metrics import Comparison, compare
from nexttick.sources.simulated import SimulatedMarket, simulate


def over_truth(prepared: Prepared, p_N: np.ndarray, rows: np.ndarray) -> Comparison:
    """What p has over the truth on these events."""
    y, truth = prepared.labels.y_NH[rows, 0], prepared.events["truth"].to_numpy()[rows]
    return compare("truth", y, p_N, truth)


def measure_one(ticks: int, seed: int, types: list[str], epochs: int) -> dict[str, Comparison]:
    """Everyone against the truth on one market."""
    recipe = Recipe(labels=LabelOptions(("1",)))
    recipe = replace(recipe, train=replace(recipe.train, epochs=epochs, threads=1))
    prepared = prepare(simulate(SimulatedMarket(ticks, seed, signal=0.0)), recipe)
    rows = np.arange(prepared.split.test, prepared.split.end)
    rows = rows[prepared.labels.y_NH[rows, 0] != MISSING]
    seen, fitted = see(prepared, 0), fit_on_training(prepared, BASELINES)
    told = {
        name: over_truth(prepared, one.predict(seen, rows), rows) for name, (one,) in fitted.items()
    }
    for kind in types:
        predictor = train_network(prepared, replace(recipe, model=replace(recipe.model, type=kind)))
        p_NH = predictor.score(prepared.x_NF, prepared.starts)
        told[kind] = over_truth(prepared, p_NH[rows, 0], rows)
    return told


def measure(seeds: int, ticks: int, types: list[str], epochs: int) -> list[dict[str, object]]:
    """Counts over all markets, a row for each contestant."""
    markets = [measure_one(ticks, seed, types, epochs) for seed in range(seeds)]
    return [
        {
            "contestant": name,
            **{
                where: sum(told[name].verdict == verdict for told in markets)
                for where, verdict in (
                    ("above", "more"),
                    ("covers", "no surely different"),
                    ("below", "less"),
                )
            },
            "mean_bits": float(np.mean([told[name].bits for told in markets])),
            "highest_bits": max(told[name].bits for told in markets),
        }
        for name in markets[0]
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--ticks", type=int, default=60_000)
    parser.add_argument("--types", nargs="*", default=["cnn", "rnn"])
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    results = measure(args.seeds, args.ticks, args.types, args.epochs)
    if args.json:
        print(json.dumps({"markets": args.seeds, "contestants": results}))
        return
    table = Table("contestant", "above", "covers", "below", "mean bits", "highest bits")
    for row in results:
        bits = (f"{row['mean_bits']:+.5f}", f"{row['highest_bits']:+.5f}")
        table.add_row(*(str(row[key]) for key in ("contestant", "above", "covers", "below")), *bits)
    Console().print(table)


if __name__ == "__main__":
    main()
