"""Files are written whole, then renamed: a kill leaves the old one or the new one."""

from __future__ import annotations

import errno
import math
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

# What is wrong with a name is told without Polars.
if TYPE_CHECKING:
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


def with_nulls(values: Any) -> Any:
    """Plain values in which JSON's null stands for numbers that are not finite."""
    if isinstance(values, dict):
        return {key: with_nulls(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [with_nulls(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def write_table(table: pl.DataFrame, path: str | Path) -> Path:
    """Write a table to Parquet or CSV, by the path's ending.

    Args:
        table: any table; CSV keeps floats to the last bit.
        path: ends in `.parquet` or `.csv`; an existing file is replaced.

    Raises:
        ValueError: another ending.
        OSError: no such folder, no permission, a full disk; no part of the file is left.
    """
    path = Path(path)
    check_table_path(path)
    write = _WRITERS[path.suffix.lower()]
    write_whole(path, lambda file: translated(lambda: write(table, file)))
    return path


def translated(write: Callable[[], object]) -> None:
    """Write with Polars, whose errors name the system's `OSError` in their text only."""
    from polars.exceptions import PolarsError

    try:
        write()
    except (PolarsError, OSError) as error:
        raise _system_error(error) from error


def _system_error(error: Exception) -> Exception:
    """The system's error that Polars' text names, or the error itself."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    return error if number is None else OSError(int(number[1]), os.strerror(int(number[1])))


def write_chunks(chunks: Iterable[pl.DataFrame], path: str | Path) -> Path:
    """`write_table` of a table that comes in pieces, one at least; in the memory of a few."""
    from polars.exceptions import PolarsError
    from polars.io.plugins import register_io_source

    path = Path(path)
    check_table_path(path)
    left = iter(chunks)
    first = next(left, None)
    if first is None:
        raise ValueError(f"nothing to write to {path}")
    failed: list[Exception] = []

    def source(*asked: Any) -> Iterator[pl.DataFrame]:
        try:
            yield from chain([first], left)
        except Exception as error:
            failed.append(error)
            raise

    def fill(file: IO[bytes]) -> None:
        try:
            sink(file)
        except (PolarsError, OSError) as error:
            # Of an error in the pieces Polars keeps the text alone; here is the error itself.
            if failed:
                raise failed[0] from None
            raise _system_error(error) from error

    lazy = register_io_source(source, schema=first.schema)
    sink: Callable[[Any], object] = (
        lazy.sink_parquet if path.suffix.lower() == ".parquet" else lazy.sink_csv
    )
    write_whole(path, fill)
    return path


def check_table_path(path: Path) -> None:
    """Find out before the work whether `write_table` can write there; see `check_path`."""
    check_path(path, _WRITERS)


def check_path(path: Path, endings: Collection[str]) -> None:
    """Find out before the work whether a file can be written there, with one of these endings."""
    if path.suffix.lower() not in endings:
        raise ValueError(f"{path}: give a name that ends in {' or '.join(endings)}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file")
    if not path.parent.is_dir():
        missing = errno.ENOTDIR if path.parent.exists() else errno.ENOENT
        raise explained(OSError(missing, os.strerror(missing)), path)


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    write_whole(path, lambda file: file.write(text.encode()))


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then give it that name.

    An `OSError` has the path and a cure, and no part of the file is left.
    """
    part: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            # Without it a rename may reach the disk before the bytes do.
            os.fsync(file.fileno())
        # The process's mask of file modes can only be read by setting it.
        mask = os.umask(0o022)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(path)
    except OSError as error:
        raise explained(error, path) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def explained(error: OSError, path: Path) -> OSError:
    """The same error, saying which path it is about and what to do."""
    cure = _CURES.get(error.errno or 0, f"cannot be written: {error.strerror or error}")
    return OSError(error.errno, f"{path}: {cure}")
