"""`lab health RUN`: what a training recorded of its gradients, drawn layer by layer.

The figures are those of `nexttick.health`, one look in every few steps, medians over an epoch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexttick.lab.drawing import new_figure, style_of

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


def measured(records: Records, measure: str) -> dict[str, list[float | None]]:
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
    """Gradients and updates by layer and epoch, dead and saturated units, and the way back."""
    recurrent = measured(records, "error_by_tick")
    figure = new_figure(11, 7.5)
    axes = figure.subplots(2, 2)
    epochs = [record["epoch"] for record in records]
    _draw_by_layer(axes[0, 0], epochs, measured(records, "grad_norm"))
    axes[0, 0].set(title="Gradient", ylabel="norm before clipping", yscale="log")
    _draw_by_layer(axes[0, 1], epochs, measured(records, "update_ratio"))
    axes[0, 1].set(title="Update", ylabel="a step, as a share of the weights", yscale="log")
    shares = {f"{name}, dead": values for name, values in measured(records, "dead").items()}
    shares |= {f"{name}, saturated": v for name, v in measured(records, "saturated").items()}
    _draw_by_layer(axes[1, 0], epochs, shares | {"steps, clipped": _column(records, "clipped")})
    axes[1, 0].set(title="Units and steps", ylabel="share", ylim=(-0.02, 1.02))
    if recurrent:
        _draw_way_back(axes[1, 1], records, recurrent)
    else:
        losses = {name: _column(records, f"{name}_loss") for name in ("train", "valid")}
        _draw_by_layer(axes[1, 1], epochs, losses)
        axes[1, 1].set(title="Loss", ylabel="nats a label")
    return figure


def _column(records: Records, name: str) -> list[float | None]:
    return [record[name] for record in records]


def _draw_by_layer(axis: Axes, epochs: list[int], values: dict[str, list[float | None]]) -> None:
    for k, (name, column) in enumerate(values.items()):
        known = [(e, v) for e, v in zip(epochs, column, strict=True) if v is not None]
        axis.plot(*zip(*known, strict=True), label=name, **style_of(k, len(values)))
    axis.set_xlabel("epoch")
    axis.locator_params(axis="x", integer=True)
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_way_back(axis: Axes, records: Records, recurrent: dict[str, Any]) -> None:
    """The error signal of the first and the last epoch, tick by tick."""
    shown = sorted({0, len(records) - 1})
    lines = [(name, k) for name in recurrent for k in shown if recurrent[name][k]]
    for number, (name, k) in enumerate(lines):
        back = {int(tick): norm for tick, norm in recurrent[name][k].items() if norm}
        label = f"{name}, epoch {records[k]['epoch']}"
        axis.plot(list(back), list(back.values()), label=label, **style_of(number, len(lines)))
    axis.set(title="The way back", yscale="log")
    axis.set(xlabel="ticks before the newest", ylabel="|∂E/∂x| of the layer's input")
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
