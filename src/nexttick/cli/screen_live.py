"""What a live run prints: predictions as lines or in a table, its log, and what a journal holds."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from rich.console import Console
from rich.live import Live
from rich.table import Table

from nexttick.cli import screen

if TYPE_CHECKING:
    import polars as pl

    from nexttick.live import follow
    from nexttick.live.market import Market
    from nexttick.live.records import Prediction
    from nexttick.venues.messages import Feed, Health

_PER_S = 4
_LISTED = 10  # gaps and resets that are printed
_SHOWN = (*screen.COLUMNS, "ece")


class Watching:
    """The newest prediction of each market, and how its feed fares."""

    def __init__(self, markets: Sequence[tuple[Market, Health]], console: Console):
        self._markets = markets
        self._newest: dict[int, Prediction] = {}
        self._live = Live(
            get_renderable=self._table,
            console=console,
            refresh_per_second=_PER_S,
            # Above the table, unless it goes to a file.
            redirect_stderr=sys.stderr.isatty(),
        )

    def __enter__(self) -> Watching:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def say(self, market: Market, predictions: Sequence[Prediction]) -> None:
        """Remember the newest; it is drawn with the next picture."""
        self._newest[id(market)] = predictions[-1]

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("market", "time, UTC", "price", *self._horizons(), "events", "feed"):
            table.add_column(heading, justify="left" if heading in ("market", "feed") else "right")
        for market, health in self._markets:
            cells = [""] * (2 + len(self._horizons()))
            if newest := self._newest.get(id(market)):
                p_H = ("" if math.isnan(p) else f"{p:.3f}" for p in newest.p_H)
                at = str(np.datetime64(newest.time_ns, "ns"))[11:23]
                cells = [at, f"{newest.price:.12g}", *p_H]
            table.add_row(market.board.name, *cells, f"{market.journal.events:,}", _fares(health))
        return table

    def _horizons(self) -> list[str]:
        names = (name for market, _ in self._markets for name in market.promises)
        return [f"p {name}" for name in dict.fromkeys(names)]


def _fares(health: Health) -> str:
    counts = {
        "gaps": health.gaps,
        "reconnects": health.reconnects,
        "filled in": health.backfilled,
        "duplicates": health.duplicates,
        "malformed": health.malformed,
    }
    some = [f"{count:,} {what}" for what, count in counts.items() if count]
    return ", ".join(["connected" if health.connected else "not connected", *some])


@contextmanager
def saying(followed: Sequence[tuple[Market, Feed]], *, as_json: bool) -> Iterator[follow.Say]:
    """JSON lines under the names of `nexttick predict`, or on a terminal a table."""
    if sys.stdout.isatty() and not as_json:
        with Watching([(market, feed.health) for market, feed in followed], screen.console) as one:
            yield one.say
        return

    def say(market: Market, predictions: Sequence[Prediction]) -> None:
        names = ("time", "price", *(f"p_{name}" for name in market.promises))
        first = {"symbol": market.board.name} if len(followed) > 1 else {}
        rows = ((one.time_ns, one.price, *one.p_H) for one in predictions)
        tables = (first | dict(zip(names, row, strict=True)) for row in rows)
        lines = (orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in tables)
        sys.stdout.buffer.write(b"".join(lines))
        sys.stdout.buffer.flush()

    yield say


@contextmanager
def logging_lines() -> Iterator[None]:
    """What feeds and markets log, in lines with their time (UTC) on standard error."""
    handler = _ToStandardError()
    form = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%SZ")
    form.converter = time.gmtime
    handler.setFormatter(form)
    root, ours = logging.getLogger(), logging.getLogger("nexttick")
    before = ours.level
    root.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        ours.setLevel(before)


class _ToStandardError(logging.Handler):
    """Asks for it each time: while the table is drawn, another takes its place."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except OSError:
            self.handleError(record)


def show_set_aside(file: str, set_aside: pl.DataFrame) -> None:
    """Rows that were no ticks as they stood, in words."""
    if set_aside.is_empty():
        return
    then = {True: "mended", False: "set aside"}
    rows = set_aside.select("rows", "reason", "kept").iter_rows()
    words = ", ".join(f"{count:,} rows {then[kept]}: {reason}" for count, reason, kept in rows)
    screen.note(f"{file}: {words}; nexttick ticks says which")


def show_summary(market: Market, feed: Feed) -> None:
    """What came of it, and where it is kept."""
    health, journal = feed.health, market.journal
    counts = {
        "duplicates": health.duplicates,
        "put in order": health.reordered,
        "too late": health.late,
        "filled in": health.backfilled,
        "malformed": health.malformed,
        "unknown": health.unknown,
        "reconnects": health.reconnects,
        "gaps": health.gaps,
        "older than the one before": market.merger.stepped_back,
        "events split": market.merger.split,
    }
    came = "".join(f", {count:,} {what}" for what, count in counts.items() if count)
    screen.note(
        f"{market.board.name}: {health.trades:,} trades{came}; the journal holds "
        f"{journal.trades:,} trades and {journal.events:,} events: nexttick journal {journal.path}"
    )


def show_journal(report: dict[str, Any]) -> None:
    """What it holds, its gaps and resets, and how its predictions fared."""
    screen.show_description(
        {
            "market": f"{report['source']} {report['symbol']}",
            "predictor": f"{report['fingerprint'][:12]} ({report['run'] or 'run unknown'})",
            "started": _utc(report["started_ns"]),
            "ticks": report["ticks"],
            "from": _utc(report["first_ns"]),
            "to": _utc(report["last_ns"]),
            "events": report["events"],
            "predicted": report["predicted"],
            "gaps": len(report["gaps"]),
            "resets": len(report["resets"]),
        }
    )
    for gap in report["gaps"][-_LISTED:]:
        since, until = _utc(gap["since_ns"]), _utc(gap["until_ns"])
        screen.say(f"gap    {since} to {until}: {gap['reason']}")
    for reset in report["resets"][-_LISTED:]:
        screen.say(f"reset  {_utc(reset['time_ns'])}: {reset['reason']}")
    horizons = report["scores"]
    table = screen.plain_table(None, "", *horizons)
    for key in _SHOWN:
        cells = []
        for scores in horizons.values():
            value, *bounds = scores.get(key) or (None, None, None)
            cells.append(f"{screen.number(value)} {screen.interval(*bounds)}".rstrip())
        table.add_row(screen.COLUMNS.get(key, "calibration error"), *cells)
    screen.console.print(table)
    for name, scores in horizons.items():
        screen.say(
            f"{name}: {scores['n']:,} events scored, {scores['waiting']:,} waiting, "
            f"{scores['missing']:,} without an answer (gaps, resets, ties left out)"
        )


def _utc(time_ns: int | None) -> str:
    return "none" if time_ns is None else f"{str(np.datetime64(time_ns, 'ns'))[:23]} UTC"
