"""From a file's values to the record's: times in any unit, sides, ids, numbers as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import polars as pl

from nexttick.ticks.record import SCHEMA, TickError, latest_ns, year_ns

UNITS_NS: dict[str, int] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
INFERRED_FROM = 2009  # bitcoin's first year: earlier dates only where the unit is told
TOLD_FROM = 1990
_BUY = ["buy", "b", "buyer", "bought", "1", "+1", "1.0"]
_SELL = ["sell", "s", "seller", "sold", "-1", "-1.0"]
_NEITHER = ["0", "0.0"]
_NOT_TOLD = ["", "any", "none", "null", "nan", "unknown", "n"]
_TRUE, _FALSE = ["true", "t", "1", "1.0"], ["false", "f", "0", "0.0"]
_EXACT = 2**53  # integers beyond are not exact in a float64
_ZONE = r"(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"


@dataclass(frozen=True)
class Origin:
    """Where values come from, for errors.

    Attributes:
        file: Name of the file.
        columns: The file's own name of each role's column.
        first_line: Line of the first row.
        time_unit: One of `UNITS_NS`, or None to infer it.
    """

    file: str
    columns: dict[str, str]
    first_line: int
    time_unit: str | None = None

    def fail(self, role: str, row: int, value: object, cure: str) -> NoReturn:
        """Raise the `TickError` of one bad value; `row` counts from 0."""
        line, column = self.first_line + row, self.columns.get(role, role)
        raise TickError(f"{self.file}, line {line}, column {column!r}: {value!r} {cure}")


@dataclass(frozen=True)
class Raw:
    """A file's columns as they stood there, named by role.

    Attributes:
        frame: Columns `time`, `price`, `amount`, and maybe `side`, `buyer_maker`, `id`, `truth`
            and `market`, of any type.
        origin: Where they come from, and the unit of times where it was told.
    """

    frame: pl.DataFrame
    origin: Origin


def to_record(raw: Raw) -> tuple[pl.DataFrame, int, list[str]]:
    """Turn a file's columns into the record's.

    Returns:
        The record, with nulls for blanks; the earliest plausible time in ns; and remarks for the
        set-aside table.
    """
    remarks: list[str] = []
    frame, origin = raw.frame, raw.origin
    time_ns, earliest_ns = times_to_ns(frame["time"], origin, remarks)
    record = {
        "time": time_ns,
        "price": numbers(frame["price"], "price", origin),
        "amount": numbers(frame["amount"], "amount", origin),
        "side": sides(frame, origin),
    }
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


def times_to_ns(times: pl.Series, origin: Origin, remarks: list[str]) -> tuple[pl.Series, int]:
    """Return times in ns since 1970, UTC, and the earliest plausible one."""
    if isinstance(times.dtype, pl.Datetime):
        if times.dtype.time_zone is None:
            remarks.append("times without a zone: read as UTC")
        told = times.dt.cast_time_unit("ns").to_physical()
        return _plausible_times(told, "ns", origin), year_ns(TOLD_FROM)
    if times.dtype == pl.String:
        return _text_times(times.str.strip_chars(), origin, remarks)
    if times.dtype.is_integer():
        return _scaled(times.cast(pl.Int64), origin)
    if times.dtype.is_float():
        return _scaled_floats(times.cast(pl.Float64), origin)
    cure = "is no time; expected integers, ISO 8601 or date-times"
    origin.fail("time", 0, str(times.dtype), cure)


def _scaled(times: pl.Series, origin: Origin) -> tuple[pl.Series, int]:
    unit = origin.time_unit or infer_unit(times, origin)
    # A time that is out of range in its unit could overflow; minus one is set aside as well.
    limit = latest_ns() // UNITS_NS[unit]
    if times.len() and not (times.min() >= 0 and times.max() <= limit):  # type: ignore[operator]
        safe = pl.when(times.is_between(0, limit) | times.is_null()).then(times).otherwise(-1)
        times = pl.select(safe.alias("time"))["time"]
    scaled = times if unit == "ns" else times * UNITS_NS[unit]
    if origin.time_unit:
        return _plausible_times(scaled, unit, origin), year_ns(TOLD_FROM)
    return scaled, year_ns(INFERRED_FROM)


def infer_unit(times: pl.Series, origin: Origin) -> str:
    """Return the one unit that puts the times between 2009 and two years from now.

    The middle one decides, so a few zeros do no harm; rows out of range are set aside later.
    Rows that would be in range in another unit are an error: the file mixes units.
    """
    if times.null_count() == times.len():
        raise TickError(f"{origin.file}, column {origin.columns['time']!r}: there are no times")
    lowest, highest = times.min(), times.max()
    for unit in UNITS_NS:
        if _in_range(lowest, unit) and _in_range(highest, unit):
            return unit
    middle = times.drop_nulls().sort()[(times.len() - times.null_count()) // 2]
    units = [unit for unit in UNITS_NS if _in_range(middle, unit)]
    if not units:
        _fail_unit(times, middle, origin)
    _check_one_unit(times, units[0], origin)
    return units[0]


def plausible(unit: str, *, told: bool) -> tuple[int, int]:
    """Return the first and last plausible time in a unit."""
    first = year_ns(TOLD_FROM if told else INFERRED_FROM)
    return first // UNITS_NS[unit], latest_ns() // UNITS_NS[unit]


def _in_range(time: object, unit: str) -> bool:
    first, last = plausible(unit, told=False)
    return first <= float(time) <= last  # type: ignore[arg-type]


def _fail_unit(times: pl.Series, middle: object, origin: Origin) -> NoReturn:
    row = int((times == middle).fill_null(value=False).arg_max() or 0)
    cure = (
        f"is in no unit a time from {INFERRED_FROM} to two years from now "
        f"({dates_by_unit(middle)}); name the "
        "right column (--columns time=NAME) or the unit (--time-unit s, ms, us or ns)"
    )
    origin.fail("time", row, middle, cure)


def dates_by_unit(time: object) -> str:
    """Return the date that a number would be in each unit, for errors."""
    return ", ".join(f"{unit}: {_date(time, unit)}" for unit in UNITS_NS)


def _date(time: object, unit: str) -> str:
    seconds = float(time) * UNITS_NS[unit] / 1e9  # type: ignore[arg-type]
    return str(np.datetime64(int(seconds), "s"))[:10] if abs(seconds) < 2e11 else "far off"


def _check_one_unit(times: pl.Series, unit: str, origin: Origin) -> None:
    for other in UNITS_NS.keys() - {unit}:
        factor = UNITS_NS[other]
        first, last = year_ns(INFERRED_FROM) / factor, latest_ns() / factor
        rows = times.is_between(first, last).fill_null(value=False).arg_true()
        if len(rows):
            cure = f"looks like {other}, most others like {unit}; split the file by unit"
            origin.fail("time", rows[0], times[rows[0]], cure)


def _plausible_times(time_ns: pl.Series, unit: str, origin: Origin) -> pl.Series:
    """Refuse a column whose middle time is out of range though its unit is known."""
    known = time_ns.drop_nulls()
    if known.is_empty():
        raise TickError(f"{origin.file}, column {origin.columns['time']!r}: there are no times")
    first, last = year_ns(TOLD_FROM), latest_ns()
    if known.min() >= first and known.max() <= last:  # type: ignore[operator]
        return time_ns
    middle = known.sort()[known.len() // 2]
    if not first <= middle <= last:
        row = int((time_ns == middle).fill_null(value=False).arg_max() or 0)
        value = middle // UNITS_NS[unit]
        cure = f"is no time from {TOLD_FROM} on in {unit}; name the right column or unit"
        origin.fail("time", row, value, cure)
    return time_ns


def _scaled_floats(times: pl.Series, origin: Origin) -> tuple[pl.Series, int]:
    """Scale float times; a float64 holds today's seconds to some 0.2 µs, so round to 1 µs."""
    times = times.fill_nan(None)
    unit = origin.time_unit or infer_unit(times, origin)
    scale = UNITS_NS[unit] / 1e3
    micros = (times * scale).round().clip(-1, latest_ns() / 1e3 + 1).cast(pl.Int64)
    if origin.time_unit:
        return _plausible_times(micros * 1000, unit, origin), year_ns(TOLD_FROM)
    return micros * 1000, year_ns(INFERRED_FROM)


