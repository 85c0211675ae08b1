"""Which column of a file is what: recognised from names or content, or given by the user.

A column plays a *role*: `time`, `price`, `amount`, `side` (the taker's), `buyer_maker` (true: the
seller took), `id`, `truth`, `market`. Names decide where there is a header; the kinds of the
values where there is none. Recognition that is not sure is an error that shows what was seen.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from nexttick.ticks.reading.values import (
    GIVEN_FROM,
    INFERRED_FROM,
    UNITS_NS,
    dates_by_unit,
    plausible,
)
from nexttick.ticks.record import TickError

NAMES: dict[str, tuple[str, ...]] = {
    "time": (
        *("time", "timestamp", "ts", "date", "datetime", "trade_time", "exec_date", "unix"),
        *("transact_time", "created_time", "created_at", "executed_at", "unixtime", "time_ns"),
    ),
    "price": ("price", "px", "rate", "trade_price", "last_price"),
    "amount": ("amount", "size", "qty", "quantity", "volume", "vol", "trade_size"),
    "side": ("side", "taker_side", "aggressor", "aggressor_side", "taker_direction"),
    "buyer_maker": (
        *("is_buyer_maker", "buyer_maker", "is_buyer_market_maker", "buyer_is_maker"),
        *("is_buyer_the_maker", "was_buyer_maker", "buyer_market_maker"),
    ),
    "id": (
        *("id", "trade_id", "tid", "execution_id", "exec_id", "agg_trade_id", "aggregate_trade_id"),
        *("trd_match_id", "match_id"),
    ),
    "truth": ("truth",),
    "market": ("market", "symbol", "product_code", "instrument_name", "instrument_id", "pair"),
}
REQUIRED = ("time", "price", "amount")
_ROLE_OF = {name.replace("_", ""): role for role, names in NAMES.items() for name in names}

# Headerless layouts by the kinds of their columns: n a number, i an integer, t a time, b a
# boolean, x text or blank. Binance's trades and aggregated trades, spot and futures, differ so.
_LETTERS = {"int": "i", "float": "n", "bool": "b", "iso": "t", "text": "x", "blank": "x"}
_BY_KINDS: tuple[tuple[str, dict[str, int]], ...] = (
    (r"t[ni][ni]", {"time": 0, "price": 1, "amount": 2}),
    (r"t[ni][ni]x", {"time": 0, "price": 1, "amount": 2, "side": 3}),
    (r"i[ni][ni][ni]tbb?", {"id": 0, "price": 1, "amount": 2, "time": 4, "buyer_maker": 5}),
    (r"i[ni][ni]iitbb?", {"id": 0, "price": 1, "amount": 2, "time": 5, "buyer_maker": 6}),
)


@dataclass(frozen=True)
class Layout:
    """Which column of a text file is what."""

    roles: dict[str, int]  # role to column, from 0
    names: tuple[str, ...]  # the file's own, of all columns; without a header column 1, …
    kinds: tuple[str, ...]  # of each column's values, from `kind_of`
    has_header: bool


def parse_columns(columns: str | Mapping[str, str] | None) -> dict[str, str]:
    """Return role to column name from `"time=exec_date,price=px"` or a mapping.

    `ValueError` names all mistakes at once, each unknown role with the nearest one.
    """
    if columns is None:
        return {}
    if isinstance(columns, str):
        pairs = [pair.partition("=") for pair in columns.split(",") if pair.strip()]
        given = [(role.strip(), name.strip()) for role, _, name in pairs]
    else:
        given = [(role, str(name)) for role, name in columns.items()]
    roles = [role for role, _ in given]
    wrong = [f"{role!r} is no role{_nearest(role, NAMES)}" for role in roles if role not in NAMES]
    wrong += [f"{role!r} names no column" for role, name in given if not name]
    wrong += [f"{role!r} is told twice" for role in sorted(set(roles)) if roles.count(role) > 1]
    if wrong:
        example = "'time=exec_date,price=px,amount=qty'"
        raise ValueError(f"columns: {'; '.join(wrong)}; write it like {example}")
    return dict(given)


def check_time_unit(time_unit: str | None) -> None:
    """Raise `ValueError`, with the nearest unit, where the unit is none of `UNITS_NS`."""
    if time_unit is not None and time_unit not in UNITS_NS:
        near = _nearest(time_unit, UNITS_NS)
        raise ValueError(f"time_unit {time_unit!r} is none of {', '.join(UNITS_NS)}{near}")


def _nearest(name: str, names: Sequence[str] | Mapping[str, object]) -> str:
    found = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""


def recognise(
    rows: list[list[str]], given: Mapping[str, str], time_unit: str | None, file: str
) -> Layout:
    """Find out which column is what from a file's first rows, split into fields."""
    seen = "; it starts\n" + "\n".join("  " + ",".join(row) for row in rows[:3])
    first, width = rows[0], len(rows[0])
    named = {_plain(name) for name in given.values() if not name.isdigit()}
    is_known = any(_plain(name) in _ROLE_OF or _plain(name) in named for name in first)
    # Where no name is known: a first line without any number can't be a trade.
    has_header = is_known or all(kind_of([field]) in ("text", "blank") for field in first)
    values = [[row[k] for row in rows[has_header:] if k < len(row)] for k in range(width)]
    kinds = tuple(map(kind_of, values))
    if has_header:
        names = tuple(name.strip() for name in first)
        return Layout(roles_by_name(names, given, file, seen), names, kinds, has_header=True)
    names = tuple(f"column {number}" for number in range(1, width + 1))
    if given:
        wrong = [
            f"there is no header, so {role} takes a column number from 1 to {width}, not {name!r}"
            for role, name in given.items()
            if not (name.isdigit() and 1 <= int(name) <= width)
        ]
        wrong += [f"{role} is not told" for role in REQUIRED if role not in given]
        if wrong:
            _fail(file, "; ".join(wrong), seen)
        roles = {role: int(name) - 1 for role, name in given.items()}
        return Layout(roles, names, kinds, has_header=False)
    kind_text = "".join(_LETTERS[kind] for kind in kinds)
    matches = []
    for pattern, roles in _BY_KINDS:
        k = roles["time"]
        with_time = kind_text[:k] + "t" + kind_text[k + 1 :]
        is_time = k < width and (kinds[k] == "iso" or sample_unit(rows, k, time_unit))
        if is_time and re.fullmatch(pattern, with_time):
            matches.append(roles)
    if len(matches) == 1:
        return Layout(dict(matches[0]), names, kinds, has_header=False)
    what = f"there is no header, and {width} columns of {', '.join(kinds)} are no known layout"
    middle = _middle(rows, 0)
    if middle is not None and not sample_unit(rows, 0, time_unit):
        earliest = GIVEN_FROM if time_unit else INFERRED_FROM
        what += f": column 1 has no times from {earliest} to two years from now"
        what += f" ({dates_by_unit(middle)})"
    _fail(file, what, seen)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def roles_by_name(
    names: Sequence[str], given: Mapping[str, str], file: str, seen: str = ""
) -> dict[str, int]:
    """Return role to column, from 0, by the columns' names and what the user gave."""
    roles: dict[str, int] = {}
    wrong: list[str] = []
    for role, name in given.items():
        if name in names:
            roles[role] = list(names).index(name)
        else:
            wrong.append(f"there is no column {name!r} for {role}{_nearest(name, names)}")
    found: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        known = _ROLE_OF.get(_plain(name))
        if known is not None and known not in given and k not in roles.values():
            found.setdefault(known, []).append(k)
    for role, columns in found.items():
        # Two names of a market (a symbol and its pair) say nothing against each other.
        if len(columns) > 1 and role != "market":
            which = ", ".join(repr(names[k]) for k in columns)
            wrong.append(f"{which} could each be {role}")
        roles[role] = columns[0]
    if {"side", "buyer_maker"} <= roles.keys() - given.keys():
        wrong.append("there are both a side and a buyer-is-maker column")
    wrong += [f"there is no {role} column" for role in REQUIRED if role not in {*roles, *given}]
    if wrong:
        _fail(file, f"{'; '.join(wrong)}; the columns are {', '.join(map(repr, names))}", seen)
    if {"side", "buyer_maker"} <= roles.keys():
        del roles["side" if "buyer_maker" in given else "buyer_maker"]
    return roles


