"""Trades in the order of time, where a venue doesn't number them one by one.

A trade is handed on when nothing earlier can be expected: `delay_s` after it came, or when one
came that is so much later. Within one time stamp the venue's numbers decide, if they are numbers;
else the order of arrival.

Without consecutive numbers nothing shows a hole, so after every lost connection what comes is held
back until it is known what lies between: a listing from REST has to contain the last trade known
before, the anchor, and to reach a trade that the stream has sent since. As a listing is followed,
the anchor moves along it. What cannot be joined in this way is declared a gap.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from heapq import heappop, heappush

from nexttick.venues.feeds.order_by_id import Listing, Want
from nexttick.venues.messages import Gap, Health, Message, Trade

TEXT_ID = 1 << 62  # ids from here on are made of text: they tell trades apart, and order nothing
_REMEMBERED = 100_000  # trades that a repeated one is compared with

Identity = int | tuple[int, float, float, int]
_Key = tuple[int, int]  # (time, id)
_FIRST: _Key = (-1, -1)
_LAST: _Key = (1 << 63, 0)


def identity(trade: Trade) -> Identity:
    """Return what tells a trade from others: its id, or else time, price, amount and side."""
    return trade.id if trade.id >= 0 else (trade.time_ns, trade.price, trade.amount, trade.side)


def _key(trade: Trade) -> _Key:
    return trade.time_ns, trade.id if 0 <= trade.id < TEXT_ID else 0


class OrderByTime:
    """Order by time within a delay. Trades without ids that come twice count as two.

    REST is asked for what follows `after`, the last trade known. A trade waits `delay_s` for
    earlier ones, at most `limit` trades at once. Counts of `health` are kept up to date.
    """

    def __init__(
        self, health: Health, after: Trade | None = None, delay_s: float = 0.1, limit: int = 100_000
    ):
        self._health, self._delay_ns, self._limit = health, int(delay_s * 1e9), limit
        self._last = self._anchor = after
        self._handed_on = self._top = _FIRST
        self._heap: list[tuple[_Key, int, Trade]] = []  # joined to what was handed on
        self._came: deque[tuple[int, _Key]] = deque()  # when each of them came
        self._count = 0
        self._received: OrderedDict[Identity, Trade] = OrderedDict()
        self._held: list[Trade] = []  # not joined
        self._since: Counter[Identity] = Counter()  # who they are
        # Given by REST, and not yet by the stream.
        self._filled: Counter[Identity] = Counter()
        self._joining, self._asked = after is not None, False
        if after is not None:
            # Where ids order nothing, others of its time stamp are taken for known: a restart
            # knows the last one only, and they came together with it.
            number = after.id if 0 <= after.id < TEXT_ID else TEXT_ID
            self._handed_on = self._top = after.time_ns, number
            self._remember(after)  # a snapshot may bring it again
            self._filled[identity(after)] += after.id < 0

    def take(self, trades: Sequence[Trade], now_ns: int) -> list[Message]:
        """Take trades from the stream; return what can be handed on."""
        out: list[Message] = []
        for trade in trades:
            if self._is_known(trade):
                # The stream reaches back to what was handed on: nothing is missing in between.
                if self._joining and self._shows_anchor(trade):
                    out += self._end_joining(now_ns)
            elif _key(trade) < self._handed_on:
                self._health.late += 1
            elif self._joining:
                self._held.append(trade)
                self._since[identity(trade)] += 1
            else:
                self._hold(trade, now_ns)
        if len(self._held) > self._limit:
            out += self.give_up(f"more than {self._limit} trades wait to be joined")
        while len(self._heap) > self._limit:
            out += self._release(self._heap[0][0])
        return out + self.due(now_ns)

    def fill(self, listing: Listing, now_ns: int) -> list[Message]:
        """Take trades from REST; return what can be handed on."""
        out = self.due(now_ns)
        for trade in self._beyond_anchor(listing.trades):
            who = identity(trade)
            if self._since[who] > 0:  # from here on the stream has them all
                return out + self._end_joining(now_ns) + self.due(now_ns)
            # What has been gone through need not be asked for again, so the next page follows.
            self._anchor = trade
            if who not in self._received and _key(trade) >= self._handed_on:
                if trade.id < 0:
                    self._filled[who] += 1
                self._remember(trade)
                self._push(trade)
                self._health.backfilled += 1
                out += self.due(now_ns)
        return out

    def due(self, now_ns: int) -> list[Message]:
        """Return what has waited long enough, and nothing that isn't joined."""
        if self._joining:
            return self._release(_LAST)
        # By the venue's clock and by ours, whichever lets go of more: a market that falls quiet
        # would hold its last trades back by the first alone, and a burst by the second.
        bound = (self._top[0] - self._delay_ns, TEXT_ID)
        while self._came and self._came[0][0] + self._delay_ns <= now_ns:
            bound = max(bound, self._came.popleft()[1])
        return self._release(bound)

    def interrupted(self) -> None:
        """Know that the connection was lost: hold back what comes until it is joined.

        What was held back already is forgotten, for it doesn't join what comes now: REST gives it.
        """
        for trade in self._held:
            self._received.pop(identity(trade), None)
        self._held.clear()
        self._since.clear()
        if not self._joining and self._top != _FIRST:
            newest = max(self._heap, default=None)
            self._anchor = newest[2] if newest else self._last
            self._joining = True
            self._filled.clear()
        self._asked = False

    def wanted(self, now_ns: int) -> Want | None:
        """Return what lies between the anchor and what the stream has sent since."""
        del now_ns
        if not self._joining or self._anchor is None or (self._asked and not self._held):
            return None
        return Want(self._anchor, self._held[0] if self._held else None)

    def all_given(self) -> None:
        """Know that REST has given all that it has."""
        self._asked = True

    def give_up(self, reason: str) -> list[Message]:
        """Declare a gap before what the stream has sent since, where it has sent anything."""
        self._asked = True
        if not self._held:
            return []
        out = self._release(_LAST)
        last, first = self._last, min(self._held, key=_key)
        assert last is not None
        self._health.gaps += 1
        out.append(Gap(last.time_ns, first.time_ns, last.id, first.id, reason))
        self._end_joining(0)
        return out + self._release(_key(first))

    def wake_ns(self) -> int | None:
        """Return when the trade that has waited longest is handed on."""
        return self._came[0][0] + self._delay_ns if self._came else None

    # --- what is known

    def _is_known(self, trade: Trade) -> bool:
        who = identity(trade)
        if trade.id < 0 and self._filled[who] > 0:
            self._filled[who] -= 1
            self._health.duplicates += 1
            return True
        known = self._received.get(who)
        if known is None:
            self._remember(trade)
            return False
        same = known[:4] == trade[:4]
        self._health.duplicates += same
        self._health.corrections += not same
        return True

    def _remember(self, trade: Trade) -> None:
        if trade.id >= 0:
            self._received[trade.id] = trade
            if len(self._received) > _REMEMBERED:
                self._received.popitem(last=False)

    def _shows_anchor(self, trade: Trade) -> bool:
        """Whether a trade that is known shows that the stream began no later than the anchor.

        One that the stream has sent twice since the interruption shows nothing.
        """
        beyond = self._anchor is not None and _key(trade) >= _key(self._anchor)
        return beyond and self._since[identity(trade)] == 0

    def _beyond_anchor(self, trades: list[Trade]) -> list[Trade]:
        """Return the trades after the anchor, none where the listing doesn't hold it."""
        if not self._joining or self._anchor is None:
            return []
        who = identity(self._anchor)
        found = [index for index, trade in enumerate(trades) if identity(trade) == who]
        return trades[found[-1] + 1 :] if found else []

    # --- what waits

    def _hold(self, trade: Trade, now_ns: int) -> None:
        key = _key(trade)
        self._health.reordered += key < self._top
        self._came.append((now_ns, key))
        self._push(trade)

    def _push(self, trade: Trade) -> None:
        self._count += 1
        heappush(self._heap, (_key(trade), self._count, trade))
        self._top = max(self._top, _key(trade))

    def _end_joining(self, now_ns: int) -> list[Message]:
        out = self._release(_LAST)
        held, self._held = self._held, []
        self._since.clear()
        self._joining = False
        for trade in held:
            self._hold(trade, now_ns)
        return out

    def _release(self, bound: _Key) -> list[Message]:
        out: list[Message] = []
        while self._heap and self._heap[0][0] <= bound:
            self._handed_on, _, self._last = heappop(self._heap)
            out.append(self._last)
        self._health.trades += len(out)
        # Without this a trade that was let go by the venue's clock would wake us later for nothing.
        if not self._heap:
            self._came.clear()
        return out
