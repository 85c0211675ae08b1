"""`lab vanishing`: error signals before training and after, on tasks that need a memory.

Recurrent nets are followed back through ticks, stacks of convolutions through layers, and what
each has learned stands beside it. See `signals` for what is measured and `nets` for how the nets
start, which decides what is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nexttick.networks.lab.drawing import LINES, logarithmic, new_figure
from nexttick.networks.lab.exploding import clip_norm
from nexttick.networks.lab.nets import CONVOLUTIONAL, RECURRENT, ConvNet, RecurrentNet
from nexttick.networks.lab.options import VanishingOptions
from nexttick.networks.lab.signals import relative, signal_through_layers, signal_through_ticks
from nexttick.networks.lab.tasks import TASKS, Copy, MemoryTask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKED_AT = 32  # sequences, whose norms' median is told
TESTED = 512  # sequences that tell the share of right answers
BATCH, CLIP_NORM = 32, 1.0
LR, CONV_LR = 1e-2, 3e-3  # of Adam
FLOOR = 1e-20  # of the picture

Net = RecurrentNet | ConvNet
Say = Callable[[str], None]
Result = dict[str, Any]


def train(net: Net, task: MemoryTask, length: int, steps: int, lr: float, seed: int) -> None:
    """Adam on fresh sequences, gradients clipped."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(steps):
        x_BTC, y_B = task.draw(BATCH, length, generator)
        optimizer.zero_grad()
        task.loss(net(x_BTC), y_B).mean().backward()
        clip_norm(net.parameters(), CLIP_NORM)
        optimizer.step()


@torch.no_grad()
def score(net: Net, task: MemoryTask, length: int, seed: int) -> dict[str, float]:
    """Share of right answers and mean loss on sequences of another seed than the training's."""
    x_BTC, y_B = _sequences(task, TESTED, length, seed + 2**31)
    out_BK = net.eval()(x_BTC)
    right, loss = task.right(out_BK, y_B).float().mean(), task.loss(out_BK, y_B).mean()
    return {"right": right.item(), "loss": loss.item()}


def run(options: VanishingOptions, say: Say = print) -> Result:
    """Follow the error signals of all networks, before training and after.

    Args:
        options: lengths, depths and steps.
        say: is told of each network that is done.

    Returns:
        The `options`, `ticks` and `layers`; in each of these two `chance`, the share of right
        answers without memory, and by network `untrained` and `trained`: a `Signal` each, and of
        the trained one also `right` and `loss`.
    """
    with _one_thread(), torch.random.fork_rng(devices=[]):
        ticks, layers = _through_ticks(options, say), _through_layers(options, say)
    return {"options": asdict(options), "ticks": ticks, "layers": layers}


def _through_ticks(options: VanishingOptions, say: Say) -> Result:
    task, length, seed = TASKS[options.task], options.length, options.seed
    result: Result = {"chance": task.chance, "untrained": {}, "trained": {}}
    for kind in RECURRENT:
        torch.manual_seed(seed)
        net = RecurrentNet(kind, task, options.hidden_size, options.ticks)
        long = _sequences(task, LOOKED_AT, options.ticks, seed + 1)
        result["untrained"][kind] = asdict(signal_through_ticks(net, task, *long))
        torch.manual_seed(seed)
        net = RecurrentNet(kind, task, options.hidden_size, length)
        train(net, task, length, options.steps, LR, seed)
        signal = signal_through_ticks(net, task, *_sequences(task, LOOKED_AT, length, seed + 1))
        result["trained"][kind] = asdict(signal) | score(net, task, length, seed)
        say(_told(kind, result["trained"][kind], options.steps))
    return result


def _through_layers(options: VanishingOptions, say: Say) -> Result:
    task, length, seed = Copy(), options.delay, options.seed
    result: Result = {"chance": task.chance, "untrained": {}, "trained": {}}
    few = _sequences(task, LOOKED_AT, length, seed + 1)
    for kind in CONVOLUTIONAL:
        torch.manual_seed(seed)
        net = ConvNet(kind, task, options.channels, options.depth)
        result["untrained"][kind] = asdict(signal_through_layers(net, task, *few))
        train(net, task, length, options.conv_steps, CONV_LR, seed)
        signal = signal_through_layers(net, task, *few)
        result["trained"][kind] = asdict(signal) | score(net, task, length, seed)
        say(_told(kind, result["trained"][kind], options.conv_steps))
    return result


def _sequences(task: MemoryTask, count: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    return task.draw(count, length, torch.Generator().manual_seed(seed))


def _told(kind: str, trained: Result, steps: int) -> str:
    return f"{kind}: {trained['right']:.0%} right after {steps} steps"


@contextmanager
def _one_thread() -> Iterator[None]:
    """The nets are too small to share, and one thread gives the same numbers everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def draw(result: Result) -> Figure:
    """Four panels: through ticks and through layers, before training and after."""
    figure = new_figure(10, 7)
    axes = figure.subplots(2, 2)
    options, ticks, layers = (result[name] for name in ("options", "ticks", "layers"))
    _draw_signals(axes[0, 0], ticks["untrained"], "ticks")
    axes[0, 0].set_title(f"Untrained, {options['ticks']:,} ticks", loc="left")
    axes[0, 0].set_xscale("log")
    axes[0, 0].legend(fontsize=8, loc="lower left")
    _draw_signals(axes[0, 1], ticks["trained"], "ticks", ticks["chance"])
    title = f"Trained on the {options['task']} task, {options['length']} ticks"
    axes[0, 1].set_title(title, loc="left")
    _draw_signals(axes[1, 0], layers["untrained"], "convolutions")
    axes[1, 0].set_title(f"Untrained, {options['depth']} convolutions", loc="left")
    _draw_signals(axes[1, 1], layers["trained"], "convolutions", layers["chance"])
    axes[1, 1].set_title(f"Trained on the copy task, {options['delay']} ticks", loc="left")
    return figure


def _draw_signals(axis: Axes, signals: Result, unit: str, chance: float | None = None) -> None:
    if chance is not None:
        axis.plot([], [], " ", label=f"without memory: {chance:.0%} right")
    for style, (kind, signal) in zip(LINES, signals.items(), strict=True):
        right = f": {signal['right']:.0%} right" if "right" in signal else ""
        axis.plot(signal["back"], relative(signal), label=kind + right, markevery=0.08, **style)
    logarithmic(axis)
    axis.set_ylim(bottom=max(FLOOR, axis.get_ylim()[0]))
    axis.set_xlabel(rf"distance from the loss, $t - k$ ({unit})")
    axis.set_ylabel(r"$|\partial E_t/\partial h_k|\ /\ |\partial E_t/\partial h_t|$")
    axis.legend(fontsize=8, loc="upper right", bbox_to_anchor=(1, 0.68 if chance is None else 0.8))
