"""Every entry of the zoo on the same real ticks: cost, speed, and what it learns.

    python -m bench.zoo [FILE…] [--json] [--epochs 6] [--only cnn-plain rnn-gru] [--out FILE.json]

Every network is trained for the same number of epochs on the same events with the default sizes
(2 layers of 64, 32 ticks), and judged on the last fifth. Without files, bitFlyer's six days are
taken from NEXTTICK_DATA or ../shared/data. Speeds compare within one run only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nexttick.judge.held_out import judge
from nexttick.learn.baselines import fit_on_training
from nexttick.learn.checkpoint import EpochRecord
from nexttick.learn.predictor.predictor import Predictor
from nexttick.learn.predictor.stepper import Stepper
from nexttick.learn.train import train_network
from nexttick.networks.models import MODELS
from nexttick.networks.models.anatomy import describe_model
from nexttick.options import ModelOptions, Recipe, TrainOptions
from nexttick.prepare.dataset import Prepared, prepare_ticks
from nexttick.prepare.features import EVENT
from nexttick.ticks.reading.read import read_ticks

STEPS = 500  # live events timed
COLUMNS = {
    "parameters": "{:,}",
    "multiply_adds": "{:,}",
    "train_ticks_per_s": "{:,.0f}",
    "score_ticks_per_s": "{:,.0f}",
    "step_us": "{:,.0f}",
}


def step_us(predictor: Predictor, prepared: Prepared) -> float:
    """Median microseconds from one event in to its probabilities out, features included."""
    stepper, spent = Stepper(predictor), []
    for event in prepared.events[: STEPS + 50].select(EVENT).iter_rows():
        start = time.perf_counter()
        stepper.step(event)
        spent.append(time.perf_counter() - start)
    return statistics.median(spent[50:]) * 1e6


def score_rate(predictor: Predictor, prepared: Prepared) -> float:
    """Events scored a second, features given."""
    test = slice(prepared.split.test, prepared.split.end)
    x_NF, starts = prepared.x_NF[test], prepared.starts[:1]
    start = time.perf_counter()
    predictor.score(x_NF, starts)
    return len(x_NF) / (time.perf_counter() - start)


def measure(kind: str, arch: str, prepared: Prepared, epochs: int) -> dict[str, Any]:
    """Train one entry and tell all of it."""
    model = ModelOptions(kind, arch)
    recipe = Recipe(model=model, train=TrainOptions(epochs=epochs, patience=epochs))
    records: list[EpochRecord] = []
    predictor = train_network(prepared, recipe, on_epoch=records.append)
    layers = describe_model(predictor.model, len(prepared.spec.names))
    tested = judge(predictor, fit_on_training(prepared), prepared, prepared.split.test)
    return {
        "parameters": sum(layer.parameters for layer in layers),
        "multiply_adds": sum(layer.multiply_adds for layer in layers),
        "train_ticks_per_s": statistics.median(record.ticks_per_s for record in records),
        "score_ticks_per_s": score_rate(predictor, prepared),
        "step_us": step_us(predictor, prepared),
        "horizons": {
            name: {key: scores[key] for key in ("log_loss", "bits")}
            for name, scores in tested.scores_of("network").items()
        },
        "valid_losses": [record.valid_loss for record in records],
    }


def show(results: dict[str, dict[str, Any]]) -> None:
    horizons = next(iter(results.values()))["horizons"]
    table = Table("network", *(name.replace("_", " ") for name in COLUMNS), *horizons)
    for name, told in results.items():
        scores = [f"{one['log_loss']:.4f} / {one['bits']:.4f}" for one in told["horizons"].values()]
        table.add_row(name, *(form.format(told[key]) for key, form in COLUMNS.items()), *scores)
    Console(width=160).print(table)


def default_files() -> list[str]:
    folder = Path(os.environ.get("NEXTTICK_DATA", "../shared/data")) / "bitflyer"
    return [str(folder / "*.csv.gz")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--out", type=Path, help="write the JSON after each network")
    args = parser.parse_args()
    ticks, _ = read_ticks(args.files or default_files())
    prepared = prepare_ticks(ticks, Recipe())
    results: dict[str, dict[str, Any]] = {}
    for kind, archs in MODELS.items():
        for arch in archs:
            name = f"{kind}-{arch}"
            if not args.only or name in args.only:
                results[name] = measure(kind, arch, prepared, args.epochs)
                if args.out is not None:
                    args.out.write_text(json.dumps(results))
    if args.json:
        print(json.dumps(results))
    else:
        show(results)


if __name__ == "__main__":
    main()
