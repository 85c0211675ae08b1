"""From a file's values to the record's: times in any unit, sides, ids, numbers as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import polars as pl

from nexttick.ticks.record import SCHEMA, TickError, latest_ns, year_ns

UNITS_NS: dict[str, int] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
INFERRED_FROM = 2009  # bitcoin's first year: earlier dates only where the unit is given
GIVEN_FROM = 1990
_BUY = ["buy", "b", "buyer", "bought", "1", "+1", "1.0"]
_SELL = ["sell", "s", "seller", "sold", "-1", "-1.0"]
_NEITHER = ["0", "0.0"]
_BLANK = ["", "any", "none", "null", "nan", "unknown", "n"]
_TRUE, _FALSE = ["true", "t", "1", "1.0"], ["false", "f", "0", "0.0"]
_EXACT = 2**53  # integers beyond are not exact in a float64


@dataclass(frozen=True)
class Origin:
    """Where values come from, for errors."""

    file: str
    columns: dict[str, str]  # role to the file's own name of its column
    first_line: int
    time_unit: str | None = None  # one of `UNITS_NS`; None to infer it

    def fail(self, role: str, row: int, value: object, cure: str) -> NoReturn:
        """Raise the `TickError` of one bad value; `row` counts from 0."""
        line, column = self.first_line + row, self.columns.get(role, role)
        raise TickError(f"{self.file}, line {line}, column {column!r}: {value!r} {cure}")


@dataclass(frozen=True)
class Raw:
    """A file's columns as they stood there, of any type, named by role (see `dialects`)."""

    frame: pl.DataFrame
    origin: Origin

    def to_record(self) -> tuple[pl.DataFrame, int, list[str]]:
        """Return the record, nulls for blanks; the earliest plausible time in ns; and remarks."""
        times, frame, origin = _Times(self.origin), self.frame, self.origin
        time_ns, earliest_ns = times.to_ns(frame["time"])
        record = {
            "time": time_ns,
            "price": numbers(frame["price"], "price", origin),
            "amount": numbers(frame["amount"], "amount", origin),
            "side": _sides(frame, origin),
        }
        remarks = times.remarks
        if "id" in frame.columns:
            ids = integer_ids(frame["id"])
            if ids is None:
                remarks.append("ids are not integers: left out, the file's order kept")
            else:
                record["id"] = ids
        if "truth" in frame.columns:
            record["truth"] = numbers(frame["truth"], "truth", origin)
        return pl.DataFrame(record), earliest_ns, remarks


# --- times


