"""`store check`: every file read and compared with its record, and every gap named."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from nexttick.ticks.cleaning import sorted_by_time
from nexttick.ticks.days import day_of, day_span, told, told_span, without
from nexttick.ticks.record import TickError
from nexttick.ticks.store.records import DayRecord, Origin, gaps_in_ids, interruptions, measure
from nexttick.ticks.store.series import Days, StoredSeries
from nexttick.ticks.store.writer import within

_MEASURED = (
    "rows", "first_ns", "last_ns", "first_id", "last_id", "hash", "missing_ids", "id_gaps",
    "max_gap_ns", "pauses", "longest",
)  # fmt: skip
_FETCH_DAY = "delete the file and fetch the day again"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, or a gap.

    Attributes:
        series: whose.
        day: `2024-01-31`; None where it is about the whole series.
        what: what it is, with values.
        cure: what to do.
        fault: whether ticks are missing or damaged; a pause of the market or a day that is still
            being fetched is none.
    """

    series: str
    day: str | None
    what: str
    cure: str
    fault: bool = True


def check(stored: StoredSeries) -> Iterator[Finding]:
    """Read all files of a series, say what is wrong, and name every gap; two days in memory."""
    days, name = stored.look(), str(stored)
    for day, reason in days.damaged.items():
        yield _of_error(name, day, reason)
    for strange in days.strange:
        yield Finding(name, None, f"{strange}: no file of a store", "move it elsewhere")
    yield from _manifest(stored, days)
    before: tuple[DayRecord, pl.DataFrame] | None = None
    for day in days.records:
        now = yield from _day(stored, day)
        if before is not None and now is not None:
            yield from _between(name, before, now)
        before = now or before
    yield from _uncovered(name, days)


def _of_error(name: str, day: date, reason: str) -> Finding:
    what, _, cure = reason.rpartition("; ")
    return Finding(name, day.isoformat(), what, cure)


def _manifest(stored: StoredSeries, days: Days) -> Iterator[Finding]:
    """A manifest that was edited is a fault; one that a kill left behind the files is not."""
    entries = stored.manifest().get("days", {})
    cure = "the next fetch makes the manifest anew from the files"
    for day, record in days.records.items():
        entry = entries.get(day.isoformat())
        if not isinstance(entry, dict) or entry.get("stamp") != days.stamps[day]:
            what = "the manifest does not know this day's file as it is"
            yield Finding(str(stored), day.isoformat(), what, cure, fault=False)
        elif record != stored.record(day):
            what = "the manifest's record is not the one in the day's file"
            yield Finding(str(stored), day.isoformat(), what, "delete manifest.json; " + cure)
    there = {day.isoformat() for day in (*days.records, *days.damaged)}
    for extra in sorted(set(entries) - there):
        what = "the manifest has a record of this day, and its file is gone"
        yield Finding(str(stored), extra, what, "fetch the day again")


def _day(
    stored: StoredSeries, day: date
) -> Generator[Finding, None, tuple[DayRecord, pl.DataFrame] | None]:
    """What is wrong with one file; returns what it holds, None where it cannot be read."""
    name = str(stored)
    try:
        record, ticks = stored.record(day), stored.read(day)
    except TickError as error:
        yield _of_error(name, day, str(error))
        return None
    origin = Origin(record.source, record.consecutive_ids, record.set_aside)
    measured = measure(day, ticks, record.covered, origin)
    for what in (*_contradictions(record, measured), *_disorder(day, ticks, record)):
        yield Finding(name, day.isoformat(), f"{stored.name(day)}: {what}", _FETCH_DAY)
    yield from _gaps(name, day, ticks, measured)
    return measured, ticks


def _contradictions(record: DayRecord, measured: DayRecord) -> Iterator[str]:
    for name in _MEASURED:
        said, found = getattr(record, name), getattr(measured, name)
        if said != found:
            yield f"the record's {name} is {said}, and the ticks' {found}"


def _disorder(day: date, ticks: pl.DataFrame, record: DayRecord) -> Iterator[str]:
    if not sorted_by_time(ticks).equals(ticks):
        yield "ticks are not in the order of (time, id)"
    known = ticks["id"].drop_nulls()
    if doubled := len(known) - known.n_unique():
        yield f"{doubled} ids stand twice"
    if outside := len(ticks) - len(within(ticks, list(record.covered))):
        yield f"{outside} ticks lie outside what the record says is covered"
    if without_day := [span for span in record.covered if without(span, [day_span(day)])]:
        yield f"the record covers {told_span(without_day[0])}, outside the day"


def _gaps(name: str, day: date, ticks: pl.DataFrame, measured: DayRecord) -> Iterator[Finding]:
    """Gaps in ids and in time within a day, all of them."""
    if measured.missing_ids:
        for before, after in gaps_in_ids(ticks["id"].drop_nulls())[1]:
            yield _id_gap(name, day, before, after)
    if measured.pauses:
        for start, stop in interruptions(ticks["time"].to_numpy(), measured.max_gap_ns):
            yield _pause(name, day, start, stop)


def _between(
    name: str, before: tuple[DayRecord, pl.DataFrame], after: tuple[DayRecord, pl.DataFrame]
) -> Iterator[Finding]:
    """What is wrong from one day to the next, if that is stored too."""
    (last, earlier), (first, later) = before, after
    day = date.fromisoformat(first.day)
    if day - date.fromisoformat(last.day) > timedelta(days=1):
        return
    if last.last_id is not None and first.first_id is not None:
        if first.consecutive_ids and first.first_id > last.last_id + 1:
            yield _id_gap(name, day, last.last_id, first.first_id)
        if first.first_id <= last.last_id:
            yield from _shared_ids(name, day, earlier["id"], later["id"])
    if last.last_ns is None or first.first_ns is None:
        return
    if first.first_ns - last.last_ns > max(last.max_gap_ns, first.max_gap_ns):
        yield _pause(name, day, last.last_ns, first.first_ns)


def _shared_ids(name: str, day: date, earlier: pl.Series, later: pl.Series) -> Iterator[Finding]:
    shared = np.intersect1d(earlier.drop_nulls().to_numpy(), later.drop_nulls().to_numpy())
    if len(shared):
        what = f"{len(shared)} ids stand in the day before too, the first {shared[0]}"
        yield Finding(name, day.isoformat(), what, "delete both files and fetch the days again")


def _id_gap(name: str, day: date, before: int, after: int) -> Finding:
    what = f"{after - before - 1:,} ids lack between {before} and {after}"
    return Finding(name, day.isoformat(), what, _FETCH_DAY + "; the venue itself may lack them")


def _pause(name: str, day: date, start_ns: int, stop_ns: int) -> Finding:
    what = f"no tick from {told(start_ns)} to {told(stop_ns)} ({(stop_ns - start_ns) / 1e9:,.0f} s)"
    cure = "nothing to do where the market was closed or still"
    return Finding(name, day.isoformat(), what, cure, fault=False)


def _uncovered(name: str, days: Days) -> Iterator[Finding]:
    """Missing days and parts of days between the first and the last; the last may be partial."""
    readable = [*days.records]
    if not readable:
        return
    covered = [span for record in days.records.values() for span in record.covered]
    end = day_span(readable[-1])[1]
    for start, stop in without((day_span(readable[0])[0], end), covered):
        first, last = day_of(start).isoformat(), day_of(stop - 1).isoformat()
        what, cure = f"not stored: {told_span((start, stop))}", f"fetch from {first} to {last}"
        yield Finding(name, first, what, cure, fault=stop != end)
