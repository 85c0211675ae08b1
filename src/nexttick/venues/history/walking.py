"""Walking forward through a venue's trades, page after page, losing and doubling none.

Venues answer under the reader's feet: rows come late, pages repeat or shift, a cache answers with
what it said before. So no answer is believed for what it lacks. Where ids jump, or nothing new
comes, the same is asked again; what two answers in a row say is taken for what the venue has, and
"nothing" must come three times.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import polars as pl

from nexttick.ticks.record import SCHEMA
from nexttick.ticks.source import Missing, Page, Series
from nexttick.venues.history.connection import Connection
from nexttick.venues.trades import Read, Rows, once_by_id, read_rows

SETTLE_NS = 60_000_000_000  # trades this old are all published, whatever our clock and theirs say
DISORDER_NS = 1_000_000_000  # by so much times may step back while ids go on
LOOKS = 3
_NOT_YET = "trades of the last minute and of the future are not there yet; fetch again later"


class Place(NamedTuple):
    """Where a walk stands."""

    next_id: int | None  # of the trade to come, None where not even the first is known
    time_ns: int  # trades to come are not older, but for some disorder


class Walked(ABC):
    """A source: one market of a venue that ccxt reaches; see `Source`."""

    consecutive_ids = False

    def __init__(self, connection: Connection, series: Series):
        self.name = f"ccxt {connection.exchange.id}"
        self.series = series
        self._connection = connection
        self._what = f"{series.kind} of {series.symbol}"
        self._where = f"{connection.exchange.id}: {self._what}"

    def pages(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        """Go through what of a span lies `SETTLE_NS` back; the rest is not there yet."""
        end_ns = max(start_ns, min(stop_ns, self._connection.now_ns() - SETTLE_NS))
        if start_ns < end_ns:
            yield from self._past(start_ns, end_ns)
        if end_ns < stop_ns:
            yield Missing(end_ns, stop_ns, _NOT_YET, fault=False)

    @abstractmethod
    def _past(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        """Go through a span that is all past."""

    def _asked(
        self, call: Callable[[Any], Any], params: dict[str, Any], read: Read, key: str = ""
    ) -> Rows:
        """Ask for trades and read them: they stand under a key of the answer, or are all of it."""
        answer = self._connection.ask(self._what, lambda: call(params), dict if key else list)
        rows = answer.get(key, []) if isinstance(answer, dict) else answer
        return read_rows(rows, read, self._where)

    def _page(self, rows: Rows, span: tuple[int, int], until_ns: int) -> Page:
        """The ticks of an answer that lie in a span, without ids where not all have one."""
        ticks = rows.ticks.filter(pl.col("time").is_between(*span, closed="left"))
        if ticks["id"].null_count():
            ticks = ticks.select(SCHEMA)
        return Page(ticks, until_ns, self._connection.received(), rows.set_aside)

    def _pages_from(
        self,
        place: Place,
        span: tuple[int, int],
        ask: Callable[[Place], Rows],
        further: Callable[[Place], Place | None] = lambda place: None,
    ) -> Iterator[Page]:
        """Go from the place of the first trade that may be in a span to its end, or the last trade.

        `ask` gives the trades from a place on, in an answer of any length; `further` says where to
        go on when none came, None where nothing follows. The span, in ns, is all past.
        """
        until_ns, stop_ns = span
        while until_ns < stop_ns:
            rows = believed(ask, place)
            if rows.ticks.is_empty():
                on = further(place)
                place, until_ns = on or place, until_ns if on else stop_ns
            else:
                latest: int = rows.ticks["time"].max()  # type: ignore[assignment]
                place = Place(rows.ticks["id"][-1] + 1, max(place.time_ns, latest))
                until_ns = max(until_ns, min(place.time_ns - DISORDER_NS, stop_ns))
            yield self._page(rows, span, until_ns)


def believed(ask: Callable[[Place], Rows], place: Place) -> Rows:
    """Ask for the trades from a place on until the answer can be believed.

    That is when it is whole, or the same again, or nothing for the third time.
    """

    def answer() -> Rows:
        rows = ask(place)
        if place.next_id is None:
            return rows
        return Rows(rows.ticks.filter(pl.col("id") >= place.next_id), rows.set_aside)

    last = answer()
    seen = last.ticks
    for _ in range(LOOKS - 1):
        # Whole: ids begin at the next one and go on without holes.
        known = place.next_id is not None and len(seen) > 0
        if known and int(seen["id"][-1]) - place.next_id + 1 == len(seen):  # type: ignore[operator]
            break
        again = answer()
        agree = not seen.is_empty() and again.ticks.equals(last.ticks)
        last, seen = again, once_by_id(pl.concat([seen, again.ticks]))
        if agree:
            break
    return Rows(seen, last.set_aside)
