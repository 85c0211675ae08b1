"""Parts of the events in time order, purged by when their labels are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nexttick.config import SplitOptions
from nexttick.labels import MISSING, Labels


@dataclass(frozen=True)
class Split:
    """Bounds of the parts, as indices of events: training [0, valid), then valid, then test."""

    valid: int
    test: int
    end: int


def chronological_split(n: int, options: SplitOptions) -> Split:
    """Split n events in time order: training first, then validation, then test."""
    test = n - round(n * options.test)
    return Split(valid=test - round(n * options.valid), test=test, end=n)


def purged(labels: Labels, start: int, stop: int) -> NDArray[np.int8]:
    """Labels of the events [start, stop), those not yet known at `stop` made missing.

    Whoever fits on them at the time of event `stop` sees no answer from then or later.

    Returns:
        int8 array of all N events; everything outside [start, stop) is missing.
    """
    y_NH = np.full_like(labels.y_NH, MISSING)
    known = labels.known_at_NH[start:stop] < stop
    y_NH[start:stop] = np.where(known, labels.y_NH[start:stop], MISSING)
    return y_NH
