"""Reading a journal back: where a process stopped, record by record."""

from __future__ import annotations

import math
import sqlite3
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

    @classmethod
    def read(cls, db: sqlite3.Connection, identity: Identity, *, older: bool) -> Resumed:
        """From a journal; `older` goes on from its last checkpoint but one."""

        def predictions(first: int) -> list[Prediction]:
            columns = ", ".join(map(column, identity.horizons))
            rows = db.execute(
                f"SELECT seq, time_ns, price, trade, said_ns, {columns} FROM events "
                "WHERE seq >= ? ORDER BY seq",
                (first,),
            )
            return [
                Prediction._make((*row[:5], tuple(math.nan if p is None else p for p in row[5:])))
                for row in rows
            ]

        row = db.execute(
            "SELECT * FROM checkpoints ORDER BY trades DESC LIMIT 1 OFFSET ?", (int(older),)
        ).fetchone()
        checkpoint = None if row is None else Checkpoint(*row)
        trades, events = (checkpoint.trades, checkpoint.events) if checkpoint else (0, 0)
        time = db.execute("SELECT time_ns FROM events WHERE seq = ?", (events - 1,)).fetchone()
        select = f"SELECT {', '.join(Trade._fields)} FROM trades"
        last = db.execute(f"{select} ORDER BY seq DESC LIMIT 1").fetchone()
        # Sorted by the key from its end, the newest outcome of a horizon is found at once.
        newest = "SELECT event FROM outcomes WHERE horizon = ? ORDER BY event DESC LIMIT 1"
        known_H = tuple(next_number(db, newest, h) for h in range(len(identity.horizons)))
        return cls(
            None if last is None else Trade(*last),
            checkpoint,
            0 if time is None else int(time[0]),
            [Trade(*r) for r in db.execute(f"{select} WHERE seq >= ? ORDER BY seq", (trades,))],
            predictions(events),
            [
                Reset(*r)
                for r in db.execute(
                    "SELECT * FROM resets WHERE trade >= ? ORDER BY rowid", (trades,)
                )
            ],
            predictions(min(known_H)),
            known_H,
        )


def next_number(db: sqlite3.Connection, newest: str, *values: int) -> int:
    """What comes after the number that a query for the newest one gives; 0 where it gives none."""
    row = db.execute(newest, values).fetchone()
    return 0 if row is None else int(row[0]) + 1
