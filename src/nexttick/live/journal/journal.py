"""What a live run did, in append-only tables that nothing can lose: SQLite in WAL mode.

A batch of trades, the predictions that follow from them and the outcomes that they settle are one
transaction. A prediction is printed after the commit that holds it, and never before.

*A kill loses nothing that was committed.* A commit has handed its pages to the system
(`synchronous=NORMAL`: no fsync), which writes them out even if the process is killed.

*A power cut loses half a second at the most*, and the time of one fsync. A second thread with a
connection of its own checkpoints every half second: it syncs the log, copies its pages to the
database and syncs that. The writer doesn't wait for it: an fsync takes 5 to 100 ms. The log's
pages carry checksums, so what was cut off while being written is left out on the next start, whole
transactions of it.

*The log is bounded.* It starts from its beginning again once a checkpoint has copied all of it,
which at high rates never happens by itself; so when it has `LOG_BYTES`, the writer checkpoints the
little that is left.

One process writes, held to that by a lock on a file beside the journal; any number may read.
One market has one journal.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from filelock import FileLock, Timeout

from nexttick.live.journal.schema import (
    PAGE_BYTES,
    Identity,
    column,
    connect,
    create_tables,
    explaining,
    identity_of,
    read_meta,
)
from nexttick.live.records import Checkpoint, Outcome, Prediction, Reset, Resumed
from nexttick.venues.messages import Gap, Message, Trade

SYNC_S = 0.5
LOG_BYTES = 64 * 2**20
_ROWS = 100_000  # read together


class Journal(AbstractContextManager["Journal"]):
    """The journal of one market, open for writing; a file is made where there is none.

    `trades` and `events` are how many it holds: the next one's number.

    Raises:
        ValueError: it is another run's, no journal, or damaged.
        RuntimeError: another process writes to it.
        OSError: it cannot be opened or made.
    """

    def __init__(
        self,
        path: Path,
        identity: Identity,
        *,
        sync_s: float = SYNC_S,
        log_bytes: int = LOG_BYTES,
    ):
        self.path, self.identity = path, identity
        self._lock = FileLock(f"{path}.lock", blocking=False)
        try:
            path.parent.stat()  # the lock would make the folder
            self._lock.acquire()
        except Timeout:
            raise RuntimeError(
                f"{path} is being written by another process: end that one first, or name another "
                f"journal"
            ) from None
        except OSError as error:
            from nexttick.ticks.writing import explained

            raise explained(error, path) from error
        with explaining(path), ExitStack() as undone:  # where it cannot be opened
            undone.callback(self._lock.release)
            db = self._db = connect(path)
            undone.callback(db.close)
            meta = read_meta(db, path)
            if meta is not None:
                identity.check(identity_of(meta), path)
            db.execute(f"PRAGMA page_size={PAGE_BYTES}")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute(f"PRAGMA wal_autocheckpoint={log_bytes // PAGE_BYTES}")
            if meta is None:
                create_tables(db, identity, time.time_ns())
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self.trades, self.events = (
                _next_number(db, f"SELECT seq FROM {table} ORDER BY seq DESC LIMIT 1")
                for table in ("trades", "events")
            )
            undone.pop_all()
        values = ", ".join("?" * (5 + len(identity.horizons)))
        self._insert_event = f"INSERT INTO events VALUES ({values})"
        self._syncing = Syncing(path, sync_s)

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(
        self,
        messages: Iterable[Message] = (),
        predictions: Sequence[Prediction] = (),
        outcomes: Iterable[Outcome] = (),
        resets: Iterable[Reset] = (),
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Add all of a batch, or, where something is wrong, nothing of it.

        After it has returned, a kill loses nothing of it. Trades and gaps come in order, as a feed
        gives them, with the predictions of the events that they complete and the outcomes that
        these settle. The newest two checkpoints are kept.

        Raises:
            TickError: a trade's id, an event or an outcome is there already.
            ValueError: the predictions do not go on from those before.
            OSError: the disk is full or fails; the batch may be given again once there is room.
            RuntimeError: another program holds the file.
        """
        for event, one in enumerate(predictions, self.events):
            if one.event != event:
                raise ValueError(
                    f"{self.path}: event {one.event} where event {event} comes next: give every "
                    f"event once and in order"
                )
        self._syncing.check()
        with explaining(self.path), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            trades: list[tuple[object, ...]] = []
            gaps: list[tuple[object, ...]] = []
            # A gap has the number of the trade after it.
            for message in messages:
                at = self.trades + len(trades)
                (gaps if isinstance(message, Gap) else trades).append((at, *message))
            self._db.executemany("INSERT INTO trades VALUES (?, ?, ?, ?, ?, ?, ?)", trades)
            self._db.executemany("INSERT INTO gaps VALUES (?, ?, ?, ?, ?, ?)", gaps)
            self._db.executemany(self._insert_event, ((*one[:5], *one.p_H) for one in predictions))
            self._db.executemany(
                "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?)", (one[:5] for one in outcomes)
            )
            self._db.executemany("INSERT INTO resets VALUES (?, ?, ?, ?)", resets)
            if checkpoint is not None:
                self._db.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?)", checkpoint)
                self._db.execute(
                    "DELETE FROM checkpoints WHERE trades NOT IN "
                    "(SELECT trades FROM checkpoints ORDER BY trades DESC LIMIT 2)"
                )
        self.trades, self.events = self.trades + len(trades), self.events + len(predictions)
        self._syncing.due = True

    def resume(self, *, older: bool = False) -> Resumed:
        """Where the last process stopped; `older` goes on from the last checkpoint but one."""
        db, horizons = self._db, self.identity.horizons
        columns = ", ".join(map(column, horizons))

        def predictions(first: int) -> list[Prediction]:
            rows = db.execute(
                f"SELECT seq, time_ns, price, trade, said_ns, {columns} FROM events "
                "WHERE seq >= ? ORDER BY seq",
                (first,),
            )
            return [
                Prediction._make((*row[:5], tuple(math.nan if p is None else p for p in row[5:])))
                for row in rows
            ]

        with explaining(self.path):
            newest_first = "SELECT * FROM checkpoints ORDER BY trades DESC LIMIT 1 OFFSET ?"
            row = db.execute(newest_first, (int(older),)).fetchone()
            checkpoint = None if row is None else Checkpoint(*row)
            trades, events = (checkpoint.trades, checkpoint.events) if checkpoint else (0, 0)
            time = db.execute("SELECT time_ns FROM events WHERE seq = ?", (events - 1,)).fetchone()
            select = f"SELECT {', '.join(Trade._fields)} FROM trades"
            last = db.execute(f"{select} ORDER BY seq DESC LIMIT 1").fetchone()
            resets = "SELECT * FROM resets WHERE trade >= ? ORDER BY rowid"
            # Sorted by the key from its end, the newest outcome of a horizon is found at once.
            newest = "SELECT event FROM outcomes WHERE horizon = ? ORDER BY event DESC LIMIT 1"
            known_H = tuple(_next_number(db, newest, h) for h in range(len(horizons)))
            return Resumed(
                None if last is None else Trade(*last),
                checkpoint,
                0 if time is None else int(time[0]),
                [Trade(*r) for r in db.execute(f"{select} WHERE seq >= ? ORDER BY seq", (trades,))],
                predictions(events),
                [Reset(*r) for r in db.execute(resets, (trades,))],
                predictions(min(known_H)),
                known_H,
            )

    def scored(self, horizon: int) -> Iterator[tuple[list[int], list[float]]]:
        """Answers and what was said at the h-th horizon, in pieces, for `LiveScores.add_many`."""
        p = column(self.identity.horizons[horizon])
        with explaining(self.path):
            cursor = self._db.execute(
                f"SELECT y, {p} FROM outcomes JOIN events ON seq = event "
                f"WHERE horizon = ? AND y >= 0 AND {p} IS NOT NULL ORDER BY event",
                (horizon,),
            )
            while piece := cursor.fetchmany(_ROWS):
                y, said = zip(*piece, strict=True)
                yield list(y), list(said)

    def close(self) -> None:
        """Bring all to the disk and let go of the file; a second call does nothing."""
        if not self._lock.is_locked:
            return
        self._syncing.stop()
        try:
            with explaining(self.path):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                self._db.close()
        finally:
            self._lock.release()


def _next_number(db: sqlite3.Connection, newest: str, *values: int) -> int:
    """What comes after the number that a query for the newest one gives; 0 where it gives none."""
    row = db.execute(newest, values).fetchone()
    return 0 if row is None else int(row[0]) + 1


class Syncing:
    """The thread that brings commits to the disk."""

    def __init__(self, path: Path, every_s: float):
        self.due = False  # whether there is something to bring
        self._path, self._every_s = path, every_s
        self._ended = threading.Event()
        self._error: sqlite3.Error | None = None
        self._thread = threading.Thread(target=self._run, name=f"sync {path.name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what the thread met, once: what is not synced is not safe."""
        error, self._error = self._error, None
        if error is not None:
            with explaining(self._path):
                raise error

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        # Two threads take turns on one connection, and the writer would wait for each fsync.
        db = connect(self._path)
        while not self._ended.wait(self._every_s):
            if self.due:
                self.due = False
                try:
                    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                except sqlite3.Error as error:
                    self._error, self.due = error, True
        db.close()
