"""What `nexttick journal` does: what a journal holds, how good it was, and a table of it all."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl
from rich.box import SIMPLE_HEAD
from rich.table import Table

from nexttick import screen
from nexttick.bootstrap import Estimate
from nexttick.evaluation import evaluate
from nexttick.live.journal_schema import Identity, column, explaining, identity_of, read_meta
from nexttick.writing import check_table_path, with_nulls, write_table

_ROWS = 200_000  # read together
_ENOUGH = 500  # events for an interval
_LISTED = 10  # gaps and resets that are printed
_SHOWN = (*screen.COLUMNS, "ece")


def journal(file: Path, export: Path | None, *, as_json: bool) -> None:
    """`nexttick journal`: describe, score, export; also while a process writes to it."""
    if export is not None:
        check_table_path(export)
    with reading(file) as (db, meta):
        told, table = describe(db, meta), read_table(db, identity_of(meta))
    told["scores"] = score(table, identity_of(meta))
    if export is not None:
        write_table(table, export)
    if as_json:
        screen.say(json.dumps(with_nulls(told), indent=1, allow_nan=False))
        return
    _show(told)
    if export is not None:
        screen.say(f"{len(table):,} events written to {export}")


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


def _show(told: dict[str, Any]) -> None:
    screen.show_description(
        {
            "market": f"{told['source']} {told['symbol']}",
            "predictor": f"{told['fingerprint'][:12]} ({told['run'] or 'run not told'})",
            "started": _utc(told["started_ns"]),
            "ticks": told["ticks"],
            "from": _utc(told["first_ns"]),
            "to": _utc(told["last_ns"]),
            "events": told["events"],
            "predicted": told["predicted"],
            "gaps": len(told["gaps"]),
            "resets": len(told["resets"]),
        }
    )
    for gap in told["gaps"][-_LISTED:]:
        since, until = _utc(gap["since_ns"]), _utc(gap["until_ns"])
        screen.say(f"gap    {since} to {until}: {gap['reason']}")
    for reset in told["resets"][-_LISTED:]:
        screen.say(f"reset  {_utc(reset['time_ns'])}: {reset['reason']}")
    screen.console.print(_scores_table(told["scores"]))
    for name, scores in told["scores"].items():
        screen.say(
            f"{name}: {scores['n']:,} events scored, {scores['waiting']:,} waiting, "
            f"{scores['missing']:,} without an answer (gaps, resets, ties left out)"
        )


def _scores_table(scores: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in scores:
        table.add_column(name, justify="right", no_wrap=True)
    for key in _SHOWN:
        label = screen.COLUMNS.get(key, "calibration error")
        table.add_row(label, *(_cell(one.get(key)) for one in scores.values()))
    return table


def _cell(estimate: list[float] | None) -> str:
    if estimate is None or not np.isfinite(estimate[0]):
        return "none"
    value, low, high = estimate
    return f"{value:.4f}" + (f" [{low:.4f}, {high:.4f}]" if np.isfinite(low) else "")


def _utc(time_ns: int | None) -> str:
    return "none" if time_ns is None else f"{str(np.datetime64(time_ns, 'ns'))[:23]} UTC"
