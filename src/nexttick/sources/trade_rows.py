"""A venue's rows of trades to ticks, digit for digit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import polars as pl

from nexttick.ticks import SCHEMA, TickError

ID_SCHEMA = SCHEMA | {"id": pl.Int64()}
_NS = 1_000_000_000
_LARGEST = 2**63 - 1

Tick = tuple[int, float, float, int, int | None]  # time, price, amount, side, id


class Rows(NamedTuple):
    """An answer of a venue, read.

    Attributes:
        ticks: columns of `ID_SCHEMA`, sorted by id, each id once.
        set_aside: rows that are no ticks, by reason.
    """

    ticks: pl.DataFrame
    set_aside: tuple[tuple[str, int], ...]


def read_rows(rows: Iterable[Any], read: Callable[[Any], Tick], where: str) -> Rows:
    """Read a venue's rows.

    Args:
        rows: as they came.
        read: turns one into a tick; a KeyError, IndexError, TypeError or ValueError of it means
            that the row is none.
        where: venue and symbol, for messages.

    Raises:
        TickError: there are rows, and none of them can be read.
    """
    ticks: list[Tick] = []
    bad: Counter[str] = Counter()
    example: object = None
    for row in rows:
        try:
            tick = _checked(read(row))
        except (KeyError, IndexError, TypeError, ValueError, InvalidOperation) as error:
            bad[_reason(error)] += 1
            example = row if example is None else example
        else:
            ticks.append(tick)
    if bad and not ticks:
        raise TickError(
            f"{where}: none of {bad.total()} rows can be read: {', '.join(bad)}; the first is "
            f"{str(example)[:200]}; the venue's form has changed, see whether a newer nexttick "
            "knows it"
        )
    frame = pl.DataFrame(ticks, schema=ID_SCHEMA, orient="row")
    return Rows(once_by_id(frame), tuple(sorted(bad.items())))


def once_by_id(ticks: pl.DataFrame) -> pl.DataFrame:
    """Sorted by id (by time where there are none), each id once."""
    has_id = pl.col("id").is_not_null()
    once = ticks.filter(~has_id | pl.col("id").is_first_distinct())
    return once.sort("id", "time", maintain_order=True, nulls_last=True)


def seconds_to_ns(seconds: str | int) -> int:
    """Decimal seconds to ns, exactly; what is finer than a nanosecond is cut off."""
    return int(Decimal(seconds).scaleb(9))


def iso_to_ns(text: str) -> int:
    """An ISO 8601 time in UTC (`…Z`) with up to nine decimals to ns, exactly."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    if len(fraction) > 9 or not (fraction or "0").isdecimal():
        raise ValueError("time is no ISO 8601 time in UTC")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return seconds * _NS + int(fraction.ljust(9, "0"))


def _checked(tick: Tick) -> Tick:
    time_ns, price, amount, side, number = tick
    if not 0 <= time_ns <= _LARGEST:
        raise ValueError("time out of range")
    if not (price > 0 and math.isfinite(price)):
        raise ValueError("price not positive and finite")
    if not (amount > 0 and math.isfinite(amount)):
        raise ValueError("amount not positive and finite")
    return time_ns, price, amount, side, number


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError | IndexError):
        return "a field is missing"
    told = str(error)
    known = told.startswith(("time ", "price ", "amount ", "side ", "id "))
    return told if known else "a field is of another form"
