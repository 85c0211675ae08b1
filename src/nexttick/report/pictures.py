"""The pictures of a report, as SVG text: each from plain values of `metrics.json` and the logs.

They are small enough to be read on a phone without zooming, and tell contestants apart by line
and marker as well as by colour, so that black and white will do.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Metrics = dict[str, Any]

_WIDTH_IN = 4.7
_COLOURS = ("#0b62a4", "#c2410c", "#15803d", "#7e22ce", "#6b7280", "#a16207", "#0e7490", "#9f1239")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", ":")
_STYLE = {
    "font.size": 8.5,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
}


def _style_of(metrics: Metrics, name: str) -> dict[str, Any]:
    """Colour, marker and line of a contestant, the same in every picture."""
    names = [*metrics["networks"], *metrics["baselines"]]
    k = names.index(name)
    network = name in metrics["networks"]
    return {
        "color": _COLOURS[k % len(_COLOURS)],
        "marker": _MARKERS[k % len(_MARKERS)],
        "linestyle": "-" if network else _LINES[1 + k % 3],
        "linewidth": 1.8 if network else 1.0,
        "markersize": 4,
        "label": name,
    }


def _figure(height_in: float = 3.0, rows: int = 1, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
    return figure, figure.subplots(rows, 1, **options)


def _svg(figure: Figure, name: str) -> str:
    """The picture's SVG element; ids hang on the name, so that pictures of a page do not clash."""
    text = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace('id="', f'id="{name}-').replace("#", "#", 1)


def drawn(name: str, metrics: Metrics, **others: Any) -> str:
    """Draw one of `PICTURES`."""
    with mpl.rc_context(_STYLE):
        return _svg(PICTURES[name](metrics, **others), name)


def predictability(metrics: Metrics) -> Figure:
    """Bits an event against horizon, networks with their intervals."""
    figure, axes = _figure()
    horizons = list(metrics["test"])
    contestants = {**metrics["networks"], **metrics["baselines"]}
    for name, scores in contestants.items():
        bits = [_number(scores[horizon]["bits"]) for horizon in horizons]
        style = _style_of(metrics, name)
        if name in metrics["networks"]:
            low, high = _bounds(scores, horizons)
            axes.errorbar(horizons, bits, [np.subtract(bits, low), np.subtract(high, bits)], **style, capsize=3)
        else:
            axes.plot(horizons, bits, **style)
    lowest = min(_number(s[h]["bits"]) for n, s in contestants.items() for h in horizons if n not in metrics["leaky"])
    axes.set_ylim(bottom=min(0.0, 1.1 * lowest))
    axes.set(xlabel="horizon", ylabel="bits an event over the base rate")
    axes.legend(ncols=2)
    return figure
