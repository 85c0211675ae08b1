"""The tick record, and the one error that means "bad data".

A tick is one trade of a market. In memory ticks are a Polars DataFrame with the columns of
`SCHEMA`; every reader and every source ends here, and nothing downstream knows venues.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import polars as pl

SCHEMA: dict[str, pl.DataType] = {
    "time": pl.Int64(),  # ns since 1970-01-01, UTC
    "price": pl.Float64(),
    "amount": pl.Float64(),
    "side": pl.Int8(),  # +1 the buyer took, -1 the seller took, 0 unknown
}
OPTIONAL: dict[str, pl.DataType] = {
    "id": pl.Int64(),  # the venue's own number of the trade
    "truth": pl.Float64(),  # simulated markets only: the true probability of `rise@1`
}
CORE = ("time", "price", "amount")  # what no tick can lack
SET_ASIDE_SCHEMA: dict[str, pl.DataType] = {
    "file": pl.String(),
    "reason": pl.String(),
    "kept": pl.Boolean(),  # true: a repair or a remark, the rows are among the ticks
    "rows": pl.Int64(),
    "first": pl.Int64(),  # line of the first such row, from 1; of a frame its row, from 0
    "example": pl.String(),
}

_NO_ID = -(2**63)
_NS = 1_000_000_000
_YEAR_NS = 31_556_952 * _NS


class TickError(ValueError):
    """Bad data: the message names what, where, the value and the cure."""


@dataclass
class Ledger:
    """What cleaning set aside or repaired: the rows of the set-aside table."""

    names: list[str] = field(default_factory=list)  # files, in the order of their parts
    entries: list[tuple[str, str, bool, int, int, str]] = field(default_factory=list)

    def note(
        self, file: str, reason: str, rows: int, first: int, example: object, *, kept: bool = False
    ) -> None:
        """Add one row; see `SET_ASIDE_SCHEMA` for its fields."""
        self.entries.append((file, reason, kept, rows, first, str(example)))

    def table(self) -> pl.DataFrame:
        """Return the set-aside table, columns as in `SET_ASIDE_SCHEMA`."""
        return pl.DataFrame(self.entries, schema=SET_ASIDE_SCHEMA, orient="row")


@dataclass(frozen=True)
class Part:
    """The rows of one file as they stood there, in the record's columns, maybe with nulls."""

    name: str  # the file's, as the set-aside table and errors have it
    frame: pl.DataFrame  # columns of `SCHEMA`, and of `OPTIONAL` where known
    first_line: int  # that of the first row in the file
    earliest_ns: int  # times before this are set aside as implausible


class Fingerprint:
    """SHA-256 of ticks that come in pieces; how they are cut makes no difference."""

    def __init__(self, columns: Sequence[str] = tuple(SCHEMA)):
        self._of = {name: hashlib.sha256() for name in columns}

    def update(self, ticks: pl.DataFrame) -> None:
        """Take the next ticks in."""
        for name, digest in self._of.items():
            column = ticks[name]
            filled = column.fill_null(_NO_ID) if column.null_count() else column
            digest.update(np.ascontiguousarray(filled.to_numpy()).data)

    def over(self, chunks: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Hand pieces on and take each in."""
        for chunk in chunks:
            self.update(chunk)
            yield chunk

    def __str__(self) -> str:
        digests = b"".join(digest.digest() for digest in self._of.values())
        return hashlib.sha256(digests).hexdigest()


def year_ns(year: int) -> int:
    """Return the start of a year in ns since 1970, UTC."""
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * _NS


def latest_ns() -> int:
    """Return the latest plausible time, two years from now, in ns since 1970."""
    return int(datetime.now(tz=UTC).timestamp()) * _NS + 2 * _YEAR_NS


def fingerprint(ticks: pl.DataFrame, columns: Sequence[str] = tuple(SCHEMA)) -> str:
    """SHA-256 of columns, by default times, prices, amounts and sides; a null id is -2^63."""
    digest = Fingerprint(columns)
    digest.update(ticks)
    return str(digest)


def check_record(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with its columns in the record's order, or say what is wrong with them."""
    known = SCHEMA | OPTIONAL
    if "side" not in frame.columns:
        frame = frame.with_columns(side=pl.lit(0, pl.Int8()))
    missing = [name for name in SCHEMA if name not in frame.columns]
    wrong = [
        f"{name} is {frame.schema[name]}, not {dtype}"
        for name, dtype in known.items()
        if name in frame.columns and frame.schema[name] != dtype
    ]
    strange = [name for name in frame.columns if name not in known]
    if missing or wrong or strange:
        raise TickError(
            f"not a frame of ticks: missing columns {missing}, wrong types {wrong}, unknown "
            f"columns {strange}; read_ticks(frame) takes other names, types and time units"
        )
    return frame.select(name for name in known if name in frame.columns)
