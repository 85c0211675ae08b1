"""Kraken's own form: trades since a time in nanoseconds, and its websocket.

Its pages give a cursor, `last`: the time of their last trade in ns, and `since` gives what came
after it. Two trades may share that time, and a row's own time is a rounded one (decimal seconds
from a float64, up to 0.12 µs off), so the next page is asked for from `OVERLAP_NS` before the last
row; what comes twice is known by its id. Times are read digit for digit.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from nexttick.ticks.record import TickError
from nexttick.ticks.source import Page, Series, SourceError, TransientError
from nexttick.venues.feeds.order_by_id import Listing, Want
from nexttick.venues.feeds.stream import Stream
from nexttick.venues.history.connection import Connection
from nexttick.venues.history.walking import Place, Walked
from nexttick.venues.messages import Trade
from nexttick.venues.retrying import Waits
from nexttick.venues.trades import (
    Rows,
    Tick,
    UnknownMessageError,
    exact_json,
    iso_to_ns,
    numbered_trade,
    numbered_trades,
    read_rows,
    seconds_to_ns,
)

if TYPE_CHECKING:  # its client takes a while to load
    from nexttick.venues.http import Rest

OVERLAP_NS = 1_000
LIMIT = 1000
WS_URL, REST_URL = "wss://ws.kraken.com", "https://api.kraken.com"
_SIDES = {"b": 1, "s": -1}  # of the taker, in REST
_STREAM_SIDES = {"buy": 1, "sell": -1}
_BACK_NS = 1_000_000  # the stream's times have µs, REST's finer ones: ask from a little before
_OWN_NAMES = {"BTC": "XBT", "DOGE": "XDG"}  # in REST
_REFUSALS = ("EQuery:", "EGeneral:Permission", "EGeneral:Invalid", "Currency pair", "Subscription")
_TOO_MUCH = ("EAPI:Rate limit", "EGeneral:Too many", "EGeneral:Temporary lockout")
_REST_S = 15.0  # after too much; Kraken doesn't say how long


def read_trade(row: list[Any]) -> Tick:
    """One row of REST: price, amount, time, side, order type, a remark, id, and what may come."""
    price, amount, time_s, side, number = *row[:4], row[6]
    return seconds_to_ns(time_s), float(price), float(amount), _SIDES[side], number


def read_in_us(row: list[Any]) -> Tick:
    """One row of REST with its time as the stream has it, so that a trade is the same in both."""
    time_ns, *values = read_trade(row)
    return time_ns // 1000 * 1000, *values  # type: ignore[return-value]


# --- the past


class KrakenHistory(Walked):
    """One market of Kraken; see `Walked`."""

    consecutive_ids = True

    def __init__(self, connection: Connection, series: Series):
        super().__init__(connection, series)
        connection.exchange.on_json_response = exact_json  # broken numbers stay text

    def _past(self, start_ns: int, stop_ns: int) -> Iterator[Page]:
        market = self._connection.market(self.series.symbol)

        def ask(place: Place) -> Rows:
            rows, last_ns = self._since(market, place.time_ns - OVERLAP_NS)
            ids = rows.ticks["id"]
            if len(ids) >= LIMIT and place.next_id is not None and ids[-1] < place.next_id:
                return self._since(market, last_ns)[0]  # a page of less than a microsecond
            return rows

        return self._pages_from(Place(None, start_ns), (start_ns, stop_ns), ask)

    def _since(self, market: dict[str, Any], since_ns: int) -> tuple[Rows, int]:
        call = self._connection.exchange.publicGetTrades
        params = {"pair": market["id"], "since": str(since_ns), "count": LIMIT}
        answer = self._connection.ask(self._what, lambda: call(params), dict)
        rows, last_ns = split_answer(answer, self._where)
        return read_rows(rows, read_trade, self._where), last_ns


def split_answer(answer: dict[str, Any], where: str) -> tuple[list[Any], int]:
    """The rows of an answer and its cursor in ns."""
    result = dict(answer.get("result") or {})
    last = str(result.pop("last", ""))
    if len(result) != 1 or not last.isdecimal():
        shown = str(answer)[:200]
        raise TickError(f"{where}: one market and its cursor `last` were expected, {shown} came")
    (rows,) = result.values()
    return rows, int(last)


# --- live


class KrakenStream(Stream):
    """See `Stream`; `ws_url` is `WS_URL` or another without a path."""

    name = "kraken"

    def __init__(self, symbol: str, ws_url: str, rest: Rest, waits: Waits = Waits()):  # noqa: B008
        super().__init__(symbol, f"{ws_url.rstrip('/')}/v2", rest, waits)
        self._symbol = symbol.upper()
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
            return [numbered_trade(self._read_row(row), arrived_ns) for row in message["data"]]
        if message.get("success") is False:
            raise self._refusal(f"{self.url}: {self._symbol}", [message.get("error")])
        if channel in ("heartbeat", "status") or message.get("method") in ("subscribe", "pong"):
            return ()
        raise UnknownMessageError

    def _read_row(self, row: dict[str, Any]) -> Tick:
        if row["symbol"] != self._symbol:
            raise UnknownMessageError
        time_ns, side = iso_to_ns(row["timestamp"]), _STREAM_SIDES[row["side"]]
        return time_ns, float(row["price"]), float(row["qty"]), side, row["trade_id"]

    async def missed(self, want: Want) -> AsyncGenerator[Listing, None]:
        """Go through the trades after one, a thousand at a time, by the venue's cursor."""
        since = str(want.after.time_ns - _BACK_NS)
        while True:
            result, arrived_ns = await self._ask({"since": since, "count": LIMIT})
            rows: list[Any] = next((rows for name, rows in result.items() if name != "last"), [])
            if trades := numbered_trades(rows, read_in_us, arrived_ns):
                yield Listing(trades, trades[0].id - 1)
            last = result.get("last")
            if len(trades) < LIMIT or last is None or last == since:
                return
            since = last

    async def check(self) -> None:
        """Ask for the last trade."""
        await self._ask({"count": 1})

    async def _ask(self, params: dict[str, str | int]) -> tuple[dict[str, Any], int]:
        asked = {"pair": self._pair, **params}
        answer = await self._rest.get("/0/public/Trades", asked, exact_json)
        fields = answer if isinstance(answer, dict) else {}
        errors, result = fields.get("error"), fields.get("result")
        if not errors and isinstance(result, dict):
            return result, time.time_ns()
        listed = errors if isinstance(errors, list) else [errors or f"no answer: {answer}"]
        if any(str(error).startswith(_TOO_MUCH) for error in listed):
            self._rest.respite.extend(_REST_S)
        raise self._refusal(f"{self._rest.url}: {self._pair}", listed)

    def _refusal(self, where: str, errors: Sequence[Any]) -> SourceError | TransientError:
        """What the venue says of itself may pass; what it says of our question will not."""
        refused = any(str(error).startswith(_REFUSALS) for error in errors)
        what = f"{where}: {', '.join(map(str, errors))}"
        return SourceError(what) if refused else TransientError(what)
