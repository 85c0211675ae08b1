"""Any files of ticks, here or at an address, in a dialect that `read_ticks` knows.

Files are gone through in the order of their times, two of them in memory. Of an address with
`{date}` in it there is a file a date, as archives have them. A date is a UTC day where all ticks
of its file lie in that day; else it is a day by the venue's own clock, and the file is known to
cover its ticks only, up to the first of the next file.

Where files overlap, ticks with ids are told apart by them. Without ids only the same stretch at
the end of one file and at the start of the next is known to be the same ticks.
"""

from __future__ import annotations

import re
import string
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from nexttick.ticks.days import DAY_NS, by_day, day_of, day_span
from nexttick.ticks.reading.files import expand
from nexttick.ticks.reading.read import read_ticks
from nexttick.ticks.record import TickError
from nexttick.ticks.source import Missing, Page, Series, SourceError
from nexttick.venues.archives.spool import clipped, now_ns
from nexttick.venues.archives.unpacking import check_size
from nexttick.venues.http import Http, NotThereError, UnreachableError, shown
from nexttick.venues.retrying import ATTEMPTS

_HOPELESS = 3  # files on end that are wrong: so are the others


@dataclass(frozen=True)
class _Loaded:
    """A file that was read, and from when to when it is known to have all ticks."""

    path: Path
    ticks: pl.DataFrame
    start_ns: int
    stop_ns: int
    noted: tuple[tuple[str, int], ...] = ()

    @property
    def first_ns(self) -> int:
        return int(self.ticks["time"][0])

    @property
    def last_ns(self) -> int:
        return int(self.ticks["time"][-1])

    def pages(self, start_ns: int, stop_ns: int) -> Iterator[Page]:
        """Its ticks of a span by day; the last page tells up to when the file is whole."""
        if self.stop_ns <= start_ns:
            return
        noted = self.noted
        ticks = self.ticks.filter(pl.col("time").is_between(start_ns, stop_ns, closed="left"))
        days = [day for _, day in ticks.group_by(pl.col("time") // DAY_NS, maintain_order=True)]
        for day in days[:-1]:
            end_ns = (day["time"][0] // DAY_NS + 1) * DAY_NS
            yield Page(day, min(end_ns, self.stop_ns), 0, noted)
            noted = ()
        yield Page(days[-1] if days else ticks, self.stop_ns, 0, noted)


@dataclass(frozen=True)
class _Failed:
    """A file that is not there, or is wrong."""

    reason: str
    fault: bool


class Files:
    """Ticks of one market from files.

    Args:
        where: a file, a folder or a pattern; or an address (http, https) that may hold `{symbol}`
            (the symbol without its slash) and `{date}`, or `{date:%Y%m%d}` in any form of
            `strftime`.
        symbol: base and quote, such as `BTC/USDT`.
        venue: where the trades happened; by default `files`.
        kind: as in `Series`.
        columns: as for `read_ticks`.
        time_unit: as for `read_ticks`.
        timeout_s: longest silence of a connection.
        attempts: how often a request is tried that fails in passing.
    """

    def __init__(
        self,
        where: str | Path,
        symbol: str,
        venue: str | None = None,
        *,
        kind: str = "trades",
        columns: str | Mapping[str, str] | None = None,
        time_unit: str | None = None,
        timeout_s: float = 60.0,
        attempts: int = ATTEMPTS,
    ):
        self._where, self._is_address = str(where), "://" in str(where)
        if self._is_address:
            try:
                scheme, fields = urlsplit(self._where).scheme, _fields(self._where)
            except ValueError as error:
                raise ValueError(
                    f"{shown(self._where)}: no address ({error}); write it anew"
                ) from error
            if scheme not in ("http", "https"):
                raise ValueError(f"{where}: give a path, or an address of http or https")
            if strange := sorted(fields - {"date", "symbol"}):
                names = ", ".join(f"{{{name}}}" for name in strange)
                raise ValueError(
                    f"{shown(self._where)}: {names} is unknown; there are {{date}} and {{symbol}}"
                )
        self._options: dict[str, Any] = {"columns": columns, "time_unit": time_unit}
        self._http = Http(timeout_s=timeout_s, attempts=attempts)
        self.name = shown(self._where) if self._is_address else self._where
        self.series = Series((venue or "files").lower(), symbol, kind)
        self.consecutive_ids = False

    def pages(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        """Go through the ticks with start_ns <= time < stop_ns, a page a file and UTC day.

        Missing is what lies before the first file, after the last, and where one is not there or
        wrong.

        Raises:
            TickError: a file here holds no ticks that can be read; or files overlap and have no
                ids, or go back in time.
            SourceError: the address refuses, or three files on end are wrong.
        """
        with tempfile.TemporaryDirectory(prefix="nexttick-") as name:
            if self._is_address:
                found = self._from_address(start_ns, stop_ns, Path(name))
            else:
                found = self._in_order(start_ns, stop_ns)
            with closing(found) as files:
                for whole in self._joined(files, start_ns, stop_ns):
                    if isinstance(whole, Missing) and not (
                        whole.start_ns < stop_ns and whole.stop_ns > start_ns
                    ):
                        continue
                    part = clipped(whole, start_ns, stop_ns)
                    if isinstance(part, Page):
                        part = replace(part, received=self._http.received())
                    yield part

    # --- from files to pages

    def _joined(
        self, files: Iterator[_Loaded | _Failed], start_ns: int, stop_ns: int
    ) -> Iterator[Page | Missing]:
        """Pages of files in the order of time, and the gaps before, between and after them."""
        held: _Loaded | None = None
        failed: list[_Failed] = []
        known_ns = start_ns

        def gap(end_ns: int, else_reason: str) -> Iterator[Missing]:
            if known_ns < end_ns:
                reasons = [file.reason for file in failed] or [else_reason]
                more = f" (and so on, to: {reasons[-1]})" if len(reasons) > 1 else ""
                fault = any(file.fault for file in failed)
                yield Missing(known_ns, end_ns, f"{reasons[0]}{more}", fault)

        for file in files:
            if isinstance(file, _Failed):
                failed.append(file)
                continue
            after = file
            if held is not None:
                held, after = self._parted(held, file, bool(failed))
                yield from held.pages(start_ns, stop_ns)
                known_ns = held.stop_ns
            yield from gap(after.start_ns, f"{self.name} begins later")
            held, failed = after, []
        if held is not None:
            yield from held.pages(start_ns, stop_ns)
            known_ns = max(start_ns, held.stop_ns)
        yield from gap(stop_ns, f"{self.name} ends earlier")

    def _parted(self, earlier: _Loaded, later: _Loaded, apart: bool) -> tuple[_Loaded, _Loaded]:
        """Two files on end, such that no tick without an id is in both.

        `apart`: a file between them failed; else nothing lies between them.
        """
        first_ns = later.first_ns
        if first_ns < earlier.first_ns:
            raise TickError(
                f"{later.path.name} starts before {earlier.path.name} does: name the files such "
                "that their order is that of their times"
            )
        ids = "id" in earlier.ticks.columns and "id" in later.ticks.columns
        if first_ns <= earlier.last_ns and not ids:
            both, table = self._read_ticks([earlier.path, later.path])
            same = pl.col("reason").str.starts_with("same rows as")
            before, after = pl.col("time") < first_ns, pl.col("time") >= first_ns
            earlier = replace(earlier, ticks=earlier.ticks.filter(before))
            noted = (*later.noted, *_noted(table.filter(same)))
            later = replace(later, ticks=both.filter(after), noted=noted)
        if apart:
            return earlier, later
        return replace(earlier, stop_ns=first_ns), replace(later, start_ns=first_ns)

    # --- files here

    def _in_order(self, start_ns: int, stop_ns: int) -> Generator[_Loaded | _Failed]:
        """Read files here in the order of their first ticks; more than one are read twice."""
        paths = expand(self._where, [])
        if len(paths) > 1:
            first_of = {path: self._read(path).first_ns for path in paths}
            paths.sort(key=lambda path: first_of[path])
            firsts = [first_of[path] for path in paths]
            # One before that holds the start, for overlaps, and the first beyond the stop.
            paths = paths[max(0, bisect_right(firsts, start_ns) - 2) :]
            paths = paths[: bisect_left([first_of[path] for path in paths], stop_ns) + 1]
        for path in paths:
            yield self._read(path)

    def _read(self, path: Path) -> _Loaded:
        """Read a file; it is taken to hold the whole days of its ticks."""
        ticks, table = self._read_ticks([path])
        first, last = (day_span(day_of(ticks["time"][k])) for k in (0, -1))
        return _Loaded(path, ticks, first[0], last[1], _noted(table))

    def _read_ticks(self, paths: list[Path]) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Read files and name them without their folder, which may be a temporary one."""
        folder = f"{paths[0].parent}/" if self._is_address else ""
        try:
            ticks, table = read_ticks(paths, outliers=False, **self._options)
        except TickError as error:
            raise TickError(str(error).replace(folder, "")) from error
        return ticks, table.with_columns(pl.col("reason").str.replace_all(folder, "", literal=True))

    # --- files at an address

    def _from_address(
        self, start_ns: int, stop_ns: int, folder: Path
    ) -> Generator[_Loaded | _Failed]:
        """Download files one after the other; each is deleted when the second after it is asked."""
        wrong, kept = 0, list[Path]()
        for number, (url, days) in enumerate(self._addresses(start_ns, stop_ns)):
            # A name that no address can lead out of its folder.
            base = re.sub(r"[^A-Za-z0-9._-]", "_", urlsplit(url).path.rpartition("/")[2])
            path = folder / f"{number}-{base[-100:] or 'ticks'}"
            file = self._fetched(url, path, days)
            wrong = wrong + 1 if isinstance(file, _Failed) and file.fault else 0
            if isinstance(file, _Failed) and wrong == _HOPELESS:
                raise SourceError(f"{file.reason}; nor could the files before it be read")
            yield file
            kept.append(path)
            if len(kept) > 1:
                kept.pop(0).unlink(missing_ok=True)

    def _fetched(self, url: str, path: Path, days: list[date]) -> _Loaded | _Failed:
        what = f"{self.series.symbol} {days[0] if days else ''}".strip()
        try:
            self._http.download(url, what, path)
            check_size(path)
            file = self._read(path)
        except NotThereError as error:
            return _Failed(str(error), fault=False)
        except (UnreachableError, TickError) as error:
            path.unlink(missing_ok=True)
            named = isinstance(error, UnreachableError)
            return _Failed(str(error) if named else f"{what}: {error}", fault=True)
        if not days:
            return file
        # Dates are UTC days, unless ticks of others are in the file: then only these are known.
        start_ns, stop_ns = day_span(days[0])[0], day_span(days[-1])[1]
        if start_ns <= file.first_ns and file.last_ns < stop_ns:
            return replace(file, start_ns=start_ns, stop_ns=stop_ns)
        return replace(file, start_ns=file.first_ns, stop_ns=file.last_ns + 1)

    def _addresses(self, start_ns: int, stop_ns: int) -> Iterator[tuple[str, list[date]]]:
        """Addresses and the days that each is of; a day more at both ends, for other clocks."""
        symbol = self.series.symbol.replace("/", "")
        if "date" not in _fields(self._where):
            yield self._where.format(symbol=symbol), []
            return
        of: dict[str, list[date]] = {}
        for day, _ in by_day((start_ns - DAY_NS, -(-stop_ns // DAY_NS) * DAY_NS + DAY_NS)):
            if day < day_of(now_ns()):
                of.setdefault(self._where.format(date=day, symbol=symbol), []).append(day)
        yield from of.items()


def _noted(table: pl.DataFrame) -> tuple[tuple[str, int], ...]:
    """What `read_ticks` set aside or mended, by reason."""
    return tuple(table.group_by("reason", maintain_order=True).agg(pl.sum("rows")).iter_rows())


def _fields(address: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(address) if name is not None}
