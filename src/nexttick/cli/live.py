"""What `nexttick live` does: predictors, feeds, journals and the page brought together."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from rich.box import SIMPLE_HEAD
from rich.table import Table

from nexttick.cli import screen
from nexttick.cli.screen_live import Watching
from nexttick.learn import run_folder
from nexttick.live import follow
from nexttick.live.journal.journal import Journal
from nexttick.live.journal.table import reading, score
from nexttick.live.market import Market
from nexttick.live.page.app import build_app, check_binding, serve
from nexttick.live.page.board import Board
from nexttick.live.promises import base_rates, identify, read_promises
from nexttick.live.records import Prediction
from nexttick.options import LiveOptions, parse_duration_ns
from nexttick.ticks.writing import check_table_path, with_nulls, write_table
from nexttick.venues.feeds.replay import Replay
from nexttick.venues.messages import Feed
from nexttick.venues.opening import open_feed

_PAST = ("replay", "stdin")  # sources that end, and that nothing comes late from
_NOTHING_NEW = (
    "no tick is newer than the last one of the journal; to play them all the same, name another "
    "folder with --journal"
)
_UNNAMED = "market"  # of ticks that come without a symbol


def live(folders: Sequence[Path], options: LiveOptions) -> None:
    """`nexttick live`: follow markets until their feeds end, or SIGINT or SIGTERM comes."""
    check(folders, options)
    symbols = options.symbol or (_UNNAMED,)
    feeds = [_feed(symbol, options) for symbol in symbols]
    followed: list[tuple[Market, Feed]] = []
    with _logging(), ExitStack() as opened:
        for k, (symbol, feed) in enumerate(zip(symbols, feeds, strict=True)):
            run = folders[k if len(folders) > 1 else 0]
            followed.append((_market(run, symbol, options), feed))
            opened.callback(followed[-1][0].close)  # each, even where another's fails
        _follow(followed, options)
    for market, feed in followed:
        screen.note(_summary(market, feed))
        if options.source in _PAST and market.journal.events and not feed.health.trades:
            screen.note(f"{market.board.name}: {_NOTHING_NEW}")


def _follow(followed: Sequence[tuple[Market, Feed]], options: LiveOptions) -> None:
    boards = {market.board.name: market.board for market, _ in followed}
    page: list[Coroutine[Any, Any, None]] = []
    if options.dashboard:
        page.append(serve(build_app(boards, _token(options)), options.host, options.port))
    settle_ns = None if options.source in _PAST else parse_duration_ns(options.settle)
    with _saying(followed, options) as say:
        asyncio.run(follow.run(followed, say, settle_ns and settle_ns / 1e9, page))


def check(folders: Sequence[Path], options: LiveOptions) -> None:
    """Raise one ValueError that lists every mistake with its cure."""
    mistakes = [*_source_mistakes(options), *_other_mistakes(folders, options)]
    if mistakes:
        raise ValueError("\n".join(mistakes))


def _source_mistakes(options: LiveOptions) -> Iterator[str]:
    if not options.source:
        yield "--source is missing: name binance, kraken, another exchange, replay or stdin"
    if options.source == "replay" and options.file is None:
        yield "--source replay needs --file, the ticks to play"
    if options.source != "replay" and options.file is not None:
        yield f"--file is for --source replay, not for {options.source or 'none'}"
    if options.source and options.source not in _PAST and not options.symbol:
        yield "--symbol is missing: name a market, e.g. --symbol BTC/USDT"
    if options.source in _PAST and len(options.symbol) > 1:
        yield f"--source {options.source} gives one market: name one --symbol at the most"
    if options.speed != "max" and not _above_zero(options.speed):
        yield f"--speed {options.speed!r} must be a number above 0, or max"


def _other_mistakes(folders: Sequence[Path], options: LiveOptions) -> Iterator[str]:
    if not folders:
        yield "no run folder was named: give the one that nexttick run or train made"
    if len(folders) > 1 and len(folders) != len(options.symbol):
        yield (
            f"{len(folders)} run folders for {len(options.symbol)} symbols: give one folder for "
            f"all symbols, or one for each"
        )
    if len(set(options.symbol)) < len(options.symbol):
        yield f"--symbol names a market twice: {' '.join(options.symbol)}"
    if options.settle != "0s" and parse_duration_ns(options.settle) is None:
        yield f"--settle {options.settle!r} is no duration: give 10ms, say, or 0s"
    if not 0 < options.port < 65_536:
        yield f"--port {options.port}: a port is a number from 1 to 65535"
    if options.dashboard:
        try:
            check_binding(options.host, _token(options))
        except ValueError as error:
            yield str(error)


def _above_zero(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _token(options: LiveOptions) -> str | None:
    return options.token or os.environ.get("NEXTTICK_TOKEN")


def _feed(symbol: str, options: LiveOptions) -> Feed:
    speed = None if options.speed == "max" else float(options.speed)
    feed = open_feed(options.source, symbol, file=options.file, speed=speed)
    if isinstance(feed, Replay) and not feed.set_aside.is_empty():
        screen.note(f"{options.file}: {_mended(feed)}; nexttick ticks says which")
    return feed


def _mended(replay: Replay) -> str:
    """Rows that were no ticks as they stood, in words."""
    rows = replay.set_aside.select("rows", "reason", "kept").iter_rows()
    told = {True: "mended", False: "set aside"}
    return ", ".join(f"{count:,} rows {told[kept]}: {reason}" for count, reason, kept in rows)


def _market(run: Path, symbol: str, options: LiveOptions) -> Market:
    """A market with its predictor, and its journal taken up."""
    predictor, fitted = run_folder.load_trained(run, "cpu")
    promises = read_promises(run, predictor, fitted)
    identity = identify(run, predictor, fitted, options.source, symbol)
    folder = options.journal or run / "live"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ValueError(f"--journal {folder} is a file: name a folder") from error
    except FileNotFoundError as error:
        raise ValueError(f"--journal {folder} cannot be made: name another folder") from error
    journal = Journal(folder / _journal_name(symbol, options), identity)
    try:
        board = Board(symbol, predictor.horizons, base_rates(fitted))
        market = Market(predictor, promises, journal, board)
    except BaseException:
        journal.close()
        raise
    held = f", which holds {journal.events:,} events already" if journal.events else ""
    screen.note(f"{symbol}: journal {journal.path}{held}")
    return market


def _journal_name(symbol: str, options: LiveOptions) -> str:
    """One journal a source and market; of a replay one a file."""
    parts = [options.source, symbol, Path(options.file).name if options.file else ""]
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(part for part in parts if part)) + ".journal"


@contextmanager
def _logging() -> Iterator[None]:
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


@contextmanager
def _saying(followed: Sequence[tuple[Market, Feed]], options: LiveOptions) -> Iterator[follow.Say]:
    """JSON lines, or on a terminal a table."""
    if sys.stdout.isatty() and not options.json:
        with Watching([(market, feed.health) for market, feed in followed], screen.console) as one:
            yield one.say
    else:
        yield _Lines(several=len(followed) > 1).say


class _Lines:
    """Predictions as JSON lines, under the names of `nexttick predict`."""

    def __init__(self, *, several: bool):
        self._several = several

    def say(self, market: Market, predictions: Sequence[Prediction]) -> None:
        names = ("time", "price", *(f"p_{name}" for name in market.promises))
        first = {"symbol": market.board.name} if self._several else {}
        rows = ((one.time_ns, one.price, *one.p_H) for one in predictions)
        tables = (first | dict(zip(names, row, strict=True)) for row in rows)
        lines = (orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in tables)
        sys.stdout.buffer.write(b"".join(lines))
        sys.stdout.buffer.flush()


def _summary(market: Market, feed: Feed) -> str:
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
    told = "".join(f", {count:,} {what}" for what, count in counts.items() if count)
    return (
        f"{market.board.name}: {health.trades:,} trades{told}; the journal holds "
        f"{journal.trades:,} trades and {journal.events:,} events: nexttick journal {journal.path}"
    )


_LISTED = 10  # gaps and resets that are printed
_SHOWN = (*screen.COLUMNS, "ece")


def journal(file: Path, export: Path | None, *, as_json: bool) -> None:
    """`nexttick journal`: describe, score, export; also while a process writes to it."""
    if export is not None:
        check_table_path(export)
    with reading(file) as view:
        told, table = view.describe(), view.events()
    told["scores"] = score(table, view.identity)
    if export is not None:
        write_table(table, export)
    if as_json:
        screen.say(json.dumps(with_nulls(told), indent=1, allow_nan=False))
        return
    _show(told)
    if export is not None:
        screen.say(f"{len(table):,} events written to {export}")


def _show(told: dict[str, Any]) -> None:
    screen.show_description(
        {
            "market": f"{told['source']} {told['symbol']}",
            "predictor": f"{told['fingerprint'][:12]} ({told['run'] or 'run not told'})",
            "started": _utc(told["started_ns"]),
            "ticks": told["ticks"],
            "from": _utc(told["first_ns"]),
            "to": _utc(told["last_ns"]),
            "events": told["events"],
            "predicted": told["predicted"],
            "gaps": len(told["gaps"]),
            "resets": len(told["resets"]),
        }
    )
    for gap in told["gaps"][-_LISTED:]:
        since, until = _utc(gap["since_ns"]), _utc(gap["until_ns"])
        screen.say(f"gap    {since} to {until}: {gap['reason']}")
    for reset in told["resets"][-_LISTED:]:
        screen.say(f"reset  {_utc(reset['time_ns'])}: {reset['reason']}")
    screen.console.print(_scores_table(told["scores"]))
    for name, scores in told["scores"].items():
        screen.say(
            f"{name}: {scores['n']:,} events scored, {scores['waiting']:,} waiting, "
            f"{scores['missing']:,} without an answer (gaps, resets, ties left out)"
        )


def _scores_table(scores: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in scores:
        table.add_column(name, justify="right", no_wrap=True)
    for key in _SHOWN:
        label = screen.COLUMNS.get(key, "calibration error")
        table.add_row(label, *(_cell(one.get(key)) for one in scores.values()))
    return table


def _cell(estimate: list[float] | None) -> str:
    if estimate is None or not np.isfinite(estimate[0]):
        return "none"
    value, low, high = estimate
    return f"{value:.4f}" + (f" [{low:.4f}, {high:.4f}]" if np.isfinite(low) else "")


def _utc(time_ns: int | None) -> str:
    return "none" if time_ns is None else f"{str(np.datetime64(time_ns, 'ns'))[:23]} UTC"
