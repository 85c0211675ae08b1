"""The days of one series: what is stored, what is missing, and reading it lazily.

`manifest.json` holds the records of all days for whoever wants them at a glance. It is derived: a
day's own file is what counts, and a manifest that is missing or says otherwise is made anew.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import polars as pl
from polars.io.plugins import register_io_source

from nexttick.ticks.days import Span, without
from nexttick.ticks.describing import describe_chunks
from nexttick.ticks.record import TickError, check_record
from nexttick.ticks.source import Series
from nexttick.ticks.store.folders import LOCK, Folder, LocalFolder
from nexttick.ticks.store.records import (
    BROKEN,
    STORED,
    DayRecord,
    UnknownFormatError,
    check_store_format,
    damaged,
    from_json,
    read_record,
)
from nexttick.ticks.writing import check_table_path, translated, write_whole

MANIFEST = "manifest.json"
_DAY_FILE = re.compile(r"(\d{4}-\d\d-\d\d)\.parquet")
PARTS = re.compile(r"\..*\.part")


@dataclass(frozen=True)
class StoredDays:
    """What stands in a series' folder."""

    records: dict[date, DayRecord]  # of the days that can be read, in order
    stamps: dict[date, str]  # of their files
    damaged: dict[date, str]  # days whose file says nothing that can be read, and why
    strange: tuple[str, ...]  # names of files that no store writes

    def missing(self, start_ns: int, stop_ns: int) -> list[Span]:
        """Spans that no record covers; a day whose file is damaged is one."""
        covered = [span for record in self.records.values() for span in record.covered]
        return without((start_ns, stop_ns), covered)


