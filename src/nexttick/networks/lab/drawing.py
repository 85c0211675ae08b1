"""How the lab draws: figures without a screen, lines that black and white tells apart."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nexttick.ticks.writing import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
_METADATA: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}}
_DPI = 90
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.grid": True,
    "grid.color": "0.88",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.markersize": 4,
    "svg.hashsalt": "nexttick",  # the same picture is the same file
}

# Each by colour, by how dark it is, by its strokes and by its mark.
LINES: tuple[dict[str, Any], ...] = (
    {"color": "#a6611a", "linestyle": ":", "marker": "x"},
    {"color": "#7a7a7a", "linestyle": "--", "marker": "^", "markerfacecolor": "white"},
    {"color": "#2c7fb8", "linestyle": "-.", "marker": "s"},
    {"color": "#081d58", "linestyle": "-", "marker": "o"},
)


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure whose parts make room for each other; no screen is needed."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def logarithmic(axis: Axes) -> None:
    """Draw y by its logarithm, where any value has one."""
    if any((np.asarray(line.get_ydata(), float) > 0).any() for line in axis.lines):
        axis.set_yscale("log")


def save_picture(folder: Path, name: str, draw: Callable[[], Figure]) -> None:
    """Draw, and write the figure as `name.png` and `name.svg`, each whole."""
    # The first figure on a machine may take seconds to list its fonts, and warns of it.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    from matplotlib import rc_context

    with rc_context(_STYLE):
        figure = draw()
        for kind in FORMATS:
            write = partial(figure.savefig, format=kind, dpi=_DPI, metadata=_METADATA[kind])
            write_whole(folder / f"{name}.{kind}", write)
            # Both have the places that the first one found.
            figure.set_layout_engine("none")