def _text_times(times: pl.Series, origin: Origin, remarks: list[str]) -> tuple[pl.Series, int]:
    filled = times.replace("", None)
    known = filled.drop_nulls()
    if known.is_empty():
        raise TickError(f"{origin.file}, column {origin.columns['time']!r}: there are no times")
    if known.str.contains(r"^\d{4}-\d\d-\d\d").any():
        return _iso_times(filled, origin, remarks), year_ns(TOLD_FROM)
    return _decimal_times(filled, origin)


def _iso_times(times: pl.Series, origin: Origin, remarks: list[str]) -> pl.Series:
    zoned = times.str.contains(_ZONE)
    # A date alone ends in what looks like a zone.
    if not zoned.all() or times.str.len_chars().min() == 10:
        has_clock = times.str.contains(r"\d\d:\d\d")
        remarks.append("times without a zone: read as UTC")
        text = (
            pl.when(zoned & has_clock).then(times).otherwise(times.str.strip_suffix(" UTC") + "Z")
        )
        times = pl.select(text.alias("time"))["time"]
    parsed = times.str.to_datetime("%+", time_unit="ns", time_zone="UTC", strict=False)
    bad = (parsed.is_null() & times.is_not_null()).arg_true()
    if len(bad):
        origin.fail("time", bad[0], times[bad[0]], "is no ISO 8601 time; correct or remove the row")
    return _plausible_times(parsed.to_physical(), "ns", origin)


