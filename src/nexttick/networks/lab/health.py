"""`lab health RUN`: what a training recorded of its gradients, drawn layer by layer.

The figures are those of `nexttick.networks.gradients`, one look in every few steps, medians over an
epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nexttick.networks.lab.drawing import logarithmic, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Records = list[dict[str, Any]]
_STROKES, _MARKS = ("-", "--", "-.", ":"), "o^sxvD+"
_KEPT = ("epoch", "train_loss", "valid_loss", "lr", "grad_norm", "clipped", "health")


def with_health(log: list[Any], run: Path) -> Records:
    """The epochs of a run's log with their health; one from before that was kept is refused."""
    path, records = run / "log.jsonl", []
    for number, record in enumerate(log, 1):
        try:
            kept = {name: record[name] for name in _KEPT}
            _ = kept["health"]["verdict"], kept["health"]["words"], kept["health"]["layers"].items()
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}, line {number}: no record of health ({error}): the run is from an older "
                f"version; train again"
            ) from error
        records.append(kept)
    if not records:
        raise ValueError(f"{path}: no epoch is done yet: wait for the first")
    return records


def measured(records: Records, measure: str) -> dict[str, list[Any]]:
    """One measure by layer, a value for each epoch; None where there is none."""
    epochs = [record["health"]["layers"] for record in records]
    names = dict.fromkeys(name for layers in epochs for name in layers if measure in layers[name])
    return {name: [layers.get(name, {}).get(measure) for layers in epochs] for name in names}


class Panel(NamedTuple):
    """One picture of the figure: what it shows, over what, and its lines of x and y by label."""

    title: str
    ylabel: str
    xlabel: str
    lines: dict[str, tuple[list[int], list[float | None]]]


def draw(records: Records) -> Figure:
    """Gradients, updates, units and loss by epoch; of recurrent nets also tick by tick."""
    from matplotlib import colormaps

    panels = list(_panels(records))
    columns = len(panels) // 2
    figure = new_figure(4.5 * columns, 6.6)
    for axis, panel in zip(figure.subplots(2, columns).flat, panels, strict=True):
        # Darker from the input to the output, with other strokes and marks from one to the next.
        shades = np.linspace(0.15, 1, max(2, len(panel.lines)))
        for k, (label, (x, y)) in enumerate(panel.lines.items()):
            style = {"color": colormaps["viridis_r"](shades[k]), "linestyle": _STROKES[k % 4]}
            drawn = [math.nan if value is None else value for value in y]
            axis.plot(x, drawn, label=label, marker=_MARKS[k % 7], **style)
        axis.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel)
        if panel.xlabel == "epoch":
            axis.locator_params(axis="x", integer=True)
        if panel.ylabel.startswith("share"):
            axis.set_ylim(-0.02, 1.02)
        elif panel.title != "Loss":
            logarithmic(axis)
        if axis.lines:
            axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(headline(records), fontsize=9, wrap=True)
    return figure


def _panels(records: Records) -> Iterator[Panel]:
    epochs = [record["epoch"] for record in records]
    shares = {
        f"{name}, {measure}": values
        for measure in ("dead", "saturated")
        for name, values in measured(records, measure).items()
    }
    shares["steps, clipped"] = [record["clipped"] for record in records]
    losses = {part: [record[f"{part}_loss"] for record in records] for part in ("train", "valid")}
    for title, ylabel, columns in (
        ("Gradient", "norm before clipping", measured(records, "grad_norm")),
        ("Update", "a step, as a share of the weights", measured(records, "update_ratio")),
        ("Units and steps", "share", shares),
        ("Loss", "nats a label", losses),
    ):
        lines = {name: (epochs, column) for name, column in columns.items()}
        yield Panel(title, ylabel, "epoch", lines)
    if not measured(records, "saturated_by_tick"):
        return
    for title, ylabel, measure in (
        ("The way back", "|∂E/∂x| of what goes in", "error_by_tick"),
        ("Gates, tick by tick", "share that is saturated", "saturated_by_tick"),
    ):
        lines = {
            f"{name}, epoch {epochs[k]}": ([int(tick) for tick in values[k]], [*values[k].values()])
            for name, values in measured(records, measure).items()
            for k in sorted({0, len(records) - 1})  # the first epoch and the last
            if values[k]
        }
        yield Panel(title, ylabel, "ticks before the newest", lines)


def headline(records: Records) -> str:
    """What is wrong in the first epoch that is not healthy, or that all are."""
    for record in records:
        if words := record["health"]["words"]:
            return f"epoch {record['epoch']}: {words[0]}"
    return "healthy from the first epoch to the last"
