"""Writing a series: one writer at a time, a day at once, and the manifest after it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date

import orjson
import polars as pl

from nexttick.ticks.cleaning import first_of_each_id, sorted_by_time
from nexttick.ticks.days import Span, by_day, union, without
from nexttick.ticks.record import TickError, check_record
from nexttick.ticks.store.records import (
    FORMAT,
    STORED,
    DayRecord,
    Provenance,
    UnknownFormatError,
    measure,
    write_day,
)
from nexttick.ticks.store.series import MANIFEST, PARTS, StoredDays, StoredSeries, file_of
from nexttick.ticks.writing import translated

WAIT_S = 600.0
_MANIFEST_S = 2.0  # between two manifests: one of ten years' days takes a tenth of a second


@contextlib.contextmanager
def writing(
    stored: StoredSeries,
    on_wait: Callable[[str], None] = lambda message: None,
    wait_s: float = WAIT_S,
) -> Iterator[SeriesWriter]:
    """Keep other writers out, clear away what a killed one left, and see to the manifest.

    On a remote store nothing keeps other writers out: see `folders.RemoteFolder`. Where another
    process is writing, `on_wait` is called once, with a message; `LockedError` after `wait_s`.
    """
    with stored.folder.lock(on_wait, wait_s):
        for name in stored.folder.files():
            if PARTS.fullmatch(name):
                stored.folder.remove(name)
        writer = SeriesWriter(stored)
        try:
            yield writer
        finally:
            writer.write_manifest()


class SeriesWriter:
    """Writes days of a series, and keeps `days`, what is stored, up to date; from `writing`."""

    def __init__(self, stored: StoredSeries):
        self.days: StoredDays = stored.look()
        self._stored = stored
        self._manifest_s = time.monotonic()

    def write(
        self, ticks: pl.DataFrame, covered: Span, provenance: Provenance
    ) -> tuple[DayRecord, int]:
        """Add the ticks of a span of one day to what is stored of it; one rename commits them.

        Ticks of a time that was covered already are left out, so writing twice changes nothing;
        none outside the span counts. Returns the day's record, and how many ticks are new.
        """
        cut = list(by_day(covered))
        if len(cut) != 1:
            raise ValueError(f"the span {covered} is of {len(cut)} days, and must be of one")
        day = cut[0][0]
        old: list[pl.DataFrame] = []
        known: DayRecord | None = None
        # A day that cannot be read is replaced; not one that a newer version wrote.
        try:
            old, known = [self._stored.read(day)], self._stored.record(day)
        except UnknownFormatError:
            raise
        except TickError:
            pass
        before = known.covered if known else ()
        if known and not without(covered, before):
            self._note(day, known)
            return known, 0
        new = within(as_stored(ticks), without(covered, before))
        joined = sorted_by_time(pl.concat([*old, new]))
        first = first_of_each_id(joined)
        repeated = 0 if first is None else int((~first).sum())
        joined = (joined if first is None else joined.filter(first)).rechunk()
        aside = Counter(known.set_aside if known else {}) + Counter(provenance.set_aside)
        aside += Counter({"id repeated": repeated})
        record = measure(
            day, joined, union([*before, covered]), replace(provenance, set_aside=aside)
        )
        folder, name = self._stored.folder, file_of(day)
        folder.write(name, lambda file: translated(lambda: write_day(joined, record, file)))
        self._note(day, record)
        if time.monotonic() - self._manifest_s >= _MANIFEST_S:
            self.write_manifest()
        return record, len(new) - repeated

    def _note(self, day: date, record: DayRecord) -> None:
        stamp = self._stored.folder.stamp(file_of(day))
        self.days.records[day], self.days.stamps[day] = record, stamp
        self.days.damaged.pop(day, None)

    def write_manifest(self) -> None:
        """Write the manifest, where it does not say already what it should."""
        entries = {
            day.isoformat(): {
                "stamp": self.days.stamps[day],
                "bytes": int(self.days.stamps[day].split()[0]),
                "record": record.to_json(),
            }
            for day, record in sorted(self.days.records.items())
        }
        text = orjson.dumps({"format": FORMAT, "days": entries}, option=orjson.OPT_INDENT_2)
        # Compared as it would be read: with lists, where records have tuples.
        if self.days.records and self._stored.manifest() != orjson.loads(text):
            self._stored.folder.write(MANIFEST, lambda file: file.write(text))
        self._manifest_s = time.monotonic()


def as_stored(ticks: pl.DataFrame) -> pl.DataFrame:
    """Ticks in the columns of `records.STORED`; `truth` is no venue's and is left out."""
    record = check_record(ticks)
    if "id" not in record.columns:
        record = record.with_columns(id=pl.lit(None, pl.Int64()))
    return record.select(list(STORED))


def within(ticks: pl.DataFrame, spans: list[Span]) -> pl.DataFrame:
    """The ticks of these spans."""
    time_ns = pl.col("time")
    inside = [(time_ns >= start) & (time_ns < stop) for start, stop in spans]
    return ticks.filter(pl.any_horizontal(inside)) if inside else ticks.clear()
