"""A journal read back: what it holds, as tables and as scores."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl

from nexttick.live.journal.schema import Identity, column, explaining, read_meta
from nexttick.scores.bootstrap import Estimate
from nexttick.scores.intervals import evaluate

_ROWS = 200_000  # read together
_ENOUGH = 500  # events for an interval


@contextmanager
def reading(path: Path) -> Iterator[tuple[sqlite3.Connection, dict[str, Any]]]:
    """A journal as it stands now, whatever is written meanwhile, and what it says of itself.

    Raises:
        ValueError: there is no such file, or it is no journal.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file: name a journal made by nexttick live")
    with explaining(path):
        db = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro{_alone(path)}", uri=True, isolation_level=None
        )
        try:
            db.execute("BEGIN")  # one view for all that is read
            meta = read_meta(db, path)
            if meta is None:
                raise ValueError(f"{path} is empty: no process has begun a journal there")
            yield db, meta
        finally:
            db.close()


def _alone(path: Path) -> str:
    """A journal that nobody can write to is read without the files that readers else share."""
    written = path.with_name(f"{path.name}-wal").exists()
    return "" if written or os.access(path.parent, os.W_OK) else "&immutable=1"


def describe(db: sqlite3.Connection, meta: dict[str, Any]) -> dict[str, Any]:
    """What a journal holds, scores apart; times in ns."""
    ticks, first_ns, last_ns = _one(db, "SELECT count(*), min(time_ns), max(time_ns) FROM trades")
    (events,) = _one(db, "SELECT count(*) FROM events")
    said = " OR ".join(f"{column(name)} IS NOT NULL" for name in meta["horizons"])
    (predicted,) = _one(db, f"SELECT count(*) FROM events WHERE {said}")
    return {
        **{key: meta[key] for key in ("source", "symbol", "fingerprint", "run", "horizons")},
        "started_ns": meta["started_ns"],
        "ticks": ticks,
        "first_ns": first_ns,
        "last_ns": last_ns,
        "events": events,
        "predicted": predicted,
        "gaps": _dicts(db, "SELECT since_ns, until_ns, reason FROM gaps ORDER BY rowid"),
        "resets": _dicts(db, "SELECT event, time_ns, reason FROM resets ORDER BY rowid"),
    }


def read_table(db: sqlite3.Connection, identity: Identity) -> pl.DataFrame:
    """Every event with what was said of it and what came true.

    Returns:
        `event`, `time`, `price`, `said` (when, ns), and for each horizon `p_rise@h` (null where
        nothing was said), `y_rise@h` (1, 0, -1 where there is no answer, null while one waits),
        `tie_rise@h` and `known_rise@h` (when, ns; null where never).
    """
    schema: dict[str, Any] = dict.fromkeys(("event", "time", "price", "said"), pl.Int64)
    schema["price"] = pl.Float64
    columns, joins = ["e.seq", "e.time_ns", "e.price", "e.said_ns"], ""
    for h, name in enumerate(identity.horizons):
        schema |= {f"p_{name}": pl.Float32, f"y_{name}": pl.Int8, f"tie_{name}": pl.Int8}
        schema[f"known_{name}"] = pl.Int64
        columns += [f"e.{column(name)}", f"o{h}.y", f"o{h}.tie"]
        columns.append(f"iif(o{h}.known_ns < {np.iinfo(np.int64).max}, o{h}.known_ns, NULL)")
        joins += f" LEFT JOIN outcomes o{h} ON o{h}.event = e.seq AND o{h}.horizon = {h}"
    cursor = db.execute(f"SELECT {', '.join(columns)} FROM events e{joins} ORDER BY e.seq")
    pieces = [pl.DataFrame(schema=schema)]
    while rows := cursor.fetchmany(_ROWS):
        pieces.append(pl.DataFrame(rows, schema=schema, orient="row"))
    ties = pl.col([f"tie_{name}" for name in identity.horizons]).cast(pl.Boolean)
    return pl.concat(pieces).with_columns(ties)


def score(table: pl.DataFrame, identity: Identity) -> dict[str, dict[str, Any]]:
    """Scores of each horizon over the training part's base rate, as `nexttick test` has them.

    Returns:
        By horizon `n`, `waiting`, `missing` (events without an answer) and, where there is one,
        each score as `[value, low, high]`; low and high are nan where events are too few.
    """
    rates = zip(identity.horizons, identity.base_rates, strict=True)
    return {name: _score_one(table, name, rate) for name, rate in rates}


def _score_one(table: pl.DataFrame, name: str, base_rate: float) -> dict[str, Any]:
    y = table[f"y_{name}"]
    told: dict[str, Any] = {
        "n": 0,
        "waiting": y.null_count(),
        "missing": int((y == -1).sum()),
    }
    known = table.filter((y >= 0) & table[f"p_{name}"].is_not_null())
    if known.is_empty():
        return told
    rise = known[f"y_{name}"].to_numpy()
    sign = np.where(rise == 1, 1, np.where(known[f"tie_{name}"].to_numpy(), 0, -1))
    p_by = {"live": known[f"p_{name}"].to_numpy(), "base_rate": np.full(len(known), base_rate)}
    judged = evaluate(rise, p_by, sign=sign)
    estimates = judged.intervals("live")
    if len(known) < _ENOUGH:
        nan = float("nan")
        estimates = {key: Estimate(one.value, nan, nan) for key, one in estimates.items()}
    return told | {"n": len(known)} | {key: list(one) for key, one in estimates.items()}


def _one(db: sqlite3.Connection, query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] = db.execute(query).fetchone()
    return row


def _dicts(db: sqlite3.Connection, query: str) -> list[dict[str, Any]]:
    cursor = db.execute(query)
    names = [one[0] for one in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
