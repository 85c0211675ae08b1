"""What is kept of a live run beside the trades: predictions, outcomes, resets, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Prediction(NamedTuple):
    """An event, and what was said of it.

    Attributes:
        event: its number, from 0.
        time_ns: of the event, ns since 1970, UTC.
        price: the last one of the event.
        trade: the number of its last trade, from 0: this says which trades make up the event.
        said_ns: when the probabilities were ready, ns since 1970.
        p_H: probabilities of a rise; NaN where there is less history than the context.
    """

    event: int
    time_ns: int
    price: float
    trade: int
    said_ns: int
    p_H: Sequence[float]


class Outcome(NamedTuple):
    """What came true of an event at one horizon.

    Attributes:
        event: its number.
        horizon: the number of the horizon, from 0.
        y: 1 a rise, 0 none, `labels.MISSING` where there is no answer.
        tie: whether the price at the horizon equals the price of the event.
        known_ns: when it was known, as `labels.Labels.known_ns_NH` has it.
        p: what had been said; NaN where nothing was.
    """

    event: int
    horizon: int
    y: int
    tie: bool
    known_ns: int
    p: float


class Reset(NamedTuple):
    """The predictor's state was begun anew; no horizon goes across.

    Attributes:
        trade: trades before it, which is the number of the first one after it.
        event: events before it.
        time_ns: when, on the exchange's clock.
        reason: in words.
    """

    trade: int
    event: int
    time_ns: int
    reason: str


class Checkpoint(NamedTuple):
    """The state of the stepper, to go on from.

    Attributes:
        trades: how many trades it includes.
        events: how many events had been predicted by then.
        state: as the stepper gives it.
    """

    trades: int
    events: int
    state: bytes
