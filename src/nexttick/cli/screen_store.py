"""What the commands on a store print: progress of a fetch, its summary, lists and findings."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from nexttick.cli.screen import console, say
from nexttick.ticks.days import readable_span
from nexttick.ticks.source import Missing, Series
from nexttick.ticks.store.checking import StoreFinding
from nexttick.ticks.store.fetch import Progress as FetchProgress
from nexttick.ticks.store.fetch import Summary
from nexttick.ticks.store.records import DayRecord

_REFRESH_S = 0.2
_SHOWN = 10  # of each kind in a summary; `store check` names all


class Fetching:
    """A bar for the day that comes now and one for all, drawn at most five times a second."""

    def __init__(self, quiet: bool):
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=8),
            TextColumn("{task.percentage:3.0f}% {task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._day = self._progress.add_task("", total=1.0, speed="", visible=False)
        self._all = self._progress.add_task("in all", total=1.0, speed="")
        self._shown_s = 0.0
        self._first: FetchProgress | None = None  # of the day

    def __enter__(self) -> Fetching:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def show(self, now: FetchProgress) -> None:
        """Move the bars."""
        now_s = time.monotonic()
        if now_s - self._shown_s < _REFRESH_S:
            return
        self._shown_s = now_s
        if self._first is None or now.day != self._first.day:
            self._progress.reset(self._day, description=str(now.day), visible=True, speed="")
            self._first = now
        speed = _speed(now, self._first)
        self._progress.update(self._day, completed=now.day_share, speed=speed)
        self._progress.update(self._all, completed=now.share, speed=_speed(now))
        self._progress.refresh()


def _speed(now: FetchProgress, since: FetchProgress | None = None) -> str:
    rows, received, seconds = now.rows, now.received, now.seconds
    if since is not None:
        rows, received = rows - since.rows, received - since.received
        seconds -= since.seconds
    per_s = 1 / max(seconds, 1e-3)
    return (
        f"{rows:,} rows, {rows * per_s:,.0f}/s, "
        f"{decimal(received)}, {decimal(int(received * per_s))}/s"
    )


def show_summary(summary: Summary) -> None:
    """What a fetch brought, and what it could not bring."""
    records = summary.records.values()
    if not (records or summary.missing):
        say(f"{summary.series}: nothing to fetch, all of these days is stored")
        return
    came = f"{decimal(summary.received)} " if summary.received else ""
    say(
        f"{summary.series}: {summary.rows:,} new ticks, {len(records)} days written, "
        f"{came}from {summary.source} in {summary.seconds:.1f} s"
    )
    missing_ids, pauses = sum(r.missing_ids for r in records), sum(r.pauses for r in records)
    if missing_ids or pauses:
        say(f"gaps in these days: {missing_ids:,} ids lack, {pauses:,} long pauses")
    for reason, rows in summary.set_aside.items():
        say(f"set aside or mended: {rows:,} rows: {reason}")
    for day, reason in summary.replaced.items():
        say(f"fetched anew: {day}: {reason.rpartition('; ')[0]}")
    _show_missing("missing, for something is wrong", [m for m in summary.missing if m.fault])
    _show_missing("not there", [m for m in summary.missing if not m.fault])


def _show_missing(title: str, missing: Sequence[Missing]) -> None:
    for one in missing[:_SHOWN]:
        say(f"{title}: {readable_span((one.start_ns, one.stop_ns))}: {one.reason}")
    if len(missing) > _SHOWN:
        say(f"{title}: {len(missing) - _SHOWN} more")


def show_series(listed: Sequence[tuple[str, Sequence[DayRecord], int]]) -> None:
    """Two lines a series: its folder; days, ticks, bytes and gaps."""
    for folder, records, size in listed:
        say(folder)
        span = f"{records[0].day} to {records[-1].day}: " if records else ""
        say(
            f"  {span}{len(records):,} days, {sum(one.rows for one in records):,} ticks, "
            f"{decimal(size)}, {sum(one.missing_ids for one in records):,} ids lacking, "
            f"{sum(one.pauses for one in records):,} long pauses"
        )


def show_findings(series: Series, findings: Sequence[StoreFinding]) -> None:
    """A line a finding, faults first."""
    for one in sorted(findings, key=lambda one: not one.fault):
        day = f" {one.day}" if one.day else ""
        say(f"{'fault' if one.fault else 'note '}{day}: {one.what}; {one.cure}")
    faults = sum(one.fault for one in findings)
    say(f"{series}: {faults:,} faults, {len(findings) - faults:,} notes")
