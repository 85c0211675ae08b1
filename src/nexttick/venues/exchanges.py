"""Trades of any exchange that ccxt reaches.

Where a venue's own form gives more than ccxt's (finer times, order, depth) it has a file of its
own beside this one; all others are asked by time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from nexttick.ticks.source import Series, Source
from nexttick.venues import binance, okx
from nexttick.venues.bitstamp import Bitstamp
from nexttick.venues.coinbase import Coinbase, CoinbaseAdvanced
from nexttick.venues.history.by_time import TradesByTime
from nexttick.venues.history.connection import Connection, ccxt_exchange
from nexttick.venues.kraken import KrakenHistory

BINANCES = ("binance", "binanceus", "binanceusdm", "binancecoinm")
OWN_FORMS: dict[str, Callable[[Connection, Series], Source]] = {
    "bitstamp": Bitstamp,
    "coinbase": CoinbaseAdvanced,
    "coinbaseexchange": Coinbase,
    "kraken": KrakenHistory,
    "okx": okx.Okx,
}
# Of ccxt, for one market: its kind of markets only, and nothing private.
OWN_OPTIONS: dict[str, Callable[[str], dict[str, Any]]] = {
    **dict.fromkeys(BINANCES, binance.options),
    "okx": okx.options,
}


def open_exchange(
    venue: str,
    symbol: str,
    *,
    kind: str | None = None,
    base_url: str | None = None,
    exchange: Any = None,
) -> Source:
    """A source of one market's trades at an exchange. Nothing is asked of the venue yet.

    Args:
        venue: ccxt's name of it: `binance`, `kraken`, `coinbaseexchange`, ...
        symbol: as ccxt writes it: `BTC/USDT`, of a perpetual `BTC/USDT:USDT`.
        kind: `trades`; on Binance by default `aggTrades`, for its plain trades need a key.
        base_url: of a gateway that keeps the paths of the venue's API. Key and secret, if any, come
            from `NEXTTICK_<VENUE>_KEY` and `_SECRET`, and go there.
        exchange: a ccxt object that is set up already (its URLs, proxies, rate limit).

    Raises:
        ValueError: ccxt has no such venue, or it has no such kind; or the address is none.
    """
    of_binance = venue in BINANCES
    kinds = binance.KINDS if of_binance else ("trades",)
    if kind is not None and kind not in kinds:
        raise ValueError(f"kind={kind!r}: {venue} has {' and '.join(kinds)}")
    exchange = exchange or prepared(venue, symbol)
    if base_url is not None:
        exchange.urls["api"] = pointed_at(base_url, exchange.urls["api"])
    connection, kind = Connection(exchange), kind or kinds[0]
    if of_binance:
        # In the archive's words.
        names = {"spot": "binance", "linear": "binance-um", "inverse": "binance-cm"}
        market = binance.options(symbol)["fetchMarkets"]["types"][0]
        name = "binanceus" if venue == "binanceus" else names[market]
        return binance.BinanceHistory(connection, Series(name, symbol, kind))
    return OWN_FORMS.get(venue, TradesByTime)(connection, Series(venue, symbol, kind))


def prepared(venue: str, symbol: str) -> Any:
    """The ccxt object that is made for one market; it loads no other kinds of markets."""
    options = OWN_OPTIONS.get(venue)
    return ccxt_exchange(venue, options(symbol) if options else None)


def pointed_at(base_url: str, urls: Any) -> Any:
    """Addresses of a venue, as ccxt has them, with another scheme and host."""
    if not re.match(r"https?://[^/]", base_url):
        raise ValueError(f"base_url {base_url!r} is no address: e.g. https://gateway.example")
    if isinstance(urls, dict):
        return {name: pointed_at(base_url, one) for name, one in urls.items()}
    return re.sub(r"^(https?://)[^/]+", lambda _: base_url.rstrip("/"), urls)
