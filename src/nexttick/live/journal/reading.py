"""Reading a journal back: where a process stopped, record by record."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from nexttick.live.journal.schema import Identity, column
from nexttick.live.records import Checkpoint, Prediction, Reset
from nexttick.venues.messages import Trade


@dataclass(frozen=True)
class Resumed:
    """Where an earlier process stopped.

    Attributes:
        last_trade: to ask the feed for what came after it; None where there is none.
        checkpoint: the state to go on from; None where there is none.
        last_event_ns: time of the last event that the checkpoint includes, 0 where there is none.
        trades: those that the checkpoint does not include, to be taken in again; all of them where
            there is no checkpoint.
        predictions: what was said of the events that end with these trades, not to be said again.
        resets: those after the checkpoint, to be repeated.
        waiting: events from the first that waits for an outcome on, for `OutcomeTracker.rebuild`.
        known_H: how many events have their outcome at each horizon, the first ones.
    """

    last_trade: Trade | None
    checkpoint: Checkpoint | None
    last_event_ns: int
    trades: list[Trade]
    predictions: list[Prediction]
    resets: list[Reset]
    waiting: list[Prediction]
    known_H: tuple[int, ...]


def read_resumed(db: sqlite3.Connection, identity: Identity, *, older: bool) -> Resumed:
    """Where the last process stopped.

    Args:
        db: the journal.
        identity: whose it is.
        older: go on from the last checkpoint but one.
    """
    last = _trades(db, "ORDER BY seq DESC LIMIT 1")
    checkpoint = _checkpoint(db, 1 if older else 0)
    trades, events = (checkpoint.trades, checkpoint.events) if checkpoint else (0, 0)
    known_H = tuple(_known(db, h) for h in range(len(identity.horizons)))
    return Resumed(
        last[0] if last else None,
        checkpoint,
        _time_of(db, events - 1),
        _trades(db, "WHERE seq >= ? ORDER BY seq", trades),
        _predictions(db, identity, events),
        _resets(db, trades),
        _predictions(db, identity, min(known_H)),
        known_H,
    )


def count(db: sqlite3.Connection, table: str) -> int:
    """Rows of a table whose numbers go up from 0 without a hole."""
    (last,) = db.execute(f"SELECT max(seq) FROM {table}").fetchone()
    return 0 if last is None else int(last) + 1


def _time_of(db: sqlite3.Connection, event: int) -> int:
    row = db.execute("SELECT time_ns FROM events WHERE seq = ?", (event,)).fetchone()
    return 0 if row is None else int(row[0])


def _trades(db: sqlite3.Connection, which: str, *values: int) -> list[Trade]:
    columns = ", ".join(Trade._fields)
    rows = db.execute(f"SELECT {columns} FROM trades {which}", values)
    return [Trade(*row) for row in rows]


def _predictions(db: sqlite3.Connection, identity: Identity, first: int) -> list[Prediction]:
    columns = ", ".join(map(column, identity.horizons))
    rows = db.execute(
        f"SELECT seq, time_ns, price, trade, said_ns, {columns} FROM events "
        "WHERE seq >= ? ORDER BY seq",
        (first,),
    )
    return [Prediction._make((*row[:5], tuple(map(_or_nan, row[5:])))) for row in rows]


def _or_nan(p: float | None) -> float:
    return math.nan if p is None else p


def _resets(db: sqlite3.Connection, first: int) -> list[Reset]:
    rows = db.execute("SELECT * FROM resets WHERE trade >= ? ORDER BY rowid", (first,))
    return [Reset(*row) for row in rows]


def _checkpoint(db: sqlite3.Connection, skipped: int) -> Checkpoint | None:
    row = db.execute(
        "SELECT * FROM checkpoints ORDER BY trades DESC LIMIT 1 OFFSET ?", (skipped,)
    ).fetchone()
    return None if row is None else Checkpoint(*row)


def _known(db: sqlite3.Connection, horizon: int) -> int:
    """Events with an outcome; the newest one is near the end, so the search is short."""
    row = db.execute(
        "SELECT event FROM outcomes WHERE horizon = ? ORDER BY event DESC LIMIT 1", (horizon,)
    ).fetchone()
    return 0 if row is None else int(row[0]) + 1


def read_scored(
    db: sqlite3.Connection, identity: Identity, horizon: int, rows: int = 100_000
) -> Iterator[tuple[list[int], list[float]]]:
    """Answers and what was said at the h-th horizon, in order and in pieces.

    Args:
        db: the journal.
        identity: whose it is.
        horizon: its number.
        rows: in a piece.
    """
    p = column(identity.horizons[horizon])
    cursor = db.execute(
        f"SELECT y, {p} FROM outcomes JOIN events ON seq = event "
        f"WHERE horizon = ? AND y >= 0 AND {p} IS NOT NULL ORDER BY event",
        (horizon,),
    )
    while piece := cursor.fetchmany(rows):
        y, said = zip(*piece, strict=True)
        yield list(y), list(said)
