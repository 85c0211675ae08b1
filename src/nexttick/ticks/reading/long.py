"""A long history of clean ticks, read piece by piece in bounded memory.

Ticks are clean in a store's days and in what `nexttick ticks --convert` and `nexttick store
export` write: Parquet in the record's columns, in time order. All that is left to do is to set
outliers aside, as `read_ticks` does and with equal results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from nexttick.ticks.cleaning import check_clean
from nexttick.ticks.outliers import Disbelief
from nexttick.ticks.reading.files import PARQUET, expand
from nexttick.ticks.reading.read import read_chunks, time_text
from nexttick.ticks.record import OPTIONAL, SCHEMA, Ledger, TickError

MANY_TICKS = 20_000_000  # files of more are streamed, and read whole below
_ROWS = 1 << 18


@dataclasses.dataclass
class TickStream:
    """Files of clean ticks, in time order.

    Attributes:
        paths: the files.
        outliers: whether isolated price outliers are set aside.
        ledger: what was set aside by the last `chunks` that went to its end.
    """

    paths: tuple[Path, ...]
    outliers: bool = True
    ledger: Ledger = dataclasses.field(default_factory=Ledger)

    def __len__(self) -> int:
        """Ticks in the files, set aside or not."""
        return sum(_count(path) for path in self.paths)

    def chunks(self) -> Iterator[pl.DataFrame]:
        """Go through the ticks kept: the record's columns.

        Raises:
            TickError: a file is damaged or not clean, or times step back.
        """
        self.ledger, disbelief = Ledger(), Disbelief()
        for path, chunk in self._read():
            if not self.outliers:
                yield chunk
                continue
            believed = disbelief.believed(chunk["time"], chunk["price"])
            self._note(path, chunk.filter(~believed))
            yield chunk.filter(believed)

    def _read(self) -> Iterator[tuple[Path, pl.DataFrame]]:
        last_ns = 0
        for path in self.paths:
            for chunk in read_chunks(path, _ROWS):
                if chunk["time"][0] < last_ns:
                    raise TickError(f"{path}: starts before the file before it ends: give one only")
                check_clean(chunk, str(path))
                last_ns = chunk["time"][-1]
                yield path, chunk

    def _note(self, path: Path, rows: pl.DataFrame) -> None:
        if len(rows):
            reason = f"isolated price outlier, the first at {time_text(rows['time'][0])}"
            self.ledger.note(str(path), reason, len(rows), 0, rows["price"][0])


def open_stream(files: Sequence[str], *, outliers: bool = True) -> TickStream | None:
    """A stream of these files where they are clean Parquet and many ticks, or a store's days.

    Args:
        files: files, folders or patterns, as for `read_ticks`.
        outliers: set isolated price outliers aside.

    Returns:
        None where they are better read whole.
    """
    paths = [path for file in files for path in expand(file, [])]
    if not paths or not all(_is_record(path) for path in paths):
        return None
    stream = TickStream(tuple(paths), outliers)
    return stream if len(stream) > MANY_TICKS or any(map(is_series, files)) else None


def is_series(file: str) -> bool:
    """Whether a path is the folder of a store's series."""
    return Path(file, "manifest.json").is_file()


def _is_record(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(4) != PARQUET:
            return False
    try:
        columns = pl.read_parquet_schema(path)
    except pl.exceptions.PolarsError:
        return False  # damaged: who reads it whole says how
    return all(columns.get(name) == SCHEMA[name] for name in SCHEMA) and columns.keys() <= (
        SCHEMA.keys() | OPTIONAL.keys()
    )


def _count(path: Path) -> int:
    return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
