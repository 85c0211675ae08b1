"""Ticks on disk: one Parquet file a series and UTC day, `STORE/venue/BASE-QUOTE/kind/DAY.parquet`.

A store is a local folder or any URL that fsspec reaches. A day's file is written whole and put in
place at once, and that is the commit: its record (see `records.DayRecord`) stands in the file
itself. So a kill at any instant leaves the old day or the new one. A file lock on each local series
lets one process write it at a time; on a remote store nothing does (see `folders.RemoteFolder`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from nexttick.ticks.record import TickError
from nexttick.ticks.source import Series
from nexttick.ticks.store.folders import LOCK, Folder, open_folder
from nexttick.ticks.store.records import UnknownFormatError, read_record
from nexttick.ticks.store.series import MANIFEST, StoredSeries, day_of_file, file_of

_SYMBOL = {"/": "-", ":": "_"}  # all else that is no letter, digit or dot is written %XX


@dataclass(frozen=True)
class Store:
    """A store of ticks.

    Attributes:
        url: local folder, or an fsspec URL.
    """

    url: str | Path

    def series(self) -> list[Series]:
        """All series there, sorted."""
        root = open_folder(self.url)
        return [
            Series(unquote(venue), symbol_of(symbol), unquote(kind))
            for venue in root.folders()
            for symbol in root.child(venue).folders()
            for kind in root.child(venue).child(symbol).folders()
            if _holds_days(root.child(venue).child(symbol).child(kind))
        ]

    def open(self, series: Series) -> StoredSeries:
        """One series, which need not be there yet."""
        folder = open_folder(self.url)
        for name in names_of(series):
            folder = folder.child(name)
        return StoredSeries(series, folder)


def names_of(series: Series) -> tuple[str, str, str]:
    """The three folders of a series.

    Raises:
        ValueError: one of its names is blank.
    """
    if not all(series):
        raise ValueError(f"a series needs venue, symbol and kind, and this one has {tuple(series)}")
    symbol = "".join(_SYMBOL.get(letter) or _quoted(letter, "") for letter in series.symbol)
    return _quoted(series.venue, "-_"), symbol, _quoted(series.kind, "-_")


def symbol_of(name: str) -> str:
    """The symbol that a folder's name stands for."""
    for letter, written in _SYMBOL.items():
        name = name.replace(written, letter)
    return unquote(name)


def _quoted(text: str, safe: str) -> str:
    """Percent-encoded, dots too: no name may be `..`."""
    also = {".": "%2E", "~": "%7E", **{one: f"%{ord(one):02X}" for one in "-_" if one not in safe}}
    return "".join(also.get(one) or quote(one, safe="") for one in text)


def _holds_days(folder: Folder) -> bool:
    """Whether a store has written here; a folder of other Parquet files is none of its."""
    names = folder.files()
    day = next(filter(None, map(day_of_file, names)), None)
    if day is None or MANIFEST in names or LOCK in names:
        return day is not None
    try:
        read_record(folder.open(file_of(day)), file_of(day))
    except UnknownFormatError:
        return True
    except TickError:
        return False
    return True
