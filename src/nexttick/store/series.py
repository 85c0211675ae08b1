"""The days of one series: reading them lazily, writing them whole, and what is still missing.

`manifest.json` holds the records of all days for whoever wants them at a glance. It is derived: a
day's own file is what counts, and a manifest that is missing or says otherwise is made anew.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import polars as pl
from polars.io.plugins import register_io_source

from nexttick.outliers import believed_chunks
from nexttick.sources.source import Series
from nexttick.store.folders import LOCK, Folder, LocalFolder
from nexttick.store.records import (
    STORED,
    DayRecord,
    Origin,
    from_json,
    measure,
    read_day,
    read_record,
    write_day,
)
from nexttick.store.spans import Span, by_day, union, without
from nexttick.ticks import TickError, check_record, sorted_by_time
from nexttick.writing import translated

MANIFEST = "manifest.json"
WAIT_S = 600.0
_DAY_FILE = re.compile(r"(\d{4}-\d\d-\d\d)\.parquet")
_PARTS = re.compile(r"\..*\.part")


@dataclass(frozen=True)
class Days:
    """What stands in a series' folder.

    Attributes:
        records: of the days that can be read, in order.
        stamps: of their files.
        damaged: days whose file says nothing that can be read, and why.
        strange: names of files that no store writes.
    """

    records: dict[date, DayRecord]
    stamps: dict[date, str]
    damaged: dict[date, str]
    strange: tuple[str, ...]


@dataclass(frozen=True)
class StoredSeries:
    """One series of a store.

    Attributes:
        series: whose ticks.
        folder: where.
    """

    series: Series
    folder: Folder

    def __str__(self) -> str:
        return str(self.series)

    @contextlib.contextmanager
    def lock(
        self, on_wait: Callable[[str], None] = lambda message: None, wait_s: float = WAIT_S
    ) -> Iterator[None]:
        """Keep other writers out, clear away what a killed one left, and mend the manifest.

        On a remote store nothing keeps other writers out: see `folders.RemoteFolder`.

        Args:
            on_wait: told once where another process has the lock.
            wait_s: how long to wait for it.

        Raises:
            LockedError: another process had it all that time.
        """
        with self.folder.lock(on_wait, wait_s):
            for name in self.folder.files():
                if _PARTS.fullmatch(name):
                    self.folder.remove(name)
            days = self.look()
            if days.records and self.manifest() != _manifest(days):
                self._write_manifest(days)
            yield

    # --- what is there

    def look(self) -> Days:
        """All days there, with their records; the manifest spares reading files it knows."""
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
            except TickError as error:
                damaged[day] = str(error)
        own = (MANIFEST, LOCK)
        others = tuple(one for one in strange if one not in own and not _PARTS.fullmatch(one))
        return Days(records, stamps, damaged, others)

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
            told = orjson.loads(text)
        except (FileNotFoundError, ValueError):
            return {}
        return told if isinstance(told, dict) and isinstance(told.get("days"), dict) else {}

    def record(self, day: date) -> DayRecord:
        """The record in a day's file.

        Raises:
            TickError: the day is not stored, or its file is damaged.
        """
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

    def missing(self, start_ns: int, stop_ns: int) -> list[Span]:
        """Spans that are not stored yet; a day whose file is damaged is one."""
        covered = [span for record in self.records().values() for span in record.covered]
        return without((start_ns, stop_ns), covered)

    def name(self, day: date) -> str:
        """A day's file as messages name it."""
        return f"{self.folder}/{file_of(day)}"

    # --- writing

    def write(self, ticks: pl.DataFrame, covered: Span, origin: Origin) -> tuple[DayRecord, int]:
        """Add the ticks of a span of one day to what is stored of it; one rename commits them.

        Ticks of a time that was covered already are left out, so writing twice changes nothing.

        Args:
            ticks: columns of `ticks.SCHEMA` and maybe `id`; none outside the span counts.
            covered: the span whose ticks these are, all of them.
            origin: where they come from.

        Returns:
            The day's record, and how many of the ticks are new.

        Raises:
            ValueError: the span is empty or of several days.
            OSError: the file cannot be written: path and cure.
        """
        cut = list(by_day(covered))
        if len(cut) != 1:
            raise ValueError(f"the span {covered} is of {len(cut)} days, and must be of one")
        day = cut[0][0]
        old = self._stored(day)
        before = old[1].covered if old else ()
        if old and not without(covered, before):
            return old[1], 0
        new = within(as_stored(ticks), without(covered, before))
        joined, repeated = join([*([old[0]] if old else []), new])
        set_aside = Counter(old[1].set_aside if old else {}) + Counter(origin.set_aside)
        set_aside += Counter({"id repeated": repeated})
        origin = Origin(origin.source, origin.consecutive_ids, set_aside)
        record = measure(day, joined, union([*before, covered]), origin)
        self.folder.write(
            file_of(day), lambda file: translated(lambda: write_day(joined, record, file))
        )
        self._write_manifest(self.look())
        return record, len(new) - repeated

    def _stored(self, day: date) -> tuple[pl.DataFrame, DayRecord] | None:
        """Ticks and record of a day; None where there is none, or none that can be read."""
        try:
            record = self.record(day)
            return self.read(day), record
        except TickError:
            return None

    def _write_manifest(self, days: Days) -> None:
        text = orjson.dumps(_manifest(days), option=orjson.OPT_INDENT_2)
        self.folder.write(MANIFEST, lambda file: file.write(text))

    # --- reading

    def read(self, day: date) -> pl.DataFrame:
        """The ticks of one day, columns as in `records.STORED`.

        Raises:
            TickError: the day is not stored, or its file is damaged.
        """
        return read_day(self._open(day), self.name(day))

    def _open(self, day: date) -> Path | io.BytesIO:
        try:
            return self.folder.open(file_of(day))
        except FileNotFoundError as error:
            raise TickError(f"{self.name(day)}: this day is not stored; fetch it") from error

    def scan(self, first_day: date | None = None, last_day: date | None = None) -> pl.LazyFrame:
        """All ticks of some days as a lazy frame, in time order.

        Args:
            first_day: the first one; by default the first stored.
            last_day: the last one, included.

        Raises:
            TickError: the file of such a day is damaged, or none is stored.
        """
        records = self._readable(first_day, last_day)
        if isinstance(self.folder, LocalFolder):
            paths = [self.folder.path / file_of(day) for day in records]
            lazy = pl.scan_parquet(paths, glob=False, hive_partitioning=False)
        else:
            lazy = register_io_source(_reader(self, list(records)), schema=STORED)
        return lazy if _has_ids(records) else lazy.drop("id")

    def chunks(
        self,
        rows: int,
        first_day: date | None = None,
        last_day: date | None = None,
        *,
        outliers: bool = False,
    ) -> Iterator[pl.DataFrame]:
        """Go through the ticks of some days in flat memory.

        Args:
            rows: ticks a chunk; the last one, and only that, may have fewer.
            first_day: as in `scan`.
            last_day: as in `scan`.
            outliers: set isolated price outliers aside, as `read_ticks` does; chunks may then have
                fewer rows.

        Yields:
            The tick record, in time order.
        """
        records = self._readable(first_day, last_day)
        pieces = (piece for day in records for piece in self._slices(day, records[day].rows, rows))
        unknown = [] if _has_ids(records) else ["id"]
        frames = (check_record(frame.drop(unknown)) for frame in _even(pieces, rows))
        yield from believed_chunks(frames) if outliers else frames

    def _slices(self, day: date, length: int, rows: int) -> Iterator[pl.DataFrame]:
        lazy = pl.scan_parquet(self._open(day), glob=False, hive_partitioning=False)
        for start in range(0, length, rows):
            yield lazy.slice(start, rows).collect()

    def _readable(self, first_day: date | None, last_day: date | None) -> dict[date, DayRecord]:
        days = self.look()
        first, last = first_day or date.min, last_day or date.max
        for day, reason in days.damaged.items():
            if first <= day <= last:
                raise TickError(reason)
        records = {day: one for day, one in days.records.items() if first <= day <= last}
        if not records:
            raise TickError(f"{self.folder}: no day from {first} to {last} is stored; fetch them")
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


