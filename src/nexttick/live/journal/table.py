"""A journal read back: what it holds, as tables and as scores."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl

from nexttick.live.journal.schema import Identity, column, explaining, identity_of, read_meta

_ROWS = 200_000  # read together
_ENOUGH = 500  # events for an interval


@dataclass(frozen=True)
class View:
    """A journal as it stood at one instant."""

    db: sqlite3.Connection  # that sees that instant
    meta: dict[str, Any]  # what the journal says of itself

    @property
    def identity(self) -> Identity:
        """Whose it is."""
        return identity_of(self.meta)

    def describe(self) -> dict[str, Any]:
        """What it holds, scores apart; times in ns."""

        def one(query: str) -> tuple[Any, ...]:
            row: tuple[Any, ...] = self.db.execute(query).fetchone()
            return row

        def rows(query: str) -> list[dict[str, Any]]:
            cursor = self.db.execute(query)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

        ticks, first_ns, last_ns = one("SELECT count(*), min(time_ns), max(time_ns) FROM trades")
        said = " OR ".join(f"{column(name)} IS NOT NULL" for name in self.meta["horizons"])
        kept = ("source", "symbol", "fingerprint", "run", "horizons", "started_ns")
        return {
            **{key: self.meta[key] for key in kept},
            "ticks": ticks,
            "first_ns": first_ns,
            "last_ns": last_ns,
            "events": one("SELECT count(*) FROM events")[0],
            "predicted": one(f"SELECT count(*) FROM events WHERE {said}")[0],
            "gaps": rows("SELECT since_ns, until_ns, reason FROM gaps ORDER BY rowid"),
            "resets": rows("SELECT event, time_ns, reason FROM resets ORDER BY rowid"),
        }

    def events(self) -> pl.DataFrame:
        """Every event with what was said of it and what came true.

        Returns:
            `event`, `time`, `price`, `said` (when, ns), and for each horizon `p_rise@h` (null
            where nothing was said), `y_rise@h` (1, 0, -1 where there is no answer, null while one
            waits), `tie_rise@h` and `known_rise@h` (when, ns; null where never).
        """
        schema: dict[str, Any] = dict.fromkeys(("event", "time", "price", "said"), pl.Int64)
        schema["price"] = pl.Float64
        columns, joins = ["e.seq", "e.time_ns", "e.price", "e.said_ns"], ""
        horizons = self.identity.horizons
        for h, name in enumerate(horizons):
            schema |= {f"p_{name}": pl.Float32, f"y_{name}": pl.Int8, f"tie_{name}": pl.Int8}
            schema[f"known_{name}"] = pl.Int64
            columns += [f"e.{column(name)}", f"o{h}.y", f"o{h}.tie"]
            columns.append(f"iif(o{h}.known_ns < {np.iinfo(np.int64).max}, o{h}.known_ns, NULL)")
            joins += f" LEFT JOIN outcomes o{h} ON o{h}.event = e.seq AND o{h}.horizon = {h}"
        cursor = self.db.execute(f"SELECT {', '.join(columns)} FROM events e{joins} ORDER BY e.seq")
        pieces = [pl.DataFrame(schema=schema)]
        while rows := cursor.fetchmany(_ROWS):
            pieces.append(pl.DataFrame(rows, schema=schema, orient="row"))
        ties = pl.col([f"tie_{name}" for name in horizons]).cast(pl.Boolean)
        return pl.concat(pieces).with_columns(ties)


@contextmanager
def reading(path: Path) -> Iterator[View]:
    """A journal as it stands now, whatever is written meanwhile; what is none is a ValueError."""
    if not path.is_file():
        raise ValueError(f"{path} is no file: name a journal made by nexttick live")
    # A journal that nobody can write to is read without the files that readers else share.
    shared = path.with_name(f"{path.name}-wal").exists() or os.access(path.parent, os.W_OK)
    address = f"file:{quote(str(path))}?mode=ro{'' if shared else '&immutable=1'}"
    with explaining(path), closing(sqlite3.connect(address, uri=True, isolation_level=None)) as db:
        db.execute("BEGIN")  # one view for all that is read
        meta = read_meta(db, path)
        if meta is None:
            raise ValueError(f"{path} is empty: no process has begun a journal there")
        yield View(db, meta)


def score(events: pl.DataFrame, identity: Identity) -> dict[str, dict[str, Any]]:
    """Scores of each horizon over the training part's base rate, as `nexttick test` has them.

    Returns:
        By horizon `n`, `waiting`, `missing` (events without an answer) and, where there is one,
        each score as `[value, low, high]`; low and high are nan where events are too few.
    """
    from nexttick.scores.intervals import evaluate  # numba, which a wrong name does not wait for

    scores: dict[str, dict[str, Any]] = {}
    for name, base_rate in zip(identity.horizons, identity.base_rates, strict=True):
        y = events[f"y_{name}"]
        known = events.filter((y >= 0) & events[f"p_{name}"].is_not_null())
        counts = {"n": len(known), "waiting": y.null_count(), "missing": int((y == -1).sum())}
        scores[name] = counts
        if known.is_empty():
            continue
        rise = known[f"y_{name}"].to_numpy()
        sign = np.where(rise == 1, 1, np.where(known[f"tie_{name}"].to_numpy(), 0, -1))
        p_by = {"live": known[f"p_{name}"].to_numpy(), "base_rate": np.full(len(known), base_rate)}
        estimates = evaluate(rise, p_by, sign=sign).intervals("live")
        if len(known) < _ENOUGH:
            nan = float("nan")
            estimates = {key: one._replace(low=nan, high=nan) for key, one in estimates.items()}
        scores[name] |= {key: list(one) for key, one in estimates.items()}
    return scores