def _middle(rows: list[list[str]], k: int) -> float | None:
    """Return the middle value of a column's numbers."""
    fields = [row[k].strip() for row in rows if k < len(row)]
    values = sorted(float(field) for field in fields if _NUMBER.fullmatch(field))
    return values[len(values) // 2] if values else None


def sample_unit(rows: list[list[str]], k: int, time_unit: str | None = None) -> str | None:
    """Return the unit in which a column's middle value is a plausible time: the given or any."""
    middle = _middle(rows, k)
    for unit in [time_unit] if time_unit else UNITS_NS:
        first, last = plausible(unit, is_given=time_unit is not None)
        if middle is not None and first <= middle <= last:
            return unit
    return None


def _fail(file: str, what: str, seen: str) -> NoReturn:
    raise TickError(
        f"{file}: {what}{seen}\ntell which is which, as in --columns time=exec_date,price=px,"
        "amount=qty (or by number, from 1, where there is no header)"
    )


# --- kinds of values

_INT = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_ISO = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")
_BOOL = re.compile(r"true|false", re.IGNORECASE)
_NEARLY_ALL = 0.7


def kind_of(values: Sequence[str]) -> str:
    """Return blank, int, float, bool, iso or text: the narrowest kind of nearly all values.

    A few others don't change the layout; the reader finds their lines.
    """
    filled = [value.strip() for value in values if value.strip()]
    if not filled:
        return "blank"
    kinds = (("int", _INT), ("float", _NUMBER), ("bool", _BOOL), ("iso", _ISO))
    for kind, pattern in kinds:
        if sum(bool(pattern.fullmatch(value)) for value in filled) >= _NEARLY_ALL * len(filled):
            return kind
    return "text"
