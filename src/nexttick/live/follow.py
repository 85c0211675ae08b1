"""Following markets: feeds into markets, predictions out, until the feeds end or it is stopped."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import Any

from nexttick.live.market import Market
from nexttick.live.records import Prediction
from nexttick.venues.messages import Feed

REPORT_S = 1.0
PART = 1000  # messages taken at once; after an outage a hundred times as many may come together

_log = logging.getLogger(__name__)

Say = Callable[[Market, Sequence[Prediction]], None]


async def follow(market: Market, feed: Feed, say: Say, settle_s: float | None) -> None:
    """Follow one market until its feed ends; each prediction is said after its commit.

    So long (`settle_s`) after the last message an event counts as finished; None waits for the next
    message, however long that takes.
    """

    def say_any(predictions: Sequence[Prediction]) -> None:
        if predictions:
            say(market, predictions)

    market.board.health(feed.health)
    async with aclosing(feed.batches(market.last_trade)) as batches:  # type: ignore[type-var]
        while True:
            coming = asyncio.ensure_future(anext(batches, None))
            try:
                wait_s = settle_s if market.merger.holds else None
                done, _ = await asyncio.wait({coming}, timeout=wait_s)
                if not done:
                    say_any(market.settle())
                messages = await coming
            except BaseException:
                # A generator cannot be closed while it is asked for its next batch.
                coming.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    await coming
                raise
            if messages is None:
                break
            for start in range(0, len(messages), PART):
                if start:
                    # Pings, pages and other markets get their turn.
                    await asyncio.sleep(0)
                say_any(market.take(messages[start : start + PART]))
    # The feed has ended: nothing more can come.
    say_any(market.settle())
    market.report()


async def run(
    markets: Sequence[tuple[Market, Feed]],
    say: Say,
    settle_s: float | None,
    beside: Sequence[Coroutine[Any, Any, None]] = (),
) -> bool:
    """Follow markets until their feeds end, or a signal (SIGINT, SIGTERM) comes; True if it came.

    What stands `beside` runs meanwhile: the page.

    Raises:
        SourceError: a venue refuses; the other markets end too, as if they had been stopped.
        OSError: a journal, a page or the output cannot be written.
    """
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        following.cancel()

    async def report() -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            for market, _ in markets:
                market.report()

    async def follow_all() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for market, feed in markets:
                    group.create_task(follow(market, feed, say, settle_s))
        except BaseExceptionGroup as errors:
            # The first is the cause; those of markets stopped for it are not to be lost.
            first, *others = errors.exceptions
            for other in others:
                _log.error("%s", other)
            raise first from None

    following = asyncio.ensure_future(follow_all())
    others = [asyncio.ensure_future(one) for one in (*beside, report())]
    for which in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(which, stop)
    try:
        await asyncio.wait([following, *others], return_when=asyncio.FIRST_COMPLETED)
        for other in others:
            if other.done():
                other.result()  # the page could not be served
        with suppress(asyncio.CancelledError):
            await following
    finally:
        for task in (following, *others):
            task.cancel()
        await asyncio.gather(following, *others, return_exceptions=True)
    return stopped
