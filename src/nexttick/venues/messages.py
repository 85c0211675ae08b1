"""What a feed says: trades in order, gaps that could not be filled, and its own health."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Trade(NamedTuple):
    """One trade as it came.

    Attributes:
        time_ns: the exchange's time, ns since 1970, UTC.
        price: in units of the quote.
        amount: in units of the base.
        side: +1 the buyer took, -1 the seller took, 0 unknown.
        id: the venue's own number of the trade, -1 where it has none.
        arrived_ns: when it arrived here, ns since 1970; that of the answer where REST filled it in.
    """

    time_ns: int
    price: float
    amount: float
    side: int
    id: int
    arrived_ns: int


class Gap(NamedTuple):
    """Trades between two others are missing and could not be had.

    Attributes:
        since_ns: time of the last trade before it.
        until_ns: time of the first trade after it.
        after_id: id of the last trade before it, -1 where there is none.
        before_id: id of the first trade after it, -1 where there is none.
        reason: what happened, in words.
    """

    since_ns: int
    until_ns: int
    after_id: int
    before_id: int
    reason: str


Message = Trade | Gap


@dataclass
class Health:
    """How a feed fares: counts since it began, and where it stands now.

    Attributes:
        connected: whether it is.
        trades: handed on.
        duplicates: that came again and were not handed on.
        reordered: that came late, within the bounded delay, and were put in their place.
        late: that came too late for that and were not handed on.
        corrections: messages that change or cancel an earlier trade.
        unknown: messages of a kind that is not known.
        malformed: messages that could not be read.
        reconnects: how often the connection was made anew.
        backfilled: trades that REST filled in.
        gaps: declared.
        silences: how often the watchdog ended a silent connection.
        skew_ms: running median of arrival time less exchange time.
        last_arrival_ns: of the last message.
    """

    connected: bool = False
    trades: int = 0
    duplicates: int = 0
    reordered: int = 0
    late: int = 0
    corrections: int = 0
    unknown: int = 0
    malformed: int = 0
    reconnects: int = 0
    backfilled: int = 0
    gaps: int = 0
    silences: int = 0
    skew_ms: float = 0.0
    last_arrival_ns: int = 0


class Feed(Protocol):
    """The trades of one market, each once and in order, as they happen.

    Attributes:
        name: e.g. `binance`.
        symbol: as ccxt writes it, `BTC/USDT`.
        health: kept up to date while `batches` runs.
    """

    name: str
    symbol: str
    health: Health

    def batches(self, after: Trade | None = None) -> AsyncIterator[list[Message]]:
        """Go through messages as they come, those that came together in one list.

        Args:
            after: the last trade that is known already; what was missed since is filled in, or
                declared as a gap.
        """
        ...
