"""The life of a websocket: connect, listen, notice silence, come back, and miss nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from nexttick.ticks.source import TransientError
from nexttick.venues.feeds.joining import Inbox, Joined, stopped
from nexttick.venues.feeds.order_by_id import Listing, OrderById, Want
from nexttick.venues.http import Rest
from nexttick.venues.messages import Health, Message, Trade
from nexttick.venues.retrying import BackOff, Waits
from nexttick.venues.trades import UNREADABLE, UnknownMessageError

_LARGEST = 4_194_304  # bytes of a message
_FRAMES = 256  # read ahead; beyond it the network waits
_UNREADABLE = (1002, 1003, 1007, 1009)  # close codes: we could not make sense of what came
_log = logging.getLogger(__name__)


class Venue(Protocol):
    """What is particular to a venue that numbers its trades one by one.

    Attributes:
        name: e.g. `binance`.
        url: of the websocket.
        rest: asked for what was missed; it is closed with the stream.
    """

    name: str
    url: str
    rest: Rest

    def hello(self) -> Sequence[str]:
        """Return what to send when connected."""
        ...

    def trades(self, message: Any, arrived_ns: int) -> Sequence[Trade]:
        """Return the trades in a message, none where it only tells of the connection.

        Raises:
            UnknownMessageError: it is of another kind, or of another market.
            TransientError: it says that the venue can't serve us now.
            ValueError: it is not what it should be; so do KeyError and TypeError.
            SourceError: it says that the venue refuses.
        """
        ...

    def missed(self, want: Want) -> AsyncGenerator[Listing, None]:
        """Ask REST for the trades after `want.after`, page by page."""
        ...

    async def check(self) -> None:
        """Ask REST whether the market exists.

        Raises:
            SourceError: it doesn't.
            TransientError: there was no answer.
        """
        ...


class Stream:
    """A feed over a websocket of its own; see `messages.Feed`.

    Args:
        venue: whose.
        symbol: as ccxt writes it.
        waits: how long for what.

    Attributes:
        steps_back: trades whose time was before that of the trade before them; they keep it.
    """

    def __init__(self, venue: Venue, symbol: str, waits: Waits = Waits()):  # noqa: B008
        self.name, self.symbol, self.health = venue.name, symbol, Health()
        self._venue, self._waits = venue, waits
        self._lives = self.steps_back = 0

    async def batches(self, after: Trade | None = None) -> AsyncGenerator[list[Message], None]:
        """Go through messages as they come, those that came together in one list.

        Raises:
            SourceError: the venue refuses, e.g. because it doesn't know the symbol.
        """
        inbox, waits = Inbox(), self._waits
        order = OrderById(self.health, after, waits.delay_s)
        joined = Joined(inbox, order, self._venue.missed, waits, self.health)
        tasks = [asyncio.create_task(work) for work in (self._stay(inbox), self._check())]
        for task in tasks:
            inbox.watch(task)
        try:
            async with aclosing(joined.batches()) as batches:
                async for batch in batches:
                    self.steps_back = order.steps_back
                    yield batch
        finally:
            await stopped(*tasks)
            await self._venue.rest.close()
            self.health.connected = False

    async def _check(self) -> None:
        try:
            await self._venue.check()
        except TransientError as error:
            _log.warning("%s %s: %s", self.name, self.symbol, error)

    async def _stay(self, inbox: Inbox) -> None:
        """Connect again and again."""
        back_off, loop = BackOff(self._waits), asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            reason = await self._live(inbox)
            self.health.connected = False
            wait_s = back_off.next_s(loop.time() - began_s)
            said = "%s %s: %s; connecting again in %.1f s"
            _log.warning(said, self.name, self.symbol, reason, wait_s)
            await asyncio.sleep(wait_s)

    async def _live(self, inbox: Inbox) -> str:
        """Connect once, listen as long as it lasts, and return why it ended."""
        try:
            async with await self._opened() as socket:
                for message in self._venue.hello():
                    await socket.send(message)
                self.health.connected = True
                self.health.reconnects += self._lives > 0
                self._lives += 1
                inbox.interrupted()  # now, when REST's answer will reach to what comes
                _log.info("%s %s: connected to %s", self.name, self.symbol, self._venue.url)
                return await self._listen(socket, inbox)
        except TransientError as error:
            return str(error)
        except ConnectionClosed as closed:
            self.health.malformed += closed.sent is not None and closed.sent.code in _UNREADABLE
            return f"connection lost ({closed})"
        except (OSError, TimeoutError, WebSocketException) as error:
            return f"no connection to {self._venue.url} ({str(error) or repr(error)})"

    async def _opened(self) -> ClientConnection:
        waits = self._waits
        try:
            return await connect(
                self._venue.url,
                compression=None,  # a trade is small, and to unpack it costs more than to read it
                open_timeout=waits.open_s,
                ping_interval=waits.ping_s,
                ping_timeout=waits.ping_s,
                close_timeout=min(1.0, waits.open_s),
                max_size=_LARGEST,
                max_queue=_FRAMES,
            )
        except ValueError as error:  # a redirect to what is no address
            raise OSError(str(error)) from error

    async def _listen(self, socket: ClientConnection, inbox: Inbox) -> str:
        """Pass on what comes until nothing has come for too long."""
        silence_s, loop = self._waits.silence_s, asyncio.get_running_loop()
        watched_until_s = 0.0
        try:
            async with asyncio.timeout(silence_s) as watchdog:
                while True:
                    # It doesn't wait where something is there already, so all of it comes at once.
                    frame = await socket.recv(decode=False)
                    if loop.time() > watched_until_s:
                        watchdog.reschedule(loop.time() + silence_s)
                        watched_until_s = loop.time() + silence_s / 16
                    if trades := self._read(frame):
                        inbox.put(trades)
                        if inbox.full:
                            watchdog.reschedule(None)
                            await inbox.room()
                            watchdog.reschedule(loop.time() + silence_s)
        except TimeoutError:
            self.health.silences += 1
            return f"silent for {silence_s:g} s"

    def _read(self, frame: bytes) -> Sequence[Trade]:
        self.health.last_arrival_ns = arrived_ns = time.time_ns()
        try:
            return self._venue.trades(orjson.loads(frame), arrived_ns)
        except UnknownMessageError:
            self.health.unknown += 1
        except UNREADABLE as error:
            self.health.malformed += 1
            _log.debug("%s %s: %r in %r", self.name, self.symbol, error, frame[:200])
        return ()
