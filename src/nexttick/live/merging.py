"""Trades of one time stamp and side made one event as they come, as in `prepare/events.py`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nexttick.prepare.events import merge_run
from nexttick.venues.messages import Trade


class Event(NamedTuple):
    """A finished event."""

    values: tuple[int, float, float, float, float, int, int]  # as named in `features.EVENT`
    trade: int  # the number of its last one


class Merger:
    """Holds the trades of the newest time stamp until another one, or a call, ends the event.

    With `raw_ticks` every trade is an event of its own. A trade older than the one before counts as
    of its time (`stepped_back`): sorting it in would change what has been said. `split` counts the
    events that had been ended before their last trade came; it became one of its own.
    """

    def __init__(self, raw_ticks: bool = False):
        self._raw_ticks = raw_ticks
        self._held: list[Trade] = []
        self._number = -1
        self._ended: tuple[int, int] | None = None
        self.last_ns = self.split = self.stepped_back = 0
        # This loads the compiled code now, and not at the first event.
        merge_run(np.ones(2), np.ones(2))

    @property
    def holds(self) -> bool:
        """Whether an event is open."""
        return bool(self._held)

    def take(self, trade: Trade, number: int) -> Event | None:
        """Take a trade in, with its number; the event that it shows to be finished, if it does."""
        if trade.time_ns < self.last_ns:
            trade = trade._replace(time_ns=self.last_ns)
            self.stepped_back += 1
        self.last_ns = trade.time_ns
        held = self._held
        of_it = held and (held[0].time_ns, held[0].side) == (trade.time_ns, trade.side)
        if of_it and not self._raw_ticks:
            held.append(trade)
            self._number = number
            return None
        finished = self.end()
        # It had been settled, so its prediction is out: what comes late is an event of its own.
        self.split += not self._raw_ticks and self._ended == (trade.time_ns, trade.side)
        self._held, self._number, self._ended = [trade], number, None
        return finished

    def end(self) -> Event | None:
        """End the open event; None where none is open."""
        if not self._held:
            return None
        held, self._held = self._held, []
        first = held[0]
        self._ended = first.time_ns, first.side
        if len(held) == 1:
            time_ns, price, amount, side = first[:4]
            return Event((time_ns, price, price, price, amount, side, 1), self._number)
        prices, amounts = np.array([trade[1:3] for trade in held]).T
        vwap, total = merge_run(np.ascontiguousarray(prices), np.ascontiguousarray(amounts))
        values = first.time_ns, first.price, held[-1].price, vwap, total, first.side, len(held)
        return Event(values, self._number)
