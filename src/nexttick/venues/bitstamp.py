"""Bitstamp's own form: all trades of the last day, in whole seconds, in one answer.

Older ones are not to be had. `type` is 0 where the buyer took and 1 where the seller did. Ids are
shared by all markets of the venue, so they rise and are not consecutive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nexttick.ticks.source import Missing, Page
from nexttick.venues.history.walking import SETTLE_NS, Walked
from nexttick.venues.trades import Tick, seconds_to_ns

_HOUR_NS = 3_600_000_000_000
_REACH_NS = {"hour": _HOUR_NS, "day": 24 * _HOUR_NS}
_SIDES = {"0": 1, "1": -1}


def read_trade(row: dict[str, Any]) -> Tick:
    """One row of /transactions."""
    time_ns, side = seconds_to_ns(row["date"]), _SIDES[str(row["type"])]
    return time_ns, float(row["price"]), float(row["amount"]), side, int(row["tid"])


class Bitstamp(Walked):
    """One market of Bitstamp; see `Walked`."""

    def _past(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        reach = "hour" if start_ns >= self._oldest_ns("hour") else "day"
        if stop_ns <= self._oldest_ns(reach):
            yield self._too_old(start_ns, stop_ns)
            return
        market = self._connection.market(self.series.symbol)
        call = self._connection.exchange.publicGetTransactionsPair
        rows = self._asked(call, {"pair": market["id"], "time": reach}, read_trade)
        # Waiting for the answer may have taken a while.
        oldest_ns = self._oldest_ns(reach)
        if start_ns < oldest_ns:
            yield self._too_old(start_ns, min(stop_ns, oldest_ns))
        yield self._page(rows, (max(start_ns, oldest_ns), stop_ns), stop_ns)

    def _oldest_ns(self, reach: str) -> int:
        """How far back an answer of now surely reaches, should our clock and theirs differ."""
        return self._connection.now_ns() - _REACH_NS[reach] + SETTLE_NS

    def _too_old(self, start_ns: int, stop_ns: int) -> Missing:
        reason = (
            f"{self.series}: bitstamp gives the trades of the last day only; fetch at least once "
            "a day, or take older ones from an archive (bitcoincharts had them)"
        )
        return Missing(start_ns, stop_ns, reason, fault=False)
