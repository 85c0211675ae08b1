"""Which files of Binance's public archive hold a span of time, and what it calls a market."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from nexttick.ticks.record import SCHEMA, TickError
from nexttick.venues.archives.spool import DAY_NS
from nexttick.venues.archives.unpacking import read_columns, zip_lines

_OWN_NAME = re.compile(r"[A-Z0-9]+(_[A-Z0-9]+)?")
_CCXT_NAME = re.compile(r"([A-Z0-9]+)/([A-Z0-9]+)(?::([A-Z0-9]+)(?:-(\d{6}))?)?")


@dataclass(frozen=True)
class ArchiveFile:
    """One file of the archive.

    Attributes:
        period: `daily` or `monthly`.
        first: its first day.
        days: how many it has.
        instead: why it is got instead of a month's file, where that one is wrong.
    """

    period: str
    first: date
    days: int
    instead: str = ""

    @property
    def label(self) -> str:
        """What its name says: `2024-01` or `2024-01-05`."""
        return self.first.isoformat()[: 7 if self.period == "monthly" else 10]

    @property
    def first_day(self) -> int:
        """Its first day, counted from 1970."""
        return self.first.toordinal() - date(1970, 1, 1).toordinal()

    def by_day(self, instead: str = "") -> list[ArchiveFile]:
        """The daily files of a month."""
        days = (self.first + timedelta(days=k) for k in range(self.days))
        return [ArchiveFile("daily", day, 1, instead) for day in days]


def plan(start_ns: int, stop_ns: int, today: date) -> list[ArchiveFile]:
    """The files that cover a span up to yesterday: whole past months, and single days."""
    days = range(start_ns // DAY_NS, -(-stop_ns // DAY_NS))
    epoch = date(1970, 1, 1)
    wanted = [epoch + timedelta(days=k) for k in days if epoch + timedelta(days=k) < today]
    files: list[ArchiveFile] = []
    for day in wanted:
        if files and day < files[-1].first + timedelta(days=files[-1].days):
            continue
        month = (day.replace(day=1) + timedelta(days=31)).replace(day=1) - day.replace(day=1)
        whole = day.day == 1 and wanted[-1] >= day + month - timedelta(days=1)
        past = (day.year, day.month) < (today.year, today.month)
        files.append(
            ArchiveFile("monthly", day, month.days)
            if whole and past
            else ArchiveFile("daily", day, 1)
        )
    return files


def archive_symbol(symbol: str, market: str) -> str:
    """What the archive calls a market: `BTC/USDT` is `BTCUSDT`; its own names stay.

    Raises:
        ValueError: it is neither, or of another market.
    """
    name = symbol.upper()
    if _OWN_NAME.fullmatch(name):
        return name
    found = _CCXT_NAME.fullmatch(name)
    if found is None or (market == "spot" and found[3]):
        raise ValueError(
            f"symbol {symbol!r} is none of Binance's {market} market: give it like BTC/USDT "
            "(coin-margined BTC/USD:BTC), or as the archive names it"
        )
    base, quote, _, expiry = found.groups()
    ending = expiry or ("PERP" if market == "cm" else "")
    return f"{base}{quote}{'_' if ending else ''}{ending}"


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
