"""What the stream sends and what REST gives, joined into one sequence of batches."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

from nexttick.ticks.source import SourceError, TransientError
from nexttick.venues.feeds.order_by_id import Listing, OrderById, Want
from nexttick.venues.feeds.order_by_time import OrderByTime
from nexttick.venues.messages import Health, Message, Trade
from nexttick.venues.retrying import BackOff, RunningMedian, Waits

_log = logging.getLogger(__name__)

Order = OrderById | OrderByTime
"""Takes trades as they come and gives each on once and in order. Pure: it asks no clock."""

Missed = Callable[[Want], AsyncGenerator[Listing, None]]


class Inbox:
    """What a connection has brought and nobody has taken yet, in bounded memory.

    Beyond `limit` trades the connection has to wait for `room`.
    """

    def __init__(self, limit: int = 50_000):
        self._items: list[list[Trade] | None] = []  # None: trades may be missing here
        self._count, self._limit = 0, limit
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._ended: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether the connection has to wait."""
        return self._count >= self._limit

    def put(self, trades: Sequence[Trade]) -> None:
        """Add trades as they came."""
        # What came together is taken together, but never across an interruption.
        if self._items and (last := self._items[-1]) is not None:
            last += trades
        else:
            self._items.append([*trades])
        self._count += len(trades)
        self._news.set()

    def interrupted(self) -> None:
        """Note that trades may be missing between what has come until now and what will come."""
        self._items.append(None)
        self._news.set()

    def wake(self) -> None:
        """Let `news` return."""
        self._news.set()

    def watch(self, task: asyncio.Task[None]) -> None:
        """Let `news` return, or raise what the task raised, when it ends."""
        task.add_done_callback(self._end)

    def take(self) -> list[list[Trade] | None]:
        """Take all that has come."""
        items, self._items, self._count = self._items, [], 0
        self._room.set()
        return items

    async def room(self) -> None:
        """Wait until it is no longer full."""
        while self.full:
            self._room.clear()
            await self._room.wait()

    async def news(self, within_s: float | None) -> None:
        """Wait until there is something to take, at most so long."""
        # A timer that sets the event costs less than `wait_for`, which counts at a burst's pace.
        loop = asyncio.get_running_loop()
        timer = None if within_s is None else loop.call_later(max(within_s, 0.0), self._news.set)
        try:
            await self._news.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._news.clear()
        if self._ended is not None:
            self._ended.result()

    def _end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._ended = task
            self._news.set()


