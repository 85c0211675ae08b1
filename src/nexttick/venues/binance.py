"""Binance's own form: aggregated trades by `fromId`, plain ones with a key, and its trade stream.

Spot times are asked for in microseconds; futures give milliseconds whatever is asked. The trades
of one market have consecutive ids, aggregated and plain ones each their own. `m` or
`isBuyerMaker` is true where the seller took.

The first trade of a span is found by id. Binance also takes a startTime and an endTime an hour
apart; but empty hours cost a request each, futures know them for two days only, and which end of
a fuller hour is given is told in two ways.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from nexttick.ticks.source import Series, SourceError
from nexttick.venues.feeds.order_by_id import Listing, Want
from nexttick.venues.feeds.stream import Stream
from nexttick.venues.history.by_id import TradesById
from nexttick.venues.history.connection import Connection
from nexttick.venues.messages import Trade
from nexttick.venues.retrying import Waits
from nexttick.venues.trades import (
    MalformedError,
    Rows,
    Tick,
    UnknownMessageError,
    exact_json,
    numbered_trade,
    numbered_trades,
)

if TYPE_CHECKING:  # its client takes a while to load
    from nexttick.venues.http import Rest

KINDS = ("aggTrades", "trades")
WS_URL, REST_URL = "wss://stream.binance.com:9443", "https://api.binance.com"
MICROSECONDS = {"X-MBX-TIME-UNIT": "MICROSECOND"}
_FIRST_IN_US = 10**14  # as milliseconds the year 5138, as microseconds 1973
_PAGE = 1000


def _reader(*fields: str) -> Callable[[dict[str, Any]], Tick]:
    """What reads a row by its names of time, price, amount, "the buyer was the maker" and id."""
    values = itemgetter(*fields)

    def read(row: dict[str, Any]) -> Tick:
        time, price, amount, maker, number = values(row)
        if not isinstance(maker, bool):
            raise MalformedError("side is no true or false")
        time_ns = time * (1_000 if time >= _FIRST_IN_US else 1_000_000)
        return time_ns, float(price), float(amount), -1 if maker else 1, number

    return read


read_aggregated = _reader("T", "p", "q", "m", "a")
read_plain = _reader("time", "price", "qty", "isBuyerMaker", "id")
_read_message = _reader("T", "p", "q", "m", "t")


# --- the past


class BinanceHistory(TradesById):
    """One market of Binance; see `TradesById`. Its kind is that of the series."""

    consecutive_ids = True

    def __init__(self, connection: Connection, series: Series):
        super().__init__(connection, series)
        # ccxt would make text of whole numbers, and ids are to be numbers past and live.
        connection.exchange.on_json_response = exact_json

    def _params(self, first_id: int, limit: int) -> dict[str, Any]:
        return {"fromId": first_id, "limit": limit}

    def _rows(self, market: dict[str, Any], params: dict[str, Any]) -> Rows:
        exchange, kind = self._connection.exchange, self.series.kind
        if kind == "trades" and not exchange.apiKey:
            raise SourceError(
                f"{exchange.id}: plain trades are given with a key only; set NEXTTICK_"
                f"{exchange.id.upper()}_KEY, or take kind aggTrades, which needs none"
            )
        api = "fapiPublic" if market["linear"] else "dapiPublic" if market["inverse"] else "public"
        name = "GetAggTrades" if kind == "aggTrades" else "GetHistoricalTrades"
        call = getattr(exchange, f"{api}{name}")
        read = read_aggregated if kind == "aggTrades" else read_plain
        # For these requests only: ccxt's own methods count on milliseconds.
        before, exchange.headers = exchange.headers, {**(exchange.headers or {}), **MICROSECONDS}
        try:
            return self._asked(call, {"symbol": market["id"], **params}, read)
        finally:
            exchange.headers = before


def options(symbol: str) -> dict[str, Any]:
    """Options of ccxt for one market: its kind of markets only, and nothing private."""
    base_quote, _, settle = symbol.partition(":")
    linear = base_quote.endswith("/" + settle.split("-")[0])
    types = ["linear" if linear else "inverse"] if settle else ["spot"]
    return {"fetchMarkets": {"types": types}, "fetchMargins": False}


# --- live


class BinanceStream(Stream):
    """See `Stream`; `ws_url` is `WS_URL` or another without a path.

    `rest` sends `MICROSECONDS`, and `X-MBX-APIKEY` where there is a key. Old trades by number
    (`historicalTrades`) may need one; where it is refused, the last 1000 trades are asked for
    instead.
    """

    name = "binance"

    def __init__(self, symbol: str, ws_url: str, rest: Rest, waits: Waits = Waits()):  # noqa: B008
        self._market, self._by_number = symbol.replace("/", "").upper(), True
        path = f"/ws/{self._market.lower()}@trade?timeUnit=MICROSECOND"
        super().__init__(symbol, f"{ws_url.rstrip('/')}{path}", rest, waits)

    def trades(self, message: Any, arrived_ns: int) -> Sequence[Trade]:
        """Return the trade in a message, bare or in the envelope of a combined stream."""
        data = message.get("data", message) if isinstance(message, dict) else None
        if not isinstance(data, dict):
            raise UnknownMessageError
        if data.get("e") != "trade" or data["s"] != self._market:
            # The connection will end, or was asked something.
            if data.get("e") == "serverShutdown" or "result" in data:
                return ()
            raise UnknownMessageError
        return (numbered_trade(_read_message(data), arrived_ns),)

    async def missed(self, want: Want) -> AsyncGenerator[Listing, None]:
        """Go through the trades after one, a thousand at a time."""
        next_id = want.after.id + 1
        while self._by_number:
            try:
                listing = await self._page("/api/v3/historicalTrades", {"fromId": next_id})
            except SourceError:
                self._by_number = False
                break
            yield Listing(listing.trades, next_id - 1)
            if len(listing.trades) < _PAGE:
                return
            next_id = listing.trades[-1].id + 1
        yield await self._page("/api/v3/trades", {})

    async def check(self) -> None:
        """Ask for the last trade."""
        await self._rest.get("/api/v3/trades", {"symbol": self._market, "limit": 1})

    async def _page(self, path: str, params: dict[str, int]) -> Listing:
        asked: dict[str, str | int] = {"symbol": self._market, "limit": _PAGE, **params}
        rows, arrived_ns = await self._rest.get(path, asked), time.time_ns()
        trades = numbered_trades(rows, read_plain, arrived_ns)
        return Listing(trades, trades[0].id - 1 if trades else -1)
