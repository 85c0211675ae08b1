"""Trades of any exchange whose websocket ccxt knows, with ccxt's weaknesses repaired.

`watch_trades` wakes its caller with the first message of a burst; those that are read before it is
called again only go to a cache, and the last of them is told with the next message, whenever that
comes. So its answers are taken as a bell, and the trades from the cache itself, which is looked at
every `_LOOK_S` too. What is new there is what stands behind the trade that was seen last; where
that one is gone the cache ran over, and REST is asked.

A connection that is made anew inside ccxt is told by no error, only by another client object.
Times are ccxt's, in whole ms.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from typing import Any

import ccxt.pro

from nexttick.ticks.source import SourceError, TransientError
from nexttick.venues.feeds.joining import ConnectedFeed, Inbox, stopped
from nexttick.venues.feeds.order_by_id import Listing, Want
from nexttick.venues.feeds.order_by_time import TEXT_ID, OrderByTime
from nexttick.venues.messages import Health, Trade
from nexttick.venues.retrying import Respite, Waits, retry_after_s
from nexttick.venues.trades import UNREADABLE, live_trade

_CACHE = 100_000  # trades; ccxt keeps 1000 where it is told nothing
_LOOK_S = 0.05
_PAGE = 1000
_SIDES = {"buy": 1, "sell": -1}
_REFUSALS = (ccxt.BadSymbol, ccxt.NotSupported, ccxt.AuthenticationError, ccxt.PermissionDenied)
# What ccxt's code, and ours that reads its rows, raises where a message is strange.
_PARSING = (*UNREADABLE, AttributeError, ArithmeticError, RecursionError)
_TOO_MUCH = (ccxt.RateLimitExceeded, ccxt.DDoSProtection)
_REST_S = 5.0  # after too much, where the venue doesn't say how long
_log = logging.getLogger(__name__)


def trade_of(row: Mapping[str, Any], arrived_ns: int) -> Trade:
    """Return ccxt's trade as ours. An id that is no number becomes one, the same every time."""
    time_ms, price, amount = row["timestamp"], row["price"], row["amount"]
    if time_ms is None or price is None or amount is None:
        raise ValueError(f"a trade without time, price or amount: {row.get('info')!r}")
    side, number = _SIDES.get(row["side"], 0), None if row["id"] is None else number_of(row["id"])
    time_ns = int(time_ms) * 1_000_000
    return live_trade((time_ns, float(price), float(amount), side, number), arrived_ns)


def number_of(text: str) -> int:
    """Return a trade's id as a number: itself where it is one below `TEXT_ID`, else of its text."""
    if text.isascii() and text.isdigit() and int(text) < TEXT_ID:
        return int(text)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return TEXT_ID | int.from_bytes(digest, "big") >> 2


