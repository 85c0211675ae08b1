"""Exchanges on 127.0.0.1: given ticks in each venue's own REST form, its page limits, its faults.

The real ccxt classes talk to them, their URLs pointed here. Beside the faults of `servers.py`,
which are of the network, an answer of trades can be changed under the reader (`TRICKS`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from aiohttp import web

from helpers.servers import Fault, LocalServer
from nexttick.ticks.source import Source
from nexttick.venues.exchanges import open_exchange, pointed_at, prepared

S_NS, MS_NS, US_NS = 1_000_000_000, 1_000_000, 1_000
DAY_NS = 86_400 * S_NS

SYMBOLS = {
    "binance": "BTC/USDT",
    "kraken": "BTC/USD",
    "coinbaseexchange": "BTC/USD",
    "coinbase": "BTC/USD",
    "bitstamp": "BTC/USD",
    "okx": "BTC/USDT",
    "bitfinex": "BTC/USD",
}
RESOLUTION_NS = {
    "binance": US_NS,
    "kraken": 1,
    "coinbaseexchange": US_NS,
    "coinbase": US_NS,
    "bitstamp": S_NS,
    "okx": MS_NS,
    "bitfinex": MS_NS,
}
# What an answer of trades looks like when the venue changes it under the reader: the answer before
# comes again, rows come twice, or rows at its start, in its middle or at its end are not there yet.
TRICKS = ("repeat", "double", "head", "hole", "tail")

Answer = tuple[Any, dict[str, str]]  # JSON or its text, and headers


@dataclass
class LocalExchange:
    """One venue with one market, served while the context lasts.

    Attributes:
        venue: ccxt's name of it.
        ticks: columns of the record and `id`, in order of ids.
        page: the most rows in an answer, whatever is asked for.
        tricks: what happens to one answer of trades after the other: one of `TRICKS`, or nothing.
        faults: of the network; see `servers.Fault`.
        now_ns: the time here.
        keeps_from_id: older trades are not given.
        key: what the venue asks for where it wants a key.
        heeds_since: whether bitfinex looks at `start`.
        sent: bytes of all answers.
        before: the last answer of trades.
        row: changes a row (as the venue writes it) before it goes out.
    """

    venue: str
    ticks: pl.DataFrame
    page: int = 1000
    tricks: list[str] = field(default_factory=list)
    faults: Iterable[Fault] = ()
    now_ns: int = 2**62
    keeps_from_id: int = 0
    key: str = ""
    heeds_since: bool = True
    row: Callable[[int, Any], Any] = lambda number, row: row
    sent: int = 0
    before: Answer | None = None

    def __enter__(self) -> LocalExchange:
        columns = self.ticks.to_dict(as_series=False)
        self._time = np.array(columns["time"], np.int64)
        self._id = np.array(columns["id"], np.int64)
        self._price = [_decimal(value) for value in columns["price"]]
        self._amount = [_decimal(value) for value in columns["amount"]]
        self._side = columns["side"]
        self.server = LocalServer(self._answer, self.faults).__enter__()
        self.exchange = self._ccxt()
        return self

    def __exit__(self, *exc: object) -> None:
        self.exchange.close()
        self.server.__exit__(*exc)

    def source(self, kind: str | None = None) -> Source:
        """What the package opens for this exchange."""
        return open_exchange(self.venue, SYMBOLS[self.venue], kind=kind, exchange=self.exchange)

    def _ccxt(self) -> Any:
        exchange = prepared(self.venue, SYMBOLS[self.venue])
        exchange.enableRateLimit = False
        exchange.timeout = 5_000
        exchange.urls["api"] = pointed_at(self.server.url, exchange.urls["api"])
        return exchange

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        for pattern, method in FORMS[self.venue]:
            if re.fullmatch(pattern, request.path):
                body, headers = method(self, request)
                text = body if isinstance(body, str) else json.dumps(body)
                self.sent += len(text.encode())
                return web.Response(text=text, content_type="application/json", headers=headers)
        return web.json_response({"error": f"no such path: {request.path}"}, status=404)

    # --- which rows

    def rows(self, chosen: np.ndarray, render: Callable[[np.ndarray], Answer]) -> Answer:
        """Render the chosen rows, or what a trick makes of them."""
        trick = self.tricks.pop(0) if self.tricks else ""
        if trick == "repeat" and self.before is not None:
            return self.before
        cut = max(1, len(chosen) // 3)
        if trick == "double":
            chosen = np.repeat(chosen, 2)
        elif trick == "head":
            chosen = chosen[cut:]
        elif trick == "tail":
            chosen = chosen[:-cut]
        elif trick == "hole":
            chosen = np.delete(chosen, slice(cut, 2 * cut))
        self.before = render(chosen)
        return self.before

    def cap(self, request: web.Request, name: str = "limit", default: int = 1000) -> int:
        return min(int(request.query.get(name, default)), self.page)

    def where(self, mask: np.ndarray) -> np.ndarray:
        return np.flatnonzero(mask & (self._id >= self.keeps_from_id))

    def row_of(self, i: int, row: Any) -> Any:
        return self.row(int(self._id[i]), row)

    # --- Binance

    def binance_markets(self, request: web.Request) -> Answer:
        symbol = {
            "symbol": "BTCUSDT",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "status": "TRADING",
            "isSpotTradingAllowed": True,
            "filters": [],
            "permissions": ["SPOT"],
        }
        return {"serverTime": self.now_ns // MS_NS, "symbols": [symbol]}, {}

    def binance_aggregated(self, request: web.Request) -> Answer:
        return self.rows(self._from_id(request), lambda rows: self._binance(request, rows, "amT"))

    def binance_plain(self, request: web.Request) -> Answer:
        if request.headers.get("X-MBX-APIKEY") != self.key:
            told = {"code": -2014, "msg": f"bad key {request.headers.get('X-MBX-APIKEY')}"}
            raise web.HTTPUnauthorized(text=json.dumps(told), content_type="application/json")
        return self.rows(self._from_id(request), lambda rows: self._binance(request, rows, "plain"))

    def _from_id(self, request: web.Request) -> np.ndarray:
        limit = self.cap(request)
        if "fromId" in request.query:
            return self.where(self._id >= int(request.query["fromId"]))[:limit]
        return self.where(self._id >= 0)[-limit:]

    def _binance(self, request: web.Request, rows: np.ndarray, form: str) -> Answer:
        unit = US_NS if request.headers.get("X-MBX-TIME-UNIT") == "MICROSECOND" else MS_NS
        answer = []
        for i in rows:
            number, time = int(self._id[i]), int(self._time[i]) // unit
            price, amount, maker = self._price[i], self._amount[i], self._side[i] < 0
            row = (
                {"id": number, "price": price, "qty": amount, "time": time, "isBuyerMaker": maker}
                if form == "plain"
                else {"a": number, "p": price, "q": amount, "T": time, "m": maker, "M": True}
            )
            answer.append(self.row_of(i, row))
        return answer, {}

    # --- Kraken

    def kraken_markets(self, request: web.Request) -> Answer:
        pair = {
            "altname": "XBTUSD",
            "wsname": "XBT/USD",
            "base": "XXBT",
            "quote": "ZUSD",
            "pair_decimals": 1,
            "lot_decimals": 8,
            "fees": [[0, 0.26]],
            "fees_maker": [[0, 0.16]],
            "ordermin": "0.0001",
            "status": "online",
        }
        return {"error": [], "result": {"XXBTZUSD": pair}}, {}

    def kraken_trades(self, request: web.Request) -> Answer:
        since = int(request.query.get("since", 0))
        since_ns = since if since > 10**15 else since * S_NS
        after = self.where(self._time > since_ns)[: self.cap(request, "count")]
        return self.rows(after, lambda rows: self._kraken(rows, since_ns))

    def _kraken(self, rows: np.ndarray, since_ns: int) -> Answer:
        last = int(self._time[rows[-1]]) if len(rows) else since_ns
        # By hand: the seconds are a JSON number with more digits than a float64 holds.
        text = ",".join(
            f'["{self._price[i]}","{self._amount[i]}",{kraken_seconds(int(self._time[i]))},'
            f'"{"b" if self._side[i] > 0 else "s"}","m","",{self._id[i]}]'
            for i in rows
        )
        return f'{{"error":[],"result":{{"XXBTZUSD":[{text}],"last":"{last}"}}}}', {}

    # --- Coinbase Exchange

    def coinbaseexchange_markets(self, request: web.Request) -> Answer:
        product = {
            "id": "BTC-USD",
            "base_currency": "BTC",
            "quote_currency": "USD",
            "quote_increment": "0.01",
            "base_increment": "0.00000001",
            "status": "online",
        }
        return [product], {}

    def coinbaseexchange_trades(self, request: web.Request) -> Answer:
        after = int(request.query.get("after", 2**62))
        chosen = self.where(self._id < after)[::-1][: self.cap(request)]
        return self.rows(chosen, self._coinbaseexchange)

    def _coinbaseexchange(self, rows: np.ndarray) -> Answer:
        answer = [
            self.row_of(
                i,
                {
                    "trade_id": int(self._id[i]),
                    "side": "sell" if self._side[i] > 0 else "buy",  # the maker's
                    "size": self._amount[i],
                    "price": self._price[i],
                    "time": iso(int(self._time[i])),
                },
            )
            for i in rows
        ]
        ids = [str(self._id[i]) for i in rows]
        return answer, {"CB-BEFORE": ids[0], "CB-AFTER": ids[-1]} if ids else {}

    # --- Coinbase Advanced

    def coinbase_markets(self, request: web.Request) -> Answer:
        product = {
            "product_id": "BTC-USD",
            "base_currency_id": "BTC",
            "quote_currency_id": "USD",
            "product_type": "SPOT",
            "price": "1",
            "base_increment": "0.00000001",
            "quote_increment": "0.01",
            "trading_disabled": False,
        }
        one = request.query.get("product_type", "SPOT") == "SPOT"
        return {"products": [product] if one else [], "num_products": 1}, {}

    def coinbase_trades(self, request: web.Request) -> Answer:
        start, end = (int(request.query[name]) * S_NS for name in ("start", "end"))
        chosen = self.where((self._time >= start) & (self._time <= end))[::-1]
        return self.rows(chosen[: self.cap(request)], self._coinbase)

    def _coinbase(self, rows: np.ndarray) -> Answer:
        trades = [
            {
                "trade_id": str(self._id[i]),
                "product_id": "BTC-USD",
                "price": self._price[i],
                "size": self._amount[i],
                "time": iso(int(self._time[i])),
                "side": "SELL" if self._side[i] > 0 else "BUY",  # the maker's
            }
            for i in rows
        ]
        return {"trades": trades, "best_bid": "1", "best_ask": "2"}, {}

    # --- Bitstamp

    def bitstamp_markets(self, request: web.Request) -> Answer:
        market = {
            "name": "BTC/USD",
            "market_symbol": "btcusd",
            "base_currency": "BTC",
            "base_decimals": 8,
            "counter_currency": "USD",
            "counter_decimals": 0,
            "minimum_order_value": "10",
            "trading": "Enabled",
            "instant_order_counter_decimals": 2,
            "instant_and_market_orders": "Enabled",
            "description": "Bitcoin / U.S. dollar",
            "market_type": "SPOT",
        }
        return [market], {}

    def bitstamp_trades(self, request: web.Request) -> Answer:
        reach = {"minute": 60, "hour": 3_600, "day": 86_400}[request.query.get("time", "hour")]
        chosen = self.where(self._time >= self.now_ns - reach * S_NS)[::-1]
        return self.rows(chosen, self._bitstamp)

    def _bitstamp(self, rows: np.ndarray) -> Answer:
        answer = [
            {
                "date": str(self._time[i] // S_NS),
                "tid": str(self._id[i]),
                "amount": self._amount[i],
                "type": "0" if self._side[i] > 0 else "1",
                "price": self._price[i],
            }
            for i in rows
        ]
        return answer, {}

    # --- OKX

    def okx_markets(self, request: web.Request) -> Answer:
        instrument = {
            "instId": "BTC-USDT",
            "instType": "SPOT",
            "baseCcy": "BTC",
            "quoteCcy": "USDT",
            "lotSz": "0.00000001",
            "minSz": "0.00001",
            "tickSz": "0.1",
            "state": "live",
        }
        spot = request.query.get("instType") == "SPOT"
        return {"code": "0", "msg": "", "data": [instrument] if spot else []}, {}

    def okx_trades(self, request: web.Request) -> Answer:
        after = int(request.query.get("after", 2**62))
        chosen = self.where(self._id < after)[::-1][: min(self.cap(request, default=100), 100)]
        return self.rows(chosen, self._okx)

    def _okx(self, rows: np.ndarray) -> Answer:
        data = [
            {
                "instId": "BTC-USDT",
                "side": "buy" if self._side[i] > 0 else "sell",
                "sz": self._amount[i],
                "px": self._price[i],
                "tradeId": str(self._id[i]),
                "ts": str(self._time[i] // MS_NS),
            }
            for i in rows
        ]
        return {"code": "0", "msg": "", "data": data}, {}

    # --- Bitfinex

    def bitfinex_markets(self, request: web.Request) -> Answer:
        info = [None, None, None, "0.00006", "2000.0", None, None, None, None, None]
        return [[["BTCUSD", info]], [], [], ["BTCUSD"]], {}

    def bitfinex_trades(self, request: web.Request) -> Answer:
        limit = self.cap(request, default=120)
        if request.query.get("sort") == "1" and self.heeds_since:
            start = int(request.query.get("start", 0)) * MS_NS
            chosen = self.where(self._time >= start)[:limit]
        else:
            chosen = self.where(self._id >= 0)[::-1][:limit]
        return self.rows(chosen, self._bitfinex)

    def _bitfinex(self, rows: np.ndarray) -> Answer:
        text = ",".join(
            f"[{self._id[i]},{self._time[i] // MS_NS},"
            f"{'' if self._side[i] > 0 else '-'}{self._amount[i]},{self._price[i]}]"
            for i in rows
        )
        return f"[{text}]", {}


FORMS: dict[str, tuple[tuple[str, Callable[[LocalExchange, web.Request], Answer]], ...]] = {
    "binance": (
        ("/api/v3/exchangeInfo", LocalExchange.binance_markets),
        ("/api/v3/aggTrades", LocalExchange.binance_aggregated),
        ("/api/v3/historicalTrades", LocalExchange.binance_plain),
    ),
    "kraken": (
        ("/0/public/AssetPairs", LocalExchange.kraken_markets),
        ("/0/public/Trades", LocalExchange.kraken_trades),
    ),
    "coinbaseexchange": (
        ("/products", LocalExchange.coinbaseexchange_markets),
        ("/products/BTC-USD/trades", LocalExchange.coinbaseexchange_trades),
    ),
    "coinbase": (
        ("/api/v3/brokerage/market/products", LocalExchange.coinbase_markets),
        ("/api/v3/brokerage/market/products/BTC-USD/ticker", LocalExchange.coinbase_trades),
    ),
    "bitstamp": (
        ("/api/v2/markets/", LocalExchange.bitstamp_markets),
        ("/api/v2/transactions/btcusd/", LocalExchange.bitstamp_trades),
    ),
    "okx": (
        ("/api/v5/public/instruments", LocalExchange.okx_markets),
        ("/api/v5/market/history-trades", LocalExchange.okx_trades),
    ),
    "bitfinex": (
        ("/v2/conf/.*", LocalExchange.bitfinex_markets),
        ("/v2/trades/tBTCUSD/hist", LocalExchange.bitfinex_trades),
    ),
}


def iso(time_ns: int) -> str:
    """ISO 8601 with microseconds, as Coinbase writes it."""
    return str(np.datetime64(time_ns // US_NS, "us")) + "Z"


def kraken_seconds(time_ns: int) -> str:
    """Decimal seconds with nine decimals."""
    return f"{time_ns // S_NS}.{time_ns % S_NS:09d}"


def _decimal(value: float) -> str:
    """The shortest decimal that reads back as the same float64, without an exponent."""
    return np.format_float_positional(value, trim="-")
