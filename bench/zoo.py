"""Every entry of the zoo on the same real ticks: cost, speed, and what it learns.

    python -m bench.zoo [FILE…] [--json] [--epochs 6] [--only cnn-plain rnn-gru] [--out FILE.json]

Every network is trained for the same number of epochs on the same events with the default sizes
(2 layers of 64, 32 ticks), and judged on the last fifth. Without files, bitFlyer's six days are
taken from NEXTTICK_DATA or a folder shared/data beside the clone, or else a simulated market.
Speeds compare within one run only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from bench import running
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


def measure_entry(kind: str, arch: str, prepared: Prepared, epochs: int) -> running.Result:
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
            for name, scores in tested.metrics["test"].items()
        },
        "valid_losses": [record.valid_loss for record in records],
    }


def measure(args: argparse.Namespace) -> running.Result:
    prepared = prepare_ticks(
        running.ticks_of(args.files, running.BITFLYER, args.ticks)[1], Recipe()
    )
    results: running.Result = {}
    for kind, archs in MODELS.items():
        for arch in archs:
            name = f"{kind}-{arch}"
            if not args.only or name in args.only:
                results[name] = measure_entry(kind, arch, prepared, args.epochs)
                if args.out is not None:
                    args.out.write_text(json.dumps(results))
    return results


def show(result: running.Result) -> Iterator[Table]:
    horizons = next(iter(result.values()))["horizons"]
    yield running.table(
        *("network", *(name.replace("_", " ") for name in COLUMNS), *horizons),
        rows=(
            (
                name,
                *(form.format(row[key]) for key, form in COLUMNS.items()),
                *(f"{h['log_loss']:.4f} / {h['bits']:.4f}" for h in row["horizons"].values()),
            )
            for name, row in result.items()
        ),
    )


def main(words: Sequence[str] | None = None) -> None:
    options = running.parser(__doc__, epochs=6, ticks=running.FALLBACK)
    options.add_argument("files", nargs="*")
    names = [f"{kind}-{arch}" for kind, archs in MODELS.items() for arch in archs]
    options.add_argument("--only", nargs="+", default=[], choices=names, metavar="TYPE-ARCH")
    options.add_argument("--out", type=Path, help="write the JSON after each network")
    running.run(options, measure, show, words)


if __name__ == "__main__":
    main()
