"""Days of a series as one file, written by Polars' streaming engine in flat memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import IO

import polars as pl

from nexttick.store.series import StoredSeries
from nexttick.writing import check_table_path, translated, write_whole

_SINKS: dict[str, Callable[[pl.LazyFrame, IO[bytes]], object]] = {
    ".parquet": lambda lazy, file: lazy.sink_parquet(file),
    ".csv": lambda lazy, file: lazy.sink_csv(file),
}


def export(
    stored: StoredSeries, path: Path, first_day: date | None = None, last_day: date | None = None
) -> int:
    """Write the ticks of some days to a Parquet or CSV file, by its ending.

    Returns:
        How many ticks.

    Raises:
        TickError: no such day is stored, or its file is damaged.
        ValueError: another ending.
        OSError: no such folder, no permission, a full disk; no part of the file is left.
    """
    check_table_path(path)
    lazy, sink = stored.scan(first_day, last_day), _SINKS[path.suffix.lower()]
    write_whole(path, lambda file: translated(lambda: sink(lazy, file)))
    first, last = first_day or date.min, last_day or date.max
    return sum(one.rows for day, one in stored.records().items() if first <= day <= last)
