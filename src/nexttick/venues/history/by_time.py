"""Trades of any venue that ccxt reaches, by time: `fetch_trades(symbol, since)`.

Times are whole milliseconds, as ccxt gives them. A page's last millisecond may go on on the next
page, so it is held back and asked for again; nothing else comes twice, and ids, which some venues
lack, are not needed for it. Ties are ordered by whole-number id.

Whether a venue heeds `since` is found out first: one that gives the same newest trades whatever is
asked has no history to give. Where a whole page lies within one millisecond its rest cannot be
had, and the span says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from nexttick.ticks.source import Missing, Page, SourceError
from nexttick.venues.history.walking import LOOKS, Walked
from nexttick.venues.trades import Rows, Tick, read_rows

_MS = 1_000_000
_STRIDES_NS = (1_000 * _MS, 60_000 * _MS, 3_600_000 * _MS)  # over spans in which nothing came
_PROBE_NS = 30 * 86_400_000 * _MS
_SIDES = {"buy": 1, "sell": -1, None: 0}


class TradesByTime(Walked):
    """One market of a venue without a form of its own here; see `Walked`.

    `pages` raises a `SourceError` where the venue gives its newest trades only, and the span is
    older.
    """

    def _past(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        self._connection.market(self.series.symbol)
        if not self._connection.exchange.has["fetchTrades"]:
            raise SourceError(f"{self._where}: ccxt has no trades of this venue; take another")
        newest = self._ask(None)
        if newest.ticks.is_empty() or _first(newest) < start_ns // _MS * _MS:
            yield self._page(newest, (start_ns, stop_ns), stop_ns)
            return
        self._check_since_is_heeded(start_ns, newest)
        yield from self._walk(start_ns, stop_ns)

    def _walk(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        since_ns, empty = start_ns // _MS * _MS, 0
        while since_ns < stop_ns:
            rows = self._believed(since_ns)
            # An empty page is no end: a venue may look ahead for some time only.
            ended = not _goes_on(rows, since_ns) and self._nothing_after(since_ns)
            if not (ended or _goes_on(rows, since_ns)):
                # What came after may have come just now.
                rows = self._believed(since_ns)
            empty = empty + 1 if rows.ticks.is_empty() else 0
            if ended:
                until_ns = stop_ns
            elif _goes_on(rows, since_ns):
                # Before its last millisecond, which may go on.
                until_ns = _last(rows)
            # Where nothing came, a venue may look ahead for some time only, and one of whole
            # seconds may have nothing left of this one: the way on is in strides that grow.
            elif empty:
                until_ns = since_ns // _STRIDES_NS[0] * _STRIDES_NS[0]
                until_ns += _STRIDES_NS[min(empty, len(_STRIDES_NS)) - 1]
            else:
                until_ns = since_ns + _MS
                reason = (
                    f"{self._where}: the millisecond at {since_ns} ns holds more trades than the "
                    f"{len(rows.ticks)} of a page, and the venue cannot be asked for the others; "
                    "take its archive"
                )
                yield Missing(since_ns, since_ns + _MS, reason)
            until_ns = min(until_ns, stop_ns)
            yield self._page(rows, (max(since_ns, start_ns), until_ns), until_ns)
            since_ns = until_ns

    def _believed(self, since_ns: int) -> Rows:
        """An answer that goes on after `since`, or the fullest of three."""
        fullest = rows = self._since(since_ns)
        for _ in range(LOOKS - 1):
            if _goes_on(rows, since_ns):
                return rows
            rows = self._since(since_ns)
            fullest = max(fullest, rows, key=lambda rows: len(rows.ticks))
        return fullest

    def _nothing_after(self, time_ns: int) -> bool:
        answers = [self._ask(None) for _ in range(LOOKS)]
        return all(rows.ticks.is_empty() or _last(rows) <= time_ns for rows in answers)

    def _check_since_is_heeded(self, start_ns: int, newest: Rows) -> None:
        """Venues that don't heed it give the same newest trades, whatever is asked."""
        for since_ns in (start_ns, start_ns - _PROBE_NS):
            rows = self._since(max(0, since_ns))
            if rows.ticks.is_empty() or _first(rows) < _first(newest):
                return
        reached = str(pl.Series([_first(newest)], dtype=pl.Datetime("ns")).dt.to_string()[0])
        raise SourceError(
            f"{self._where}: the venue gives its newest {len(newest.ticks)} trades only, back to "
            f"{reached[:19]}, whatever time is asked for; fetch from after that, or take another "
            "venue or an archive"
        )

    def _since(self, since_ns: int) -> Rows:
        rows = self._ask(since_ns // _MS)
        return Rows(rows.ticks.filter(pl.col("time") >= since_ns // _MS * _MS), rows.set_aside)

    def _ask(self, since_ms: int | None) -> Rows:
        exchange, symbol = self._connection.exchange, self.series.symbol
        limit = exchange.feature_value(symbol, "fetchTrades", "limit")  # None where it's not known
        answer = self._connection.ask(
            self._what,
            lambda: exchange.fetch_trades(symbol, since_ms, limit and int(limit)),
            list,
        )
        once = {trade["id"] or number: trade for number, trade in enumerate(answer)}
        rows = read_rows(once.values(), read_trade, self._where)
        return Rows(rows.ticks.sort("time", "id", maintain_order=True), rows.set_aside)


def read_trade(trade: dict[str, Any]) -> Tick:
    """One of ccxt's unified trades; the id is left out where it is no whole number."""
    text = str(trade["id"])
    number = int(text) if text.isdecimal() and int(text) < 2**63 else None
    time_ns, side = trade["timestamp"] * _MS, _SIDES[trade["side"]]
    return time_ns, float(trade["price"]), float(trade["amount"]), side, number


def _goes_on(rows: Rows, since_ns: int) -> bool:
    return not rows.ticks.is_empty() and _last(rows) > since_ns


def _first(rows: Rows) -> int:
    return int(rows.ticks["time"].min())  # type: ignore[arg-type]


def _last(rows: Rows) -> int:
    return int(rows.ticks["time"].max())  # type: ignore[arg-type]
