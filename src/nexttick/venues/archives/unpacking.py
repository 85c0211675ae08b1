"""Text out of packed files that nobody vouches for, in bounded memory and without touching disk.

A member's name is compared and never used as a path. Sizes are held to what trades pack to: CSV of
trades shrinks some five times, a zip bomb a thousand times.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import polars as pl

from nexttick.ticks.record import TickError

MAX_RATIO = 100
PIECE_BYTES = 32 << 20
_GZIP, _ZIP = b"\x1f\x8b", b"PK"
_ALWAYS_BYTES = 64 << 20  # so much may come out of a file however small
_BROKEN = (
    *(zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, OSError),
    # Locked with a password, packed in an unknown way, under a name that cannot be read.
    *(RuntimeError, NotImplementedError, UnicodeDecodeError),
)


@contextmanager
def _unpacking(path: Path, packing: str) -> Iterator[None]:
    """Raise a TickError where a file is broken."""
    try:
        yield
    except _BROKEN as error:
        raise TickError(f"{path.name}: truncated or corrupt {packing} ({error})") from error


def unpacked_lines(path: Path, member: str | None = None) -> Iterator[bytes]:
    """Go through the text of a gzip file, or of a zip's only file, that `member` names.

    It comes in pieces of some 32 MB that end in a line feed. A TickError where the file is
    truncated or corrupt, holds another member or several, is larger than can be, or no text.
    """
    if member is None:
        with _unpacking(path, "gzip"), gzip.open(path) as text:
            yield from _whole_lines(cast(IO[bytes], text), path, path.name)
        return
    with _unpacking(path, "zip"), zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if [info.filename for info in infos] != [member]:
            shown = ", ".join(repr(info.filename) for info in infos[:3]) or "nothing"
            more = ", …" if len(infos) > 3 else ""
            raise TickError(f"{path.name}: the zip holds {shown}{more}, not just {member!r}")
        _check(path, infos[0].file_size)
        with archive.open(infos[0]) as file:
            yield from _whole_lines(file, path, f"{path.name}/{member}")


def check_size(path: Path) -> None:
    """Refuse a zip or gzip file that unpacks to more than can be, or not at all; others pass."""
    with path.open("rb") as file:
        magic = file.read(2)
    if magic == _ZIP:
        with _unpacking(path, "zip"), zipfile.ZipFile(path) as archive:
            _check(path, sum(info.file_size for info in archive.infolist()))
    elif magic == _GZIP:
        # Unpacked and thrown away, for the size that a gzip file tells is its own word.
        size = 0
        with _unpacking(path, "gzip"), gzip.open(path) as unpacked:
            while piece := unpacked.read(PIECE_BYTES):
                size += len(piece)
                _check(path, size)


def _check(path: Path, size: int) -> None:
    packed = path.stat().st_size
    if size > max(_ALWAYS_BYTES, MAX_RATIO * packed):
        raise TickError(
            f"{path.name}: {packed:,} bytes unpack to {size:,} or more, over {MAX_RATIO} times as "
            "many: a zip bomb, no trades; do not open it, look at where it came from"
        )


def _whole_lines(file: IO[bytes], path: Path, name: str) -> Iterator[bytes]:
    rest, size = b"", 0
    while piece := file.read(PIECE_BYTES):
        size += len(piece)
        _check(path, size)
        end = piece.rfind(b"\n") + 1
        if end == 0 and len(rest) + len(piece) > PIECE_BYTES // 2:
            raise TickError(f"{name}: a line longer than {PIECE_BYTES // 2:,} bytes: no CSV")
        if end:
            yield rest + piece[:end]
            rest = b""
        rest += piece[end:]
    if rest:
        yield rest + b"\n"


def read_columns(
    text: bytes, columns: Mapping[int, tuple[str, pl.DataType]], width: int, where: str
) -> pl.DataFrame:
    """Read some columns, named and typed by place from 0, of comma-separated text without a header.

    A TickError where a line has no line feed, not `width` fields, or one that is blank or of
    another type.
    """
    others = ("", pl.String())
    schema = {f"column_{k + 1}": columns.get(k, others)[1] for k in range(width)}
    names = {f"column_{k + 1}": name for k, (name, _) in columns.items()}
    try:
        frame = pl.read_csv(text, has_header=False, columns=list(names), schema=schema)
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n")[0]
        raise TickError(f"{where}: {reason}; it starts {text[:60]!r}") from error
    # Polars passes over fields too many, and fills up those too few with nulls.
    if sum(frame.null_count().row(0)):
        blank = frame.select(pl.any_horizontal(pl.all().is_null()).arg_true()).to_series()
        raise TickError(f"{where}: a field is blank or missing, {blank[0]} lines further on")
    if text.count(b"\n") != len(frame) or text.count(b",") != len(frame) * (width - 1):
        raise TickError(f"{where}: not all lines have {width} fields")
    return frame.rename(names)
