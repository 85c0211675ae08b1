"""Binance's spot trades, one by one: `SYMBOL@trade`, and REST for those that were missed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from nexttick.live.messages import Trade
from nexttick.live.order import Listing, Want
from nexttick.live.rest import Rest
from nexttick.live.wire import UnknownMessageError, ns_of_binance, numbered_trade, read_rows
from nexttick.sources.source import SourceError

WS_URL, REST_URL = "wss://stream.binance.com:9443", "https://api.binance.com"
_PAGE = 1000
_SIDES = {True: -1, False: 1}  # of the taker, by whether the buyer was the maker
_TOLD = ("serverShutdown",)  # a word on the connection, which will end


class Binance:
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
        trades = read_rows(rows, lambda row: _trade_of_rest(row, arrived_ns))
        return Listing(trades, trades[0].id - 1 if trades else -1)


def _trade_of_rest(row: dict[str, Any], arrived_ns: int) -> Trade:
    time_ns, side = ns_of_binance(row["time"]), _SIDES[row["isBuyerMaker"]]
    price, amount = float(row["price"]), float(row["qty"])
    return numbered_trade(time_ns, price, amount, side, row["id"], arrived_ns)
