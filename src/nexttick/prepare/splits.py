"""Parts of the events in time order, purged by when their labels are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nexttick.options import SplitOptions
from nexttick.prepare.labels import MISSING, Labels


@dataclass(frozen=True)
class Split:
    """The parts of some events, as indices: training, then validation, then test.

    No label that is known later than the end of its part is used.
    """

    valid: int  # where the validation part begins
    test: int  # where the test part begins
    end: int  # of the test part
    embargo: tuple[int, int] = (0, 0)  # events left out at the end of training and validation

    @property
    def train_stop(self) -> int:
        """Where the training part ends; it begins with the first event."""
        return self.valid - self.embargo[0]

    @property
    def valid_stop(self) -> int:
        """Where the validation part ends."""
        return self.test - self.embargo[1]


def chronological_split(n: int, options: SplitOptions) -> Split:
    """Split n events in time order: training first, then validation, then test."""
    test = n - round(n * options.test)
    return Split(valid=test - round(n * options.valid), test=test, end=n)


@dataclass(frozen=True)
class Fold:
    """One fold of a walk-forward: the first event of its past, and its parts from there on."""

    start: int
    split: Split


def walk_forward(
    time_ns: NDArray[np.int64],
    folds: int,
    valid: float,
    *,
    sliding: bool = False,
    embargo_ns: int = 0,
) -> list[Fold]:
    """Folds whose test parts follow each other, each with its own past before it.

    The events are cut into `folds + 1` equal stretches, or refused where they are fewer. Fold k is
    tested on stretch k + 1; its past is all before that, or with `sliding` the one stretch before
    it. The last part of the past, the share `valid` of it, chooses the epoch. `embargo_ns` is the
    least time between what is learned from and what comes after it.
    """
    n = len(time_ns)
    if n < folds + 1:
        raise ValueError(f"{n} events make no {folds} folds: give fewer folds or more ticks")
    bounds = np.linspace(0, n, folds + 2).round().astype(int)
    made = []
    for k in range(1, folds + 1):
        start = int(bounds[k - 1]) if sliding else 0
        test = int(bounds[k])
        valid_from = test - round((test - start) * valid)
        # A part ends with the last event that lies the embargo or more before the next part.
        train_stop, valid_stop = (
            int(np.searchsorted(time_ns, time_ns[border] - embargo_ns, side="right"))
            if embargo_ns
            else border
            for border in (valid_from, test)
        )
        lost = (
            min(valid_from - train_stop, valid_from - start),
            min(test - valid_stop, test - valid_from),
        )
        split = Split(valid_from - start, test - start, int(bounds[k + 1]) - start, lost)
        made.append(Fold(start, split))
    return made


def purged(labels: Labels, start: int, stop: int) -> NDArray[np.int8]:
    """Labels of all N events; those outside [start, stop), or not yet known at `stop`, are missing.

    Whoever fits on them at the time of event `stop` sees no answer from then or later.
    """
    y_NH = np.full_like(labels.y_NH, MISSING)
    known = labels.known_at_NH[start:stop] < stop
    y_NH[start:stop] = np.where(known, labels.y_NH[start:stop], MISSING)
    return y_NH
