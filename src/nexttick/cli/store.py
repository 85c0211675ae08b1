"""`nexttick fetch` and `nexttick store`: nothing heavy is imported until one of them runs."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from nexttick.options import nearest

if TYPE_CHECKING:
    from nexttick.ticks.store.series import StoredSeries

STORE = "store"
Names = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[SERIES ...]")]
Name = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SERIES")]
OutFile = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
From = Annotated[str | None, tyro.conf.arg(name="from", metavar="DATE")]
To = Annotated[str | None, tyro.conf.arg(metavar="DATE")]


def fetch(
    source: str,
    symbol: str,
    first: str,
    last: str | None,
    url: str,
    *,
    options: Sequence[str] = (),
    quiet: bool = False,
    wait_s: float = 600.0,
) -> int:
    """Fetch days into a store; 2 where something went wrong and left a hole."""
    from nexttick.cli import screen_store
    from nexttick.ticks.days import day_span
    from nexttick.ticks.store import Store, fetch
    from nexttick.venues.opening import open_source

    first_day, last_day = _days(first, last)
    opened = open_source(source, symbol, _options(options))
    if not quiet and (notice := getattr(opened, "notice", "")):
        print(f"nexttick: {notice}", file=sys.stderr)
    with _stoppable(), screen_store.Fetching(quiet) as screen:
        summary = fetch.fetch(
            opened,
            Store(url),
            day_span(first_day)[0],
            day_span(last_day)[1],
            screen.show,
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


def list_series(store: str = STORE, json: bool = False) -> None:
    """List the series of a store: days, ticks, size, gaps.

    Args:
        store: folder or URL of the store.
        json: print one JSON object instead of a table.
    """
    from nexttick.cli import screen_store
    from nexttick.ticks.store import Store, names_of

    listed = []
    for series in Store(store).series():
        days = Store(store).open(series).look()
        size = sum(int(stamp.split()[0]) for stamp in days.stamps.values())
        listed.append((series, "/".join(names_of(series)), list(days.records.values()), size))
    if json:
        told = [
            {
                **one._asdict(),
                "folder": folder,
                "bytes": size,
                "days": [r.to_json() for r in records],
            }
            for one, folder, records, size in listed
        ]
        _print_json({"series": told})
    elif listed:
        screen_store.show_series(listed)
    else:
        print(f"{store}: no series is stored here; nexttick fetch brings one")


def check(series: Names = (), store: str = STORE, json: bool = False) -> int:
    """Verify all files and name every gap; exit code 1 where there is a fault.

    Pauses of the market and a last day that is still being fetched are notes, and no faults.

    Args:
        series: as store list names them; all of the store by default.
        store: folder or URL of the store.
        json: print one JSON object instead of lines.
    """
    from nexttick.cli import screen_store
    from nexttick.ticks.store.checking import check as findings_of

    found = []
    for stored in _chosen(store, series):
        findings = list(findings_of(stored))
        found += findings
        if not json:
            screen_store.show_findings(stored.series, findings)
    if json:
        _print_json({"findings": [asdict(one) for one in found]})
    return 1 if any(one.fault for one in found) else 0


def export(
    series: Name,
    file: OutFile,
    store: str = STORE,
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
    from nexttick.cli.screen import say
    from nexttick.ticks.store.series import export as write_out

    (stored,) = _chosen(store, (series,))
    first, last = (None if day is None else _day(name, day) for name, day in _named(from_, to))
    rows = write_out(stored, file, first, last)
    say(f"{rows:,} ticks of {stored.series} written to {file}")


def _named(first: str | None, last: str | None) -> tuple[tuple[str, str | None], ...]:
    return ("--from", first), ("--to", last)


def describe(series: Name, store: str = STORE, json: bool = False) -> None:
    """Describe the ticks of a series as nexttick ticks does, in flat memory.

    Args:
        series: as store list names it.
        store: folder or URL of the store.
        json: print one JSON object instead of a table.
    """
    from nexttick.cli.screen import show_description
    from nexttick.ticks.store.describing import describe as describe_series

    (stored,) = _chosen(store, (series,))
    told = describe_series(stored)
    if json:
        _print_json(told)
    else:
        show_description(told)


COMMANDS: dict[str, Callable[..., int | None]] = {
    "list": list_series,
    "check": check,
    "describe": describe,
    "export": export,
}


def _chosen(url: str, names: Sequence[str]) -> list[StoredSeries]:
    """Series by their names or their folders in the store, by default all.

    Raises:
        ValueError: the store has none, or none of that name.
    """
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


def _print_json(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told, indent=1, allow_nan=False) + "\n")
