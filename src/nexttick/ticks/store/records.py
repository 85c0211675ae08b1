"""What a store knows of a day: a record that stands in the day's own Parquet file.

Parquet keeps key-value metadata beside the data, so that one rename puts ticks and record in place
together and no kill can part them.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from nexttick.ticks.days import Span
from nexttick.ticks.gaps import usual_max_gap_ns
from nexttick.ticks.record import SCHEMA, TickError, fingerprint

KEY = "nexttick"
FORMAT = 1
STORED: dict[str, pl.DataType] = {**SCHEMA, "id": pl.Int64()}
LISTED = 20  # gaps that a record lists; it counts all

BROKEN = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


@dataclass(frozen=True)
class DayRecord:
    """What is known of one UTC day of a series."""

    day: str  # `2024-01-31`
    rows: int
    first_ns: int | None  # time of the first tick; None without ticks
    last_ns: int | None
    first_id: int | None  # the lowest; None without ids
    last_id: int | None  # the highest
    hash: str  # SHA-256 of times, prices, amounts, sides and ids
    covered: tuple[Span, ...]  # of the day, whose ticks are all in
    source: str  # where they were fetched last
    fetched_at: str  # ISO 8601, UTC
    consecutive_ids: bool  # whether a jump of the id is a gap
    missing_ids: int  # how many lack between the lowest and the highest
    id_gaps: tuple[tuple[int, int], ...]  # the first `LISTED`: last id before, first id after
    max_gap_ns: int  # pauses beyond are interruptions (`gaps.usual_max_gap_ns` of the day)
    pauses: int  # how many of them
    longest: tuple[tuple[int, int], ...]  # the `LISTED` longest: time before, time after
    set_aside: dict[str, int]  # rows that are no ticks, came twice or were mended, by reason

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"format": FORMAT, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Provenance:
    """What the ticks themselves do not tell."""

    source: str
    consecutive_ids: bool
    set_aside: Mapping[str, int]


def measure(
    day: date, ticks: pl.DataFrame, covered: tuple[Span, ...], provenance: Provenance
) -> DayRecord:
    """The record of a day's ticks, fetched now."""
    time_ns, ids = ticks["time"].to_numpy(), ticks["id"].drop_nulls()
    missing, id_gaps = gaps_in_ids(ids) if provenance.consecutive_ids else (0, [])
    max_gap_ns = usual_max_gap_ns(time_ns)
    pauses = interruptions(time_ns, max_gap_ns)
    longest = sorted(sorted(pauses, key=lambda one: one[0] - one[1])[:LISTED])
    return DayRecord(
        day=day.isoformat(),
        rows=len(ticks),
        first_ns=int(time_ns[0]) if len(ticks) else None,
        last_ns=int(time_ns[-1]) if len(ticks) else None,
        first_id=ids.min(),  # type: ignore[arg-type]
        last_id=ids.max(),  # type: ignore[arg-type]
        hash=fingerprint(ticks, tuple(STORED)),
        covered=covered,
        source=provenance.source,
        fetched_at=datetime.now(UTC).isoformat(timespec="seconds"),
        consecutive_ids=provenance.consecutive_ids,
        missing_ids=missing,
        id_gaps=tuple(id_gaps[:LISTED]),
        max_gap_ns=max_gap_ns,
        pauses=len(pauses),
        longest=tuple(longest),
        set_aside=dict(sorted(provenance.set_aside.items())),
    )


def gaps_in_ids(ids: pl.Series) -> tuple[int, list[tuple[int, int]]]:
    """How many ids lack, and between which."""
    id_N = ids.to_numpy()
    step_N = np.diff(id_N)
    if (step_N < 0).any():
        id_N = np.sort(id_N)
        step_N = np.diff(id_N)
    jumps = np.flatnonzero(step_N > 1)
    missing = int((step_N[jumps] - 1).sum())
    return missing, [(int(id_N[i]), int(id_N[i + 1])) for i in jumps]


def interruptions(time_ns: np.ndarray, max_gap_ns: int) -> list[tuple[int, int]]:
    """Pauses longer than the limit: time before and after."""
    after = np.flatnonzero(np.diff(time_ns) > max_gap_ns) + 1
    return [(int(time_ns[i - 1]), int(time_ns[i])) for i in after]


class UnknownFormatError(TickError):
    """A newer version of this program wrote it: what, where, the cure."""


def check_store_format(values: Mapping[str, Any], what: str) -> None:
    """Refuse what another version wrote: `UnknownFormatError` where the number is another.

    A file that cannot be read is fetched again and replaced; one that a newer version wrote is not
    to be lost that way. Manifests carry the number since the end of November 2026, records from
    the first.
    """
    found = values.get("format", FORMAT)
    if found != FORMAT:
        raise UnknownFormatError(
            f"{what} of format {found!r}, and this program knows {FORMAT}; use the newer nexttick "
            "that wrote it, or name another store"
        )


def from_json(values: Mapping[str, Any]) -> DayRecord:
    """A record from plain values; `ValueError` where keys lack or are unknown."""
    check_store_format(values, "a record")
    names = {one.name for one in dataclasses.fields(DayRecord)}
    if wrong := sorted(set(values) ^ (names | {"format"})):
        raise ValueError(f"a record with keys missing or unknown: {', '.join(map(str, wrong))}")
    given: dict[str, Any] = {name: values[name] for name in names}
    for name in ("covered", "id_gaps", "longest"):
        given[name] = tuple((int(a), int(b)) for a, b in given[name])
    record = DayRecord(**given)
    if not record.covered:
        raise ValueError("a record of a day of which nothing is covered")
    return record


def write_day(ticks: pl.DataFrame, record: DayRecord, file: Any) -> None:
    """Write a day's Parquet file, its record within."""
    metadata = {KEY: orjson.dumps(record.to_json()).decode()}
    ticks.write_parquet(file, compression="zstd", metadata=metadata)


def read_record(file: Path | io.BytesIO, name: str) -> DayRecord:
    """The record in a day's file, which messages call `name`; `TickError` where it has none."""
    try:
        text = pl.read_parquet_metadata(file).get(KEY)
    except BROKEN as error:
        raise damaged(name, error) from error
    if text is None:
        raise TickError(
            f"{name}: no file that a store has written (no record within); move it elsewhere and "
            "fetch the day again"
        )
    try:
        return from_json(orjson.loads(text))
    except UnknownFormatError as error:
        raise UnknownFormatError(f"{name}: {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise damaged(name, error) from error


def damaged(name: str, error: BaseException) -> TickError:
    """What to say of a file that cannot be read."""
    reason = str(error).split("\n")[0]
    return TickError(f"{name}: truncated or corrupt ({reason}); delete it and fetch the day again")
