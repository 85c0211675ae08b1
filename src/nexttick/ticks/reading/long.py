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
from nexttick.ticks.days import iso
from nexttick.ticks.outliers import Disbelief
from nexttick.ticks.reading.files import PARQUET, expand
from nexttick.ticks.record import OPTIONAL, SCHEMA, Ledger, TickError, check_record

MANY_TICKS = 20_000_000  # files of more are streamed, and read whole below
_ROWS = 1 << 18


def read_chunks(path: str | Path, rows: int) -> Iterator[pl.DataFrame]:
    """Go through a Parquet file of clean ticks, as `write_table` writes it, in flat memory.

    Chunks have so many rows, in the record's columns and the file's order. Other files are
    converted first: cleaning has to see all ticks.
    """
    lazy, last_ns = pl.scan_parquet(path, glob=False), 0
    try:
        for start in range(0, lazy.select(pl.len()).collect().item(), rows):
            chunk = check_record(lazy.slice(start, rows).collect())
            if chunk["time"][0] < last_ns or not chunk["time"].is_sorted():
                raise TickError(f"{path}, rows {start} on: times step back; read_ticks sorts them")
            last_ns = chunk["time"][-1]
            yield chunk
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise TickError(f"{path}: no Parquet of ticks ({reason}); convert it first") from error


@dataclasses.dataclass
class TickStream:
    """Files of clean ticks, in time order."""

    paths: tuple[Path, ...]
    outliers: bool = True  # whether isolated price outliers are set aside
    ledger: Ledger = dataclasses.field(default_factory=Ledger)  # of the last `chunks`

    def __len__(self) -> int:
        """Ticks in the files, set aside or not."""
        files = (pl.scan_parquet(path, glob=False) for path in self.paths)
        return sum(int(file.select(pl.len()).collect().item()) for file in files)

    def chunks(self) -> Iterator[pl.DataFrame]:
        """Go through the ticks kept: the record's columns."""
        self.ledger, disbelief, last_ns = Ledger(), Disbelief(), 0
        for path in self.paths:
            for chunk in read_chunks(path, _ROWS):
                if chunk["time"][0] < last_ns:
                    raise TickError(f"{path}: starts before the file before it ends: give one only")
                check_clean(chunk, str(path))
                last_ns = chunk["time"][-1]
                if not self.outliers:
                    yield chunk
                    continue
                believed = disbelief.believed(chunk)
                aside = chunk.filter(~believed)
                if len(aside):
                    reason = f"isolated price outlier, the first at {iso(aside['time'][0])}"
                    self.ledger.note(str(path), reason, len(aside), 0, aside["price"][0])
                yield chunk.filter(believed)


def open_stream(files: Sequence[str], *, outliers: bool = True) -> TickStream | None:
    """A stream of these files where they are clean Parquet and many ticks, or a store's days.

    None where they are better read whole.
    """
    # Few ticks are read faster whole; a store's series is read in pieces whatever its size.
    paths = [path for file in files for path in expand(file, [])]
    for path in paths:
        with path.open("rb") as file:
            if file.read(4) != PARQUET:
                return None
        try:
            columns = pl.read_parquet_schema(path)
        except pl.exceptions.PolarsError:
            return None  # damaged: who reads it whole says how
        is_record = all(columns.get(name) == dtype for name, dtype in SCHEMA.items())
        if not is_record or not columns.keys() <= SCHEMA.keys() | OPTIONAL.keys():
            return None
    stream = TickStream(tuple(paths), outliers)
    is_series = any(Path(file, "manifest.json").is_file() for file in files)
    return stream if paths and (is_series or len(stream) > MANY_TICKS) else None
