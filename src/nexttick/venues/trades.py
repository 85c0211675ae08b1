"""A venue's rows of trades, past and live, to ticks and trades, digit for digit."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import polars as pl

from nexttick.ticks.record import SCHEMA, TickError
from nexttick.ticks.source import TransientError
from nexttick.venues.messages import Trade

ID_SCHEMA = SCHEMA | {"id": pl.Int64()}
_NS = 1_000_000_000
_ABOVE = 1 << 63  # more than a journal or a column of ticks can hold
_EARLIEST_NS = 631_152_000_000_000_000  # 1990
_LEEWAY_NS = 3_600_000_000_000  # so far may our clock be behind a venue's
_S_DIGITS = 19  # of 2023-09-25T07:49:37

Tick = tuple[int, float, float, int, int | None]  # time, price, amount, side, id
Read = Callable[[Any], Tick]  # of one row, in a venue's own form

UNREADABLE = (LookupError, TypeError, ValueError, OverflowError)
"""What the reader of a row raises where the row is not what it should be."""


class MalformedError(ValueError):
    """A value is none that a trade can have."""

    # The reason is the same for all values like it, so that rows can be counted by it; the message
    # says what the value is, and what is allowed.
    def __init__(self, reason: str, message: str = ""):
        super().__init__(message or reason)
        self.reason = reason


class UnknownMessageError(Exception):
    """A message of a kind that is not known: it can be read, but is no trade of this market."""


class Rows(NamedTuple):
    """An answer of a venue, read."""

    ticks: pl.DataFrame  # columns of `ID_SCHEMA`, sorted by id, each id once
    set_aside: tuple[tuple[str, int], ...]  # rows that are no ticks, by reason


def checked(tick: Tick, earliest_ns: int = 0, latest_ns: int = _ABOVE - 1) -> Tick:
    """Return the tick, or raise a `MalformedError` if a value is none that a trade can have."""
    time_ns, price, amount, _, number = tick
    if type(time_ns) is not int or not earliest_ns <= time_ns <= latest_ns:
        allowed = f"time {time_ns!r}: in ns since 1970, from 1990 to an hour from now"
        raise MalformedError("time out of range", allowed)
    if not 0.0 < price < math.inf:
        allowed = f"price {price}: a price is positive and finite"
        raise MalformedError("price not positive and finite", allowed)
    if not 0.0 < amount < math.inf:
        allowed = f"amount {amount}: an amount is positive and finite"
        raise MalformedError("amount not positive and finite", allowed)
    if number is not None and (type(number) is not int or not 0 <= number < _ABOVE):
        allowed = f"id {number!r}: an id is a whole number from 0 to below 2^63"
        raise MalformedError("id no whole number from 0 to below 2^63", allowed)
    return tick


def read_rows(rows: Iterable[Any], read: Read, where: str) -> Rows:
    """Read rows of the past; those that are no ticks are set aside.

    `read` raises one of `UNREADABLE` for them. Where there are rows and none of them can be read
    that is a TickError.
    """
    ticks: list[Tick] = []
    bad: Counter[str] = Counter()
    example: object = None
    for row in rows:
        try:
            ticks.append(checked(read(row)))
        except UNREADABLE as error:
            example = row if example is None else example
            if isinstance(error, LookupError):
                bad["a field is missing"] += 1
            else:
                bad[getattr(error, "reason", "a field is of another form")] += 1
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


def live_trade(tick: Tick, arrived_ns: int) -> Trade:
    """Return the trade that a tick of now tells of; see `checked`."""
    time_ns, price, amount, side, number = checked(tick, _EARLIEST_NS, arrived_ns + _LEEWAY_NS)
    return Trade(time_ns, price, amount, side, -1 if number is None else number, arrived_ns)


def numbered_trade(tick: Tick, arrived_ns: int) -> Trade:
    """Return the trade of a venue that numbers all its trades; see `checked`."""
    if tick[4] is None:
        raise MalformedError("id missing", "id None: this venue numbers its trades from 0")
    return live_trade(tick, arrived_ns)


def numbered_trades(rows: Iterable[Any], read: Read, arrived_ns: int) -> list[Trade]:
    """Read the rows of a REST answer that fills in what a stream missed: all of them, or none.

    A row that is not what it should be is a `TransientError`.
    """
    try:
        return [numbered_trade(read(row), arrived_ns) for row in rows]
    except UNREADABLE as error:
        raise TransientError(f"REST gave a trade that cannot be read: {error!r}") from error


def exact_json(text: str | bytes) -> Any:
    """JSON whose numbers with a point stay text: a float64 holds no nanoseconds since 1970."""
    return json.loads(text, parse_float=str)


def seconds_to_ns(seconds: str | int) -> int:
    """Decimal seconds since 1970 to ns, exactly; what is finer than a nanosecond is cut off."""
    whole, _, fraction = str(seconds).partition(".")
    if not f"{whole}{fraction}".isdecimal():
        raise MalformedError("time is no number of seconds", f"time {seconds!r}: give seconds")
    return int(whole) * _NS + int(fraction[:9].ljust(9, "0"))


def iso_to_ns(text: str) -> int:
    """An ISO 8601 time, UTC unless it says otherwise, to ns; what is finer is cut off."""
    if not isinstance(text, str):
        raise MalformedError("time is no ISO 8601 time", f"time {text!r}: give ISO 8601")
    second, rest = text[:_S_DIGITS], text[_S_DIGITS:]
    if not rest.startswith("."):
        return _second_ns(text)
    zone = rest[1:].lstrip("0123456789")
    fraction = rest[1 : len(rest) - len(zone)]
    if not fraction:
        raise MalformedError(
            "time is no ISO 8601 time", f"time {text!r}: no digits after the point"
        )
    return _second_ns(second + zone) + int(fraction[:9].ljust(9, "0"))


# A burst is of one second or two, and to read a date costs more than the rest of a row.
@lru_cache(maxsize=64)
def _second_ns(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise MalformedError("time is no ISO 8601 time", f"time {text!r}: {error}") from error
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    return round(time.timestamp()) * _NS
