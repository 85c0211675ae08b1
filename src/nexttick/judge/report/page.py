"""The report as one HTML page: verdict, pictures, tables, recipe; no file and no network needed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from nexttick.judge.report.pictures import PICTURES, Source, draw
from nexttick.ticks.writing import write_text

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


def write_report(run: Path) -> None:
    """Write `report.html` of an evaluation's folder from the files in it."""
    write_text(run / "report.html", render(run))


def render(run: Path) -> str:
    """The page, from `metrics.json`, `config.json`, `predictions.parquet` and the folds' logs."""
    source = read_source(run)
    environment = Environment(
        loader=PackageLoader("nexttick.judge.report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"number": number, "interval": interval, "moment": moment}
    config = json.loads((run / "config.json").read_text())
    return environment.get_template("page.html.j2").render(
        metrics=source.metrics,
        source=source,
        verdict=verdict(source),
        pictures=[(name, title, draw(name, source)) for name, (title, _) in PICTURES.items()],
        scores=_SCORES,
        config=json.dumps(config, indent=1),
        version=version("nexttick"),
        name=run.name,
    )


def read_source(run: Path) -> Source:
    """What the report of an evaluation's folder is made of."""
    metrics = json.loads((run / "metrics.json").read_text())
    logs: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for name in metrics["networks"]:
        for fold in metrics["folds"]:
            log = run / "folds" / str(fold["number"]) / name / "log.jsonl"
            records = [json.loads(line) for line in log.read_text().splitlines()]
            logs.setdefault(name, {})[fold["number"]] = records
    return Source(metrics, logs, pl.read_parquet(run / "predictions.parquet"))


def verdict(source: Source) -> str:
    """Two sentences: what the best network knows, and whether that survives costs."""
    metrics, horizon = source.metrics, source.horizons[0]
    best = max(source.networks, key=lambda name: metrics["networks"][name][horizon]["bits"])
    rivals = [name for name in source.honest if name not in source.networks]
    rival = max(rivals, key=lambda name: metrics["baselines"][name][horizon]["bits"])
    more, low, high = metrics["differences"][best][rival][horizon]["bits"]
    knows = metrics["networks"][best][horizon]["bits"]
    told = f"{best} knows {knows:.3f} bits an event about {horizon}"
    if low is None or low <= 0 <= high:
        first = f"{told}, not surely different from {rival} ({more:+.4f} {interval([low, high])})."
    elif more > 0:
        first = f"{told}, {more:.4f} {interval([low, high])} more than {rival}."
    else:
        first = f"{told}, {-more:.4f} {interval([-high, -low])} less than {rival}."
    return f"{first} {_costs(metrics['backtest'][best][horizon])}"


def _costs(told: dict[str, Any]) -> str:
    fee, low, high = told["break_even_fee_bps"]
    if fee is None:
        return "It never found a trade worth making."
    if fee <= 0:
        return (
            f"It earns nothing: the spread alone costs more than its edge (break-even fee "
            f"{fee:.2f} bps {interval([low, high], 2)})."
        )
    return (
        f"Its edge survives fees below {fee:.2f} bps {interval([low, high], 2)} a trade; a usual "
        f"taker fee is 5 to 10."
    )


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


def moment(time_ns: int) -> str:
    """A time stamp for people."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")
