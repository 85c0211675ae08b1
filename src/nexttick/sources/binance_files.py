"""Which files of Binance's public archive hold a span of time, and what it calls a market."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

from nexttick.sources.days import DAY_NS

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
