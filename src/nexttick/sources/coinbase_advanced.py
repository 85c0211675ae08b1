"""Coinbase Advanced's own form: the newest trades of a window of whole seconds.

A window that holds more than an answer is halved until it doesn't. Each is asked for until two
answers are the same, for nothing else says whether one is whole. `side` is the maker's here too
(ccxt leaves it so), and the taker's is the other. Coinbase Exchange (`coinbaseexchange`) pages by
id and is the better source of the same kind of market.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from nexttick.sources.coinbase import read_trade
from nexttick.sources.source import Missing, Page
from nexttick.sources.trade_rows import Rows, read_rows
from nexttick.sources.walking import Place, Walked, believed

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
