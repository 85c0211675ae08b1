"""OKX's own form: history-trades, a page of trades before an id, some three months deep.

ccxt's `fetch_trades` asks for the newest few hundred only. Whether ids of a market are
consecutive is not documented, so jumps are not called gaps; a page never spans more ids than it
can hold trades, so none is lost either way.
"""

from __future__ import annotations

from typing import Any

from nexttick.venues.history.connection import Connection
from nexttick.venues.trades import Rows, Tick, read_rows

_SIDES = {"buy": 1, "sell": -1}  # the taker's


class Okx:
    """OKX's form; see `IdForm`."""

    limit = 100
    consecutive_ids = False

    def newest(self, connection: Connection, market: dict[str, Any]) -> Rows:
        """The newest trade."""
        return self._rows(connection, market, {"limit": "1"})

    def rows_from(
        self, connection: Connection, market: dict[str, Any], first_id: int, limit: int
    ) -> Rows:
        """Trades with ids below first_id + limit, the newest of them."""
        params = {"type": "1", "after": str(first_id + limit), "limit": str(limit)}
        return self._rows(connection, market, params)

    def _rows(self, connection: Connection, market: dict[str, Any], params: dict) -> Rows:
        exchange, where = connection.exchange, f"trades of {market['symbol']}"
        answer = connection.ask(
            where,
            lambda: exchange.publicGetMarketHistoryTrades({"instId": market["id"], **params}),
            dict,
        )
        return read_rows(answer.get("data", []), read_trade, f"{exchange.id}: {where}")


def options(symbol: str) -> dict[str, Any]:
    """Options of ccxt for one market: its kind of markets only."""
    settle, _, expiry = symbol.partition(":")[2].partition("-")
    kind = ("option" if "-" in expiry else "future") if expiry else "swap" if settle else "spot"
    return {"fetchMarkets": {"types": [kind]}}


def read_trade(row: dict[str, Any]) -> Tick:
    """One row of history-trades."""
    side = _SIDES[row["side"]]
    time_ns = int(row["ts"]) * 1_000_000
    return time_ns, float(row["px"]), float(row["sz"]), side, int(row["tradeId"])
