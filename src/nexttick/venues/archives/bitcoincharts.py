"""bitcoincharts, where the lecture's ticks came from: `unixtime,price,amount` in whole seconds.

Trades come in pages from a second on, and neither they nor the pages have numbers, so only a
second that another one follows is known to be whole. The last second of each page is held back and
the next page asked for from it. A second that fills a page alone cannot be read to its end, nor
passed over in silence: it is missing.

After its last trade nothing is known: the market may have been quiet, or bitcoincharts may have
stopped listening. That span is missing too.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import polars as pl

from nexttick.ticks.days import by_day
from nexttick.ticks.record import SCHEMA, TickError, latest_ns, year_ns
from nexttick.ticks.source import Missing, Page, Series, SourceError, TransientError
from nexttick.venues.archives.spool import Spool, clipped, make_page, now_ns, to_the_second
from nexttick.venues.archives.unpacking import read_columns, unpacked_lines
from nexttick.venues.http import Http
from nexttick.venues.retrying import ATTEMPTS, retrying

BASE_URL = "http://api.bitcoincharts.com/v1"
_S_NS = 1_000_000_000
_SETTLED_S = 3600  # trades come some 15 minutes late, and a second this old gets no more
_NAME = re.compile(r"([a-z0-9]+)([A-Z]{3})")
_PAIR = re.compile(r"BTC/([A-Z]{3})")
_COLUMNS = {0: ("time", pl.Int64()), 1: ("price", pl.Float64()), 2: ("amount", pl.Float64())}


class Bitcoincharts:
    """Trades of one market, by pages, or by its whole history first.

    Args:
        symbol: bitcoincharts' own name, `bitstampUSD`; or `BTC/USD` with a venue.
        venue: `bitstamp`, where the symbol doesn't say it.
        history: get the file of all trades first, and by pages only what came after it.
        base_url: of the API or of a mirror that keeps its form.
        timeout_s: longest silence of a connection.
        attempts: how often a request is tried that fails in passing.
    """

    def __init__(
        self,
        symbol: str,
        venue: str | None = None,
        *,
        history: bool = False,
        base_url: str = BASE_URL,
        timeout_s: float = 60.0,
        attempts: int = ATTEMPTS,
    ):
        pair = _PAIR.fullmatch(symbol.upper()) if venue else None
        self._own = f"{(venue or '').lower()}{pair[1]}" if pair else symbol
        found = _NAME.fullmatch(self._own)
        if found is None:
            raise ValueError(
                f"symbol {symbol!r} is none of bitcoincharts': give it like bitstampUSD, or "
                "BTC/USD with a venue; all its markets are of BTC"
            )
        self._base, self._history, self._attempts = base_url.rstrip("/"), history, attempts
        self._http = Http(timeout_s=timeout_s, attempts=attempts)
        self.name = "bitcoincharts"
        self.series = Series(found[1], f"BTC/{found[2]}")
        self.consecutive_ids = False

    def pages(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        """Go through the ticks with start_ns <= time < stop_ns.

        A TickError where what comes is no list of trades; a SourceError where it cannot be reached,
        refuses, or answers with other pages than asked for.
        """
        from_s = start_ns // _S_NS
        if self._history:
            from_s = max(from_s, (yield from self._all_of_file(start_ns, stop_ns)))
        for part in self._from(from_s, stop_ns):
            yield clipped(part, start_ns, stop_ns)

    # --- pages

    def _from(self, from_s: int, stop_ns: int) -> Iterator[Page | Missing]:
        """Pages whose last second is held back, up to the last trade or the stop."""
        held = False
        while from_s * _S_NS < stop_ns:
            ticks, ended = self._ask(from_s, held), False
            if _last_s(ticks) == from_s:
                ended = self._ask(from_s + 1, held=False).is_empty()
                # A trade may have come between the two questions.
                if not ended:
                    ticks = self._ask(from_s, held=True)
            if ended or ticks.is_empty():
                yield from self._end(ticks, from_s, stop_ns)
                return
            last_s = _last_s(ticks)
            if last_s > from_s:
                whole = ticks.filter(pl.col("time") < last_s * _S_NS)
                yield self._page(whole, from_s, last_s)
                from_s, held = last_s, True
                continue
            reason = (
                f"{self._what(from_s)}: this one second fills a page of {len(ticks):,} trades, and "
                "the rest of it cannot be asked for; the file of the whole history has it "
                "(history=True)"
            )
            yield Missing(from_s * _S_NS, (from_s + 1) * _S_NS, reason)
            from_s, held = from_s + 1, False

    def _ask(self, from_s: int, held: bool) -> pl.DataFrame:
        """Trades from a second on; `held` says that there are some in that very second."""
        what = self._what(from_s)
        params: dict[str, str | int] = {"symbol": self._own, "start": from_s}

        def asked() -> pl.DataFrame:
            page = _parsed(self._http.get(f"{self._base}/trades.csv", what, params), what)
            ticks = page.filter(pl.col("time") >= from_s * _S_NS)
            stale = len(ticks) < len(page) and _last_s(ticks) <= from_s
            if stale or (held and (ticks.is_empty() or ticks["time"].min() != from_s * _S_NS)):
                raise TransientError(f"{what}: a page of other seconds came than was asked for")
            return ticks

        try:
            return retrying(asked, self._attempts)
        except TransientError as error:
            raise SourceError(f"{error}, {self._attempts} times; try later") from error

    def _end(self, ticks: pl.DataFrame, last_s: int, stop_ns: int) -> Iterator[Page | Missing]:
        """The newest second, where it is settled, and what nobody knows after it."""
        until_s = last_s
        if len(ticks) and last_s <= now_ns() // _S_NS - _SETTLED_S:
            until_s = last_s + 1
            yield self._page(ticks, last_s, until_s)
        if until_s * _S_NS < stop_ns:
            reason = f"{self._what(until_s)}: there are no trades from there on, or not yet"
            yield Missing(until_s * _S_NS, stop_ns, reason, fault=False)

    def _page(self, ticks: pl.DataFrame, from_s: int, until_s: int) -> Page:
        return make_page(ticks, self._what(from_s), until_s * _S_NS, self._http.received())

    def _what(self, from_s: int) -> str:
        return f"bitcoincharts {self._own} from {to_the_second(from_s * _S_NS)}"

    # --- the whole history

    def _all_of_file(self, start_ns: int, stop_ns: int) -> Generator[Page, None, int]:
        """Pages of the whole history, a day each; returns its last second, which is held back."""
        with tempfile.TemporaryDirectory(prefix="nexttick-") as folder:
            path, spool, last_ns = Path(folder) / f"{self._own}.csv.gz", Spool(Path(folder)), 0
            url, what = f"{self._base}/csv/{path.name}", f"bitcoincharts {self._own}, all trades"
            self._http.download(url, what, path)
            for text in unpacked_lines(path):
                ticks = _parsed(text, what)
                last_ns = max(last_ns, _last_s(ticks) * _S_NS)
                spool.add(ticks.filter(pl.col("time").is_between(start_ns, stop_ns - 1)))
            path.unlink()
            for day, (_, until_ns) in by_day((start_ns, min(stop_ns, last_ns))):
                ticks = spool.take(day).filter(pl.col("time") < last_ns)
                yield make_page(ticks, what, until_ns, self._http.received())
        return last_ns // _S_NS


def _parsed(text: bytes, what: str) -> pl.DataFrame:
    """Trades in the record's columns, in the order of their times."""
    if not text.strip():
        return pl.DataFrame(schema=SCHEMA)
    whole = text if text.endswith(b"\n") else text + b"\n"
    seconds = read_columns(whole, _COLUMNS, len(_COLUMNS), what)
    first, last = year_ns(2009) // _S_NS, latest_ns() // _S_NS
    strange = seconds.filter(~pl.col("time").is_between(first, last))
    if len(strange):
        raise TickError(
            f"{what}: {strange['time'][0]} is no Unix second of a trade; check the file"
        )
    ticks = seconds.with_columns(pl.col("time") * _S_NS, side=pl.lit(0, SCHEMA["side"]))
    return ticks.sort("time", maintain_order=True)


def _last_s(ticks: pl.DataFrame) -> int:
    """The last second, or -1 where there is none."""
    return int(ticks["time"].max()) // _S_NS if len(ticks) else -1  # type: ignore[arg-type]
