"""Columns out of a piece of CSV whose form is known, every line checked."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from nexttick.ticks import TickError


def read_columns(
    text: bytes, columns: Mapping[int, tuple[str, pl.DataType]], width: int, where: str
) -> pl.DataFrame:
    """Read some columns of comma-separated text without a header.

    Args:
        text: whole lines, each with its line feed.
        columns: name and type by place, from 0.
        width: fields of each line.
        where: what is read, for errors.

    Raises:
        TickError: a line has more fields or fewer, or one that is blank or of another type.
    """
    others = ("", pl.String())
    schema = {f"column_{k + 1}": columns.get(k, others)[1] for k in range(width)}
    names = {f"column_{k + 1}": name for k, (name, _) in columns.items()}
    try:
        frame = pl.read_csv(text, has_header=False, columns=list(names), schema=schema)
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n")[0]
        raise TickError(f"{where}: {reason}; it starts {text[:60]!r}") from error
    _check_fields(text, frame, width, where)
    return frame.rename(names)


def _check_fields(text: bytes, frame: pl.DataFrame, width: int, where: str) -> None:
    """Polars passes over fields too many, and fills up those too few with nulls."""
    if sum(frame.null_count().row(0)):
        blank = frame.select(pl.any_horizontal(pl.all().is_null()).arg_true()).to_series()
        raise TickError(f"{where}: a field is blank or missing, {blank[0]} lines further on")
    if text.count(b"\n") != len(frame) or text.count(b",") != len(frame) * (width - 1):
        raise TickError(f"{where}: not all lines have {width} fields")
