"""Coinbase's own forms: Exchange gives a page of trades before an id, Advanced those of a span.

Exchange goes backwards: `after=ID` gives the trades before that id, newest first. Since the ids
of a market are consecutive, a page forward from an id is the one `after` its end. `side` is the
maker's, so the taker's is the other. Times are ISO 8601 with microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nexttick.ticks.source import Missing, Page
from nexttick.venues.history.by_id import TradesById
from nexttick.venues.history.walking import Place, Walked, believed
from nexttick.venues.trades import Rows, Tick, iso_to_ns

LIMIT = 1000
_S = 1_000_000_000
_FIRST_S, _WIDEST_S = 3_600, 86_400
# By the maker's side; in capitals, or unknown, it is Coinbase Advanced that says it.
_TAKER = {"sell": 1, "buy": -1, "unknown_order_side": 0}


def read_trade(row: dict[str, Any]) -> Tick:
    """One row of trades, here and at Coinbase Advanced."""
    time_ns, side = iso_to_ns(row["time"]), _TAKER[row["side"].lower()]
    return time_ns, float(row["price"]), float(row["size"]), side, int(row["trade_id"])


class Coinbase(TradesById):
    """One market of Coinbase Exchange; see `TradesById`."""

    consecutive_ids = True

    def _params(self, first_id: int, limit: int) -> dict[str, Any]:
        return {"after": first_id + limit, "limit": limit}

    def _rows(self, market: dict[str, Any], params: dict[str, Any]) -> Rows:
        call = self._connection.exchange.publicGetProductsIdTrades
        return self._asked(call, {"id": market["id"], **params}, read_trade)


class CoinbaseAdvanced(Walked):
    """One market of Coinbase Advanced; see `Walked`.

    Its form is the newest trades of a window of whole seconds, so a window that holds more than
    an answer is halved. Each is asked for until two answers are the same, for nothing else says
    whether one is whole. `side` is the maker's here too (ccxt leaves it so), and the taker's is
    the other. Coinbase Exchange pages by id and is the better source of the same market.
    """

    def _past(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        market = self._connection.market(self.series.symbol)
        since_s, stop_s, width_s = start_ns // _S, -(-stop_ns // _S), _FIRST_S
        while since_s < stop_s:
            until_s = min(since_s + width_s, stop_s)
            rows = self._window(market, since_s, until_s)
            # A full answer may lack the oldest trades of its span, so a narrower one is asked for.
            if len(rows.ticks) >= LIMIT:
                if until_s > since_s + 1:
                    width_s = (until_s - since_s) // 2
                    continue
                reason = (
                    f"{self.series}: the second at {since_s} s holds more trades than the {LIMIT} "
                    "of an answer; fetch it from coinbaseexchange, which pages by id"
                )
                yield Missing(since_s * _S, (since_s + 1) * _S, reason)
            elif len(rows.ticks) < LIMIT // 4:
                width_s = min(2 * width_s, _WIDEST_S)
            until_ns = min(until_s * _S, stop_ns)
            yield self._page(rows, (max(since_s * _S, start_ns), until_ns), until_ns)
            since_s = until_s

    def _window(self, market: dict[str, Any], since_s: int, until_s: int) -> Rows:
        span = {"start": str(since_s), "end": str(until_s)}
        params = {"product_id": market["id"], "limit": LIMIT, **span}
        call = self._connection.exchange.v3PublicGetBrokerageMarketProductsProductIdTicker
        place = Place(None, since_s * _S)
        return believed(lambda _: self._asked(call, params, read_trade, "trades"), place)
