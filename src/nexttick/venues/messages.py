"""What a feed says: trades in order, gaps that could not be filled, and its own health."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Trade(NamedTuple):
    """One trade as it came; times are ns since 1970, UTC."""

    time_ns: int  # of the exchange
    price: float  # in units of the quote
    amount: float  # in units of the base
    side: int  # +1 the buyer took, -1 the seller took, 0 unknown
    id: int  # the venue's own number of the trade, -1 where it has none
    arrived_ns: int  # when it arrived here; that of the answer where REST filled it in


class Gap(NamedTuple):
    """Trades between two others are missing and could not be had."""

    since_ns: int  # time of the last trade before it
    until_ns: int  # time of the first trade after it
    after_id: int  # id of the last trade before it, -1 where there is none
    before_id: int  # id of the first trade after it, -1 where there is none
    reason: str


Message = Trade | Gap


@dataclass
class Health:
    """How a feed fares: counts since it began, and where it stands now."""

    connected: bool = False
    trades: int = 0  # handed on
    duplicates: int = 0  # that came again and were not handed on
    reordered: int = 0  # that came late, within the bounded delay, and were put in their place
    late: int = 0  # that came too late for that and were not handed on
    corrections: int = 0  # messages that change or cancel an earlier trade
    unknown: int = 0  # messages of a kind that is not known
    malformed: int = 0  # messages that could not be read
    reconnects: int = 0
    backfilled: int = 0  # trades that REST filled in
    gaps: int = 0  # declared
    silences: int = 0  # how often the watchdog ended a silent connection
    skew_ms: float = 0.0  # running median of arrival time less exchange time
    last_arrival_ns: int = 0  # of the last message


class Feed(Protocol):
    """The trades of one market, each once and in order, as they happen."""

    name: str  # e.g. `binance`
    symbol: str  # as ccxt writes it, `BTC/USDT`
    health: Health  # kept up to date while `batches` runs

    def batches(self, after: Trade | None = None) -> AsyncIterator[list[Message]]:
        """Go through messages as they come, those that came together in one list.

        What was missed since `after`, the last trade known, is filled in or declared as a gap.
        """
        ...
