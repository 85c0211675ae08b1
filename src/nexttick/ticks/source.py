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
    """Whose ticks they are."""

    venue: str  # in lower case: `binance`, `binance-um`, `kraken`
    symbol: str  # base and quote, as ccxt writes them: `BTC/USDT`
    kind: str = "trades"  # or `aggTrades` (trades of one order and price as one), or `quotes`

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

    It is a `fault` where something is wrong (a file with a wrong checksum), and none where there
    is nothing (not yet published, before the market began).
    """

    start_ns: int
    stop_ns: int
    reason: str  # in words: what, where, the cure
    fault: bool = True


class Source(Protocol):
    """A venue, an archive or some files."""

    name: str  # what the manifest and messages say: `ccxt kraken`, `data.binance.vision`
    series: Series
    consecutive_ids: bool  # whether ids of consecutive trades differ by one: a jump is a gap

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
    """What may pass; with how long the venue asks to wait, where it says so."""

    def __init__(self, message: str, retry_after_s: float | None = None):
        super().__init__(message)
        self.retry_after_s = retry_after_s
