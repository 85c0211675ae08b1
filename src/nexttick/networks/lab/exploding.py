"""`lab exploding`: the gradient cliff, and two descents that meet it.

Pascanu et al. 2012, "On the difficulty of training recurrent neural networks" (arXiv:1211.5063),
figure 6: one unit without input, x_t = w sigmoid(x_{t-1}) + b from x_0 = 1/2, and the error
(sigmoid(x_50) - 0.7)^2. Where w and b let the unit settle in one place or in another, a small
change of either is magnified by every tick: the error has a wall, and the best place lies at its
foot. A step of gradient descent that touches the wall is thrown as far as the wall is steep; one
whose gradient is clipped stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nexttick.networks.lab.drawing import LINES, logarithmic, new_figure
from nexttick.networks.lab.experiments import ExplodingOptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

W_RANGE, B_RANGE = (3.8, 6.2), (-3.4, -1.6)  # of the picture
_TARGET, _FIRST = 0.7, 0.5
_STYLES = (LINES[0] | {"color": "#b30000"}, LINES[3])

Result = dict[str, Any]


def error(w: Tensor, b: Tensor, ticks: int) -> Tensor:
    """The error of units with weights w and biases b, each by itself."""
    x = torch.full_like(w, _FIRST)
    for _ in range(ticks):
        x = w * torch.sigmoid(x) + b
    return (torch.sigmoid(x) - _TARGET).square()


def surface(options: ExplodingOptions) -> Result:
    """The error over weights and biases, and how steep it is, in rows of one bias each."""
    w_W = torch.linspace(*W_RANGE, options.grid, dtype=torch.float64)
    b_B = torch.linspace(*B_RANGE, options.grid, dtype=torch.float64)
    b_BW, w_BW = torch.meshgrid(b_B, w_W, indexing="ij")
    w_BW, b_BW = w_BW.clone().requires_grad_(), b_BW.clone().requires_grad_()
    error_BW = error(w_BW, b_BW, options.ticks)
    slopes = torch.autograd.grad(error_BW.sum(), [w_BW, b_BW])  # no point sees another
    return {
        "w": w_W.tolist(),
        "b": b_B.tolist(),
        "error": [[float(f"{e:.4g}") for e in row] for row in error_BW.tolist()],
        "steepest": torch.hypot(*slopes).max().item(),
    }


def descend(options: ExplodingOptions, threshold: float | None) -> Result:
    """Gradient descent from the start: where each step began, the error and the slope there.

    Gradients are clipped to the threshold, where there is one.
    """
    w, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in options.start)
    path: Result = {"w": [], "b": [], "error": [], "grad_norm": []}
    for _ in range(options.steps + 1):
        here = error(w, b, options.ticks)
        w.grad, b.grad = torch.autograd.grad(here, [w, b])
        met = (w, b, here, torch.hypot(w.grad, b.grad))
        for measure, value in zip(path.values(), met, strict=True):
            if not value.isfinite():
                raise ValueError("a step left all numbers behind: lower --lr, or nearer --start")
            measure.append(value.item())
        if threshold is not None:
            clip_norm([w, b], threshold)
        with torch.no_grad():
            w -= options.lr * w.grad
            b -= options.lr * b.grad
    return path


def run(options: ExplodingOptions) -> Result:
    """The surface, and both descents: `plain` and `clipped`."""
    return {
        "options": asdict(options),
        "surface": surface(options),
        "plain": descend(options, None),
        "clipped": descend(options, options.clip_norm),
    }


def furthest_step(path: Result) -> tuple[int, float]:
    """The step that moved a descent furthest, counted from 0, and how far that was."""
    places = torch.tensor([path["w"], path["b"]], dtype=torch.float64)
    moved = places.diff(dim=1).norm(dim=0)
    return int(moved.argmax()), moved.max().item()


def draw(result: Result) -> Figure:
    """The surface from above with both descents, and the error and slope that they met."""
    figure = new_figure(10, 5)
    axes = figure.subplot_mosaic([["map", "error"], ["map", "grad_norm"]])
    options, ground, plain = (result[name] for name in ("options", "surface", "plain"))
    paths = [("without clipping", plain), ("with clipping", result["clipped"])]
    above = axes["map"]
    levels = [0.02 * k for k in range(26)]
    shades = above.contourf(
        ground["w"], ground["b"], ground["error"], levels, cmap="Greys", vmax=0.8
    )
    figure.colorbar(shades, ax=above, label="error after the last tick")
    for style, (name, path) in zip(_STYLES, paths, strict=True):
        above.plot(path["w"], path["b"], label=name, linewidth=1, **style | {"markersize": 3})
    k, _ = furthest_step(plain)
    text = f"step {k + 1} throws it to\nw = {plain['w'][k + 1]:.2f}, b = {plain['b'][k + 1]:.2f}"
    above.annotate(text, (0.03, 0.03), xycoords="axes fraction", fontsize=8)
    above.set(xlim=W_RANGE, ylim=B_RANGE, xlabel="weight w", ylabel="bias b")
    above.grid(visible=False)
    above.set_title(f"One unit, {options['ticks']} ticks: the cliff from above", loc="left")
    above.legend(loc="upper left")
    for measure, label in (("error", "error"), ("grad_norm", "gradient's norm, not clipped")):
        for style, (name, path) in zip(_STYLES, paths, strict=True):
            axes[measure].plot(path[measure], label=name, markevery=0.1, **style)
        axes[measure].set(xlabel="step", ylabel=label)
    axes["error"].set_title("What each step met", loc="left")
    logarithmic(axes["grad_norm"])
    threshold, last = options["clip_norm"], options["steps"]
    axes["grad_norm"].axhline(threshold, color="0.3", linewidth=0.8)
    below: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "top"}
    axes["grad_norm"].annotate("threshold of clipping", (last, threshold), (0, -3), **below)
    return figure


@torch.no_grad()
def clip_norm(parameters: Iterable[Tensor], threshold: float, epsilon: float = 0.0) -> Tensor:
    """Scale the gradient of all parameters together down to a norm, where it is larger.

    g = dE/dθ; if |g| >= threshold: g <- threshold / |g| g. The direction stays, the length is cut.
    Parameters without a gradient are passed over; `epsilon` is added to |g|, and at 1e-6 gives the
    numbers of `torch.nn.utils.clip_grad_norm_`. Returns the norm before.
    """
    if not threshold > 0:
        raise ValueError(f"threshold {threshold}: give a norm above 0")
    gradients = [weight.grad for weight in parameters if weight.grad is not None]
    squares = [gradient.square().sum() for gradient in gradients]
    norm = torch.stack(squares).sum().sqrt() if squares else torch.zeros(())
    if norm + epsilon >= threshold:
        for gradient in gradients:
            gradient.mul_(threshold / (norm + epsilon))
    return norm
