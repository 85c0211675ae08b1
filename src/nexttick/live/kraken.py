"""Kraken's spot trades: channel `trade` of its websocket v2, and REST's `Trades` for the missed."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import orjson

from nexttick.live.messages import Trade
from nexttick.live.order import Listing, Want
from nexttick.live.rest import Rest
from nexttick.live.wire import (
    UnknownMessageError,
    ns_of_decimal_s,
    ns_of_iso,
    numbered_trade,
    read_rows,
)
from nexttick.sources.retrying import TransientError
from nexttick.sources.source import SourceError

WS_URL, REST_URL = "wss://ws.kraken.com", "https://api.kraken.com"
_PAGE = 1000
_BACK_NS = 1_000_000  # the stream's times have µs, REST's finer ones: ask from a little before
_SIDES = {"buy": 1, "sell": -1, "b": 1, "s": -1}
_OWN_NAMES = {"BTC": "XBT", "DOGE": "XDG"}  # in REST
_REFUSALS = ("EQuery:", "EGeneral:Permission", "EGeneral:Invalid", "Currency pair", "Subscription")
_TOO_MUCH = ("EAPI:Rate limit", "EGeneral:Too many", "EGeneral:Temporary lockout")
_REST_S = 15.0  # after too much; Kraken doesn't say how long


class Kraken:
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
        time_ns, side, number = ns_of_iso(row["timestamp"]), _SIDES[row["side"]], row["trade_id"]
        price, amount = float(row["price"]), float(row["qty"])
        return numbered_trade(time_ns, price, amount, side, number, arrived_ns)

    async def missed(self, want: Want) -> AsyncGenerator[Listing, None]:
        """Go through the trades after one, a thousand at a time, by the venue's cursor."""
        since = str(want.after.time_ns - _BACK_NS)
        while True:
            result, arrived_ns = await self._ask({"since": since, "count": _PAGE})
            rows: list[Any] = next((rows for name, rows in result.items() if name != "last"), [])
            trades = read_rows(rows, lambda row: _trade_of_rest(row, arrived_ns))  # noqa: B023
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
    return numbered_trade(time_ns, float(price), float(amount), _SIDES[side], number, arrived_ns)
