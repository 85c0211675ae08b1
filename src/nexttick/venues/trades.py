"""A venue's rows of trades to ticks, digit for digit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import polars as pl

from nexttick.ticks.record import SCHEMA, TickError
from nexttick.ticks.source import TransientError
from nexttick.venues.messages import Trade

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


_EARLIEST_NS = 631_152_000_000_000_000  # 1990
_LEEWAY_NS = 3_600_000_000_000  # so far may our clock be behind a venue's
_IDS = 1 << 63  # what a journal can hold
_MICROSECONDS_FROM = 100_000_000_000_000  # ms since 1970 reach this number in the year 5138
_S_DIGITS = 19  # of 2023-09-25T07:49:37

T = TypeVar("T")


class UnknownMessageError(Exception):
    """A message of a kind that is not known: it can be read, but is no trade of this market."""


def checked_trade(
    time_ns: int, price: float, amount: float, side: int, number: int, arrived_ns: int
) -> Trade:
    """Return the trade, if it can be one.

    Raises:
        ValueError: a value is none that a trade can have: which, and what is allowed.
    """
    if not 0.0 < price < math.inf:
        raise ValueError(f"price {price}: a price is positive and finite")
    if not 0.0 < amount < math.inf:
        raise ValueError(f"amount {amount}: an amount is positive and finite")
    if type(number) is not int or not -1 <= number < _IDS:
        raise ValueError(f"id {number!r}: an id is a whole number from 0 to below 2^63")
    if type(time_ns) is not int or not _EARLIEST_NS <= time_ns <= arrived_ns + _LEEWAY_NS:
        raise ValueError(f"time {time_ns!r}: in ns since 1970, from 1990 to an hour from now")
    return Trade(time_ns, price, amount, side, number, arrived_ns)


def numbered_trade(
    time_ns: int, price: float, amount: float, side: int, number: int, arrived_ns: int
) -> Trade:
    """Return the trade of a venue that numbers all its trades; see `checked_trade`."""
    trade = checked_trade(time_ns, price, amount, side, number, arrived_ns)
    if trade.id < 0:
        raise ValueError(f"id {number}: this venue numbers its trades from 0")
    return trade


def ns_of_binance(time: int) -> int:
    """Return a time given in ms, or in µs where those were asked for, in ns since 1970."""
    return time * 1000 if time >= _MICROSECONDS_FROM else time * 1_000_000


def ns_of_iso(text: str) -> int:
    """Return an ISO 8601 time with up to nine decimals, UTC unless it says otherwise, in ns.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(text, str):
        raise ValueError(f"time {text!r}: give ISO 8601")
    second, rest = text[:_S_DIGITS], text[_S_DIGITS:]
    if not rest.startswith("."):
        return _second_ns(text)
    zone = rest[1:].lstrip("0123456789")
    fraction = rest[1 : len(rest) - len(zone)]
    if not fraction:
        raise ValueError(f"time {text!r}: no digits after the point")
    return _second_ns(second + zone) + int(fraction[:9].ljust(9, "0"))


@lru_cache(maxsize=64)
def _second_ns(text: str) -> int:
    time = datetime.fromisoformat(text)
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    return round(time.timestamp()) * 1_000_000_000


def ns_of_decimal_s(text: str) -> int:
    """Return seconds since 1970, as a decimal number in text, in ns, without rounding."""
    second, _, fraction = text.partition(".")
    return int(second) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))


def read_wire_rows(rows: Iterable[Any], read: Callable[[Any], T]) -> list[T]:
    """Read the rows of a REST answer.

    Raises:
        TransientError: a row is not what it should be.
    """
    try:
        return [read(row) for row in rows]
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise TransientError(f"REST gave a trade that cannot be read: {error!r}") from error
