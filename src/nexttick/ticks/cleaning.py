"""Cleaning: what is no tick is set aside, with the reason.

Nothing is dropped in silence. Cleaning returns the ticks that it kept and a table of what it set
aside or repaired, and why. In this order:

1. A blank time takes the time of the trade before it by id, where the trades before and after it
   by id are known and lie within `FILL_WITHIN_S` of each other. The value filled in comes from
   the past alone. Any other blank time is set aside.
2. Times outside the plausible range, prices and amounts that are not positive and finite are set
   aside.
3. Rows that stand newest first are turned round, so that rows of one time stamp stand as they
   were executed. Then all rows are sorted by (time, id), or by time alone where there are no
   ids; the sort is stable.
4. Of rows that share an id the first is kept.
5. Isolated price outliers are set aside by `outliers.outlier_step`, which never looks ahead.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numba
import numpy as np
import polars as pl

from nexttick.ticks.outliers import disbelieved_rows
from nexttick.ticks.record import (
    CORE,
    OPTIONAL,
    SCHEMA,
    Ledger,
    Part,
    TickError,
    check_record,
    latest_ns,
    year_ns,
)

FILL_WITHIN_S = 60.0
_FEW = 64  # so many rows are cut out of a frame, instead of copying all others
_POSITIVE = (math.ulp(0.0), sys.float_info.max)  # the least and the greatest finite float64


def clean(
    frame: pl.DataFrame | pl.LazyFrame, *, outliers: bool = True, may_be_empty: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Clean ticks that are in the record's columns already (nulls are blanks).

    Returns the ticks kept, and the table of what was set aside or repaired (`SET_ASIDE_SCHEMA`).
    The rule for outliers spends a few ticks to believe a new price level, and would spend them
    again on ticks that it has cleaned. That no tick is left is an error, but for `may_be_empty`.
    """
    record = check_record(frame.lazy().collect())
    part = Part("frame", record, first_line=0, earliest_ns=year_ns(1990))
    return clean_parts([part], Ledger(), outliers=outliers, may_be_empty=may_be_empty)


