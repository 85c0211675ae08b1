"""The CSV inside Binance's archive, in pieces: trades and aggregated trades, spot and futures.

Columns stand in one order, with a header or without, and the two kinds differ before the time:

    trades     id, price, qty, quoteQty (coin-margined: baseQty), time, isBuyerMaker[, isBestMatch]
    aggTrades  id, price, qty, firstId, lastId, time, isBuyerMaker[, isBestMatch]

Times are ms or µs, told apart by their size. `isBuyerMaker` true means that the seller took. The
amount is `qty`: in units of the base, but in contracts on the coin-margined market.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from nexttick.sources.columns import read_columns
from nexttick.sources.unpacking import zip_lines
from nexttick.ticks import SCHEMA, TickError

_TIME = {"trades": 4, "aggTrades": 5}
_FIRST_US, _FIRST_NS = 10**14, 10**17  # smaller are ms until the year 5138, µs until 5138


def frames(path: Path, member: str, kind: str) -> Iterator[pl.DataFrame]:
    """Go through the ticks of one zip as they stand there.

    Yields:
        The record's columns with `id`.

    Raises:
        TickError: a packing or a line that is not as it should be.
    """
    line, width = 1, 0
    for piece in zip_lines(path, member):
        text = piece
        if line == 1:
            text = _without_header(piece, member, kind)
            line += text is not piece
            width = text[: text.find(b"\n")].count(b",") + 1
        if text:
            frame = _parsed(text, f"{member}, line {line} on", kind, width)
            line += len(frame)
            yield frame


def _without_header(piece: bytes, member: str, kind: str) -> bytes:
    if piece[:1].isdigit():
        return piece
    header = piece[: piece.find(b"\n")]
    names = header.decode(errors="replace").strip().lower().split(",")
    time = _TIME[kind]
    if len(names) <= time + 1 or names[1] != "price" or "time" not in names[time]:
        raise TickError(f"{member}, line 1: {header[:80]!r} is no header of {kind}")
    return piece[len(header) + 1 :]


def _parsed(text: bytes, where: str, kind: str, width: int) -> pl.DataFrame:
    time = _TIME[kind]
    if not time + 2 <= width <= time + 3:
        raise TickError(f"{where}: {width} fields, {kind} have {time + 2} or {time + 3}")
    columns = {
        0: ("id", pl.Int64()),
        1: ("price", pl.Float64()),
        2: ("amount", pl.Float64()),
        time: ("time", pl.Int64()),
        time + 1: ("buyer_maker", pl.Boolean()),
    }
    frame = read_columns(text, columns, width, where)
    return frame.select(_time_ns(frame["time"]), "price", "amount", _side(), "id")


def _side() -> pl.Expr:
    return pl.when("buyer_maker").then(-1).otherwise(1).cast(SCHEMA["side"]).alias("side")


def _time_ns(times: pl.Series) -> pl.Series:
    """Times in ns by their size; one multiplication where all are of one unit, as nearly always."""
    lowest, highest = int(times.min() or 0), int(times.max() or 0)  # type: ignore[arg-type]
    if highest < _FIRST_US:
        return times * 10**6
    if lowest >= _FIRST_US and highest < _FIRST_NS:
        return times * 10**3
    scaled = pl.when(times < _FIRST_US).then(times * 10**6).otherwise(times * 10**3)
    told = pl.when(times < _FIRST_NS).then(scaled).otherwise(times)
    return pl.select(told.alias(times.name)).to_series()
