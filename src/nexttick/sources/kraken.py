"""Kraken's own form: trades since a time in nanoseconds.

Its pages give a cursor, `last`: the time of their last trade in ns, and `since` gives what came
after it. Two trades may share that time, and a row's own time is a rounded one (decimal seconds
from a float64, up to 0.12 µs off), so the next page is asked for from `OVERLAP_NS` before the last
row; what comes twice is known by its id. Times are read digit for digit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from nexttick.sources.connection import Connection
from nexttick.sources.source import Page, Series
from nexttick.sources.trade_rows import Rows, Tick, read_rows, seconds_to_ns
from nexttick.sources.walking import Place, Walked, walk
from nexttick.ticks import TickError

OVERLAP_NS = 1_000
LIMIT = 1000
_SIDES = {"b": 1, "s": -1}


class Kraken(Walked):
    """One market of Kraken; see `Walked`.

    Args:
        connection: to the venue. Its ccxt object gives broken numbers as text from now on.
        series: whose ticks.
    """

    consecutive_ids = True

    def __init__(self, connection: Connection, series: Series):
        super().__init__(connection, series)
        connection.exchange.on_json_response = exact_json

    def _past(self, start_ns: int, stop_ns: int) -> Iterator[Page]:
        market = self._connection.market(self.series.symbol)
        return walk(
            self._connection,
            lambda place: self._rows(market, place),
            Place(None, start_ns),
            (start_ns, stop_ns),
        )

    def _rows(self, market: dict[str, Any], place: Place) -> Rows:
        rows, last_ns = self._since(market, place.time_ns - OVERLAP_NS)
        ids = rows.ticks["id"]
        if len(ids) >= LIMIT and place.next_id is not None and ids[-1] < place.next_id:
            return self._since(market, last_ns)[0]  # a page of less than a microsecond
        return rows

    def _since(self, market: dict[str, Any], since_ns: int) -> tuple[Rows, int]:
        exchange, where = self._connection.exchange, f"trades of {market['symbol']}"
        params = {"pair": market["id"], "since": str(since_ns), "count": LIMIT}
        answer = self._connection.ask(where, lambda: exchange.publicGetTrades(params), dict)
        rows, last_ns = split_answer(answer, f"{exchange.id}: {where}")
        return read_rows(rows, read_trade, f"{exchange.id}: {where}"), last_ns


def exact_json(text: str) -> Any:
    """JSON whose numbers with a point stay text: a float64 holds no nanoseconds since 1970."""
    return json.loads(text, parse_float=str)


def split_answer(answer: dict[str, Any], where: str) -> tuple[list[Any], int]:
    """The rows of an answer and its cursor in ns.

    Raises:
        TickError: it is not of Kraken's form.
    """
    result = dict(answer.get("result") or {})
    last = str(result.pop("last", ""))
    if len(result) != 1 or not last.isdecimal():
        shown = str(answer)[:200]
        raise TickError(f"{where}: one market and its cursor `last` were expected, {shown} came")
    (rows,) = result.values()
    return rows, int(last)


def read_trade(row: list[Any]) -> Tick:
    """One row: price, amount, time, side, order type, a remark, id."""
    side = _SIDES[row[3]]
    return seconds_to_ns(row[2]), float(row[0]), float(row[1]), side, int(row[6])
