"""What every source of ticks gives: pages of one market's trades, and what it could not give.

A source knows a venue's or an archive's own form and nothing of the store. It goes through a span
of time in pages, in time order; what calls it cuts pages into days, and keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import polars as pl


class Series(NamedTuple):
    """Whose ticks they are.

    Attributes:
        venue: in lower case: `binance`, `binance-um`, `kraken`.
        symbol: base and quote, as ccxt writes them: `BTC/USDT`.
        kind: `trades`, `aggTrades` (trades of one order and price as one) or `quotes`.
    """

    venue: str
    symbol: str
    kind: str = "trades"

    def __str__(self) -> str:
        return f"{self.venue} {self.symbol} {self.kind}"


@dataclass(frozen=True)
class Page:
    """Ticks as a source gave them.

    Attributes:
        ticks: columns of `ticks.SCHEMA`, and `id` where the venue has one; sorted or not. A tick
            with an id may come twice, one without may not.
        until_ns: all ticks before this time (ns since 1970, UTC) have been given now, by this page
            and those before it.
        received: bytes that came over the network for it.
        set_aside: rows that the venue gave and that are no ticks, or were mended, by reason.
    """

    ticks: pl.DataFrame
    until_ns: int
    received: int = 0
    set_aside: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Missing:
    """A span that the source cannot give; it goes on with what is after it.

    Attributes:
        reason: in words: what, where, the cure.
        fault: whether something is wrong (a file with a wrong checksum), rather than not there (not
            yet published, before the market began).
    """

    start_ns: int
    stop_ns: int
    reason: str
    fault: bool = True


class Source(Protocol):
    """A venue, an archive or some files.

    Attributes:
        name: what the manifest and messages say, e.g. `ccxt kraken`, `data.binance.vision`.
        consecutive_ids: whether ids of consecutive trades differ by one, so that a jump is a gap.
    """

    name: str
    series: Series
    consecutive_ids: bool

    def pages(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        """Go through the ticks with start_ns <= time < stop_ns; others are passed over.

        Errors that pass (a cut connection, 429, 5xx) have been tried again before one is raised.

        Raises:
            TickError: what came is not what it should be.
            SourceError: the venue cannot be reached, refuses, or does not know the symbol.
        """
        ...


class SourceError(RuntimeError):
    """A venue cannot be reached, refuses, or does not know the symbol: what, where, the cure."""


class TransientError(RuntimeError):
    """What may pass.

    Args:
        message: what happened, where.
        retry_after_s: how long the venue asks to wait, where it says so.
    """

    def __init__(self, message: str, retry_after_s: float | None = None):
        super().__init__(message)
        self.retry_after_s = retry_after_s
