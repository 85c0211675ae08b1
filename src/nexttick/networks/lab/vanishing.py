"""`lab vanishing`: error signals before training and after, on tasks that need a memory.

Recurrent nets are followed back through ticks, stacks of convolutions through layers, and what
each has learned stands beside it. See `signals` for what is measured and `nets` for how the nets
start, which decides what is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nexttick.networks.lab import signals
from nexttick.networks.lab.drawing import LINES, logarithmic, new_figure
from nexttick.networks.lab.experiments import VanishingOptions
from nexttick.networks.lab.exploding import clip_norm
from nexttick.networks.lab.nets import CONVOLUTIONAL, RECURRENT, ConvNet, RecurrentNet
from nexttick.networks.lab.tasks import TASKS, Copy, MemoryTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKED_AT = 32  # sequences, of whose norms the median counts
TESTED = 512  # sequences, of which the share of right answers counts
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


@dataclass(frozen=True)
class Experiment:
    """Networks of several kinds, followed back before training and after."""

    kinds: Iterable[str]
    task: MemoryTask
    build: Callable[[str, int], Net]  # of a kind, which may start with a memory of so many ticks
    signal: Callable[[Any, MemoryTask, Tensor, Tensor], signals.Signal]
    far: int  # ticks of the sequences that are followed before training
    length: int  # ticks of those that are trained on, and followed after
    steps: int
    lr: float

    def run(self, seed: int, say: Say) -> Result:
        """`chance` of a right answer without memory; by network `untrained` and `trained`."""
        task, length, steps = self.task, self.length, self.steps
        result: Result = {"chance": task.chance, "untrained": {}, "trained": {}}
        for kind in self.kinds:
            torch.manual_seed(seed)
            followed = _sequences(task, LOOKED_AT, self.far, seed + 1)
            signal = self.signal(self.build(kind, self.far), task, *followed)
            result["untrained"][kind] = asdict(signal)
            torch.manual_seed(seed)
            net = self.build(kind, length)
            train(net, task, length, steps, self.lr, seed)
            signal = self.signal(net, task, *_sequences(task, LOOKED_AT, length, seed + 1))
            trained = asdict(signal) | score(net, task, length, seed)
            result["trained"][kind] = trained
            say(f"{kind}: {trained['right']:.0%} right after {steps} steps")
        return result


def run(options: VanishingOptions, say: Say = print) -> Result:
    """Follow the error signals of all networks, before training and after; `say` each when done.

    Given are the `options`, `ticks` and `layers`; in each of these two `chance`, the share of right
    answers without memory, and by network `untrained` and `trained`: a `Signal` each, and of the
    trained one also `right` and `loss`.
    """
    task, copy = TASKS[options.task], Copy()
    ticks = Experiment(
        RECURRENT,
        task,
        lambda kind, length: RecurrentNet(kind, task, options.hidden_size, length),
        signals.signal_through_ticks,
        *(options.ticks, options.length, options.steps, LR),
    )
    layers = Experiment(
        CONVOLUTIONAL,
        copy,
        lambda kind, _: ConvNet(kind, copy, options.channels, options.depth),
        signals.signal_through_layers,
        *(options.delay, options.delay, options.conv_steps, CONV_LR),
    )
    threads = torch.get_num_threads()
    # The nets are too small to share, and one thread gives the same numbers everywhere.
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            parts = {"ticks": ticks, "layers": layers}
            results = {name: part.run(options.seed, say) for name, part in parts.items()}
    finally:
        torch.set_num_threads(threads)
    return {"options": asdict(options), **results}


def _sequences(task: MemoryTask, count: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    return task.draw(count, length, torch.Generator().manual_seed(seed))


def draw(result: Result) -> Figure:
    """Four panels: through ticks and through layers, before training and after."""
    figure = new_figure(10, 7)
    options = result["options"]
    titles = (
        f"Untrained, {options['ticks']:,} ticks",
        f"Trained on the {options['task']} task, {options['length']} ticks",
        f"Untrained, {options['depth']} convolutions",
        f"Trained on the copy task, {options['delay']} ticks",
    )
    axes = figure.subplots(2, 2)
    parts = product((("ticks", "ticks"), ("layers", "convolutions")), ("untrained", "trained"))
    for axis, title, ((part, unit), when) in zip(axes.flat, titles, parts, strict=True):
        if when == "trained":
            axis.plot([], [], " ", label=f"without memory: {result[part]['chance']:.0%} right")
        for style, (kind, signal) in zip(LINES, result[part][when].items(), strict=True):
            right = f": {signal['right']:.0%} right" if "right" in signal else ""
            norms = signals.relative(signal)
            axis.plot(signal["back"], norms, label=kind + right, markevery=0.08, **style)
        logarithmic(axis)
        axis.set_ylim(bottom=max(FLOOR, axis.get_ylim()[0]))
        axis.set_xlabel(rf"distance from the loss, $t - k$ ({unit})")
        axis.set_ylabel(r"$|\partial E_t/\partial h_k|\ /\ |\partial E_t/\partial h_t|$")
        place = (1, 0.8 if when == "trained" else 0.68)
        axis.legend(fontsize=8, loc="upper right", bbox_to_anchor=place)
        axis.set_title(title, loc="left")
    axes[0, 0].set_xscale("log")
    axes[0, 0].legend(fontsize=8, loc="lower left")
    return figure
