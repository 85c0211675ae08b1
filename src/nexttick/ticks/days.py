"""Spans of time: pairs (start, stop) of ns since 1970, UTC, the stop not included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime

import polars as pl

DAY_NS = 86_400_000_000_000
Span = tuple[int, int]
_EPOCH = date(1970, 1, 1).toordinal()


def union(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same time in as few spans as can be, sorted."""
    joined: list[Span] = []
    for start, stop in sorted(spans):
        if start >= stop:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return tuple(joined)


def without(span: Span, covered: Iterable[Span]) -> list[Span]:
    """What of a span the others leave uncovered."""
    left, (start, stop) = [], span
    for first, last in union(covered):
        if start < min(first, stop):
            left.append((start, min(first, stop)))
        start = max(start, last)
    return [*left, (start, stop)] if start < stop else left


def day_of(time_ns: int) -> date:
    """The UTC day of a time."""
    return date.fromordinal(_EPOCH + time_ns // DAY_NS)


def day_span(day: date) -> Span:
    """Start of a UTC day and of the next."""
    start = (day.toordinal() - _EPOCH) * DAY_NS
    return start, start + DAY_NS


def by_day(span: Span) -> Iterator[tuple[date, Span]]:
    """Cut a span at the starts of UTC days."""
    start, stop = span
    while start < stop:
        day = day_of(start)
        end = min(day_span(day)[1], stop)
        yield day, (start, end)
        start = end


def iso(time_ns: int) -> str:
    """A time in ISO 8601, to the nanosecond, UTC."""
    when = pl.Series([time_ns]).cast(pl.Datetime("ns"))
    return str(when.dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")[0])


def readable(time_ns: int) -> str:
    """A time as messages have it, to the nanosecond where it has any."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    when = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{when}.{rest:09}".rstrip("0") if rest else when


def readable_span(span: Span) -> str:
    """A span as messages have it: whole days by their dates."""
    start, stop = span
    if start % DAY_NS or stop % DAY_NS:
        return f"{readable(start)} to {readable(stop)}"
    first, last = day_of(start), day_of(stop - 1)
    return f"{first}" if first == last else f"{first} to {last}"
