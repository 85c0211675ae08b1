"""Commands on a store of ticks: fetching into it, and looking after it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction

from nexttick.cli import screen
from nexttick.cli.arguments import Flag, words
from nexttick.options import nearest

if TYPE_CHECKING:
    from nexttick.ticks.store.series import StoredSeries

STORE = "store"
Source = Annotated[Positional[str], words("SOURCE")]
Symbol = Annotated[Positional[str], words("SYMBOL")]
SourceOption = Annotated[
    UseAppendAction[tuple[str, ...]], words("NAME=VALUE", help_behavior_hint="(repeatable)")
]
StoreFolder = Annotated[str, words("FOLDER")]
SeriesNames = Annotated[Positional[tuple[str, ...]], words("SERIES…")]
SeriesName = Annotated[Positional[str], words("SERIES")]
From = Annotated[str | None, words("DATE", name="from")]
To = Annotated[str | None, words("DATE")]


def fetch(
    source: Source,
    symbol: Symbol,
    from_: Annotated[str, words("DATE", name="from")],
    to: To = None,
    store: StoreFolder = STORE,
    option: SourceOption = (),
    wait_s: Annotated[float, words("SECONDS")] = 600.0,
    quiet: Flag = False,
) -> int:
    """Fetch days of ticks into a store, only what it lacks.

    Ended early, it goes on where it stopped when it is run again. Exit code 2 where something was
    wrong and left a hole; docs/data.md tells of sources and their options.

    Args:
        source: an exchange by its ccxt name (kraken), binance-archive, bitcoincharts,
            coinmarketcap, or a URL, file or folder of ticks.
        symbol: base and quote, e.g. BTC/USDT.
        from_: first day (UTC), e.g. 2024-01-31.
        to: last day, included; by default yesterday.
        store: folder or URL of the store.
        option: of the source, e.g. kind=aggTrades; may be given several times.
        wait_s: how long to wait while another process writes the same series.
        quiet: print nothing but what is wrong.
    """
    first_day, last_day = _days(from_, to)
    given = _options(option)
    from nexttick.venues.opening import open_source

    opened = open_source(source, symbol, given)

    from nexttick.cli import screen_store
    from nexttick.ticks.days import day_span
    from nexttick.ticks.store import Store
    from nexttick.ticks.store.fetch import fetch as fetch_into

    if not quiet and (notice := getattr(opened, "notice", "")):
        print(f"nexttick: {notice}", file=sys.stderr)
    with _stoppable(), screen_store.Fetching(quiet) as bars:
        summary = fetch_into(
            opened,
            Store(store),
            day_span(first_day)[0],
            day_span(last_day)[1],
            bars.show,
            on_wait=lambda message: print(f"nexttick: {message}", file=sys.stderr),
            wait_s=wait_s,
        )
    if not quiet:
        screen_store.show_summary(summary)
    for one in summary.faults if quiet else ():
        print(f"nexttick: {opened.series}: {one.reason}", file=sys.stderr)
    return 2 if summary.faults else 0


def _days(first: str, last: str | None) -> tuple[date, date]:
    today = datetime.now(UTC).date()
    days = _day("--from", first), today - timedelta(days=1) if last is None else _day("--to", last)
    if days[0] > today:
        raise ValueError(f"--from {first} lies in the future: today is {today} (UTC)")
    if days[0] > days[1]:
        raise ValueError(f"--from {days[0]} lies after --to {days[1]}: no day is between")
    return days


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{option} {text!r} is no date: e.g. 2024-01-31") from None


def _options(given: Sequence[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise ValueError(f"--option {name!r} is no NAME=VALUE: e.g. kind=aggTrades")
    return {name: value for name, _, value in pairs}


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end a fetch as Ctrl-C does: what is complete is committed first."""
    if threading.current_thread() is not threading.main_thread():  # signals are no matter of others
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def list_series(store: StoreFolder = STORE, json: Flag = False) -> None:
    """List the series of a store: days, ticks, size, gaps.

    Args:
        store: folder or URL of the store.
        json: print one JSON object instead of a table.
    """
    from nexttick.cli import screen_store
    from nexttick.ticks.store import Store, names_of
    from nexttick.ticks.store.records import UnknownFormatError

    listed, report = [], []
    for series in Store(store).series():
        folder = "/".join(names_of(series))
        try:
            days = Store(store).open(series).look()
        except UnknownFormatError as error:  # its neighbours are listed all the same
            screen.note(f"nexttick: {error}")
            report.append(series._asdict() | {"folder": folder, "error": str(error)})
            continue
        records = list(days.records.values())
        size = sum(int(stamp.split()[0]) for stamp in days.stamps.values())
        listed.append((folder, records, size))
        written = [one.to_json() for one in records]
        report.append(series._asdict() | {"folder": folder, "bytes": size, "days": written})
    if json:
        screen.print_json({"series": report})
    elif report:
        screen_store.show_series(listed)
    else:
        print(f"{store}: no series is stored here; nexttick fetch brings one")


