"""Comma-separated text to columns by role: one typed pass, and the reason where it fails."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from nexttick.ticks.reading.dialects import REQUIRED, Layout, recognise, sample_unit
from nexttick.ticks.reading.files import Opened
from nexttick.ticks.reading.plain_csv import Column, read_plain
from nexttick.ticks.reading.values import UNITS_NS, Origin, Raw, integer_ids, numbers, plausible
from nexttick.ticks.record import Ledger, TickError

_SAMPLE_ROWS = 200
_NUMERIC = ("price", "amount", "truth")
_OTHER_DELIMITERS = {";": "a semicolon", "\t": "a tab", "|": "a bar", " ": "a space"}


def read_delimited(
    opened: Opened, given: Mapping[str, str], time_unit: str | None, ledger: Ledger
) -> Raw:
    """Read comma-separated text into columns by role; `ledger` takes a remark on the last line."""
    rows = _sample(opened)
    layout = recognise(rows, given, time_unit, opened.name)
    if len(rows) == layout.has_header:
        raise TickError(f"{opened.name}: there is a header and no tick; fetch the file again")
    first_line = 1 + layout.has_header
    names = {role: layout.names[k] for role, k in layout.roles.items()}
    origin = Origin(opened.name, names, first_line, time_unit)
    types: list[pl.DataType] = [pl.String()] * len(layout.names)
    for role, k in layout.roles.items():
        if role in _NUMERIC:
            types[k] = pl.Float64()
        elif role in ("time", "id") and layout.kinds[k] == "int":
            types[k] = pl.Int64()
        elif role == "buyer_maker" and layout.kinds[k] == "bool":
            types[k] = pl.Boolean()
    unit = time_unit or sample_unit(rows, layout.roles["time"])
    # The fast reader first, where only numbers are asked for; what is not plain enough for it goes
    # to Polars; and what Polars finds fault with is read as text, for only then can a bad line be
    # named.
    frame = None
    role_of: dict[int, str] = {k: role for role, k in layout.roles.items()}
    plain = all(types[k] in (pl.Int64, pl.Float64) for k in role_of)
    if unit and plain and not opened.zstd and len(role_of) == len(layout.roles):
        columns = [Column(role_of.get(k), dtype == pl.Int64) for k, dtype in enumerate(types)]
        bounds = plausible(unit, is_given=False)
        columns[layout.roles["time"]] = Column("time", True, UNITS_NS[unit], *bounds)
        frame = read_plain(opened.body, columns, has_header=layout.has_header)
    if frame is not None:
        origin = replace(origin, time_unit="ns")
    else:
        try:
            frame = _read_columns(opened, layout, types)
        except (pl.exceptions.PolarsError, OSError):
            frame = _read_text(opened, layout, origin)
    line, ended = opened.last_line()
    number = first_line + len(frame) - 1
    _check_width(line, number, opened.name, layout)
    if not ended:
        reason = "the last line does not end: it may be cut off"
        ledger.note(opened.name, reason, 1, number, line[:80], kept=True)
    _check_short_lines(opened, layout, frame)
    return Raw(frame, origin)


def _sample(opened: Opened) -> list[list[str]]:
    """Return the first rows, split into fields; the first of them is the file's first line."""
    head, file = opened.head, opened.name
    if b"\0" in head:
        raise TickError(f"{file}: this is no text, nor a known packing; give CSV or Parquet")
    # A head that stops inside a line loses that line.
    whole = head if len(head) < (1 << 16) else head[: head.rfind(b"\n") + 1]
    lines = whole.decode("utf-8-sig", errors="replace").splitlines()[: _SAMPLE_ROWS + 1]
    first = next((line for line in lines if line.strip()), "")
    for mark, word in _OTHER_DELIMITERS.items():
        fields = first.split(mark)
        if len(fields) >= 3 and len(fields) > len(first.split(",")):
            raise TickError(
                f"{file}, line 1: fields stand apart by {word} ({mark!r}), not by a comma: "
                f"{first[:80]!r}; convert the file to commas (and decimal points)"
            )
    if "," not in first:
        raise TickError(
            f"{file}, line 1: {first[:80]!r} has one field; expected time, price and amount "
            "with commas between them"
        )
    rows = [row for row in csv.reader(lines) if row]
    if not rows:
        raise TickError(f"{file}: the file holds blank lines only; fetch it again")
    return rows


def _read_columns(opened: Opened, layout: Layout, types: list[pl.DataType]) -> pl.DataFrame:
    # Own names for the columns: a header may repeat names, or leave them blank.
    schema = {f"column_{k}": dtype for k, dtype in enumerate(types)}
    frame = pl.read_csv(
        opened.body,
        columns=sorted({f"column_{k}" for k in layout.roles.values()}),
        has_header=False,
        skip_rows=int(layout.has_header),
        schema=schema,
        glob=False,
        raise_if_empty=False,
    )
    return frame.select(pl.col(f"column_{k}").alias(role) for role, k in layout.roles.items())


def _read_text(opened: Opened, layout: Layout, origin: Origin) -> pl.DataFrame:
    """Read all as text and convert; forgives blanks round numbers, raises at the first bad line."""
    try:
        text = _read_columns(opened, layout, [pl.String()] * len(layout.names))
    except (pl.exceptions.PolarsError, OSError) as error:
        for number, line in enumerate(opened.lines(), start=1):
            _check_width(line, number, opened.name, layout)
        reason = str(error).split("\n")[0]
        cure = "fetch it again, or convert it to plain CSV"
        raise TickError(f"{opened.name}: cannot be read as CSV: {reason}; {cure}") from error
    for role in layout.roles:
        if role in _NUMERIC:
            text = text.with_columns(numbers(text[role], role, origin).alias(role))
        elif role == "id" and (ids := integer_ids(text[role])) is not None:
            text = text.with_columns(ids.alias(role))
    return text


def _check_short_lines(opened: Opened, layout: Layout, frame: pl.DataFrame) -> None:
    """Look at lines whose last needed column is blank: they may be short, not just blank."""
    last = max(layout.roles, key=lambda role: layout.roles[role])
    required = max(REQUIRED, key=lambda role: layout.roles[role])
    if frame[required].null_count() == 0:
        return
    blank = pl.col(last).is_null() & pl.col(required).is_null()
    rows = frame.select(blank.arg_true()).to_series()
    suspects = set((rows + 1 + layout.has_header).to_list())
    for number, line in enumerate(opened.lines(), start=1):
        if number in suspects:
            _check_width(line, number, opened.name, layout)


def _check_width(line: str, number: int, file: str, layout: Layout) -> None:
    fields = next(csv.reader([line]), [])
    width = len(layout.names)
    if fields and len(fields) != width:
        column = layout.names[min(len(fields), width - 1)]
        raise TickError(
            f"{file}, line {number}, column {column!r}: {line[:80]!r} has {len(fields)} fields, "
            f"not {width}; remove the line, or fetch the file again if it was cut off"
        )