def _decimal_times(times: pl.Series, origin: Origin) -> tuple[pl.Series, int]:
    """Read times as decimal text exactly, as 1534131395.123456789 has more than a float64 holds."""
    bad = (~times.str.contains(r"^\d+(\.\d*)?$")).fill_null(value=False).arg_true()
    if len(bad):
        cure = "is no time; expected a number or ISO 8601"
        origin.fail("time", bad[0], times[bad[0]], cure)
    pieces = times.str.split_exact(".", 1).struct.unnest()
    whole = pieces.to_series(0).cast(pl.Int64, strict=False)
    unit = origin.time_unit or infer_unit(whole, origin)
    digits = len(str(UNITS_NS[unit])) - 1
    scaled, earliest_ns = _scaled(whole, Origin(**{**vars(origin), "time_unit": unit}))
    if not origin.time_unit:
        earliest_ns = year_ns(INFERRED_FROM)
    if digits == 0:
        return scaled, earliest_ns
    fraction = pieces.to_series(1).fill_null("").str.pad_end(digits, "0").str.slice(0, digits)
    return scaled + fraction.cast(pl.Int64), earliest_ns


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


def sides(frame: pl.DataFrame, origin: Origin) -> pl.Series:
    """Return +1 where the buyer took, -1 where the seller took, 0 unknown, null for blanks."""
    if "side" in frame.columns:
        meaning = {1: _BUY, -1: _SELL, 0: _NEITHER, None: _NOT_TOLD}
        return _matched(frame["side"], "side", meaning, origin)
    if "buyer_maker" in frame.columns:
        flags = frame["buyer_maker"]
        if flags.dtype == pl.Boolean:
            code = pl.when(flags).then(-1).when(~flags).then(1)
            return pl.select(code.cast(SCHEMA["side"]).alias("side"))["side"]
        flag_meaning = {-1: _TRUE, 1: _FALSE, None: [""]}
        return _matched(flags, "buyer_maker", flag_meaning, origin)
    return pl.zeros(len(frame), SCHEMA["side"], eager=True).alias("side")


def _matched(
    values: pl.Series, role: str, meaning: Mapping[int | None, list[str]], origin: Origin
) -> pl.Series:
    """Translate the few different texts of a column, then the column by them."""
    if values.dtype == SCHEMA["side"] and values.is_in([-1, 0, 1]).all():
        return values
    texts = values.cast(pl.String)
    distinct = texts.unique().drop_nulls()
    code: dict[str, int | None] = {}
    for text in distinct:
        codes = [k for k, words in meaning.items() if text.strip().lower() in words]
        if not codes:
            row = int((texts == text).fill_null(value=False).arg_max() or 0)
            cure = f"says neither {meaning[1][0]} nor {meaning[-1][0]}; name another column or none"
            origin.fail(role, row, text, cure)
        code[text] = codes[0]
    return texts.replace_strict(code, default=None, return_dtype=SCHEMA["side"])


def integer_ids(ids: pl.Series) -> pl.Series | None:
    """Return ids as int64, or None where they are not integers (UUIDs, say)."""
    if ids.dtype.is_integer() or ids.dtype == pl.Null:
        return ids.cast(pl.Int64)
    if ids.dtype == pl.String:
        text = ids.str.strip_chars().replace("", None)
        whole = text.cast(pl.Int64, strict=False)
        if whole.null_count() == text.null_count():
            return whole
        ids = text.cast(pl.Float64, strict=False)
        if ids.null_count() != text.null_count():
            return None
    if not ids.dtype.is_float():
        return None
    exact = (ids.abs() < _EXACT) & (ids.floor() == ids)
    return ids.cast(pl.Int64) if exact.fill_null(value=True).all() else None
