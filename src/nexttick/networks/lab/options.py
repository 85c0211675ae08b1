"""Options of the experiments, free of heavy imports, so that `--help` starts fast."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

SHORTEST = 8  # ticks of a sequence that asks for memory


@dataclass(frozen=True)
class VanishingOptions:
    """How far error signals are followed, and what is trained."""

    task: Literal["adding", "copy"] = "adding"
    """What the recurrent nets learn: the adding problem, or to copy one symbol."""
    ticks: int = 1000
    """Length at which the recurrent nets are looked at before training."""
    length: int = 100
    """Length of the sequences that they are trained on."""
    steps: int = 600
    """Steps of training of each recurrent net."""
    hidden_size: int = 32
    """Units of each recurrent net."""
    depth: int = 50
    """Convolutions on top of each other."""
    conv_steps: int = 150
    """Steps of training of each convolutional net."""
    channels: int = 16
    """Channels of each convolution."""
    delay: int = 32
    """Length of the copy task that the convolutional nets learn."""
    seed: int = 0
    """Seed of weights and sequences."""

    def mistakes(self) -> Iterator[str]:
        """Lengths and depths that leave nothing to remember, or do not fit each other."""
        for name in ("ticks", "length", "delay"):
            if 1 <= (value := getattr(self, name)) < SHORTEST:
                yield f"--{name} {value} leaves nothing to remember: give {SHORTEST} or more"
        if self.depth >= 1 and self.depth % 2:
            yield f"--depth {self.depth} is odd, and a residual block has two: give an even number"
        if (seen := 2 * self.depth + 1) < self.delay:
            yield (
                f"--depth {self.depth} convolutions of kernel 3 see {seen} ticks, "
                f"too few for --delay {self.delay}: give at least {-(-(self.delay - 1) // 2)}"
            )


@dataclass(frozen=True)
class ExplodingOptions:
    """The one-unit network and the two descents."""

    ticks: int = 50
    """Ticks that the unit runs."""
    grid: int = 200
    """Points of the surface along each axis."""
    steps: int = 80
    """Steps of each descent."""
    start: tuple[float, float] = (6.0, -2.2)
    """Weight and bias that both descents start from."""
    lr: float = 1.0
    """Learning rate of both."""
    clip_norm: float = 0.1
    """Norm that the clipped descent cuts its gradient to."""


Options = VanishingOptions | ExplodingOptions


def check(options: Options) -> None:
    """Refuse values without sense, all of them in one message.

    Raises:
        ValueError: with every bad value and its cure.
    """
    mistakes = []
    for field in fields(options):
        value, name = getattr(options, field.name), f"--{field.name.replace('_', '-')}"
        if field.name == "start":
            if not all(map(math.isfinite, value)):
                mistakes.append(f"{name} {value} must be two finite numbers")
        elif field.name == "seed":
            if not 0 <= value < 2**32:
                mistakes.append(f"{name} {value} must lie between 0 and {2**32 - 1}")
        elif isinstance(value, float) and not (value > 0 and math.isfinite(value)):
            mistakes.append(f"{name} {value} must be above 0 and finite")
        elif isinstance(value, int) and value < 1:
            mistakes.append(f"{name} {value} must be at least 1")
    if isinstance(options, VanishingOptions):
        mistakes += options.mistakes()
    if mistakes:
        raise ValueError("\n".join(mistakes))
