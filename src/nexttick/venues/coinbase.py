"""Coinbase Exchange's own form: a page of trades before an id.

The venue goes backwards: `after=ID` gives the trades before that id, newest first. Since the ids
of a market are consecutive, a page forward from an id is the one `after` its end. `side` is the
maker's, so the taker's is the other. Times are ISO 8601 with microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from nexttick.ticks.source import Missing, Page
from nexttick.venues.history.connection import Connection
from nexttick.venues.history.walking import Place, Walked, believed
from nexttick.venues.trades import Rows, Tick, iso_to_ns, read_rows

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


LIMIT = 1000
_S = 1_000_000_000
_FIRST_S, _WIDEST_S = 3_600, 86_400


class CoinbaseAdvanced(Walked):
    """One market of Coinbase Advanced; see `Walked`."""

    def _past(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        market = self._connection.market(self.series.symbol)
        since_s, stop_s, width_s = start_ns // _S, -(-stop_ns // _S), _FIRST_S
        while since_s < stop_s:
            until_s = min(since_s + width_s, stop_s)
            rows = self._window(market, since_s, until_s)
            if len(rows.ticks) >= LIMIT:
                if until_s > since_s + 1:
                    width_s = (until_s - since_s) // 2
                    continue
                yield self._full_second(since_s)
            elif len(rows.ticks) < LIMIT // 4:
                width_s = min(2 * width_s, _WIDEST_S)
            until_ns = min(until_s * _S, stop_ns)
            within = pl.col("time").is_between(max(since_s * _S, start_ns), until_ns, closed="left")
            ticks = rows.ticks.filter(within)
            yield Page(ticks, until_ns, self._connection.received(), rows.set_aside)
            since_s = until_s

    def _window(self, market: dict[str, Any], since_s: int, until_s: int) -> Rows:
        exchange, where = self._connection.exchange, f"trades of {self.series.symbol}"
        params = {
            "product_id": market["id"],
            "start": str(since_s),
            "end": str(until_s),
            "limit": LIMIT,
        }
        call = exchange.v3PublicGetBrokerageMarketProductsProductIdTicker

        def ask(place: Place) -> Rows:
            answer = self._connection.ask(where, lambda: call(params), dict)
            return read_rows(answer.get("trades", []), read_trade, f"{exchange.id}: {where}")

        return believed(ask, Place(None, since_s * _S))

    def _full_second(self, since_s: int) -> Missing:
        reason = (
            f"{self.series}: the second at {since_s} s holds more trades than the {LIMIT} of an "
            "answer; fetch it from coinbaseexchange, which pages by id"
        )
        return Missing(since_s * _S, (since_s + 1) * _S, reason)
