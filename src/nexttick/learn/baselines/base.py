"""The contract of every baseline, and what baselines see.

A baseline is a frozen record of plain numbers and text with `fit` and `predict`, so that it is
kept beside the network as JSON and judges it again on other files. It is fitted for one horizon
on the training part; the validation part is there for those that stop early.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nexttick.prepare.dataset import Prepared
from nexttick.prepare.features import FIXED
from nexttick.prepare.labels import MISSING
from nexttick.ticks.gaps import pieces

DIRECTION = FIXED.index("direction")
PRIOR = 10.0  # events of the base rate mixed into each cell, so that a rare one says little
MOST_ROWS = 2_000_000  # a baseline is fitted on no more rows than this
SURE = 16.0  # logit of a probability within 1e-6 of 0 or 1

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Seen:
    """What baselines see of N events when they are asked about one horizon."""

    x_NF: NDArray[np.float32]  # scaled
    starts: Rows  # of the segments
    direction_N: NDArray[np.int8]  # sign of the price change, 0 at a segment's start
    known_N: NDArray[np.int8]  # the newest label of the same horizon that is known by then
    price_N: NDArray[np.float64]
    amount_N: NDArray[np.float64]

    @classmethod
    def of(cls, prepared: Prepared, h: int) -> Seen:
        """What is seen of prepared events when the h-th horizon is asked about."""
        events = prepared.events
        return cls(
            prepared.x_NF,
            prepared.starts,
            prepared.features_NF[:, DIRECTION].astype(np.int8),
            newest_known(prepared.labels.y_NH[:, h], prepared.labels.known_at_NH[:, h]),
            events["price"].to_numpy(),
            events["amount"].to_numpy(),
        )

    def __len__(self) -> int:
        return len(self.x_NF)

    def lagged(self, values: NDArray[Any], rows: Rows, lag: int, missing: float) -> NDArray[Any]:
        """Values `lag` events before these rows; `missing` before the segment's start."""
        inside = rows - lag >= self.starts[np.searchsorted(self.starts, rows, side="right") - 1]
        inside = inside.reshape(-1, *[1] * (values.ndim - 1))
        return np.where(inside, values[np.maximum(rows - lag, 0)], values.dtype.type(missing))


@dataclass(frozen=True)
class Known:
    """Indices of a part's events whose label is known, ascending; and the label, 1 for a rise."""

    rows: Rows
    y: NDArray[np.int8]

    @classmethod
    def of(cls, y_N: NDArray[np.int8]) -> Known:
        """The events of N whose label is not missing; of more than `MOST_ROWS` an even sample."""
        rows = np.flatnonzero(y_N != MISSING)
        rows = rows[:: -(-len(rows) // MOST_ROWS) or 1]
        return cls(rows, y_N[rows])


@dataclass(frozen=True)
class Baseline(ABC):
    """What a network must beat at one horizon."""

    # Whether it has seen something of what it is tested on: its scores are a warning, no measure.
    leaky: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def fit(cls, seen: Seen, train: Known, valid: Known) -> Self:
        """Fit on the training part; `valid` may only choose when to stop."""

    @abstractmethod
    def predict(self, seen: Seen, rows: Rows) -> NDArray[np.float64]:
        """Probabilities of a rise for these events."""

    def predict_all(self, seen: Seen, rows: Rows) -> NDArray[np.float64]:
        """The same for very many events, in the memory of a few."""
        parts = [self.predict(seen, rows[begin:stop]) for begin, stop in pieces(len(rows))]
        return np.concatenate(parts) if parts else np.empty(0)


@njit(cache=True, nogil=True)
def newest_known(y, known_at):  # type: ignore[no-untyped-def]
    """For each event, the label of the latest event whose label is known by then.

    `known_at` of `Labels` alone decides what is known; `MISSING` where nothing is yet.
    """
    out = np.empty(len(y), np.int8)
    # Labels are known in the order of their events, so one pass finds the newest.
    newest, i = MISSING, 0
    for k in range(len(y)):
        while i < len(y) and (y[i] == MISSING or known_at[i] <= k):
            if y[i] != MISSING:
                # Of several known at once, the last one stands.
                newest = y[i]
            i += 1
        out[k] = newest
    return out
