"""What the baselines know of real ticks, and the time that each takes.

    python -m bench.baselines [NAME=FILE…] [--json] [--only trees lecture_2018_leaky]

Log loss in nats on the last fifth of the events with the default recipe, and the seconds that
fitting and predicting take, on one thread each. Several files of one market are given as
NAME=FILE,FILE or as a glob; without any, bitFlyer's six days are taken from NEXTTICK_DATA or
a folder shared/data beside the clone, or else a simulated market.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence

import numpy as np
from rich.table import Table

from bench import running
from nexttick.learn.baselines import BASELINES
from nexttick.learn.baselines.base import Known, Seen
from nexttick.options import Recipe
from nexttick.prepare.dataset import Prepared, prepare_ticks
from nexttick.prepare.labels import MISSING
from nexttick.prepare.splits import purged
from nexttick.scores.metrics import auc, log_losses


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


def measure_market(market: str, names: list[str], fallback: int) -> list[running.Result]:
    """All baselines at all horizons of one market, given as NAME=FILE,FILE; without a file, any."""
    title, _, files = market.partition("=")
    named = files.split(",") if "," in files else files
    found, ticks = running.ticks_of(named, running.BITFLYER, fallback)
    prepared = prepare_ticks(ticks, Recipe())
    horizons = range(len(prepared.labels.names))
    market = title or found
    return [
        {"market": market, **measure_one(prepared, name, h)} for name in names for h in horizons
    ]


def measure(args: argparse.Namespace) -> running.Result:
    rows = [measure_market(one, args.only, args.ticks) for one in args.markets or [""]]
    return {"baselines": [row for market in rows for row in market]}


def show(result: running.Result) -> Iterator[Table]:
    headings = ("market", "baseline", "horizon", "log loss", "AUC", "fit, s", "test, s")
    yield running.table(
        *headings,
        rows=(
            (
                *(row[key] for key in ("market", "baseline", "horizon")),
                *(f"{row[key]:.4f}" for key in ("log_loss", "auc")),
                *(f"{row[key]:.1f}" for key in ("fit_s", "predict_s")),
            )
            for row in result["baselines"]
        ),
    )


def main(words: Sequence[str] | None = None) -> None:
    options = running.parser(__doc__, ticks=running.FALLBACK)
    options.add_argument("markets", nargs="*", metavar="NAME=FILE")
    options.add_argument("--only", nargs="+", default=list(BASELINES), choices=list(BASELINES))
    running.run(options, measure, show, words)


if __name__ == "__main__":
    main()