class Joined:
    """Batches in order from an inbox, with REST asked for what was missed where the order wants it.

    `skew_ms` of `health` is kept up to date.
    """

    def __init__(self, inbox: Inbox, order: Order, missed: Missed, waits: Waits, health: Health):
        self._inbox, self._order, self._missed = inbox, order, missed
        self._waits, self._health = waits, health
        self._skew_ms = RunningMedian()
        self._out: list[Message] = []
        self._filling: asyncio.Task[None] | None = None

    async def batches(self) -> AsyncGenerator[list[Message], None]:
        """Go through batches until the inbox raises."""
        try:
            while True:
                self._take_all()
                if self._out:
                    batch, self._out = self._out, []
                    yield batch
                busy = self._filling is not None and not self._filling.done()
                wake_ns = None if busy else self._order.wake_ns()
                idle_s = None if wake_ns is None else (wake_ns - time.monotonic_ns()) / 1e9
                await self._inbox.news(idle_s)
        finally:
            await stopped(self._filling)

    def _take_all(self) -> None:
        for item in self._inbox.take():
            now_ns = time.monotonic_ns()
            if item is None:
                self._order.interrupted()
            elif item:
                # One of a batch stands for all, its last, which waited least to be read.
                skew_ns = item[-1].arrived_ns - item[-1].time_ns
                self._health.skew_ms = self._skew_ms.add(skew_ns / 1e6)
                self._out += self._order.take(item, now_ns)
        now_ns = time.monotonic_ns()
        self._out += self._order.due(now_ns)
        # REST is asked by one task at a time, or two answers would fill the same hole.
        idle = self._filling is None or self._filling.done()
        if idle and self._order.wanted(now_ns) is not None:
            self._filling = asyncio.create_task(self._fill())
            self._inbox.watch(self._filling)

    async def _fill(self) -> None:
        """Ask REST until the order wants no more, or it gives nothing more for too long."""
        patience_s = self._waits.patience_s
        reason = f"REST gave nothing more within {patience_s:g} s"
        try:
            async with asyncio.timeout(patience_s) as patience:
                while (want := self._order.wanted(time.monotonic_ns())) is not None:
                    try:
                        await self._ask(want, patience)
                    except TransientError as error:
                        reason = str(error)
                    if self._order.wanted(time.monotonic_ns()) is not None:
                        await asyncio.sleep(self._waits.retry_s)
        except (TimeoutError, SourceError) as error:
            why = str(error) if isinstance(error, SourceError) else reason
            self._out += self._order.give_up(why)
        self._inbox.wake()

    async def _ask(self, want: Want, patience: asyncio.Timeout) -> None:
        """Ask REST once, page by page; each that brings something new renews the patience."""
        loop = asyncio.get_running_loop()
        async with aclosing(self._missed(want)) as listings:
            async for listing in listings:
                before = self._health.backfilled
                self._out += self._order.fill(listing, time.monotonic_ns())
                if self._health.backfilled > before:
                    patience.reschedule(loop.time() + self._waits.patience_s)
                self._inbox.wake()
                if self._order.wanted(time.monotonic_ns()) is None:
                    break
            # Only where the venue came to its end: after a break there may be more.
            else:
                self._order.all_given()


class ConnectedFeed(ABC):
    """A feed over a connection that is made again and again; see `messages.Feed`."""

    def __init__(self, name: str, symbol: str, waits: Waits):
        self.name, self.symbol, self.health = name, symbol, Health()
        self._waits = waits

    @abstractmethod
    def _order(self, after: Trade | None) -> Order:
        """Put in order what comes after a trade."""

    @abstractmethod
    async def _live(self, inbox: Inbox) -> str:
        """Connect once, pass on what comes as long as it lasts, and return why it ended."""

    @abstractmethod
    def missed(self, want: Want) -> AsyncGenerator[Listing, None]:
        """Ask REST for the trades after one, page by page."""

    @abstractmethod
    async def _close(self) -> None:
        """Close what connections there are."""

    def _works(self, inbox: Inbox) -> list[Coroutine[Any, Any, None]]:
        """What goes on while batches are taken."""
        return [self._stay(inbox)]

    async def batches(self, after: Trade | None = None) -> AsyncGenerator[list[Message], None]:
        """Go through messages as they come, those that came together in one list.

        A SourceError where the venue refuses, e.g. because it doesn't know the symbol.
        """
        inbox = Inbox()
        joined = Joined(inbox, self._order(after), self.missed, self._waits, self.health)
        tasks = [asyncio.create_task(work) for work in self._works(inbox)]
        for task in tasks:
            inbox.watch(task)
        try:
            async with aclosing(joined.batches()) as batches:
                async for batch in batches:
                    yield batch
        finally:
            await stopped(*tasks)
            await self._close()
            self.health.connected = False

    async def _stay(self, inbox: Inbox) -> None:
        # websockets' own `async for` connects again at once where a connection did open, so that
        # a venue that accepts and closes is asked hundreds of times a second; see docs/log.md.
        back_off, loop = BackOff(self._waits), asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            reason = await self._live(inbox)
            self.health.connected = False
            wait_s = back_off.next_s(loop.time() - began_s)
            said = "%s %s: %s; connecting again in %.1f s"
            _log.warning(said, self.name, self.symbol, reason, wait_s)
            await asyncio.sleep(wait_s)


async def stopped(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel tasks and wait until they have ended; what they raised has been told before."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
