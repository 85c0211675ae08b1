"""Options of the experiments, free of heavy imports, so that `--help` starts fast."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from nexttick.options import Count, Must, Positive, Words, mistakes, refuse

SHORTEST = 8  # ticks of a sequence that asks for memory
Length = Annotated[
    Count,
    Must(
        lambda value: value < 1 or value >= SHORTEST,  # less than one is told by the count
        f"{{option}} {{value}} leaves nothing to remember: give {SHORTEST} or more",
    ),
]
_SEED = Must(
    lambda value: 0 <= value < 2**32, f"{{option}} {{value}} must lie between 0 and {2**32 - 1}"
)
_FINITE = Must(
    lambda values: all(map(math.isfinite, values)), "{option} {value} must be two finite numbers"
)


@dataclass(frozen=True)
class VanishingOptions:
    """How far error signals are followed, and what is trained."""

    task: Literal["adding", "copy"] = "adding"
    """What the recurrent nets learn: the adding problem, or to copy one symbol."""
    ticks: Length = 1000
    """Length at which the recurrent nets are looked at before training."""
    length: Length = 100
    """Length of the sequences that they are trained on."""
    steps: Count = 600
    """Steps of training of each recurrent net."""
    hidden_size: Count = 32
    """Units of each recurrent net."""
    depth: Count = 50
    """Convolutions on top of each other."""
    conv_steps: Count = 150
    """Steps of training of each convolutional net."""
    channels: Count = 16
    """Channels of each convolution."""
    delay: Length = 32
    """Length of the copy task that the convolutional nets learn."""
    seed: Annotated[int, _SEED] = 0
    """Seed of weights and sequences."""


@dataclass(frozen=True)
class ExplodingOptions:
    """The one-unit network and the two descents."""

    ticks: Count = 50
    """Ticks that the unit runs."""
    grid: Count = 200
    """Points of the surface along each axis."""
    steps: Count = 80
    """Steps of each descent."""
    start: Annotated[tuple[float, float], Words("WEIGHT BIAS"), _FINITE] = (6.0, -2.2)
    """Weight and bias that both descents start from."""
    lr: Positive = 1.0
    """Learning rate of both."""
    clip_norm: Positive = 0.1
    """Norm that the clipped descent cuts its gradient to."""


def check(options: VanishingOptions | ExplodingOptions) -> None:
    """Refuse values without sense, all of them in one ValueError, each with its cure."""
    found = list(mistakes(options))
    if isinstance(options, VanishingOptions):
        if options.depth >= 1 and options.depth % 2:
            found.append(
                f"--depth {options.depth} is odd, and a residual block has two: give an even number"
            )
        if (seen := 2 * options.depth + 1) < options.delay:
            found.append(
                f"--depth {options.depth} convolutions of kernel 3 see {seen} ticks, too few for "
                f"--delay {options.delay}: give at least {-(-(options.delay - 1) // 2)}"
            )
    refuse(found)