def as_stored(ticks: pl.DataFrame) -> pl.DataFrame:
    """Ticks in the columns of `records.STORED`; `truth` is no venue's and is left out."""
    record = check_record(ticks)
    if "id" not in record.columns:
        record = record.with_columns(id=pl.lit(None, pl.Int64()))
    return record.select(list(STORED))


def within(ticks: pl.DataFrame, spans: list[Span]) -> pl.DataFrame:
    """The ticks of these spans."""
    time = pl.col("time")
    inside = [(time >= start) & (time < stop) for start, stop in spans]
    return ticks.filter(pl.any_horizontal(inside)) if inside else ticks.clear()


def join(pieces: list[pl.DataFrame]) -> tuple[pl.DataFrame, int]:
    """Pieces in time order as one, the first of each id kept; and how many ids were repeated."""
    ticks = sorted_by_time(pl.concat(pieces)) if len(pieces) > 1 else sorted_by_time(pieces[0])
    if ticks.select((pl.col("id").diff() > 0).all()).item():
        return ticks.rechunk(), 0
    kept = ticks.filter(pl.col("id").is_first_distinct() | pl.col("id").is_null())
    return kept.rechunk(), len(ticks) - len(kept)


def _even(pieces: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Pieces of at most `rows` joined and cut, so that each but the last has as many."""
    held: list[pl.DataFrame] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) >= rows:
            frame = pl.concat(held)
            yield frame[:rows]
            held = [frame[rows:]]
    if sum(map(len, held)):
        yield pl.concat(held)


def _has_ids(records: Mapping[date, DayRecord]) -> bool:
    return any(record.first_id is not None for record in records.values())


def _manifest(days: Days) -> dict[str, Any]:
    entries = {
        day.isoformat(): {
            "stamp": days.stamps[day],
            "bytes": int(days.stamps[day].split()[0]),
            "record": orjson.loads(orjson.dumps(record.to_json())),
        }
        for day, record in days.records.items()
    }
    return {"days": entries}


def _reader(stored: StoredSeries, days: list[date]) -> Callable[..., Iterator[pl.DataFrame]]:
    """Days one after the other, for a lazy frame over files that Polars cannot open itself."""

    def read(
        columns: list[str] | None, where: pl.Expr | None, rows: int | None, batch: int | None
    ) -> Iterator[pl.DataFrame]:
        left = rows
        for day in days:
            frame = stored.read(day) if left is None else stored.read(day).head(left)
            left = None if left is None else left - len(frame)
            frame = frame if where is None else frame.filter(where)
            yield frame if columns is None else frame.select(columns)
            if left == 0:
                return

    return read