def check(series: SeriesNames = (), store: StoreFolder = STORE, json: Flag = False) -> int:
    """Verify all files and name every gap; exit code 1 where there is a fault.

    Pauses of the market and a last day that is still being fetched are notes, and no faults.

    Args:
        series: as store list names them; all of the store by default.
        store: folder or URL of the store.
        json: print one JSON object instead of lines.
    """
    chosen = _chosen(store, series)

    from nexttick.cli import screen_store
    from nexttick.ticks.store.checking import check as findings_of

    found = []
    for stored in chosen:
        findings = list(findings_of(stored))
        found += findings
        if not json:
            screen_store.show_findings(stored.series, findings)
    if json:
        screen.print_json({"findings": [asdict(one) for one in found]})
    return 1 if any(one.fault for one in found) else 0


def export(
    series: SeriesName,
    file: Annotated[Positional[Path], words("FILE")],
    store: StoreFolder = STORE,
    from_: From = None,
    to: To = None,
) -> None:
    """Write days of a series to one Parquet or CSV file, in flat memory.

    Args:
        series: as store list names it.
        file: .parquet or .csv file to write.
        store: folder or URL of the store.
        from_: first day; by default the first stored.
        to: last day, included; by default the last stored.
    """
    named = ("--from", from_), ("--to", to)
    first, last = (None if day is None else _day(option, day) for option, day in named)

    from nexttick.ticks.store.series import export as write_out

    (stored,) = _chosen(store, (series,))
    rows = write_out(stored, file, first, last)
    screen.say(f"{rows:,} ticks of {stored.series} written to {file}")


def describe(series: SeriesName, store: StoreFolder = STORE, json: Flag = False) -> None:
    """Describe the ticks of a series as nexttick ticks does, in flat memory.

    Args:
        series: as store list names it.
        store: folder or URL of the store.
        json: print one JSON object instead of a table.
    """
    (stored,) = _chosen(store, (series,))
    show = screen.print_json if json else screen.show_description
    show(stored.describe())


COMMANDS: dict[str, Callable[..., int | None]] = {
    "list": list_series,
    "check": check,
    "describe": describe,
    "export": export,
}


def _chosen(url: str, names: Sequence[str]) -> list[StoredSeries]:
    """Series by their names or their folders in the store, by default all."""
    from nexttick.ticks.store import Store, names_of

    store = Store(url)
    there = {"/".join(names_of(series)): series for series in store.series()}
    if not there:
        raise ValueError(f"{url}: no series is stored here; nexttick fetch brings one")
    inside = [name.removeprefix(f"{url.rstrip('/')}/").strip("/") for name in names]
    for name in inside:
        if name not in there:
            raise ValueError(f"series {name!r} is not in {url}: {nearest(name, there)}")
    return [store.open(there[name]) for name in inside or there]
