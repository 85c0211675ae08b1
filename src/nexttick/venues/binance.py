"""Binance's own form: aggregated trades by `fromId`, and plain ones with a key.

Spot times are asked for in microseconds; futures give milliseconds whatever is asked. The trades
of one market have consecutive ids, aggregated and plain ones each their own. `m` or
`isBuyerMaker` is true where the seller took.

The first trade of a span is found by id. Binance also takes a startTime and an endTime an hour
apart; but empty hours cost a request each, futures know them for two days only, and which end of
a fuller hour is given is told in two ways.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nexttick.ticks.source import SourceError
from nexttick.venues.feeds.order_by_id import Listing, Want
from nexttick.venues.history.connection import Connection
from nexttick.venues.messages import Trade
from nexttick.venues.trades import (
    Rows,
    Tick,
    UnknownMessageError,
    ns_of_binance,
    numbered_trade,
    read_rows,
    read_wire_rows,
)

if TYPE_CHECKING:  # its clients take a while to load
    from nexttick.venues.http import Rest

KINDS = ("aggTrades", "trades")
_MICROSECONDS = {"X-MBX-TIME-UNIT": "MICROSECOND"}
_FIRST_IN_US = 10**14  # as milliseconds the year 5138, as microseconds 1973


class BinanceHistory:
    """Binance's form; see `IdForm`.

    Args:
        kind: `aggTrades` or `trades`.
    """

    limit = 1000
    consecutive_ids = True

    def __init__(self, kind: str):
        self.kind = kind

    def newest(self, connection: Connection, market: dict[str, Any]) -> Rows:
        """The newest trade."""
        return self._rows(connection, market, {"limit": 1})

    def rows_from(
        self, connection: Connection, market: dict[str, Any], first_id: int, limit: int
    ) -> Rows:
        """Trades from an id on; where there is none of it, from the next one on."""
        return self._rows(connection, market, {"fromId": first_id, "limit": limit})

    def _rows(self, connection: Connection, market: dict[str, Any], params: dict) -> Rows:
        exchange = connection.exchange
        if self.kind == "trades" and not exchange.apiKey:
            raise SourceError(
                f"{exchange.id}: plain trades are given with a key only; set NEXTTICK_"
                f"{exchange.id.upper()}_KEY, or take kind aggTrades, which needs none"
            )
        call = getattr(exchange, _method(market, self.kind))
        where = f"{self.kind} of {market['symbol']}"
        with _in_microseconds(exchange):
            answer = connection.ask(where, lambda: call({"symbol": market["id"], **params}), list)
        read = read_aggregated if self.kind == "aggTrades" else read_plain
        return read_rows(answer, read, f"{exchange.id}: {where}")


def options(symbol: str) -> dict[str, Any]:
    """Options of ccxt for one market: its kind of markets only, and nothing private."""
    base_quote, _, settle = symbol.partition(":")
    linear = base_quote.endswith("/" + settle.split("-")[0])
    types = ["linear" if linear else "inverse"] if settle else ["spot"]
    return {"fetchMarkets": {"types": types}, "fetchMargins": False}


def venue(symbol: str) -> str:
    """Where a symbol is traded, in the archive's words: `binance`, `binance-um`, `binance-cm`."""
    names = {"spot": "binance", "linear": "binance-um", "inverse": "binance-cm"}
    return names[options(symbol)["fetchMarkets"]["types"][0]]


def read_aggregated(row: dict[str, Any]) -> Tick:
    """One row of aggTrades."""
    return _time_ns(row["T"]), float(row["p"]), float(row["q"]), _side(row["m"]), int(row["a"])


def read_plain(row: dict[str, Any]) -> Tick:
    """One row of trades or historicalTrades."""
    side = _side(row["isBuyerMaker"])
    return _time_ns(row["time"]), float(row["price"]), float(row["qty"]), side, int(row["id"])


def _time_ns(value: Any) -> int:
    time = int(value)
    return time * (1_000 if time >= _FIRST_IN_US else 1_000_000)


def _side(buyer_is_maker: Any) -> int:
    if not isinstance(buyer_is_maker, bool):
        raise ValueError("side is no true or false")
    return -1 if buyer_is_maker else 1


def _method(market: dict[str, Any], kind: str) -> str:
    api = "fapiPublic" if market["linear"] else "dapiPublic" if market["inverse"] else "public"
    return api + ("GetAggTrades" if kind == "aggTrades" else "GetHistoricalTrades")


@contextmanager
def _in_microseconds(exchange: Any) -> Iterator[None]:
    """For these requests only: ccxt's own methods count on milliseconds."""
    before = exchange.headers
    exchange.headers = {**(before or {}), **_MICROSECONDS}
    try:
        yield
    finally:
        exchange.headers = before


WS_URL, REST_URL = "wss://stream.binance.com:9443", "https://api.binance.com"
_PAGE = 1000
_SIDES = {True: -1, False: 1}  # of the taker, by whether the buyer was the maker
_TOLD = ("serverShutdown",)  # a word on the connection, which will end


class BinanceStream:
    """See `stream.Venue`.

    Old trades by number (`historicalTrades`) may need a key; where it is refused, the last 1000
    trades are asked for instead.

    Args:
        symbol: `BTC/USDT`, or the venue's own `BTCUSDT`.
        ws_url: without the path: `wss://stream.binance.com:9443`.
        rest: told `X-MBX-TIME-UNIT: MICROSECOND`, and `X-MBX-APIKEY` where there is a key.
    """

    name = "binance"

    def __init__(self, symbol: str, ws_url: str, rest: Rest):
        self._market = symbol.replace("/", "").upper()
        self.url = f"{ws_url.rstrip('/')}/ws/{self._market.lower()}@trade?timeUnit=MICROSECOND"
        self._rest, self._by_number = rest, True

    def hello(self) -> Sequence[str]:
        """Return nothing: the address says what is wanted."""
        return ()

    def trades(self, message: Any, arrived_ns: int) -> Sequence[Trade]:
        """Return the trade in a message, bare or in the envelope of a combined stream."""
        data = message.get("data", message) if isinstance(message, dict) else None
        if not isinstance(data, dict):
            raise UnknownMessageError
        if data.get("e") != "trade" or data["s"] != self._market:
            if data.get("e") in _TOLD or "result" in data:
                return ()
            raise UnknownMessageError
        time_ns, side = ns_of_binance(data["T"]), _SIDES[data["m"]]
        price, amount = float(data["p"]), float(data["q"])
        return (numbered_trade(time_ns, price, amount, side, data["t"], arrived_ns),)

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

    async def close(self) -> None:
        """Close the connections to REST."""
        await self._rest.close()

    async def _page(self, path: str, params: dict[str, int]) -> Listing:
        asked: dict[str, str | int] = {"symbol": self._market, "limit": _PAGE, **params}
        rows, arrived_ns = await self._rest.get(path, asked), time.time_ns()
        trades = read_wire_rows(rows, lambda row: _trade_of_rest(row, arrived_ns))
        return Listing(trades, trades[0].id - 1 if trades else -1)


def _trade_of_rest(row: dict[str, Any], arrived_ns: int) -> Trade:
    time_ns, side = ns_of_binance(row["time"]), _SIDES[row["isBuyerMaker"]]
    price, amount = float(row["price"]), float(row["qty"])
    return numbered_trade(time_ns, price, amount, side, row["id"], arrived_ns)