def clean_parts(
    parts: Sequence[Part], ledger: Ledger, *, outliers: bool = True, may_be_empty: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Clean and merge the parts of one market; see `clean` and the module's order of steps.

    Files may overlap where rows have ids: a repeated id counts once. Without ids, only a stretch
    that stands the same at the end of one file and at the start of the next is known to be the
    same trades, and counts once; any other overlap is an error, for it may be one file given
    twice or two markets.
    """
    ledger.names = [part.name for part in parts]
    frames = [_clean_rows(part, number, ledger) for number, part in enumerate(parts)]
    frame = sorted_by_time(_merged([f for f in frames if len(f)], ledger))
    first = first_of_each_id(frame)
    if first is not None:
        same = ~first & frame.select(pl.struct("id", *CORE).is_duplicated())["id"]
        frame = frame.with_columns(first.alias("_first"), same.alias("_same"))
        frame = _without(frame, ~pl.col("_first") & pl.col("_same"), "id repeated", "id", ledger)
        reason = "id repeated with another time, price or amount: the first kept"
        frame = _without(frame, ~pl.col("_first"), reason, "id", ledger)
    # The last step: it goes from tick to tick, and one that is out of place would mislead it.
    if outliers:
        rows = disbelieved_rows(frame["time"], frame["price"])
        frame = _without(frame, rows, "isolated price outlier", "price", ledger)
    table = ledger.table()
    if frame.is_empty() and not may_be_empty:
        reasons = "; ".join(table["reason"].unique(maintain_order=True)) or "there were no rows"
        raise TickError(f"{', '.join(ledger.names)}: no tick is left after cleaning: {reasons}")
    if "id" in frame.columns and frame["id"].null_count() == len(frame):
        frame = frame.drop("id")
    # Not select(): that would copy columns to cut them into the same chunks.
    known = [frame[name] for name in SCHEMA | OPTIONAL if name in frame.columns]
    return pl.DataFrame(known), table


# --- the rows of one file


def _clean_rows(part: Part, number: int, ledger: Ledger) -> pl.DataFrame:
    """Steps 1 to 3 of the module's order, and sides that the file leaves blank."""
    frame = part.frame.with_row_index("_line", offset=part.first_line).with_columns(
        pl.lit(number, pl.UInt16()).alias("_part")
    )
    # Most files have no blank at all, and a count of nulls costs nothing.
    if sum(frame.select(CORE).null_count().row(0)):
        frame = _fill_times(frame, part, ledger)
        empty = pl.all_horizontal(pl.col(CORE).is_null())
        frame = _without(frame, empty, "empty line", "price", ledger)
        not_known = " and not known from the ids around it"
        for name in CORE:
            reason = f"{name} blank{not_known if name == 'time' else ''}"
            frame = _without(frame, pl.col(name).is_null(), reason, name, ledger)
    if frame["side"].null_count():
        rows, reason = frame.filter(pl.col("side").is_null()), "side not told: unknown"
        ledger.note(part.name, reason, len(rows), rows["_line"][0], rows["price"][0], kept=True)
        frame = frame.with_columns(pl.col("side").fill_null(0))
    earliest, latest = part.earliest_ns, latest_ns()
    dates = " to ".join(str(np.datetime64(ns, "ns"))[:10] for ns in (earliest, latest))
    for name, lowest, highest, reason in (
        ("time", earliest, latest, f"time outside {dates}"),
        ("price", *_POSITIVE, "price not positive and finite"),
        ("amount", *_POSITIVE, "amount not positive and finite"),
    ):
        rows_N = _rows_outside(frame[name], lowest, highest)
        frame = _without(frame, rows_N, reason, name, ledger)
    if frame["time"].is_sorted():
        return frame
    step = np.diff(frame["time"].to_numpy())
    back, forth, row = int((step < 0).sum()), int((step > 0).sum()), int((step < 0).argmax()) + 1
    example = f"{_iso(frame['time'][row])} after {_iso(frame['time'][row - 1])}"
    line = int(frame["_line"][row])
    # A few steps forth are rows out of place in a file that stands newest first.
    if forth * 10 <= back:
        ledger.note(part.name, "newest first: turned round", len(frame), line, example, kept=True)
        return frame.reverse()
    ledger.note(part.name, "time steps back: sorted", back, line, example, kept=True)
    return frame


def _fill_times(frame: pl.DataFrame, part: Part, ledger: Ledger) -> pl.DataFrame:
    """Give a blank time the time of the trade before it by id; see the module's step 1."""
    blank = frame["time"].is_null()
    if not blank.any() or "id" not in frame.columns:
        return frame
    by_id = frame.select("id", "time").with_row_index("_row").sort("id", maintain_order=True)
    before, after = pl.col("time").forward_fill(), pl.col("time").backward_fill()
    near = (after - before).abs() <= int(FILL_WITHIN_S * 1e9)
    filled = by_id.with_columns(
        pl.when(pl.col("time").is_null() & pl.col("id").is_not_null() & near)
        .then(before)
        .otherwise("time")
        .alias("time")
    ).sort("_row")
    frame = frame.with_columns(filled["time"])
    rows = frame.filter(blank & frame["time"].is_not_null())
    if len(rows):
        reason = "time blank: took the time of the trade before it by id"
        ledger.note(part.name, reason, len(rows), rows["_line"][0], rows["id"][0], kept=True)
    return frame


def check_clean(frame: pl.DataFrame, name: str) -> None:
    """Make sure that ticks in time order need no cleaning: raise `TickError` where they do."""
    columns = [one for one in SCHEMA if frame[one].null_count()]
    columns += [one for one in ("price", "amount") if len(_rows_outside(frame[one], *_POSITIVE))]
    if columns:
        raise TickError(
            f"{name}: {', '.join(columns)} blank, or not positive and finite: these ticks are not "
            f"clean; nexttick ticks --convert sets such rows aside"
        )


def _rows_outside(values: pl.Series, lowest: float, highest: float) -> np.ndarray:
    """Return the rows whose value is not between two bounds, NaN among them."""
    rows, start = [np.empty(0, np.int64)], 0
    for piece in values.get_chunks():
        chunk = piece.to_numpy()
        if _count_outside(chunk, lowest, highest):
            rows.append(start + np.flatnonzero(~((chunk >= lowest) & (chunk <= highest))))
        start += len(chunk)
    return np.concatenate(rows)


@numba.njit(cache=True)
def _count_outside(values: np.ndarray, lowest: float, highest: float) -> int:
    count = 0
    # One pass over memory, without a branch or a mask.
    for value in values:
        count += not ((value >= lowest) & (value <= highest))
    return count


def _without(
    frame: pl.DataFrame, bad: pl.Expr | np.ndarray, reason: str, example: str, ledger: Ledger
) -> pl.DataFrame:
    """Take rows, ascending, or what is true of them, out of a frame; one note a file.

    Of the column `example` the note has the first value.
    """
    rows = frame.select(bad.arg_true()).to_series().to_numpy() if isinstance(bad, pl.Expr) else bad
    if len(rows) == 0:
        return frame
    aside = frame[rows].sort("_line")
    for (number,), group in aside.group_by("_part", maintain_order=True):
        name = ledger.names[int(str(number))]
        ledger.note(name, reason, len(group), group["_line"][0], group[example][0])
    if len(rows) > _FEW:
        keep = np.ones(len(frame), np.bool_)
        keep[rows] = False
        return frame.filter(pl.Series(keep))
    starts, ends = [0, *(rows + 1).tolist()], [*rows.tolist(), len(frame)]
    slices = [frame.slice(a, b - a) for a, b in zip(starts, ends, strict=True) if b > a]
    return pl.concat(slices, rechunk=False) if slices else frame.clear()


def _iso(time_ns: int) -> str:
    return str(np.datetime64(time_ns, "ns"))[:23]


# --- files together


def _merged(frames: list[pl.DataFrame], ledger: Ledger) -> pl.DataFrame:
    """The files of a market as one frame, overlaps of files without ids seen to."""
    if not frames:
        return pl.DataFrame(schema=SCHEMA | {"_line": pl.UInt32(), "_part": pl.UInt16()})
    spans = [(int(frame["time"].min()), int(frame["time"].max())) for frame in frames]  # type: ignore[arg-type]
    merged: list[pl.DataFrame] = []
    furthest, end = frames[0].clear(), -1
    for later, span in sorted(zip(frames, spans, strict=True), key=lambda pair: pair[1]):
        frame, start = later, span[0]
        # The head of a file that is the tail of the one before goes; other overlaps are refused.
        if start <= end and not ("id" in furthest.columns and "id" in later.columns):
            frame = later.sort("time", maintain_order=True)
            tail = furthest.filter(pl.col("time") >= start).sort("time", maintain_order=True)
            this, that = (ledger.names[int(one["_part"][0])] for one in (furthest, later))
            if tail.select(CORE).equals(frame.head(len(tail)).select(CORE)):
                head = pl.int_range(pl.len()) < len(tail)
                frame = _without(frame, head, f"same rows as the end of {this}", "price", ledger)
            # Files that share no more than an instant may have cut a burst of trades in two.
            elif start < end:
                raise TickError(
                    f"{that} starts at {_iso(start)}, before {this} ends at {_iso(end)}, and "
                    "without ids nobody can tell which rows are the same trades; give files that "
                    "do not overlap, of one market only"
                )
        merged.append(frame)
        if span[1] >= end:
            furthest, end = later, span[1]
    return pl.concat(merged, how="diagonal", rechunk=False) if len(merged) > 1 else merged[0]


def sorted_by_time(frame: pl.DataFrame) -> pl.DataFrame:
    """Sort by (time, id), or by time alone where there are no ids; stable."""
    if "id" not in frame.columns:
        done = frame["time"].is_sorted()
        return frame if done else frame.sort("time", maintain_order=True)
    step, id_step = pl.col("time").diff(), pl.col("id").diff()
    in_order = (step > 0) | ((step == 0) & (id_step >= 0).fill_null(value=False))
    if frame.select(in_order.all()).item():
        return frame
    return frame.sort("time", "id", maintain_order=True, nulls_last=True)


def first_of_each_id(frame: pl.DataFrame) -> pl.Series | None:
    """Which rows are the first of their id, or have none; None where all are."""
    # Ids that rise from row to row, as most do, need no table of all that there are.
    if "id" not in frame.columns or frame.select((pl.col("id").diff() > 0).all()).item():
        return None
    first = frame.select(pl.col("id").is_first_distinct() | pl.col("id").is_null())["id"]
    return None if first.all() else first
