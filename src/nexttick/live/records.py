"""What is kept of a live run beside the trades: predictions, outcomes, resets, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nexttick.venues.messages import Trade


class Prediction(NamedTuple):
    """An event, and what was said of it."""

    event: int  # its number, from 0
    time_ns: int  # of the event, ns since 1970, UTC
    price: float  # the last one of the event
    trade: int  # number of its last trade, from 0: this says which trades make up the event
    said_ns: int  # when the probabilities were ready, ns since 1970
    p_H: Sequence[float]  # of a rise; NaN where there is less history than the context


class Outcome(NamedTuple):
    """What came true of an event at one horizon."""

    event: int  # its number
    horizon: int  # the number of the horizon, from 0
    y: int  # 1 a rise, 0 none, `labels.MISSING` where there is no answer
    tie: bool  # whether the price at the horizon equals the price of the event
    known_ns: int  # when it was known, as `labels.Labels.known_ns_NH` has it
    p: float  # what had been said; NaN where nothing was


class Reset(NamedTuple):
    """The predictor's state was begun anew; no horizon goes across."""

    trade: int  # trades before it, which is the number of the first one after it
    event: int  # events before it
    time_ns: int  # on the exchange's clock
    reason: str


class Checkpoint(NamedTuple):
    """The state of the stepper, to go on from."""

    trades: int  # how many it includes
    events: int  # how many had been predicted by then
    state: bytes  # `Stepper.snapshot`


class Resumed(NamedTuple):
    """Where an earlier process stopped; without a checkpoint all trades are taken in again."""

    last_trade: Trade | None  # to ask the feed for what came after it
    checkpoint: Checkpoint | None  # to go on from
    last_event_ns: int  # time of the last event that the checkpoint includes, 0 where there is none
    trades: list[Trade]  # those that the checkpoint does not include, to be taken in again
    predictions: list[Prediction]  # of the events that end with these trades, not to be said again
    resets: list[Reset]  # those after the checkpoint, to be repeated
    waiting: list[Prediction]  # events from the first that waits for an outcome on
    known_H: tuple[int, ...]  # how many events have their outcome at each horizon, the first ones
