"""Kraken's own form: trades since a time in nanoseconds.

Its pages give a cursor, `last`: the time of their last trade in ns, and `since` gives what came
after it. Two trades may share that time, and a row's own time is a rounded one (decimal seconds
from a float64, up to 0.12 µs off), so the next page is asked for from `OVERLAP_NS` before the last
row; what comes twice is known by its id. Times are read digit for digit.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from nexttick.ticks.record import TickError
from nexttick.ticks.source import Page, Series, SourceError, TransientError
from nexttick.venues.feeds.order_by_id import Listing, Want
from nexttick.venues.history.connection import Connection
from nexttick.venues.history.walking import Place, Walked, walk
from nexttick.venues.messages import Trade
from nexttick.venues.trades import (
    Rows,
    Tick,
    UnknownMessageError,
    ns_of_decimal_s,
    ns_of_iso,
    numbered_trade,
    read_rows,
    read_wire_rows,
    seconds_to_ns,
)

if TYPE_CHECKING:  # its clients take a while to load
    from nexttick.venues.http import Rest

OVERLAP_NS = 1_000
LIMIT = 1000
_SIDES = {"b": 1, "s": -1}


class KrakenHistory(Walked):
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


WS_URL, REST_URL = "wss://ws.kraken.com", "https://api.kraken.com"
_PAGE = 1000
_BACK_NS = 1_000_000  # the stream's times have µs, REST's finer ones: ask from a little before
_WIRE_SIDES = {"buy": 1, "sell": -1, "b": 1, "s": -1}
_OWN_NAMES = {"BTC": "XBT", "DOGE": "XDG"}  # in REST
_REFUSALS = ("EQuery:", "EGeneral:Permission", "EGeneral:Invalid", "Currency pair", "Subscription")
_TOO_MUCH = ("EAPI:Rate limit", "EGeneral:Too many", "EGeneral:Temporary lockout")
_REST_S = 15.0  # after too much; Kraken doesn't say how long


class KrakenStream:
    """See `stream.Venue`.

    Args:
        symbol: `BTC/USD`.
        ws_url: without the path: `wss://ws.kraken.com`.
        rest: asked for what was missed.
    """

    name = "kraken"

    def __init__(self, symbol: str, ws_url: str, rest: Rest):
        self._symbol, self._rest = symbol.upper(), rest
        self.url = f"{ws_url.rstrip('/')}/v2"
        self._pair = "".join(_OWN_NAMES.get(name, name) for name in self._symbol.split("/"))

    def hello(self) -> Sequence[str]:
        """Return the subscription; the last 50 trades come first."""
        params = {"channel": "trade", "symbol": [self._symbol], "snapshot": True}
        return (orjson.dumps({"method": "subscribe", "params": params}).decode(),)

    def trades(self, message: Any, arrived_ns: int) -> Sequence[Trade]:
        """Return the trades in a message."""
        if not isinstance(message, dict):
            raise UnknownMessageError
        channel = message.get("channel")
        if channel == "trade" and message["type"] in ("snapshot", "update"):
            return [self._trade(row, arrived_ns) for row in message["data"]]
        if message.get("success") is False:
            raise self._refusal(f"{self.url}: {self._symbol}", [message.get("error")])
        if channel in ("heartbeat", "status") or message.get("method") in ("subscribe", "pong"):
            return ()
        raise UnknownMessageError

    def _trade(self, row: dict[str, Any], arrived_ns: int) -> Trade:
        if row["symbol"] != self._symbol:
            raise UnknownMessageError
        time_ns, side, number = (
            ns_of_iso(row["timestamp"]),
            _WIRE_SIDES[row["side"]],
            row["trade_id"],
        )
        price, amount = float(row["price"]), float(row["qty"])
        return numbered_trade(time_ns, price, amount, side, number, arrived_ns)

    async def missed(self, want: Want) -> AsyncGenerator[Listing, None]:
        """Go through the trades after one, a thousand at a time, by the venue's cursor."""
        since = str(want.after.time_ns - _BACK_NS)
        while True:
            result, arrived_ns = await self._ask({"since": since, "count": _PAGE})
            rows: list[Any] = next((rows for name, rows in result.items() if name != "last"), [])
            trades = read_wire_rows(rows, lambda row: _trade_of_rest(row, arrived_ns))  # noqa: B023
            if trades:
                yield Listing(trades, trades[0].id - 1)
            last = result.get("last")
            if len(trades) < _PAGE or last is None or last == since:
                return
            since = last

    async def check(self) -> None:
        """Ask for the last trade."""
        await self._ask({"count": 1})

    async def close(self) -> None:
        """Close the connections to REST."""
        await self._rest.close()

    async def _ask(self, params: dict[str, str | int]) -> tuple[dict[str, Any], int]:
        asked = {"pair": self._pair, **params}
        answer = await self._rest.get("/0/public/Trades", asked, _exact)
        told = answer if isinstance(answer, dict) else {}
        errors, result = told.get("error"), told.get("result")
        if not errors and isinstance(result, dict):
            return result, time.time_ns()
        listed = errors if isinstance(errors, list) else [errors or f"no answer: {answer}"]
        if any(str(error).startswith(_TOO_MUCH) for error in listed):
            self._rest.respite.extend(_REST_S)
        raise self._refusal(f"{self._rest.url}: {self._pair}", listed)

    def _refusal(self, where: str, errors: Sequence[Any]) -> SourceError | TransientError:
        """What the venue says of itself may pass; what it says of our question will not."""
        refused = any(str(error).startswith(_REFUSALS) for error in errors)
        told = f"{where}: {', '.join(map(str, errors))}"
        return SourceError(told) if refused else TransientError(told)


def _exact(body: bytes) -> Any:
    """Read JSON with its decimals as they stand: a double cannot hold a time to the ns."""
    return json.loads(body, parse_float=str)


def _trade_of_rest(row: list[Any], arrived_ns: int) -> Trade:
    price, amount, time_s, side, _, _, number = row
    time_ns = ns_of_decimal_s(str(time_s)) // 1000 * 1000  # µs, as the stream has them
    return numbered_trade(
        time_ns, float(price), float(amount), _WIRE_SIDES[side], number, arrived_ns
    )
