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

from nexttick.ticks.source import Series
from nexttick.ticks.store.folders import open_folder
from nexttick.ticks.store.series import StoredSeries

# What is no letter or digit is written %XX, but for these. Dots too: no name may be `..`.
_DOTS = {".": "%2E", "~": "%7E"}
_SYMBOL = {"/": "-", ":": "_", "-": "%2D", "_": "%5F"}


@dataclass(frozen=True)
class Store:
    """A store of ticks: a local folder, or an fsspec URL."""

    url: str | Path

    def series(self) -> list[Series]:
        """All series there, sorted."""
        root = open_folder(self.url)
        found = (
            StoredSeries(
                Series(unquote(venue), symbol_of(symbol), unquote(kind)),
                root.child(venue).child(symbol).child(kind),
            )
            for venue in root.folders()
            for symbol in root.child(venue).folders()
            for kind in root.child(venue).child(symbol).folders()
        )
        return [one.series for one in found if one.has_days()]

    def open(self, series: Series) -> StoredSeries:
        """One series, which need not be there yet."""
        folder = open_folder(self.url)
        for name in names_of(series):
            folder = folder.child(name)
        return StoredSeries(series, folder)


def names_of(series: Series) -> tuple[str, str, str]:
    """The three folders of a series, none of whose names may be blank."""
    if not all(series):
        raise ValueError(f"a series needs venue, symbol and kind, and this one has {tuple(series)}")
    tables = (_DOTS, _DOTS | _SYMBOL, _DOTS)
    venue, symbol, kind = (
        "".join(table.get(letter) or quote(letter, safe="") for letter in name)
        for name, table in zip(series, tables, strict=True)
    )
    return venue, symbol, kind


def symbol_of(name: str) -> str:
    """The symbol that a folder's name stands for."""
    return unquote(name.replace("-", "/").replace("_", ":"))
