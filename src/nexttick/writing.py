"""Files are written whole, then renamed: a kill leaves the old one or the new one."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import polars as pl

_CURES = {
    errno.EACCES: "no permission to write in this folder; choose another or change its mode",
    errno.EPERM: "no permission to write in this folder; choose another or change its mode",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOSPC: "the disk is full; make room or choose another disk",
    errno.EDQUOT: "the disk quota is used up; make room or choose another disk",
    errno.EFBIG: "the file would be larger than the system allows; choose another disk",
    errno.ENOENT: "there is no such folder; make it first",
    errno.ENOTDIR: "its parent is no folder; choose another path",
}
_WRITERS: dict[str, Callable[[pl.DataFrame, IO[bytes]], object]] = {
    ".parquet": lambda table, file: table.write_parquet(file),
    ".csv": lambda table, file: table.write_csv(file),
}


def write_table(table: pl.DataFrame, path: str | Path) -> Path:
    """Write a table to Parquet or CSV, by the path's ending.

    Args:
        table: any table; CSV keeps floats to the last bit.
        path: ends in `.parquet` or `.csv`; an existing file is replaced.

    Returns:
        The path.

    Raises:
        ValueError: another ending.
        OSError: no such folder, no permission, a full disk; no part of the file is left.
    """
    path = Path(path)
    check_table_path(path)
    write_whole(path, lambda file: _WRITERS[path.suffix.lower()](table, file))
    return path


def check_table_path(path: Path) -> None:
    """Raise a ValueError where `write_table` could not tell the form of the file."""
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(f"{path}: give a name that ends in {' or '.join(_WRITERS)}")


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    write_whole(path, lambda file: file.write(text.encode()))


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then give it that name.

    Raises:
        OSError: with the path and a cure; no part of the file is left.
    """
    try:
        _write_and_rename(path, write)
    except OSError as error:
        raise explained(error, path) from error


def explained(error: OSError, path: Path) -> OSError:
    """The same error, saying which path it is about and what to do."""
    cure = _CURES.get(error.errno or 0, f"cannot be written: {error.strerror or error}")
    return OSError(error.errno, f"{path}: {cure}")


def _write_and_rename(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    """The process's mask of file modes; it can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
