"""CoinMarketCap's quotes: an average price over many exchanges every five minutes, and no trades.

Its API has no trades of exchanges. A quote becomes a tick of the kind `quotes`, without a side and
with an amount of 1, which says nothing: nobody traded it. A forecast learned from quotes speaks of
the average and of nothing that could have been bought at that price.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import polars as pl

from nexttick.ticks.days import DAY_NS
from nexttick.ticks.record import SCHEMA, TickError
from nexttick.ticks.source import Missing, Page, Series, SourceError
from nexttick.venues.archives.spool import make_page, now_ns, to_the_second
from nexttick.venues.http import Http, json_of
from nexttick.venues.retrying import ATTEMPTS

BASE_URL = "https://pro-api.coinmarketcap.com"
KEY_VARIABLE = "NEXTTICK_COINMARKETCAP_KEY"
KEY_HEADER = "X-CMC_PRO_API_KEY"
NOTICE = (
    "these are CoinMarketCap's quotes, an average over exchanges every 5 minutes, not trades: "
    "amounts are not known (1 stands for each), nor are sides"
)
_POINTS = 10_000  # a call
_INTERVAL_NS = 300 * 10**9
_LATE_NS = 2 * _INTERVAL_NS  # a quote may be this late
_WINDOW_NS = (_POINTS * _INTERVAL_NS // DAY_NS) * DAY_NS
_SYMBOL = re.compile(r"([A-Z0-9$@_.+-]+)(?:/([A-Z]+))?")


class CoinMarketCap:
    """Quotes of one coin.

    Args:
        symbol: a coin's symbol, `BTC`, or with what it is quoted in, `BTC/EUR`. Of several coins
            of one symbol the one of the best rank is meant.
        key: of CoinMarketCap's API; by default what the variable `NEXTTICK_COINMARKETCAP_KEY`
            holds. It is sent in a header and shown nowhere.
        base_url: of the API.
        timeout_s: longest silence of a connection.
        attempts: how often a request is tried that fails in passing.
    """

    def __init__(
        self,
        symbol: str,
        key: str | None = None,
        *,
        base_url: str = BASE_URL,
        timeout_s: float = 30.0,
        attempts: int = ATTEMPTS,
    ):
        found = _SYMBOL.fullmatch(symbol.upper())
        if found is None:
            raise ValueError(f"symbol {symbol!r} is no coin's: give it like BTC or BTC/USD")
        self._coin, self._currency = found[1], found[2] or "USD"
        own = (os.environ.get(KEY_VARIABLE, "") if key is None else key).strip()
        if not own:
            raise ValueError(
                "CoinMarketCap needs a key: get one at https://pro.coinmarketcap.com/signup and "
                f"set the variable {KEY_VARIABLE} to it; {NOTICE}"
            )
        if not (own.isascii() and own.isprintable() and " " not in own):
            raise ValueError(
                f"the key in {KEY_VARIABLE} holds a blank or a strange letter; set it anew"
            )
        self._http = Http({KEY_HEADER: own}, timeout_s, attempts)
        self._base = base_url.rstrip("/")
        self.name = "CoinMarketCap quotes (5 minutes; no trades, amounts unknown)"
        self.series = Series("coinmarketcap", f"{self._coin}/{self._currency}", "quotes")
        self.consecutive_ids = False
        self.notice = NOTICE  # what a user must know of these ticks

    def pages(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        """Go through the quotes with start_ns <= time < stop_ns, some 34 days a page.

        A SourceError where the key or its plan is refused, or the coin is not known; a TickError
        where what comes is no list of quotes.
        """
        known_ns = max(start_ns, min(stop_ns, now_ns() - _LATE_NS))
        number = self._coin_id() if start_ns < known_ns else 0
        for first_ns in range(start_ns, known_ns, _WINDOW_NS):
            yield self._page(number, first_ns, min(first_ns + _WINDOW_NS, known_ns))
        if known_ns < stop_ns:
            reason = f"CoinMarketCap {self._coin}: a quote comes up to 10 minutes late"
            yield Missing(known_ns, stop_ns, f"{reason}; fetch it then", fault=False)

    def _page(self, number: int, start_ns: int, stop_ns: int) -> Page:
        what = f"CoinMarketCap {self._coin} {to_the_second(start_ns)} to {to_the_second(stop_ns)}"
        # The time that it starts from is left out, and here and there a quote is a bit late.
        asked = {
            "id": number,
            "time_start": to_the_second(start_ns - _INTERVAL_NS),
            "time_end": to_the_second(stop_ns + 10**9 - 1),
            "interval": "5m",
            "count": _POINTS,
            "convert": self._currency,
        }
        data = self._ask("/v3/cryptocurrency/quotes/historical", what, asked)
        try:
            # In the answer the coin stands under its number, or alone.
            coin = data if "quotes" in data else data[str(number)]
            unit = self._currency
            rows = [(row["timestamp"], row["quote"][unit]["price"]) for row in coin["quotes"]]
            table = pl.DataFrame(rows, {"time": pl.String(), "price": pl.Float64()}, orient="row")
            times = table["time"].str.to_datetime("%+", time_unit="ns", time_zone="UTC")
        except (TypeError, KeyError, pl.exceptions.PolarsError) as error:
            raise TickError(
                f"{what}: {str(data)[:80]!r} is no list of quotes in {self._currency}"
            ) from error
        times = times.to_physical()
        if len(times) >= _POINTS:
            raise TickError(
                f"{what}: {len(times):,} quotes, so there may be more; fetch less at once"
            )
        given = times.is_between(start_ns, stop_ns, closed="left") & times.is_first_distinct()
        ticks = table.select(
            times,
            "price",
            pl.lit(1, SCHEMA["amount"]).alias("amount"),
            pl.lit(0, SCHEMA["side"]).alias("side"),
        )
        return make_page(ticks.filter(given), what, stop_ns, self._http.received())

    def _coin_id(self) -> int:
        """The number of the coin that its symbol means."""
        what = f"CoinMarketCap's list of coins, {self._coin}"
        data = self._ask("/v1/cryptocurrency/map", what, {"symbol": self._coin})
        try:
            known = [(coin.get("rank") or 10**9, coin["id"]) for coin in data]
        except (TypeError, KeyError, AttributeError) as error:
            raise TickError(f"{what}: {str(data)[:80]!r} is no list of coins") from error
        if not known:
            raise SourceError(f"{what}: it knows no such coin; check the symbol")
        return int(min(known)[1])

    def _ask(self, path: str, what: str, params: dict[str, str | int]) -> Any:
        """The `data` of an answer; refusals come with status 200 too."""
        body = self._http.get(f"{self._base}{path}", what, params)
        parsed = json_of(body, what)
        status = parsed.get("status") if isinstance(parsed, dict) else None
        if isinstance(status, dict) and status.get("error_code") not in (None, 0, "0"):
            raise SourceError(f"{what}: {status.get('error_message')}; see what your plan allows")
        if not isinstance(parsed, dict) or "data" not in parsed:
            raise TickError(f"{what}: {body[:80]!r} holds no data; check the address")
        return parsed["data"]
