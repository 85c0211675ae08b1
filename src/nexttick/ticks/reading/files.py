"""Finding files and opening them: plain, gzip, zip or zstd, told apart by their first bytes."""

from __future__ import annotations

import difflib
import glob
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl

from nexttick.ticks.record import TickError

SUFFIXES = (".csv", ".txt", ".json", ".parquet", ".gz", ".zip", ".zst")
PARQUET = b"PAR1"
_PACKED = {".gz": "gzip", ".zip": "zip", ".zst": "zstd", ".parquet": "Parquet"}
_HEAD_BYTES = 1 << 16
_DAY_FILE = re.compile(r"\d{4}-\d\d-\d\d\.parquet")


@dataclass(frozen=True)
class Opened:
    """A file's content, unpacked or ready for Polars to unpack."""

    name: str
    body: bytes | Path  # the path where it is plain or zstd, which Polars reads by itself
    head: bytes  # the first bytes, unpacked
    zstd: bool = False

    def lines(self) -> Iterator[str]:
        """Go through the lines of text without their ends."""
        if self.zstd:
            yield from (line or "" for line in _zstd_frame(self.body).to_series(0))
            return
        with self._open() as file:
            text = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="\n")
            yield from (line.rstrip("\r\n") for line in text)

    def last_line(self) -> tuple[str, bool]:
        """Return the last line that is not blank, and whether it ends in a line feed."""
        if self.zstd:
            lines = [line for line in _zstd_frame(self.body).to_series(0).tail(9) if line]
            return (lines[-1] if lines else ""), True
        with self._open() as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(max(size - _HEAD_BYTES, 0))
            tail = file.read()
        text = tail.decode("utf-8", errors="replace")
        lines = [line for line in text.split("\n") if line.strip()]
        return (lines[-1].rstrip("\r") if lines else ""), tail.endswith(b"\n")

    def _open(self) -> BinaryIO:
        return io.BytesIO(self.body) if isinstance(self.body, bytes) else self.body.open("rb")


def _zstd_frame(body: bytes | Path, n_rows: int | None = None) -> pl.DataFrame:
    # No byte of a text file is 1, so each line is one field.
    return pl.read_csv(
        body,
        has_header=False,
        separator="\x01",
        quote_char=None,
        infer_schema=False,
        n_rows=n_rows,
        glob=False,
    )


def expand(path: str | Path, skipped: list[str]) -> list[Path]:
    """Return the files that a path, a folder or a pattern stands for, sorted by name.

    Of a folder files with a suffix of `SUFFIXES` count, and of a store's series its days only;
    `skipped` takes the names of the others.
    """
    where = Path(path).expanduser()
    if not where.exists() and glob.has_magic(str(path)):
        found = [Path(name) for name in sorted(glob.glob(str(where), recursive=True))]  # noqa: PTH207
        if files := [name for name in found if name.is_file()]:
            return files
        raise TickError(f"{path}: no file matches this pattern; check the folder and the pattern")
    if not where.exists():
        cure = f", nor the folder {where.parent}; check the path"
        if where.parent.is_dir():
            names = [name.name for name in where.parent.iterdir()]
            close = difflib.get_close_matches(where.name, names, n=1)
            cure = f"; did you mean {where.parent / close[0]}?" if close else "; check the path"
        raise TickError(f"{path}: there is no such file{cure}")
    if not where.is_dir():
        return [where]
    files = sorted(name for name in where.iterdir() if name.is_file())
    # What a store keeps beside the days of a series: the manifest, the lock, a temporary file.
    stores = [one for one in files if one.name == "manifest.json" or one.name.startswith(".")]
    days = [name for name in files if _DAY_FILE.fullmatch(name.name)]
    if stores and days:
        skipped += [str(name) for name in files if name not in days and name not in stores]
        return days
    found = [name for name in files if name.suffix.lower() in SUFFIXES]
    skipped += [str(name) for name in files if name not in found]
    if not found:
        deep = ("*/*/*/", "*/*/", "*/")  # a store, a venue's folder, a symbol's
        found_in = (day.parent for up in deep for day in where.glob(f"{up}????-??-??.parquet"))
        stored = next(found_in, None)
        cure = f"; name a series of this store, such as {stored}" if stored else ""
        raise TickError(f"{where}: no file in this folder ends in {', '.join(SUFFIXES)}{cure}")
    return found


def open_file(path: Path) -> Opened:
    """Open a file and unpack it."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if not head:
            raise TickError(f"{path}: the file is empty; fetch it again")
        for magic, packing, unpack, errors in _PACKINGS:
            if head.startswith(magic):
                try:
                    opened = unpack(path)
                except errors as error:
                    reason = f"truncated or corrupt {packing} ({error})"
                    raise TickError(f"{path}: {reason}; fetch it again") from error
                if not opened.body:
                    raise TickError(f"{opened.name}: the file inside is empty; fetch it again")
                return opened
    except PermissionError as error:
        raise TickError(f"{path}: no permission to read it; change its mode or owner") from error
    named = _PACKED.get(path.suffix.lower())
    if named and not head.startswith(PARQUET) and (b"\0" in head or named == "Parquet"):
        raise TickError(f"{path}: corrupt: it does not start as {named}; fetch it again")
    return Opened(str(path), path, head)


def _gunzip(path: Path) -> Opened:
    body = gzip.decompress(path.read_bytes())
    return Opened(str(path), body, body[:_HEAD_BYTES])


def _unzip(path: Path) -> Opened:
    with zipfile.ZipFile(path) as archive:
        members = [
            info.filename
            for info in archive.infolist()
            if not info.is_dir() and not info.filename.startswith("__MACOSX/")
        ]
        if len(members) != 1:
            shown = ", ".join(members[:5]) or "nothing"
            raise TickError(
                f"{path}: the zip holds {len(members)} files ({shown}); unpack it and give "
                "the files"
            )
        body = archive.read(members[0])
        return Opened(f"{path}/{members[0]}", body, body[:_HEAD_BYTES])


def _open_zstd(path: Path) -> Opened:
    # Polars unpacks it by itself; all that is wanted here is how it starts.
    lines = _zstd_frame(path, n_rows=1000).to_series(0).fill_null("")
    return Opened(str(path), path, "".join(f"{line}\n" for line in lines).encode(), zstd=True)


_GZIP_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error)
_ZIP_ERRORS = (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError)
_Unpack = Callable[[Path], Opened]
# How a packing starts, its name, how it is unpacked, and what that raises where it is damaged.
_PACKINGS: tuple[tuple[bytes, str, _Unpack, tuple[type[Exception], ...]], ...] = (
    (b"\x1f\x8b", "gzip", _gunzip, _GZIP_ERRORS),
    (b"PK\x03\x04", "zip", _unzip, _ZIP_ERRORS),
    (b"PK\x05\x06", "zip", _unzip, _ZIP_ERRORS),  # an empty one
    (b"\x28\xb5\x2f\xfd", "zstd", _open_zstd, (pl.exceptions.PolarsError, OSError)),
)
