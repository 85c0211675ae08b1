"""`lab example`: the lecture's worked example of a convolution.

An image of an X, 9 by 9, in +1 and -1; a kernel of 3 by 3 with a diagonal of +1; and for every
place of the kernel the mean of the nine products, which is 1 where the image is the kernel. The
lecture cuts numbers after two digits (7/9 is printed as 0.77), and so does `cut`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nexttick.networks.lab.drawing import new_figure
from nexttick.networks.layers import Conv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE, MARGIN, KERNEL = 9, 1, 3

Result = dict[str, Any]


def image() -> Tensor:
    """The X: +1 on both diagonals, but for a margin of one, else -1. Shape (9, 9)."""
    x_HW = torch.full((SIZE, SIZE), -1.0)
    for k in range(MARGIN, SIZE - MARGIN):
        x_HW[k, k] = x_HW[k, SIZE - 1 - k] = 1
    return x_HW


def kernel() -> Tensor:
    """+1 on the diagonal, else -1. Shape (3, 3)."""
    return 2 * torch.eye(KERNEL) - 1


def convolved() -> Tensor:
    """The mean over each window of image times kernel, shape (7, 7), by the layer `Conv`."""
    conv = Conv(1, 1, KERNEL, bias=False, nd=2, padding="none").requires_grad_(False)
    conv.layer.weight.copy_(kernel() / KERNEL**2)
    return conv(image()[None, None])[0, 0]


def cut(value: float) -> float:
    """Two digits, the others cut off; what a sum of floats lacks by rounding is made up first."""
    return math.trunc(round(100 * value, 3)) / 100


def run() -> Result:
    """Image, kernel and result as lists of rows, the result as the lecture prints it."""
    return {
        "image": image().int().tolist(),
        "kernel": kernel().int().tolist(),
        "result": [[cut(value) for value in row] for row in convolved().tolist()],
    }


def draw(result: Result) -> Figure:
    """Image, kernel and result, each number on its shade."""
    figure = new_figure(8, 3.2)
    widths = [len(result[name]) for name in ("image", "kernel", "result")]
    axes = figure.subplots(1, 3, width_ratios=widths)
    titles = ("image", r"$\otimes$ kernel", "= mean over each window")
    for axis, (name, rows), title in zip(axes, result.items(), titles, strict=True):
        axis.imshow(rows, cmap="Greys", vmin=-1, vmax=1.6)
        form = "{:.2f}" if name == "result" else "{:d}"
        for i, row in enumerate(rows):
            for j, value in enumerate(row):
                ink = "white" if value > 0.7 else "black"
                axis.text(j, i, form.format(value), ha="center", va="center", fontsize=7, color=ink)
        edges = [k - 0.5 for k in range(len(rows) + 1)]
        for lines in (axis.hlines, axis.vlines):
            lines(edges, edges[0], edges[-1], color="0.6", linewidth=0.6, clip_on=False)
        axis.axis("off")
        axis.set_title(title)
    return figure
