"""The life of a websocket: connect, listen, notice silence, come back, and miss nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from nexttick.ticks.source import TransientError
from nexttick.venues.feeds.joining import ConnectedFeed, Inbox
from nexttick.venues.feeds.order_by_id import OrderById
from nexttick.venues.messages import Trade
from nexttick.venues.retrying import Waits
from nexttick.venues.trades import UNREADABLE, UnknownMessageError

if TYPE_CHECKING:  # they take a while to load, and the past of a venue needs none of them
    from websockets.asyncio.client import ClientConnection

    from nexttick.venues.http import Rest

_LARGEST = 4_194_304  # bytes of a message
_FRAMES = 256  # read ahead; beyond it the network waits
_UNREADABLE = (1002, 1003, 1007, 1009)  # close codes: we could not make sense of what came
_log = logging.getLogger(__name__)


class Stream(ConnectedFeed):
    """A feed over the websocket of a venue that numbers its trades one by one.

    `rest` is asked for what was missed, and closed with the stream.
    """

    name: str  # of the venue

    def __init__(self, symbol: str, url: str, rest: Rest, waits: Waits):
        super().__init__(self.name, symbol, waits)
        self.url, self._rest, self._lives = url, rest, 0

    def hello(self) -> Sequence[str]:
        """Return what to send when connected: nothing where the address says what is wanted."""
        return ()

    @abstractmethod
    def trades(self, message: Any, arrived_ns: int) -> Sequence[Trade]:
        """Return the trades in a message, none where it only tells of the connection.

        Raises:
            UnknownMessageError: it is of another kind, or of another market.
            TransientError: it says that the venue can't serve us now.
            ValueError: it is not what it should be; so do KeyError and TypeError.
            SourceError: it says that the venue refuses.
        """

    @abstractmethod
    async def check(self) -> None:
        """Ask REST whether the market exists: a SourceError where it doesn't."""

    def _order(self, after: Trade | None) -> OrderById:
        return OrderById(self.health, after, self._waits.delay_s)

    async def _close(self) -> None:
        await self._rest.close()

    def _works(self, inbox: Inbox) -> list[Coroutine[Any, Any, None]]:
        return [*super()._works(inbox), self._check()]

    async def _check(self) -> None:
        try:
            await self.check()
        except TransientError as error:
            _log.warning("%s %s: %s", self.name, self.symbol, error)

    async def _live(self, inbox: Inbox) -> str:
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, WebSocketException

        waits = self._waits
        try:
            try:
                opened = await connect(
                    self.url,
                    # A trade is small: to unpack it costs more than to read it.
                    compression=None,
                    open_timeout=waits.open_s,
                    ping_interval=waits.ping_s,
                    ping_timeout=waits.ping_s,
                    close_timeout=min(1.0, waits.open_s),
                    max_size=_LARGEST,
                    max_queue=_FRAMES,
                )
            except ValueError as error:  # a redirect to what is no address
                raise OSError(str(error)) from error
            async with opened as socket:
                for message in self.hello():
                    await socket.send(message)
                self.health.connected = True
                self.health.reconnects += self._lives > 0
                self._lives += 1
                # Now, when REST's answer will reach to what comes.
                inbox.interrupted()
                _log.info("%s %s: connected to %s", self.name, self.symbol, self.url)
                return await self._listen(socket, inbox)
        except TransientError as error:
            return str(error)
        except ConnectionClosed as closed:
            self.health.malformed += closed.sent is not None and closed.sent.code in _UNREADABLE
            return f"connection lost ({closed})"
        except (OSError, TimeoutError, WebSocketException) as error:
            return f"no connection to {self.url} ({str(error) or repr(error)})"

    async def _listen(self, socket: ClientConnection, inbox: Inbox) -> str:
        """Pass on what comes until nothing has come for too long."""
        silence_s, loop = self._waits.silence_s, asyncio.get_running_loop()
        watched_until_s = 0.0
        try:
            async with asyncio.timeout(silence_s) as watchdog:
                while True:
                    # It doesn't wait where something is there already, so all of it comes at once.
                    frame = await socket.recv(decode=False)
                    # To move a time-out costs more than to read a trade: not at each of them.
                    if loop.time() > watched_until_s:
                        watchdog.reschedule(loop.time() + silence_s)
                        watched_until_s = loop.time() + silence_s / 16
                    if trades := self._read(frame):
                        inbox.put(trades)
                        # While nobody takes anything, the silence is ours and not the venue's.
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
            return self.trades(orjson.loads(frame), arrived_ns)
        except UnknownMessageError:
            self.health.unknown += 1
        except UNREADABLE as error:
            self.health.malformed += 1
            _log.debug("%s %s: %r in %r", self.name, self.symbol, error, frame[:200])
        return ()