class CcxtFeed(ConnectedFeed):
    """A feed through ccxt; see `ConnectedFeed`.

    Every trade waits `delay_s` for an earlier one. `options` are for ccxt's class, e.g. `apiKey`,
    or other `urls`.
    """

    def __init__(
        self,
        exchange_id: str,
        symbol: str,
        waits: Waits = Waits(delay_s=0.1),  # noqa: B008
        options: Mapping[str, Any] | None = None,
    ):
        super().__init__(exchange_id, symbol, waits)
        self._options = dict(options or {})
        self._exchange: Any = None
        self._seen: Any = None  # the newest trade of the cache
        self._client: Any = None  # ccxt's newest connection
        self._connected: Any = None  # the newest that was open
        self._news_s = 0.0
        self._respite = Respite(f"ccxt {exchange_id}")

    def _order(self, after: Trade | None) -> OrderByTime:
        return OrderByTime(self.health, after, self._waits.delay_s)

    async def _close(self) -> None:
        await self._exchange.close()

    def _works(self, inbox: Inbox) -> list[Coroutine[Any, Any, None]]:
        self._open(inbox)
        return super()._works(inbox)

    # --- the connection

    def _open(self, inbox: Inbox) -> None:
        """Notice every new client, and let no message that ccxt cannot handle end its loop."""
        self._exchange = getattr(ccxt.pro, self.name)({"enableRateLimit": True, **self._options})
        self._exchange.options["tradesLimit"] = _CACHE
        if not self._exchange.has.get("watchTrades"):
            raise SourceError(f"{self.name}: ccxt streams no trades of it; choose another exchange")
        self._seen = self._client = self._connected = None
        # ccxt connects again by itself and says so to nobody: its own opening of a client is the
        # only place where a lost connection shows.
        open_client = self._exchange.client

        def client(url: str) -> Any:
            opened = open_client(url)
            if not isinstance(opened.handle_message, _Guarded):
                opened.handle_message = _Guarded(opened.handle_message, self.health)
                # The cache ends with what the last one brought.
                if self._client is not None:
                    self._look(inbox)
                    inbox.interrupted()
                self._client = opened
            return opened

        self._exchange.client = client

    async def _live(self, inbox: Inbox) -> str:
        try:
            return await self._watch(inbox)
        except ccxt.BaseError as error:
            if self._is_refusal(error):
                raise SourceError(f"{self.name} {self.symbol}: {error!r}") from error
            self.health.malformed += not isinstance(error, ccxt.NetworkError)
            return repr(error)

    async def _watch(self, inbox: Inbox) -> str:
        """Take trades from the cache until the connection fails or is silent for too long."""
        loop, silence_s = asyncio.get_running_loop(), self._waits.silence_s
        await self._exchange.load_markets()
        self._news_s = loop.time()
        bell = asyncio.ensure_future(self._exchange.watch_trades(self.symbol))
        try:
            while loop.time() < self._news_s + silence_s:
                await asyncio.wait({bell}, timeout=_LOOK_S)
                self._look(inbox)
                self._look_at_client()
                if bell.done():
                    if bell.cancelled():
                        return "closed"
                    bell.result()
                    bell = asyncio.ensure_future(self._exchange.watch_trades(self.symbol))
                if inbox.full:
                    await inbox.room()
                    self._news_s = loop.time()  # nobody looked meanwhile
        finally:
            await stopped(bell)
        self.health.silences += 1
        await self._exchange.close()
        return f"silent for {silence_s:g} s"

    def _look_at_client(self) -> None:
        client = self._client
        self.health.connected = client is not None and client.isConnected and not client.closed()
        if self.health.connected and client is not self._connected:
            self.health.reconnects += self._connected is not None
            self._connected = client

    # --- the trades

    def _look(self, inbox: Inbox) -> None:
        """Take what is new in the cache."""
        cache = self._exchange.trades.get(self.symbol)
        if not cache or cache[-1] is self._seen:
            return
        arrived_ns = time.time_ns()
        # From the end, for the cache is cut at its beginning; by identity, for a trade need not
        # have an id.
        rows = []
        for row in reversed(cache):
            if row is self._seen:
                break
            rows.append(row)
        if self._seen is not None and len(rows) >= _CACHE:
            inbox.interrupted()  # the cache ran over
        self._seen, self._news_s = cache[-1], asyncio.get_running_loop().time()
        self.health.last_arrival_ns = arrived_ns
        inbox.put(self._read(reversed(rows), arrived_ns))

    def _read(self, rows: Iterable[Mapping[str, Any]], arrived_ns: int) -> list[Trade]:
        trades = []
        for row in rows:
            try:
                trades.append(trade_of(row, arrived_ns))
            except _PARSING as error:
                self.health.malformed += 1
                _log.debug("%s %s: %r", self.name, self.symbol, error)
        return trades

    async def missed(self, want: Want) -> AsyncGenerator[Listing, None]:
        """Go through the trades since one, page by page as long as there are new ones."""
        since_ms, newest = want.after.time_ns // 1_000_000, (-1, -1)
        while True:
            trades = await self._page(since_ms)
            if not trades or (trades[-1].time_ns, trades[-1].id) <= newest:
                return
            yield Listing(trades)
            newest = (trades[-1].time_ns, trades[-1].id)
            if newest[0] // 1_000_000 <= since_ms or trades[-1].id < 0:
                return
            since_ms = newest[0] // 1_000_000

    async def _page(self, since_ms: int) -> list[Trade]:
        self._respite.check()
        try:
            await self._exchange.load_markets()
            # As the stream does, Binance is to give single trades, not aggregated ones.
            params = {}
            if self.name.startswith("binance"):
                of = self._exchange.market(self.symbol)
                api = "fapiPublic" if of["linear"] else "dapiPublic" if of["inverse"] else "public"
                params = {"fetchTradesMethod": f"{api}GetTrades"}
            rows = await self._exchange.fetch_trades(self.symbol, since_ms, _PAGE, params)
        except (*_PARSING, ccxt.BaseError) as error:
            if self._is_refusal(error):
                raise SourceError(f"{self.name} {self.symbol}: {error!r}") from error
            if isinstance(error, _TOO_MUCH):
                headers = self._exchange.last_response_headers or {}
                named = {name.lower(): value for name, value in headers.items()}
                wait_s = retry_after_s(named.get("retry-after"))
                self._respite.extend(_REST_S if wait_s is None else wait_s)
            raise TransientError(f"{self.name} {self.symbol}: {error!r}") from error
        trades = self._read(rows, time.time_ns())
        # ccxt orders ids as text: 1000 before 998.
        if all(0 <= trade.id < TEXT_ID for trade in trades):
            trades.sort(key=lambda trade: (trade.time_ns, trade.id))
        return trades

    def _is_refusal(self, error: Exception) -> bool:
        """A symbol counts as unknown only where there is a list of markets that lacks it."""
        missing_list = isinstance(error, ccxt.BadSymbol) and not self._exchange.markets
        return isinstance(error, _REFUSALS) and not missing_list


class _Guarded:
    """Calls, and counts what it raises because of a message as malformed."""

    def __init__(self, call: Callable[[Any], None], health: Health):
        self._call, self._health = call, health

    def __call__(self, message: Any) -> None:
        try:
            self._call(message)
        except (*_PARSING, ccxt.BaseError) as error:
            self._health.malformed += 1
            _log.debug("%r in %r", error, message)
