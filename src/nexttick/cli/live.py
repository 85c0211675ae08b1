"""Commands of live runs: markets followed, and their journals shown."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from nexttick.checks import PAST, live_mistakes
from nexttick.cli import screen
from nexttick.cli.arguments import Flag, Following, RunFolders, words
from nexttick.cli.ticks import check_inputs
from nexttick.learn import run_folder
from nexttick.options import LiveOptions, ReadOptions, parse_duration_ns, refuse
from nexttick.ticks.writing import check_table_path, with_nulls, write_table

if TYPE_CHECKING:
    from nexttick.live.market import Market
    from nexttick.venues.messages import Feed

_NOTHING_NEW = (
    "no tick is newer than the last one of the journal; to play them all the same, name another "
    "folder with --journal"
)
_UNNAMED = "market"  # of ticks that come without a symbol


def live(runs: RunFolders = (), options: Following = LiveOptions()) -> None:
    """Follow a market's trades, and say for each how likely a rise is.

    Prints JSON lines under the names of predict, or on a terminal a table. Ctrl-C ends it; started
    again, it goes on where it stopped.

    Args:
        runs: run folder made by train or run; one for all markets, or one for each --symbol.
    """
    check(runs, options)
    for run in runs:
        run_folder.check_trained(run)
    symbols = options.symbol or (_UNNAMED,)
    runs = runs if len(runs) > 1 else runs * len(symbols)
    feeds = [_feed(symbol, options) for symbol in symbols]
    folders = [_journal_folder(run, options) for run in runs]

    import asyncio

    from nexttick.cli import screen_live
    from nexttick.live import follow
    from nexttick.live.page.app import build_app, serve

    followed: list[tuple[Market, Feed]] = []
    with screen_live.logging_lines(), ExitStack() as opened:
        for symbol, feed, run, folder in zip(symbols, feeds, runs, folders, strict=True):
            market = _market(run, symbol, options.source, folder / _journal_name(symbol, options))
            followed.append((market, feed))
            opened.callback(market.close)  # each, even where another's fails
        boards = {market.board.name: market.board for market, _ in followed}
        page = []
        if options.dashboard:
            page.append(serve(build_app(boards, _token(options)), options.host, options.port))
        settle_ns = None if options.source in PAST else parse_duration_ns(options.settle)
        with screen_live.saying(followed, as_json=options.json) as say:
            asyncio.run(follow.run(followed, say, settle_ns and settle_ns / 1e9, page))
    for market, feed in followed:
        screen_live.show_summary(market, feed)
        if options.source in PAST and market.journal.events and not feed.health.trades:
            screen.note(f"{market.board.name}: {_NOTHING_NEW}")


def journal(
    file: Annotated[Positional[Path], words("JOURNAL")],
    export: Annotated[Path | None, words("FILE")] = None,
    json: Flag = False,
) -> None:
    """Show what the journal of a live run holds, score it, export it.

    Also while it is written.

    Args:
        file: the journal.
        export: write events, predictions and outcomes to this .parquet or .csv file.
        json: print one JSON object instead of tables.
    """
    if export is not None:
        check_table_path(export)
    from nexttick.cli import screen_live
    from nexttick.live.journal.table import reading, score

    with reading(file) as view:
        report, table = view.describe(), view.events()
    report["scores"] = score(table, view.identity)
    if export is not None:
        write_table(table, export)
    if json:
        screen.print_json(with_nulls(report))
        return
    screen_live.show_journal(report)
    if export is not None:
        screen.say(f"{len(table):,} events written to {export}")


def check(runs: Sequence[Path], options: LiveOptions) -> None:
    """Raise one ValueError that lists every mistake with its cure."""
    found = list(live_mistakes(options, len(runs)))
    if options.dashboard:
        from nexttick.live.page.access import check_binding

        try:
            check_binding(options.host, _token(options))
        except ValueError as error:
            found.append(str(error))
    refuse(found)


def _token(options: LiveOptions) -> str | None:
    return options.token or os.environ.get("NEXTTICK_TOKEN")


def _feed(symbol: str, options: LiveOptions) -> Feed:
    if options.file is not None:
        check_inputs((options.file,), ReadOptions())
    from nexttick.venues.opening import open_feed

    speed = None if options.speed == "max" else float(options.speed)
    feed = open_feed(options.source, symbol, file=options.file, speed=speed)
    if options.source == "replay":
        from nexttick.cli import screen_live
        from nexttick.venues.feeds.replay import Replay

        assert isinstance(feed, Replay)
        screen_live.show_set_aside(str(options.file), feed.set_aside)
    return feed


def _journal_folder(run: Path, options: LiveOptions) -> Path:
    folder = options.journal or run / "live"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ValueError(f"--journal {folder} is a file: name a folder") from error
    except FileNotFoundError as error:
        raise ValueError(f"--journal {folder} cannot be made: name another folder") from error
    return folder


def _market(run: Path, symbol: str, source: str, path: Path) -> Market:
    """A market with its predictor, and its journal taken up."""
    from nexttick.live.journal.journal import Journal
    from nexttick.live.market import Market
    from nexttick.live.page.board import Board
    from nexttick.live.promises import base_rates, identify, read_promises

    predictor, fitted = run_folder.load_trained(run, "cpu")
    promises = read_promises(run, predictor, fitted)
    journal = Journal(path, identify(run, predictor, fitted, source, symbol))
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
