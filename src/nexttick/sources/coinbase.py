"""Coinbase Exchange's own form: a page of trades before an id.

The venue goes backwards: `after=ID` gives the trades before that id, newest first. Since the ids
of a market are consecutive, a page forward from an id is the one `after` its end. `side` is the
maker's, so the taker's is the other. Times are ISO 8601 with microseconds.
"""

from __future__ import annotations

from typing import Any

from nexttick.sources.connection import Connection
from nexttick.sources.trade_rows import Rows, Tick, iso_to_ns, read_rows

# By the maker's side; in capitals, or unknown, it is Coinbase Advanced that says it.
_TAKER = {"sell": 1, "buy": -1, "unknown_order_side": 0}


class Coinbase:
    """Coinbase Exchange's form; see `IdForm`."""

    limit = 1000
    consecutive_ids = True

    def newest(self, connection: Connection, market: dict[str, Any]) -> Rows:
        """The newest trade."""
        return self._rows(connection, market, {"limit": 1})

    def rows_from(
        self, connection: Connection, market: dict[str, Any], first_id: int, limit: int
    ) -> Rows:
        """Trades with ids below first_id + limit, the newest of them."""
        return self._rows(connection, market, {"after": first_id + limit, "limit": limit})

    def _rows(self, connection: Connection, market: dict[str, Any], params: dict) -> Rows:
        exchange, where = connection.exchange, f"trades of {market['symbol']}"
        answer = connection.ask(
            where, lambda: exchange.publicGetProductsIdTrades({"id": market["id"], **params}), list
        )
        return read_rows(answer, read_trade, f"{exchange.id}: {where}")


def read_trade(row: dict[str, Any]) -> Tick:
    """One row of trades, here and at Coinbase Advanced."""
    side = _TAKER[row["side"].lower()]
    return (
        iso_to_ns(row["time"]),
        float(row["price"]),
        float(row["size"]),
        side,
        int(row["trade_id"]),
    )
