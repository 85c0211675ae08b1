"""The pictures of a report, as SVG text: each from plain values of `metrics.json` and the logs.

They are small enough to be read on a phone without zooming, and tell contestants apart by line
and marker as well as by colour, so that black and white will do.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

Logs = dict[str, dict[int, list[dict[str, Any]]]]  # of each epoch, by network and fold

_WIDTH_IN = 4.7
_COLOURS = ("#0b62a4", "#c2410c", "#15803d", "#7e22ce", "#6b7280", "#a16207", "#0e7490", "#9f1239")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("--", "-.", ":")
_EVENTS = 250  # of the stretch of price
_STYLE: Any = {
    "font.size": 8.5,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "svg.fonttype": "path",  # the same in every browser
}


@dataclass(frozen=True)
class Results:
    """What pictures are drawn from."""

    metrics: dict[str, Any]  # `metrics.json`
    logs: Logs
    predictions: pl.DataFrame  # `pooling.Pooled.table`

    @property
    def networks(self) -> list[str]:
        """Names of the networks."""
        return list(self.metrics["networks"])

    @property
    def horizons(self) -> list[str]:
        """Names of the horizons."""
        return list(self.metrics["test"])

    @property
    def contestants(self) -> dict[str, Any]:
        """Scores of networks, then of baselines."""
        return {**self.metrics["networks"], **self.metrics["baselines"]}

    @property
    def honest(self) -> list[str]:
        """Contestants that have not seen what they are tested on."""
        return [name for name in self.contestants if name not in self.metrics["leaky"]]

    def style(self, name: str) -> dict[str, Any]:
        """Colour, marker and line of a contestant, the same in every picture."""
        k = list(self.contestants).index(name)
        network = name in self.networks
        return {
            "color": _COLOURS[k % len(_COLOURS)],
            "marker": _MARKERS[k % len(_MARKERS)],
            "linestyle": "-" if network else _DASHES[k % len(_DASHES)],
            "linewidth": 1.8 if network else 1.0,
            "markersize": 4,
            "label": name,
        }


def draw(name: str, source: Results) -> str:
    """One of `PICTURES` as an SVG element that fits the width it is given."""
    text = io.StringIO()
    # Ids hang on the salt: pictures of one page must not share them.
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        _, height_in, picture = PICTURES[name]
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        picture(source, figure)
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = re.sub(r'(?<=id=")|(?<=href="#)|(?<=url\(#)', f"{name}-", svg[svg.index("<svg") :])
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'role="img"', svg, count=1)


def _floats(values: Sequence[Any]) -> NDArray[np.float64]:
    """As an array, with NaN for None."""
    return np.array(values, np.float64)


def _legend_below(figure: Figure, axes: Axes) -> None:
    """Many contestants' lines leave no room inside."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def predictability(source: Results, figure: Figure) -> None:
    """Bits an event against horizon; bars are 95 % intervals of the networks."""
    axes = figure.subplots()
    for name in source.honest:
        scores = source.contestants[name]
        bits = _floats([scores[h]["bits"] for h in source.horizons])
        if name in source.networks:
            bounds = _floats([scores[h]["intervals"]["bits"] for h in source.horizons]).T
            errors = np.abs(bounds - bits)
            axes.errorbar(source.horizons, bits, errors, **source.style(name), capsize=3)
        else:
            axes.plot(source.horizons, bits, **source.style(name))
    axes.set(xlabel="horizon", ylabel="bits an event over the base rate")
    axes.margins(x=0.15)
    _legend_below(figure, axes)


def folds(source: Results, figure: Figure) -> None:
    """Skill at the first horizon, fold after fold."""
    axes, horizon = figure.subplots(), source.horizons[0]
    numbers = [fold["number"] for fold in source.metrics["folds"]]
    for name in source.honest:
        bits = _floats([fold["bits"][horizon].get(name) for fold in source.metrics["folds"]])
        axes.plot(numbers, bits, **source.style(name))
    days = [
        datetime.fromtimestamp(fold["from_ns"] / 1e9, UTC).strftime("%d %b")
        for fold in source.metrics["folds"]
    ]
    axes.set_xticks(numbers, [f"{k}\n{day}" for k, day in zip(numbers, days, strict=True)])
    axes.set(xlabel="fold, and the day it begins", ylabel=f"bits an event, {horizon}")
    _legend_below(figure, axes)


def reliability(source: Results, figure: Figure) -> None:
    """How often the price rose where a probability was given, before and after calibration."""
    axes, horizon = figure.subplots(), source.horizons[0]
    axes.axline((0, 0), slope=1, color="#6b7280", linewidth=0.8, label="perfect")
    for name in source.networks:
        curves = source.metrics["reliability"][name][horizon]
        style = source.style(name)
        before, after = curves["before"], curves["after"]
        rate = _floats(after["rate"])
        bounds = _floats([after["low"], after["high"]])
        axes.errorbar(after["p"], rate, np.abs(bounds - rate), **style, capsize=2)
        faint = {**style, "linestyle": ":", "linewidth": 1, "label": f"{name}, raw"}
        axes.plot(before["p"], before["rate"], **faint, markerfacecolor="none")
    axes.set(xlabel=f"probability given, {horizon}", ylabel="share that rose")
    axes.legend()