@dataclass(frozen=True)
class StoredSeries:
    """One series of a store."""

    series: Series
    folder: Folder

    def __str__(self) -> str:
        return str(self.series)

    # --- what is there

    def has_days(self) -> bool:
        """Whether a store has written here; a folder of other Parquet files is none of its."""
        names = self.folder.files()
        day = next(filter(None, map(day_of_file, names)), None)
        if day is None or MANIFEST in names or LOCK in names:
            return day is not None
        try:
            read_record(self._open(day), self.name(day))
        except TickError as error:
            return isinstance(error, UnknownFormatError)
        return True

    def look(self) -> StoredDays:
        """All days there, with their records; the manifest spares reading files it knows.

        What a newer version wrote is an `UnknownFormatError`, and not a damaged day.
        """
        known = self._known()
        records, stamps, damaged = {}, {}, {}
        strange = []
        for name, stamp in self.folder.files().items():
            day = day_of_file(name)
            if day is None:
                strange.append(name)
                continue
            try:
                record = known.get((day, stamp)) or self.record(day)
                records[day], stamps[day] = record, stamp
            except UnknownFormatError:
                raise
            except TickError as error:
                damaged[day] = str(error)
        own = (MANIFEST, LOCK)
        others = tuple(one for one in strange if one not in own and not PARTS.fullmatch(one))
        return StoredDays(records, stamps, damaged, others)

    def _known(self) -> dict[tuple[date, str], DayRecord]:
        """Records that the manifest holds, by day and stamp of the file."""
        known = {}
        for name, entry in self.manifest().get("days", {}).items():
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                day = date.fromisoformat(name)
                known[day, entry["stamp"]] = from_json(entry["record"])
        return known

    def manifest(self) -> dict[str, Any]:
        """What manifest.json says; nothing where it cannot be read."""
        try:
            file = self.folder.open(MANIFEST)
            text = file.read_bytes() if isinstance(file, Path) else file.read()
            manifest = orjson.loads(text)
        except (FileNotFoundError, ValueError):
            return {}
        if not isinstance(manifest, dict) or not isinstance(manifest.get("days"), dict):
            return {}
        check_store_format(manifest, f"{self.folder}/{MANIFEST}: a manifest")
        return manifest

    def record(self, day: date) -> DayRecord:
        """The record in a day's file; `TickError` where it isn't stored, or is damaged."""
        record = read_record(self._open(day), self.name(day))
        if record.day != day.isoformat():
            raise TickError(
                f"{self.name(day)}: it is the file of {record.day}, renamed; move it back, or "
                "delete it and fetch the day again"
            )
        return record

    def records(self) -> dict[date, DayRecord]:
        """Records of all days that can be read, in order."""
        return self.look().records

    def days(self) -> list[date]:
        """The days stored, in order."""
        return list(self.look().records)

    def name(self, day: date) -> str:
        """A day's file as messages name it."""
        return f"{self.folder}/{file_of(day)}"

    def describe(self, rows: int = 1_000_000) -> dict[str, Any]:
        """What `describing.describe_chunks` says of all ticks, so many looked at together."""
        return describe_chunks(self.chunks(rows), has_ids=_has_ids(self.records()))

    # --- reading

    def read(self, day: date) -> pl.DataFrame:
        """The ticks of one day, columns as in `records.STORED`; `TickError` as of `record`."""
        file, name = self._open(day), self.name(day)
        try:
            ticks = pl.read_parquet(file, glob=False, hive_partitioning=False)
        except BROKEN as error:
            raise damaged(name, error) from error
        if dict(ticks.schema) != STORED:
            raise TickError(
                f"{name}: columns {dict(ticks.schema)}, not those of a store; move it elsewhere "
                "and fetch the day again"
            )
        return ticks

    def _open(self, day: date) -> Path | io.BytesIO:
        try:
            return self.folder.open(file_of(day))
        except FileNotFoundError as error:
            raise TickError(f"{self.name(day)}: this day is not stored; fetch it") from error

    def scan(self, first_day: date | None = None, last_day: date | None = None) -> pl.LazyFrame:
        """All ticks of some days, ends included, by default of all: lazily, in time order."""
        records = self.between(first_day, last_day)
        if isinstance(self.folder, LocalFolder):
            paths = [self.folder.path / file_of(day) for day in records]
            lazy = pl.scan_parquet(paths, glob=False, hive_partitioning=False)
        else:
            # Polars cannot open these files itself: it is handed one day after the other.
            def read(
                columns: list[str] | None,
                where: pl.Expr | None,
                rows: int | None,
                batch: int | None,
            ) -> Iterator[pl.DataFrame]:
                left = rows
                for day in records:
                    frame = self.read(day) if left is None else self.read(day).head(left)
                    left = None if left is None else left - len(frame)
                    frame = frame if where is None else frame.filter(where)
                    yield frame if columns is None else frame.select(columns)
                    if left == 0:
                        return

            lazy = register_io_source(read, schema=STORED)
        return lazy if _has_ids(records) else lazy.drop("id")

    def chunks(
        self,
        rows: int,
        first_day: date | None = None,
        last_day: date | None = None,
        *,
        outliers: bool = False,
    ) -> Iterator[pl.DataFrame]:
        """Go through the ticks of some days in flat memory, so many rows a chunk but the last.

        With `outliers` isolated price outliers are set aside, as by `read_ticks`, and chunks may
        have fewer rows.
        """
        from nexttick.ticks.outliers import Disbelief  # numba, which looking at a store needs not

        records = self.between(first_day, last_day)
        unknown, disbelief = [] if _has_ids(records) else ["id"], Disbelief()
        for piece in self._even(records, rows):
            frame = check_record(piece.drop(unknown))
            kept = frame.filter(disbelief.believed(frame)) if outliers else frame
            if len(kept):
                yield kept

    def _even(self, records: Mapping[date, DayRecord], rows: int) -> Iterator[pl.DataFrame]:
        """Days one after the other, cut so that each piece but the last has as many rows."""
        held: list[pl.DataFrame] = []
        for day, record in records.items():
            lazy = pl.scan_parquet(self._open(day), glob=False, hive_partitioning=False)
            for start in range(0, record.rows, rows):
                held.append(lazy.slice(start, rows).collect())
                if sum(map(len, held)) >= rows:
                    frame = pl.concat(held)
                    yield frame[:rows]
                    held = [frame[rows:]]
        if sum(map(len, held)):
            yield pl.concat(held)

    def between(self, first_day: date | None, last_day: date | None) -> dict[date, DayRecord]:
        """Records of some days; `TickError` where the file of one is damaged, or none is stored."""
        days = self.look()
        first, last = first_day or date.min, last_day or date.max
        for day, reason in days.damaged.items():
            if first <= day <= last:
                raise TickError(reason)
        records = {day: one for day, one in days.records.items() if first <= day <= last}
        if not records:
            since = f" from {first_day}" if first_day else ""
            until = f" to {last_day}" if last_day else ""
            raise TickError(f"{self.folder}: no day{since}{until} is stored; fetch it")
        return records


def file_of(day: date) -> str:
    """Name of a day's file."""
    return f"{day.isoformat()}.parquet"


def day_of_file(name: str) -> date | None:
    """The day whose file has this name; None where it is no such name."""
    match = _DAY_FILE.fullmatch(name)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


def _has_ids(records: Mapping[date, DayRecord]) -> bool:
    return any(record.first_id is not None for record in records.values())


def export(
    stored: StoredSeries, path: Path, first_day: date | None = None, last_day: date | None = None
) -> int:
    """Write the ticks of some days to a Parquet or CSV file, by its ending, and count them."""
    check_table_path(path)
    lazy = stored.scan(first_day, last_day)
    sink: Callable[[Any], object] = (
        lazy.sink_parquet if path.suffix.lower() == ".parquet" else lazy.sink_csv
    )
    write_whole(path, lambda file: translated(lambda: sink(file)))
    return sum(one.rows for one in stored.between(first_day, last_day).values())
