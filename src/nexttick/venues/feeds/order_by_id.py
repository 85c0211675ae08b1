"""Trades in the order of their numbers, each once, where a venue numbers them one by one.

Such numbers say all that is needed: one that comes again is a duplicate, one that comes before
the next in turn is early, and one that stays out is a hole. A hole waits `delay_s` for its trades,
which may only be late; then REST is asked for them; what REST cannot give is declared a gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from nexttick.venues.messages import Gap, Health, Message, Trade

_REMEMBERED = 4096  # trades that a repeated number is compared with
_REMEMBERED_GAPS = 1000
_ANEW_NS = 10_000_000_000  # a lower number with a time so much later belongs to another count


class Want(NamedTuple):
    """What REST is to give."""

    after: Trade  # the last one that is known
    before: Trade | None  # the first one after the hole, None where none has come yet


class Listing(NamedTuple):
    """A stretch of a venue's trades, complete by the venue's word."""

    trades: list[Trade]  # those after `after_id`, oldest first
    after_id: int = -1  # where the stretch begins; -1 where the venue's numbers don't say


class OrderById:
    """Order by consecutive numbers.

    REST is asked for what follows `after`, the last trade known, and to fill a hole of at most
    `limit` trades that has waited `delay_s` for late ones. Counts of `health` are kept up to date.
    """

    def __init__(
        self, health: Health, after: Trade | None = None, delay_s: float = 0.5, limit: int = 100_000
    ):
        if after is not None and after.id < 0:
            raise ValueError(f"after={after}: this venue numbers its trades; give one with its id")
        # Trades handed on whose time is before that of the trade before them.
        self.steps_back = 0
        self._health, self._delay_ns, self._limit = health, int(delay_s * 1e9), limit
        self._last = after
        self._waiting: dict[int, Trade] = {}
        self._hole_at, self._hole_since_ns = -1, 0
        self._interrupted = after is not None
        self._begin(None if after is None else after.id + 1)

    def _begin(self, next_id: int | None) -> None:
        self._next = self._first = self._top = -1 if next_id is None else next_id
        self._lost: deque[range] = deque(maxlen=_REMEMBERED_GAPS)
        # A ring, at number % length: what a repeated number says now is held against it.
        self._recent: list[Trade | None] = [None] * _REMEMBERED
        self._waiting.clear()

    def take(self, trades: Sequence[Trade], now_ns: int) -> list[Message]:
        """Take trades from the stream; return what can be handed on."""
        out: list[Message] = []
        for trade in trades:
            # Nearly every trade is the next in turn, so that its way is the shortest.
            if trade.id == self._next:
                self._hand_on(trade, out)
                if self._waiting:
                    self._health.reordered += trade.id < self._top
                    self._go_on(out)
            else:
                self._out_of_turn(trade, out)
        if len(self._waiting) > self._limit:
            out += self.give_up(f"more than {self._limit} trades wait for a hole to be filled")
        self._look_for_hole(now_ns)
        return out

    def fill(self, listing: Listing, now_ns: int) -> list[Message]:
        """Take trades from REST; numbers that the venue itself passes over are no hole."""
        out: list[Message] = []
        fresh = {t.id: t for t in listing.trades if t.id >= self._next}
        self._health.backfilled += len(fresh.keys() - self._waiting.keys())
        self._waiting = fresh | self._waiting
        # The venue says that nothing is left out from `after_id` on: where that lies before the
        # hole, a number that the listing lacks has never been given to a trade.
        if fresh and listing.after_id < self._next:
            last_id = max(fresh)
            for number in sorted(number for number in self._waiting if number <= last_id):
                self._hand_on(self._waiting.pop(number), out)
        self._go_on(out)
        self._look_for_hole(now_ns)
        return out

    def due(self, now_ns: int) -> list[Message]:
        """Give up a hole that is larger than REST is ever asked for."""
        hole = min(self._waiting, default=self._next) - self._next
        if hole <= self._limit or now_ns < self._hole_since_ns + self._delay_ns:
            return []
        return self.give_up(f"{hole} trades are missing, more than the {self._limit} to ask for")

    def interrupted(self) -> None:
        """Know that the connection was lost."""
        self._interrupted = self._last is not None

    def wanted(self, now_ns: int) -> Want | None:
        """Return the hole, when it has waited long enough or the connection was lost."""
        hole_is_old = bool(self._waiting) and now_ns >= self._hole_since_ns + self._delay_ns
        if self._last is None or not (self._interrupted or hole_is_old):
            return None
        before = self._waiting[min(self._waiting)] if self._waiting else None
        return Want(self._last, before)

    def all_given(self) -> None:
        """Know that REST has given all that it has; a hole that is left goes on waiting."""
        self._interrupted = False

    def give_up(self, reason: str) -> list[Message]:
        """Declare the hole a gap; where nothing came after it yet, one that shows later is."""
        self._interrupted = False
        if not self._waiting or self._last is None:
            return []
        first = self._waiting[min(self._waiting)]
        out: list[Message] = [self._gap(first, reason)]
        # Kept, so that one of them that comes after all is late, and no duplicate.
        self._lost.append(range(self._next, first.id))
        self._next = first.id
        self._go_on(out)
        return out

    def wake_ns(self) -> int | None:
        """Return when the hole has waited long enough."""
        return self._hole_since_ns + self._delay_ns if self._waiting else None

    # --- one trade

    def _hand_on(self, trade: Trade, out: list[Message]) -> None:
        last = self._last
        self.steps_back += last is not None and trade.time_ns < last.time_ns
        self._recent[trade.id % _REMEMBERED] = self._last = trade
        self._next = trade.id + 1
        self._health.trades += 1
        out.append(trade)

    def _go_on(self, out: list[Message]) -> None:
        while (trade := self._waiting.pop(self._next, None)) is not None:
            self._hand_on(trade, out)

    def _out_of_turn(self, trade: Trade, out: list[Message]) -> None:
        if self._next < 0:  # the first of all
            self._begin(trade.id)
            self._hand_on(trade, out)
        elif trade.id < self._next:
            self._behind(trade, out)
        elif trade.id in self._waiting:
            self._repeated(trade, self._waiting[trade.id])
        else:
            self._health.reordered += trade.id < self._top
            self._top = max(self._top, trade.id)
            self._waiting[trade.id] = trade

    def _behind(self, trade: Trade, out: list[Message]) -> None:
        known = self._recent[trade.id % _REMEMBERED]
        if known is not None and known.id == trade.id:
            self._repeated(trade, known)
        elif self._last is not None and trade.time_ns > self._last.time_ns + _ANEW_NS:
            out.append(self._gap(trade, "the venue numbers its trades anew"))
            self._begin(trade.id)
            self._hand_on(trade, out)
        elif trade.id < self._first or any(trade.id in lost for lost in self._lost):
            self._health.late += 1
        else:
            self._health.duplicates += 1

    def _repeated(self, trade: Trade, known: Trade) -> None:
        same = trade[:4] == known[:4]
        self._health.duplicates += same
        self._health.corrections += not same

    # --- the hole

    def _gap(self, until: Trade, reason: str) -> Gap:
        assert self._last is not None
        self._health.gaps += 1
        return Gap(self._last.time_ns, until.time_ns, self._last.id, until.id, reason)

    def _look_for_hole(self, now_ns: int) -> None:
        # Of one hole at a time, the first: its patience begins anew when it has moved.
        if self._waiting and self._hole_at != self._next:
            self._hole_at, self._hole_since_ns = self._next, now_ns
