"""Following markets: feeds into markets, predictions out, until the feeds end or it is stopped."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from nexttick.live.market import Market
from nexttick.live.records import Prediction
from nexttick.venues.messages import Feed, Message

TELL_S = 1.0
PART = 1000  # messages taken at once; after an outage a hundred times as many may come together

_log = logging.getLogger(__name__)

Say = Callable[[Market, Sequence[Prediction]], None]


async def follow(market: Market, feed: Feed, say: Say, settle_s: float | None) -> None:
    """Follow one market until its feed ends.

    Args:
        market: takes the trades.
        feed: gives them.
        say: is given the predictions, each after the commit that holds it.
        settle_s: so long after the last message an event counts as finished; None to wait for the
            next message, however long that takes.
    """
    market.board.health(feed.health)
    async for messages in _with_pauses(feed.batches(market.last_trade), market, settle_s):
        if messages is None:
            _say_any(market, market.settle(), say)
            continue
        for start in range(0, len(messages), PART):
            if start:
                await asyncio.sleep(0)  # pings, pages and other markets get their turn
            _say_any(market, market.take(messages[start : start + PART]), say)
    _say_any(market, market.settle(), say)  # the feed has ended: nothing more can come
    market.tell()


def _say_any(market: Market, predictions: Sequence[Prediction], say: Say) -> None:
    if predictions:
        say(market, predictions)


async def _with_pauses(
    batches: AsyncIterator[list[Message]], market: Market, settle_s: float | None
) -> AsyncIterator[list[Message] | None]:
    """Batches, and None where an event is open and nothing has come for a while."""
    try:
        while True:
            coming = asyncio.ensure_future(anext(batches, None))
            try:
                wait_s = settle_s if market.merger.holds else None
                done, _ = await asyncio.wait({coming}, timeout=wait_s)
                if not done:
                    yield None
                messages = await coming
            except BaseException:
                coming.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    await coming
                raise
            if messages is None:
                return
            yield messages
    finally:
        await batches.aclose()  # type: ignore[attr-defined]  # feeds are generators


async def run(
    markets: Sequence[tuple[Market, Feed]],
    say: Say,
    settle_s: float | None,
    beside: Sequence[Coroutine[Any, Any, None]] = (),
) -> bool:
    """Follow markets until their feeds end, or SIGINT or SIGTERM comes.

    Args:
        markets: each with its feed.
        say: as for `follow`.
        settle_s: likewise.
        beside: what runs meanwhile: the page.

    Returns:
        Whether it was stopped by a signal.

    Raises:
        SourceError: a venue refuses; the other markets end too, as if they had been stopped.
        OSError: a journal, a page or the output cannot be written.
    """
    following = asyncio.ensure_future(_follow_all(markets, say, settle_s))
    others = [asyncio.ensure_future(one) for one in (*beside, _tell(markets))]
    stopped = _stop_on_signals(following)
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
    return bool(stopped)


async def _follow_all(
    markets: Sequence[tuple[Market, Feed]], say: Say, settle_s: float | None
) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for market, feed in markets:
                group.create_task(follow(market, feed, say, settle_s))
    except BaseExceptionGroup as errors:
        first, *others = errors.exceptions
        for other in others:
            _log.error("%s", other)
        raise first from None


async def _tell(markets: Sequence[tuple[Market, Feed]]) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        for market, _ in markets:
            market.tell()


def _stop_on_signals(task: asyncio.Future[None]) -> list[signal.Signals]:
    """Cancel the task at the first signal; the list says which one came."""
    came: list[signal.Signals] = []

    def stop(which: signal.Signals) -> None:
        came.append(which)
        task.cancel()

    loop = asyncio.get_running_loop()
    for which in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(which, stop, which)
    return came