def roc(source: Results, figure: Figure) -> None:
    """ROC curves at the first horizon."""
    axes, horizon = figure.subplots(), source.horizons[0]
    curves = source.metrics["roc"][horizon]
    for name in source.honest:
        (auc,) = _floats([source.contestants[name][horizon]["auc"]])
        style = {**source.style(name), "marker": "", "label": f"{name} {auc:.3f}"}
        axes.plot(curves["false_positive_rate"], _floats(curves[name]), **style)
    axes.set(xlabel="share of non-rises called rises", ylabel="share of rises called rises")
    axes.legend(title=f"AUC, {horizon}", title_fontsize=7.5)


def learning(source: Results, figure: Figure) -> None:
    """Validation loss of every fold, and the norm of the gradient."""
    loss_axes, norm_axes = figure.subplots(2, 1, sharex=True)
    for name in source.networks:
        for number, records in source.logs[name].items():
            style = source.style(name) | {"label": name if number == 1 else "_", "linewidth": 1}
            epochs = [record["epoch"] for record in records]
            loss_axes.plot(epochs, [record["valid_loss"] for record in records], **style)
            norm_axes.plot(epochs, [record["grad_norm"] for record in records], **style)
    loss_axes.set(ylabel="validation loss, nats")
    norm_axes.set(ylabel="gradient norm", xlabel="epoch; a line a fold")
    norm_axes.set_yscale("log")
    norm_axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    loss_axes.legend()


def fees(source: Results, figure: Figure) -> None:
    """Net result of a round trip against the fee; bands are 95 % intervals."""
    axes = figure.subplots()
    for name in source.networks:
        curve = source.metrics["backtest"][name][source.horizons[0]]["by_fee"]
        axes.plot(curve["fee_bps"], _floats(curve["net_bps"]), **source.style(name))
        low, high = _floats(curve["net_low_bps"]), _floats(curve["net_high_bps"])
        axes.fill_between(curve["fee_bps"], low, high, color=source.style(name)["color"], alpha=0.2)
    _finish_costs(axes, curve["fee_bps"])
    axes.set(xlabel="fee of each trade, bps", ylabel="net result of a round trip, bps")


def latency(source: Results, figure: Figure) -> None:
    """Net result of a round trip before fees against the latency."""
    axes = figure.subplots()
    for name in source.networks:
        curve = source.metrics["backtest"][name][source.horizons[0]]["by_latency"]
        before_fees = 2 * _floats(curve["break_even_fee_bps"])
        axes.plot(curve["latency_s"], before_fees, **source.style(name))
    _finish_costs(axes, curve["latency_s"])
    axes.set(xlabel="latency, seconds", ylabel="result after the spread, bps")


def _finish_costs(axes: Axes, costs: Sequence[float]) -> None:
    """Costs from nothing to ten, the small ones apart, and a line where nothing is left."""
    axes.axhline(0, color="#6b7280", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xlim(-0.02, 12)
    axes.set_xticks(costs, [f"{cost:g}" for cost in costs])
    axes.legend()


def stretch(source: Results, figure: Figure) -> None:
    """The last events of the last fold: price, and what was said of it."""
    horizon = source.horizons[0]
    price_axes, p_axes = figure.subplots(2, 1, sharex=True)
    last = source.predictions[-_EVENTS:]
    index = np.arange(len(last))
    price_axes.step(index, last["price"].to_numpy(), where="post", color="#111827", linewidth=1)
    for name in source.networks:
        style = source.style(name) | {"marker": "", "linewidth": 1}
        p_axes.step(index, last[f"{name}_{horizon}"].to_numpy(), where="post", **style)
    rate = source.metrics["test"][horizon]["base_rate"]
    p_axes.axhline(rate, color="#6b7280", linewidth=0.8, linestyle=":", label="base rate")
    price_axes.ticklabel_format(useOffset=False, style="plain")
    price_axes.set(ylabel="price")
    p_axes.set(ylabel=f"probability, {horizon}", xlabel=f"the last {len(last)} events")
    p_axes.legend(ncols=3)


# Title, height in inches, and what draws it.
PICTURES: dict[str, tuple[str, float, Callable[[Results, Figure], None]]] = {
    "predictability": ("How much is known", 3.3, predictability),
    "folds": ("Skill over time", 3.3, folds),
    "reliability": ("Do probabilities mean what they say?", 3.6, reliability),
    "roc": ("ROC", 3.6, roc),
    "learning": ("Learning curves", 3.8, learning),
    "fees": ("What fees leave", 3.3, fees),
    "latency": ("What latency leaves", 3.3, latency),
    "stretch": ("A stretch of price", 3.8, stretch),
}
