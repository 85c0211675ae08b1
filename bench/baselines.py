"""What the baselines know of real ticks, and the time that each takes.

    python -m bench.baselines [--json] NAME=FILE… [--only trees lecture_2018_leaky]

Log loss in nats on the last fifth of the events with the default recipe, and the seconds that
fitting and predicting take, on one thread each. Several files of one market are given as
NAME=FILE,FILE or as a glob.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from nexttick.learn.baselines import BASELINES
from nexttick.learn.baselines.base import Known, Seen
from nexttick.options import Recipe
from nexttick.prepare.dataset import Prepared, prepare_ticks
from nexttick.prepare.labels import MISSING
from nexttick.prepare.splits import purged
from nexttick.scores.metrics import auc, log_losses
from nexttick.ticks.reading.read import read_ticks


def measure_one(prepared: Prepared, name: str, h: int) -> dict[str, object]:
    """Fit and test one baseline at one horizon."""
    split, labels = prepared.split, prepared.labels
    train, valid = purged(labels, 0, split.valid), purged(labels, split.valid, split.test)
    rows = np.arange(split.test, split.end)
    rows = rows[labels.y_NH[rows, h] != MISSING]
    seen, y, start = Seen.of(prepared, h), labels.y_NH[rows, h], time.perf_counter()
    fitted = BASELINES[name].fit(seen, Known.of(train[:, h]), Known.of(valid[:, h]))
    fitted_s = time.perf_counter() - start
    p = fitted.predict(seen, rows)
    return {
        "baseline": name,
        "horizon": labels.names[h],
        "log_loss": float(log_losses(y, p).mean()),
        "auc": auc(y, p),
        "fit_s": fitted_s,
        "predict_s": time.perf_counter() - start - fitted_s,
    }


def measure(market: str, names: list[str]) -> list[dict[str, object]]:
    """All baselines at all horizons of one market, given as NAME=FILE,FILE."""
    title, _, files = market.partition("=")
    ticks, _ = read_ticks(files.split(",") if "," in files else files)
    prepared = prepare_ticks(ticks, Recipe())
    horizons = range(len(prepared.labels.names))
    return [{"market": title, **measure_one(prepared, name, h)} for name in names for h in horizons]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("markets", nargs="+")
    parser.add_argument("--only", nargs="+", default=list(BASELINES), choices=list(BASELINES))
    args = parser.parse_args()
    results = [row for market in args.markets for row in measure(market, args.only)]
    if args.json:
        print(json.dumps({"baselines": results}))
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("market", "baseline", "horizon", "log loss", "AUC", "fit, s", "test, s"):
        table.add_column(heading, no_wrap=True)
    for row in results:
        numbers = (f"{row['log_loss']:.4f}", f"{row['auc']:.4f}")
        seconds = (f"{row['fit_s']:.1f}", f"{row['predict_s']:.1f}")
        words = (str(row[key]) for key in ("market", "baseline", "horizon"))
        table.add_row(*words, *numbers, *seconds)
    Console().print(table)


if __name__ == "__main__":
    main()
