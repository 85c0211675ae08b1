"""Trades of venues that give them by their number: the first by bisection, then forward.

The times of a market's trades rise with their ids, so the first trade of a span is found with as
many questions as the newest id has bits. A source remembers the answers, and the next span takes
fewer.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

from nexttick.ticks.source import Missing, Page, Series
from nexttick.venues.history.connection import Connection
from nexttick.venues.history.walking import DISORDER_NS, LOOKS, Place, Walked
from nexttick.venues.trades import Rows


class _Known(NamedTuple):
    id: int
    time_ns: int


class TradesById(Walked):
    """One market of a venue that gives trades by id; see `Walked`."""

    limit = 1000  # the most trades in one answer

    def __init__(self, connection: Connection, series: Series):
        super().__init__(connection, series)
        self._known: list[_Known] = []

    @abstractmethod
    def _params(self, first_id: int, limit: int) -> dict[str, Any]:
        """What asks for all trades of first_id <= id < first_id + limit, and maybe others.

        Where there is no trade of `first_id` and `limit` is 1, the answer may hold the one before
        or after it, or none.
        """

    @abstractmethod
    def _rows(self, market: dict[str, Any], params: dict[str, Any]) -> Rows:
        """Ask; without an id, the newest trades come."""

    def _past(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        market = self._connection.market(self.series.symbol)
        newest_id = self._newest_id(market)
        first_id = self._first_id(market, start_ns - DISORDER_NS, newest_id)
        oldest = min(self._known, default=None)
        if oldest and first_id == oldest.id > 1 and start_ns < oldest.time_ns:
            reason = (
                f"{self.series}: the venue gives no trade before id {oldest.id}: the market began "
                "then, or older ones are not kept here; take the venue's archive for them, if any"
            )
            yield Missing(start_ns, min(oldest.time_ns, stop_ns), reason, fault=False)

        def ask(place: Place) -> Rows:
            return self._rows(market, self._params(place.next_id or 0, self.limit))

        def further(place: Place) -> Place | None:
            next_id = (place.next_id or 0) + self.limit
            return Place(next_id, place.time_ns) if next_id <= newest_id else None

        first = Place(first_id, start_ns - DISORDER_NS)
        yield from self._pages_from(first, (start_ns, stop_ns), ask, further)

    def _newest_id(self, market: dict[str, Any]) -> int:
        """The highest id of three answers, for one may be old; -1 where there are no trades."""
        answers = [self._rows(market, {"limit": 1}).ticks["id"] for _ in range(LOOKS)]
        return max((int(ids[-1]) for ids in answers if len(ids)), default=-1)

    def _first_id(self, market: dict[str, Any], time_ns: int, newest_id: int) -> int:
        """Bisect for the first trade that is not before a time; newest_id + 1 where none is."""
        low = max((known.id + 1 for known in self._known if known.time_ns < time_ns), default=0)
        later = (known.id for known in self._known if known.time_ns >= time_ns)
        high = min(later, default=newest_id + 1)
        while low < high:
            middle = (low + high) // 2
            near = self._near(market, middle)
            # The venue keeps nothing as old as that.
            if near is None:
                low = middle + 1
                continue
            self._known.append(near)
            if near.time_ns < time_ns:
                low = max(middle, near.id) + 1
            else:
                high = min(middle, near.id)
        return min((known.id for known in self._known if known.id >= low), default=low)

    def _near(self, market: dict[str, Any], number: int) -> _Known | None:
        """The trade of an id, or the one near it that the venue insists on."""
        near = None
        for _ in range(LOOKS):
            ticks = self._rows(market, self._params(number, 1)).ticks
            near = _Known(ticks["id"][-1], ticks["time"][-1]) if len(ticks) else None
            if near and near.id == number:
                break
        return near
