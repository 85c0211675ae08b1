"""`lab health RUN`: what a training recorded of its gradients, drawn layer by layer.

The figures are those of `nexttick.networks.gradients`, one look in every few steps, medians over an
epoch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexttick.networks.lab.drawing import logarithmic, new_figure, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Records = list[dict[str, Any]]
_KEPT = ("epoch", "train_loss", "valid_loss", "lr", "grad_norm", "clipped", "health")


def read_records(run: Path) -> Records:
    """The epochs of a run with their health.

    Args:
        run: a run folder; its training may still be going on.

    Raises:
        ValueError: no such run, no epoch yet, a damaged line, or a run from before health was
            recorded.
    """
    path = run / "log.jsonl"
    if not path.is_file():
        raise ValueError(f"{run} is no run folder: it holds no log.jsonl")
    records = [_parsed(line, path, k) for k, line in enumerate(path.read_text().splitlines(), 1)]
    if not records:
        raise ValueError(f"{path}: no epoch is done yet: wait for the first")
    return records


def _parsed(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
        kept = {name: record[name] for name in _KEPT}
        _ = kept["health"]["verdict"], kept["health"]["words"], kept["health"]["layers"].items()
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {number}: damaged JSON ({error.msg})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}, line {number}: no record of health ({error}): the run is from an older "
            f"version; train again"
        ) from error
    return kept


def measured(records: Records, measure: str) -> dict[str, list[Any]]:
    """One measure by layer, a value for each epoch; None where there is none."""
    layers = dict.fromkeys(
        name
        for record in records
        for name, measures in record["health"]["layers"].items()
        if measure in measures
    )
    return {
        name: [record["health"]["layers"].get(name, {}).get(measure) for record in records]
        for name in layers
    }


def draw(records: Records) -> Figure:
    """Gradients, updates, units and loss by epoch; of recurrent nets also tick by tick."""
    panels: list[Callable[[Axes, Records], None]] = [
        _draw_gradients, _draw_updates, _draw_units, _draw_losses,
    ]  # fmt: skip
    if measured(records, "saturated_by_tick"):
        panels += [_draw_way_back, _draw_gates]
    columns = len(panels) // 2
    figure = new_figure(4.5 * columns, 6.6)
    for axis, panel in zip(figure.subplots(2, columns).flat, panels, strict=True):
        panel(axis, records)
        if axis.lines:
            axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(headline(records), fontsize=9, wrap=True)
    return figure


def headline(records: Records) -> str:
    """What is wrong in the first epoch that is not healthy, or that all are."""
    for record in records:
        if words := record["health"]["words"]:
            return f"epoch {record['epoch']}: {words[0]}"
    return "healthy from the first epoch to the last"


def _draw_gradients(axis: Axes, records: Records) -> None:
    _draw_by_epoch(axis, records, measured(records, "grad_norm"))
    axis.set(title="Gradient", ylabel="norm before clipping")
    logarithmic(axis)


def _draw_updates(axis: Axes, records: Records) -> None:
    _draw_by_epoch(axis, records, measured(records, "update_ratio"))
    axis.set(title="Update", ylabel="a step, as a share of the weights")
    logarithmic(axis)


def _draw_units(axis: Axes, records: Records) -> None:
    shares = {
        f"{name}, {measure}": values
        for measure in ("dead", "saturated")
        for name, values in measured(records, measure).items()
    }
    shares["steps, clipped"] = [record["clipped"] for record in records]
    _draw_by_epoch(axis, records, shares)
    axis.set(title="Units and steps", ylabel="share", ylim=(-0.02, 1.02))


def _draw_losses(axis: Axes, records: Records) -> None:
    losses = {part: [record[f"{part}_loss"] for record in records] for part in ("train", "valid")}
    _draw_by_epoch(axis, records, losses)
    axis.set(title="Loss", ylabel="nats a label")


def _draw_by_epoch(axis: Axes, records: Records, values: dict[str, list[Any]]) -> None:
    for k, (name, column) in enumerate(values.items()):
        at = [record["epoch"] for record in records]
        axis.plot(at, [_drawn(value) for value in column], label=name, **style_of(k, len(values)))
    axis.set_xlabel("epoch")
    axis.locator_params(axis="x", integer=True)


def _drawn(value: float | None) -> float:
    """A figure may be missing."""
    return math.nan if value is None else value


def _draw_way_back(axis: Axes, records: Records) -> None:
    _draw_by_tick(axis, records, "error_by_tick")
    axis.set(title="The way back", ylabel="|∂E/∂x| of what goes in")
    logarithmic(axis)


def _draw_gates(axis: Axes, records: Records) -> None:
    _draw_by_tick(axis, records, "saturated_by_tick")
    axis.set(title="Gates, tick by tick", ylabel="share that is saturated", ylim=(-0.02, 1.02))


def _draw_by_tick(axis: Axes, records: Records, measure: str) -> None:
    """The first epoch and the last."""
    lines = {
        f"{name}, epoch {records[k]['epoch']}": values[k]
        for name, values in measured(records, measure).items()
        for k in sorted({0, len(records) - 1})
        if values[k]
    }
    for k, (label, by_tick) in enumerate(lines.items()):
        values = [_drawn(value) for value in by_tick.values()]
        axis.plot([int(tick) for tick in by_tick], values, label=label, **style_of(k, len(lines)))
    axis.set_xlabel("ticks before the newest")
