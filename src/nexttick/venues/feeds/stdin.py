"""Trades as JSON lines on standard input.

    {"time": "2026-01-02T03:04:05.678901Z", "price": 100.5, "amount": 0.25, "side": 1, "id": 17}

`time` is ISO 8601 (UTC unless it says otherwise) or a whole number of ns since 1970; `side` (1 or
"buy": the buyer took; -1 or "sell": the seller took) and `id` may be missing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any

import orjson

from nexttick.venues.feeds.order_by_time import OrderByTime
from nexttick.venues.messages import Health, Message, Trade
from nexttick.venues.trades import UNREADABLE, iso_to_ns, live_trade

_CHUNK = 65_536  # bytes read at once
_AHEAD = 4  # chunks, at most, that were read and not yet taken
_LONGEST = 1_048_576  # bytes of a line
_SIDES = {1: 1, -1: -1, 0: 0, "buy": 1, "sell": -1, None: 0}
_log = logging.getLogger(__name__)


class Stdin:
    """A feed of JSON lines; see `messages.Feed`. It ends with the input.

    A line that is no trade is counted as malformed, told with its number, and passed over. Trades
    are taken in the order of time and each id once; one that comes after a later one is late.
    `symbol` is what to call the market, `fd` the file descriptor to read.
    """

    name = "stdin"

    def __init__(self, symbol: str = "", fd: int = 0):
        self.symbol, self.health = symbol, Health()
        self._fd = fd
        self._lines = 0

    async def batches(self, after: Trade | None = None) -> AsyncGenerator[list[Message], None]:
        """Go through the trades after one, all lines that came together in one list."""
        order = OrderByTime(self.health, None, delay_s=0.0)
        chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue()
        room = threading.Semaphore(_AHEAD)
        # A thread of its own that nobody waits for: nothing else ends a read from a terminal.
        reader = threading.Thread(
            target=self._pass_on, args=(chunks, room, asyncio.get_running_loop()), daemon=True
        )
        reader.start()
        self.health.connected, rest = True, b""
        while chunk := await chunks.get():
            room.release()
            if isinstance(chunk, OSError):
                raise OSError(chunk.errno, f"standard input cannot be read: {chunk.strerror}")
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LONGEST:
                self._complain(self._lines + 1, f"a line of more than {_LONGEST} bytes")
                rest = b"{"  # what is left of it is no JSON either
            if batch := self._in_order(order, lines, after):
                yield batch
        if batch := self._in_order(order, [rest], after):
            yield batch
        self.health.connected = False

    def _pass_on(
        self,
        chunks: asyncio.Queue[bytes | OSError],
        room: threading.Semaphore,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        chunk: bytes | OSError = b"."
        while chunk and isinstance(chunk, bytes):
            room.acquire()
            try:
                chunk = os.read(self._fd, _CHUNK)
            except OSError as error:
                chunk = error
            try:
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            except RuntimeError:
                return  # the loop has ended

    def _in_order(
        self, order: OrderByTime, lines: list[bytes], after: Trade | None
    ) -> list[Message]:
        self.health.last_arrival_ns = arrived_ns = time.time_ns()
        out: list[Message] = []
        for line in lines:
            self._lines += 1
            if not line.strip():
                continue
            try:
                trade = _trade(orjson.loads(line), arrived_ns)
            except UNREADABLE as error:
                self._complain(self._lines, str(error))
                continue
            # One by one, so that it makes no difference how the input was cut.
            if after is None or (trade.time_ns, trade.id) > (after.time_ns, after.id):
                out += order.take([trade], arrived_ns)
        return out

    def _complain(self, line: int, what: str) -> None:
        self.health.malformed += 1
        _log.warning("stdin: line %d: %s; the line is passed over", line, what)


def _trade(row: Any, arrived_ns: int) -> Trade:
    if not isinstance(row, dict):
        raise ValueError('not an object like {"time": …, "price": …, "amount": …}')
    if missing := [name for name in ("time", "price", "amount") if name not in row]:
        raise ValueError(f"no {', '.join(missing)}")
    time_ns = iso_to_ns(row["time"]) if isinstance(row["time"], str) else row["time"]
    if (side := row.get("side")) not in _SIDES:
        raise ValueError(f"side {side!r}: give 1 or buy, -1 or sell, or leave it out")
    number = None if row.get("id") == -1 else row.get("id")  # as we write it ourselves
    price, amount = float(row["price"]), float(row["amount"])
    return live_trade((time_ns, price, amount, _SIDES[side], number), arrived_ns)
