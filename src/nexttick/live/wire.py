"""Reading what venues send: checked trades, times, and what to call a message that is no trade."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

from nexttick.live.messages import Trade
from nexttick.sources.retrying import TransientError

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


def read_rows(rows: Iterable[Any], read: Callable[[Any], T]) -> list[T]:
    """Read the rows of a REST answer.

    Raises:
        TransientError: a row is not what it should be.
    """
    try:
        return [read(row) for row in rows]
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise TransientError(f"REST gave a trade that cannot be read: {error!r}") from error
