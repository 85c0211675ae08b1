"""Binance's own form: aggregated trades by `fromId`, and plain ones with a key.

Spot times are asked for in microseconds; futures give milliseconds whatever is asked. The trades
of one market have consecutive ids, aggregated and plain ones each their own. `m` or
`isBuyerMaker` is true where the seller took.

The first trade of a span is found by id. Binance also takes a startTime and an endTime an hour
apart; but empty hours cost a request each, futures know them for two days only, and which end of
a fuller hour is given is told in two ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nexttick.sources.connection import Connection
from nexttick.sources.source import SourceError
from nexttick.sources.trade_rows import Rows, Tick, read_rows

KINDS = ("aggTrades", "trades")
_MICROSECONDS = {"X-MBX-TIME-UNIT": "MICROSECOND"}
_FIRST_IN_US = 10**14  # as milliseconds the year 5138, as microseconds 1973


class Binance:
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
