"""`store check`: every file read and compared with its record, and every gap named."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from nexttick.ticks.cleaning import sorted_by_time
from nexttick.ticks.days import day_of, day_span, readable, readable_span, without
from nexttick.ticks.record import TickError
from nexttick.ticks.store.records import (
    DayRecord,
    Provenance,
    UnknownFormatError,
    gaps_in_ids,
    interruptions,
    measure,
)
from nexttick.ticks.store.series import StoredSeries
from nexttick.ticks.store.writer import within

_MEASURED = (
    "rows", "first_ns", "last_ns", "first_id", "last_id", "hash", "missing_ids", "id_gaps",
    "max_gap_ns", "pauses", "longest",
)  # fmt: skip
_FETCH_DAY = "delete the file and fetch the day again"


@dataclass(frozen=True)
class StoreFinding:
    """Something that is not as it should be, or a gap.

    It is a `fault` where ticks are missing or damaged; a pause of the market or a day that is
    still being fetched is none.
    """

    series: str
    day: str | None  # `2024-01-31`; None where it is about the whole series
    what: str  # in words, with values
    cure: str
    fault: bool = True


def check(stored: StoredSeries) -> Iterator[StoreFinding]:
    """Read all files of a series, say what is wrong, and name every gap; two days in memory."""
    name = str(stored)
    try:
        days = stored.look()
    except UnknownFormatError as error:  # its neighbours are looked at all the same
        what, _, cure = str(error).rpartition("; ")
        yield StoreFinding(name, None, what, cure)
        return
    for day, reason in days.damaged.items():
        yield _of_error(name, day, reason)
    for strange in days.strange:
        yield StoreFinding(name, None, f"{strange}: no file of a store", "move it elsewhere")
    # A manifest that was edited is a fault; one that a kill left behind the files is not.
    entries = stored.manifest().get("days", {})
    cure = "the next fetch makes the manifest anew from the files"
    for day, record in days.records.items():
        entry = entries.get(day.isoformat())
        if not isinstance(entry, dict) or entry.get("stamp") != days.stamps[day]:
            what = "the manifest does not know this day's file as it is"
            yield StoreFinding(name, day.isoformat(), what, cure, fault=False)
        elif record != stored.record(day):
            what = "the manifest's record is not the one in the day's file"
            yield StoreFinding(name, day.isoformat(), what, "delete manifest.json; " + cure)
    there = {day.isoformat() for day in (*days.records, *days.damaged)}
    for extra in sorted(set(entries) - there):
        what = "the manifest has a record of this day, and its file is gone"
        yield StoreFinding(name, extra, what, "fetch the day again")
    before: tuple[DayRecord, pl.DataFrame] | None = None
    for day in days.records:
        now = yield from _day(stored, day)
        if before is not None and now is not None:
            yield from _between(name, before, now)
        before = now or before
    if not days.records:
        return
    # Missing days and parts of days between the first and the last; the last may be partial.
    begin, end = day_span(min(days.records))[0], day_span(max(days.records))[1]
    for start, stop in days.missing(begin, end):
        since, until = day_of(start).isoformat(), day_of(stop - 1).isoformat()
        what, cure = f"not stored: {readable_span((start, stop))}", f"fetch from {since} to {until}"
        yield StoreFinding(name, since, what, cure, fault=stop != end)


def _of_error(name: str, day: date, reason: str) -> StoreFinding:
    what, _, cure = reason.rpartition("; ")
    return StoreFinding(name, day.isoformat(), what, cure)


def _day(
    stored: StoredSeries, day: date
) -> Generator[StoreFinding, None, tuple[DayRecord, pl.DataFrame] | None]:
    """What is wrong with one file; returns what it holds, None where it cannot be read."""
    name = str(stored)
    try:
        record, ticks = stored.record(day), stored.read(day)
    except TickError as error:
        yield _of_error(name, day, str(error))
        return None
    provenance = Provenance(record.source, record.consecutive_ids, record.set_aside)
    measured = measure(day, ticks, record.covered, provenance)
    wrong = [
        f"the record's {one} is {getattr(record, one)}, and the ticks' {getattr(measured, one)}"
        for one in _MEASURED
        if getattr(record, one) != getattr(measured, one)
    ]
    if not sorted_by_time(ticks).equals(ticks):
        wrong.append("ticks are not in the order of (time, id)")
    known = ticks["id"].drop_nulls()
    if doubled := len(known) - known.n_unique():
        wrong.append(f"{doubled} ids stand twice")
    if outside := len(ticks) - len(within(ticks, list(record.covered))):
        wrong.append(f"{outside} ticks lie outside what the record says is covered")
    if without_day := [span for span in record.covered if without(span, [day_span(day)])]:
        wrong.append(f"the record covers {readable_span(without_day[0])}, outside the day")
    for what in wrong:
        yield StoreFinding(name, day.isoformat(), f"{stored.name(day)}: {what}", _FETCH_DAY)
    # The record lists a few gaps; here they are all named.
    if measured.missing_ids:
        for before, after in gaps_in_ids(known)[1]:
            yield _id_gap(name, day, before, after)
    if measured.pauses:
        for start, stop in interruptions(ticks["time"].to_numpy(), measured.max_gap_ns):
            yield _pause(name, day, start, stop)
    return measured, ticks


def _between(
    name: str, before: tuple[DayRecord, pl.DataFrame], after: tuple[DayRecord, pl.DataFrame]
) -> Iterator[StoreFinding]:
    """What is wrong from one day to the next, if that is stored too."""
    (last, earlier), (first, later) = before, after
    day = date.fromisoformat(first.day)
    if day - date.fromisoformat(last.day) > timedelta(days=1):
        return
    if last.last_id is not None and first.first_id is not None:
        if first.consecutive_ids and first.first_id > last.last_id + 1:
            yield _id_gap(name, day, last.last_id, first.first_id)
        if first.first_id <= last.last_id:
            ids, more_ids = (one["id"].drop_nulls().to_numpy() for one in (earlier, later))
            shared = np.intersect1d(ids, more_ids)
            if len(shared):
                what = f"{len(shared)} ids stand in the day before too, the first {shared[0]}"
                cure = "delete both files and fetch the days again"
                yield StoreFinding(name, day.isoformat(), what, cure)
    if last.last_ns is None or first.first_ns is None:
        return
    if first.first_ns - last.last_ns > max(last.max_gap_ns, first.max_gap_ns):
        yield _pause(name, day, last.last_ns, first.first_ns)


def _id_gap(name: str, day: date, before: int, after: int) -> StoreFinding:
    what = f"{after - before - 1:,} ids lack between {before} and {after}"
    cure = f"{_FETCH_DAY}; the venue itself may lack them"
    return StoreFinding(name, day.isoformat(), what, cure)


def _pause(name: str, day: date, start_ns: int, stop_ns: int) -> StoreFinding:
    seconds = (stop_ns - start_ns) / 1e9
    what = f"no tick from {readable(start_ns)} to {readable(stop_ns)} ({seconds:,.0f} s)"
    cure = "nothing to do where the market was closed or still"
    return StoreFinding(name, day.isoformat(), what, cure, fault=False)
