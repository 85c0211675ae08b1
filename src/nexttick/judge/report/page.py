"""The report as one HTML page: verdict, pictures, tables, recipe; no file and no network needed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from nexttick.judge.report.pictures import PICTURES, Logs, Results, draw
from nexttick.learn.run_folder import read_log, read_metrics

_SCORES = {
    "bits": "bits",
    "log_loss": "log loss",
    "auc": "AUC",
    "auc_moves": "AUC, rise or tie",
    "auc_direction": "AUC, rise or fall",
    "mcc": "MCC",
    "brier": "Brier",
    "reliability": "reliability",
    "resolution": "resolution",
    "ece": "ECE",
    "precision": "precision",
    "npv": "NPV",
    "accuracy": "accuracy",
    "base_rate": "base rate",
}


def render(run: Path) -> str:
    """The page of an evaluation, from what lies in its folder.

    That is `metrics.json`, `config.json`, `predictions.parquet` and the folds' logs.
    """
    metrics = read_metrics(run)
    logs: Logs = {name: {} for name in metrics["networks"]}
    for name, fold in product(logs, metrics["folds"]):
        logs[name][fold["number"]] = read_log(run / "folds" / str(fold["number"]) / name)
    source = Results(metrics, logs, pl.read_parquet(run / "predictions.parquet"))
    environment = Environment(
        loader=PackageLoader("nexttick.judge.report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"number": number, "interval": interval}
    environment.filters["moment"] = lambda time_ns: datetime.fromtimestamp(
        time_ns / 1e9, UTC
    ).strftime("%Y-%m-%d %H:%M UTC")
    config = json.loads((run / "config.json").read_text())
    return environment.get_template("page.html.j2").render(
        metrics=metrics,
        source=source,
        verdict=verdict(source),
        pictures=[(name, title, draw(name, source)) for name, (title, *_) in PICTURES.items()],
        scores=_SCORES,
        config=json.dumps(config, indent=1),
        version=version("nexttick"),
        name=run.name,
    )


def verdict(source: Results) -> str:
    """Two sentences: what the best network knows, and whether that survives costs."""
    metrics, horizon = source.metrics, source.horizons[0]
    best = max(source.networks, key=lambda name: metrics["networks"][name][horizon]["bits"])
    rivals = [name for name in source.honest if name not in source.networks]
    rival = max(rivals, key=lambda name: metrics["baselines"][name][horizon]["bits"])
    more, low, high = metrics["differences"][best][rival][horizon]["bits"]
    knows = f"{best} knows {metrics['networks'][best][horizon]['bits']:.3f} bits an event"
    if low is None or low <= 0 <= high:
        compared = f"not surely different from {rival} ({more:+.4f} {interval([low, high])})"
    elif more > 0:
        compared = f"{more:.4f} {interval([low, high])} more than {rival}"
    else:
        compared = f"{-more:.4f} {interval([-high, -low])} less than {rival}"
    fee, *bounds = metrics["backtest"][best][horizon]["break_even_fee_bps"]
    if fee is None:
        earns = "It never found a trade worth making."
    elif fee <= 0:
        earns = (
            f"It earns nothing: the spread alone costs more than its edge (break-even fee "
            f"{fee:.2f} bps {interval(bounds, 2)})."
        )
    else:
        earns = (
            f"Its edge survives fees below {fee:.2f} bps {interval(bounds, 2)} a trade; a usual "
            f"taker fee is 5 to 10."
        )
    return f"{knows} about {horizon}, {compared}. {earns}"


def number(value: float | None, digits: int = 4) -> str:
    """A number, or a dash where it is not defined."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def interval(bounds: Sequence[float | None] | None, digits: int = 4) -> str:
    """A 95 % interval in brackets; nothing where it is not defined."""
    if bounds is None or bounds[0] is None or bounds[1] is None:
        return ""
    return f"[{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"