class _Times:
    """A column of times on its way to ns since 1970, and what is to be remarked of it."""

    def __init__(self, origin: Origin):
        self.origin = origin
        self.remarks: list[str] = []

    def to_ns(self, times: pl.Series) -> tuple[pl.Series, int]:
        """Return times in ns since 1970, UTC, and the earliest plausible one."""
        fraction = None
        if times.dtype == pl.String:
            times = times.str.strip_chars().replace("", None)
            if times.str.contains(r"^\d{4}-\d\d-\d\d").any():
                times = self._dates(times)
            else:
                times, fraction = self._decimals(times)
        if isinstance(times.dtype, pl.Datetime):
            if times.dtype.time_zone is None:
                self.remarks.append("times without a zone: read as UTC")
            time_ns = times.dt.cast_time_unit("ns").to_physical()
            return self._of_known_unit(time_ns, "ns"), year_ns(GIVEN_FROM)
        if not times.dtype.is_integer() and not times.dtype.is_float():
            cure = "is no time; expected integers, ISO 8601 or date-times"
            self.origin.fail("time", 0, str(times.dtype), cure)
        times = times.cast(pl.Int64) if times.dtype.is_integer() else times.fill_nan(None)
        if times.null_count() == times.len():
            raise self._no_times()
        unit = self.origin.time_unit or self._infer_unit(times)
        if times.dtype.is_float():
            # A float64 holds today's seconds to some 0.2 µs, so they are rounded to 1 µs.
            micros = (times.cast(pl.Float64) * (UNITS_NS[unit] / 1e3)).round()
            time_ns = micros.clip(-1, latest_ns() / 1e3 + 1).cast(pl.Int64) * 1000
        else:
            # One out of range in its unit could overflow; minus one is set aside as well.
            limit = latest_ns() // UNITS_NS[unit]
            if not (times.min() >= 0 and times.max() <= limit):  # type: ignore[operator]
                inside = times.is_between(0, limit) | times.is_null()
                times = pl.select(pl.when(inside).then(times).otherwise(-1).alias("time"))["time"]
            time_ns = times if unit == "ns" else times * UNITS_NS[unit]
        if self.origin.time_unit:
            time_ns = self._of_known_unit(time_ns, unit)
        if fraction is not None and unit != "ns":
            digits = len(str(UNITS_NS[unit])) - 1
            fraction = fraction.str.pad_end(digits, "0").str.slice(0, digits)
            time_ns = time_ns + fraction.cast(pl.Int64)
        return time_ns, year_ns(GIVEN_FROM if self.origin.time_unit else INFERRED_FROM)

    def _no_times(self) -> TickError:
        column = self.origin.columns["time"]
        return TickError(f"{self.origin.file}, column {column!r}: there are no times")

    def _infer_unit(self, times: pl.Series) -> str:
        """The one unit that puts the times between 2009 and two years from now.

        The middle one decides, so a few zeros do no harm; rows out of range are set aside later.
        Rows that would be in range in another unit are an error: the file mixes units.
        """
        lowest, highest = float(times.min()), float(times.max())  # type: ignore[arg-type]
        spans = {unit: plausible(unit, is_given=False) for unit in UNITS_NS}
        for unit, (first, last) in spans.items():
            if first <= lowest and highest <= last:
                return unit
        middle = times.drop_nulls().sort()[(times.len() - times.null_count()) // 2]
        unit = next((unit for unit, (a, b) in spans.items() if a <= float(middle) <= b), "")
        if not unit:
            row = int((times == middle).fill_null(value=False).arg_max() or 0)
            cure = (
                f"is in no unit a time from {INFERRED_FROM} to two years from now "
                f"({dates_by_unit(middle)}); name the "
                "right column (--columns time=NAME) or the unit (--time-unit s, ms, us or ns)"
            )
            self.origin.fail("time", row, middle, cure)
        for other in UNITS_NS.keys() - {unit}:
            factor = UNITS_NS[other]
            first_time, last_time = year_ns(INFERRED_FROM) / factor, latest_ns() / factor
            rows = times.is_between(first_time, last_time).fill_null(value=False).arg_true()
            if len(rows):
                cure = f"looks like {other}, most others like {unit}; split the file by unit"
                self.origin.fail("time", rows[0], times[rows[0]], cure)
        return unit

    def _of_known_unit(self, time_ns: pl.Series, unit: str) -> pl.Series:
        """Refuse a column whose middle time is out of range though its unit is known."""
        known = time_ns.drop_nulls()
        if known.is_empty():
            raise self._no_times()
        first, last = year_ns(GIVEN_FROM), latest_ns()
        if known.min() >= first and known.max() <= last:  # type: ignore[operator]
            return time_ns
        middle = known.sort()[known.len() // 2]
        if not first <= middle <= last:
            row = int((time_ns == middle).fill_null(value=False).arg_max() or 0)
            cure = f"is no time from {GIVEN_FROM} on in {unit}; name the right column or unit"
            self.origin.fail("time", row, middle // UNITS_NS[unit], cure)
        return time_ns

    def _dates(self, times: pl.Series) -> pl.Series:
        """Read text in ISO 8601, as date-times in UTC."""
        zoned = times.str.contains(r"(?:[Zz]|[+-]\d\d(?::?\d\d)?)$")
        # A date alone ends in what looks like a zone.
        if not zoned.all() or times.str.len_chars().min() == 10:
            self.remarks.append("times without a zone: read as UTC")
            whole = zoned & times.str.contains(r"\d\d:\d\d")
            text = pl.when(whole).then(times).otherwise(times.str.strip_suffix(" UTC") + "Z")
            times = pl.select(text.alias("time"))["time"]
        parsed = times.str.to_datetime("%+", time_unit="ns", time_zone="UTC", strict=False)
        bad = (parsed.is_null() & times.is_not_null()).arg_true()
        if len(bad):
            cure = "is no ISO 8601 time; correct or remove the row"
            self.origin.fail("time", bad[0], times[bad[0]], cure)
        return parsed

    def _decimals(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        """Split decimal text at the point: 1534131395.123456789 has more than a float64 holds."""
        bad = (~times.str.contains(r"^\d+(\.\d*)?$")).fill_null(value=False).arg_true()
        if len(bad):
            cure = "is no time; expected a number or ISO 8601"
            self.origin.fail("time", bad[0], times[bad[0]], cure)
        pieces = times.str.split_exact(".", 1).struct.unnest()
        whole = pieces.to_series(0).cast(pl.Int64, strict=False)
        return whole, pieces.to_series(1).fill_null("")


def plausible(unit: str, *, is_given: bool) -> tuple[int, int]:
    """Return the first and last plausible time in a unit."""
    first = year_ns(GIVEN_FROM if is_given else INFERRED_FROM)
    return first // UNITS_NS[unit], latest_ns() // UNITS_NS[unit]


def dates_by_unit(time: object) -> str:
    """Return the date that a number would be in each unit, for errors."""
    dates = []
    for unit, factor in UNITS_NS.items():
        seconds = float(time) * factor / 1e9  # type: ignore[arg-type]
        near = abs(seconds) < 2e11
        dates.append(f"{unit}: {str(np.datetime64(int(seconds), 's'))[:10] if near else 'far off'}")
    return ", ".join(dates)


# --- numbers, sides, ids


def numbers(values: pl.Series, role: str, origin: Origin) -> pl.Series:
    """Return values as float64, nulls for blanks; text must read as Python's `float` reads it."""
    if values.dtype == pl.Float64:
        return values
    if values.dtype == pl.String:
        text = values.str.strip_chars().replace("", None)
        parsed = text.cast(pl.Float64, strict=False)
        bad = (parsed.is_null() & text.is_not_null()).arg_true()
        if len(bad):
            cure = "is no number; correct or remove the row"
            origin.fail(role, bad[0], values[bad[0]], cure)
        return parsed
    if values.dtype.is_numeric() or values.dtype == pl.Null:
        return values.cast(pl.Float64)
    origin.fail(role, 0, str(values.dtype), "is no type of number; convert the column to float64")


def _sides(frame: pl.DataFrame, origin: Origin) -> pl.Series:
    """Return +1 where the buyer took, -1 where the seller took, 0 unknown, null for blanks."""
    meaning: dict[int | None, list[str]]
    if "side" in frame.columns:
        role, values = "side", frame["side"]
        meaning = {1: _BUY, -1: _SELL, 0: _NEITHER, None: _BLANK}
    elif "buyer_maker" in frame.columns:
        role, values = "buyer_maker", frame["buyer_maker"]
        meaning = {-1: _TRUE, 1: _FALSE, None: [""]}
    else:
        return pl.zeros(len(frame), SCHEMA["side"], eager=True).alias("side")
    if values.dtype == pl.Boolean and role == "buyer_maker":
        code = pl.when(values).then(-1).when(~values).then(1)
        return pl.select(code.cast(SCHEMA["side"]).alias("side"))["side"]
    # The record's own codes; of a maker column 1 says true, and the seller took.
    if role == "side" and values.dtype == SCHEMA["side"] and values.is_in([-1, 0, 1]).all():
        return values
    # A column has few different texts: they are looked up, and the column by them.
    texts = values.cast(pl.String)
    codes: dict[str, int | None] = {}
    for text in texts.unique().drop_nulls():
        known = [code for code, words in meaning.items() if text.strip().lower() in words]
        if not known:
            row = int((texts == text).fill_null(value=False).arg_max() or 0)
            cure = f"says neither {meaning[1][0]} nor {meaning[-1][0]}; name another column or none"
            origin.fail(role, row, text, cure)
        codes[text] = known[0]
    return texts.replace_strict(codes, default=None, return_dtype=SCHEMA["side"])


def integer_ids(ids: pl.Series) -> pl.Series | None:
    """Return ids as int64, or None where they are not integers (UUIDs, say)."""
    is_text = ids.dtype == pl.String
    ids = ids.str.strip_chars().replace("", None) if is_text else ids
    if is_text or ids.dtype.is_integer() or ids.dtype == pl.Null:
        whole = ids.cast(pl.Int64, strict=False)
        if whole.null_count() == ids.null_count():
            return whole
    blank = ids.null_count()
    ids = ids.cast(pl.Float64, strict=False) if is_text else ids
    if not ids.dtype.is_float() or ids.null_count() != blank:
        return None
    exact = (ids.abs() < _EXACT) & (ids.floor() == ids)
    return ids.cast(pl.Int64) if exact.fill_null(value=True).all() else None
