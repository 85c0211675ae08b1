"""OKX's own form: history-trades, a page of trades before an id, some three months deep.

ccxt's `fetch_trades` asks for the newest few hundred only. Whether ids of a market are
consecutive is not documented, so jumps are not called gaps; a page never spans more ids than it
can hold trades, so none is lost either way.
"""

from __future__ import annotations

from typing import Any

from nexttick.venues.history.by_id import TradesById
from nexttick.venues.trades import Rows, Tick

_SIDES = {"buy": 1, "sell": -1}  # the taker's


def read_trade(row: dict[str, Any]) -> Tick:
    """One row of history-trades."""
    time_ns, side = int(row["ts"]) * 1_000_000, _SIDES[row["side"]]
    return time_ns, float(row["px"]), float(row["sz"]), side, int(row["tradeId"])


class Okx(TradesById):
    """One market of OKX; see `TradesById`."""

    limit = 100

    def _params(self, first_id: int, limit: int) -> dict[str, Any]:
        return {"type": "1", "after": str(first_id + limit), "limit": str(limit)}

    def _rows(self, market: dict[str, Any], params: dict[str, Any]) -> Rows:
        call = self._connection.exchange.publicGetMarketHistoryTrades
        return self._asked(call, {"instId": market["id"], **params}, read_trade, "data")


def options(symbol: str) -> dict[str, Any]:
    """Options of ccxt for one market: its kind of markets only."""
    settle, _, expiry = symbol.partition(":")[2].partition("-")
    kind = ("option" if "-" in expiry else "future") if expiry else "swap" if settle else "spot"
    return {"fetchMarkets": {"types": [kind]}}
