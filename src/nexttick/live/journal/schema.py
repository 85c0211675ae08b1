"""The tables of a journal, whose it is, and what SQLite's errors mean to the user."""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

FORMAT = 1
PAGE_BYTES = 1024  # each commit rewrites the last page of each table: small ones make a small log
_BUSY_S = 5.0  # as long as a writer waits for another program before it gives up

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE trades (
    seq INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, price REAL NOT NULL, amount REAL NOT NULL,
    side INTEGER NOT NULL, id INTEGER NOT NULL, arrived_ns INTEGER NOT NULL) STRICT;
CREATE UNIQUE INDEX trades_by_id ON trades (id, time_ns) WHERE id >= 0;
CREATE TABLE gaps (
    trade INTEGER NOT NULL, since_ns INTEGER NOT NULL, until_ns INTEGER NOT NULL,
    after_id INTEGER NOT NULL, before_id INTEGER NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE TABLE resets (
    trade INTEGER NOT NULL, event INTEGER NOT NULL, time_ns INTEGER NOT NULL,
    reason TEXT NOT NULL) STRICT;
CREATE TABLE outcomes (
    event INTEGER NOT NULL, horizon INTEGER NOT NULL, y INTEGER NOT NULL, tie INTEGER NOT NULL,
    known_ns INTEGER NOT NULL, PRIMARY KEY (event, horizon)) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints (
    trades INTEGER PRIMARY KEY, events INTEGER NOT NULL, state BLOB NOT NULL) STRICT;
"""

_SYSTEM_ERRORS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_CANTOPEN: errno.ENOENT,
}


@dataclass(frozen=True)
class Identity:
    """Whose trades and predictions a journal holds; another one's are refused."""

    fingerprint: str  # of the predictor
    source: str  # where the trades come from, e.g. `binance`
    symbol: str  # as ccxt writes it
    horizons: tuple[str, ...]  # H names, `rise@h`
    ties: str  # `down` or `skip`
    smooth: bool
    max_gap_ns: int  # a longer pause ends a segment
    raw_ticks: bool  # whether each tick is an event of its own
    base_rates: tuple[float, ...]  # share of rises in the training part at each horizon
    run: str = field(default="", compare=False)  # the run folder, which may move

    def check(self, found: Identity, path: Path) -> None:
        """Refuse the journal of another predictor, source or symbol, naming all that differs."""
        differing = [
            f"{one.name.replace('_', ' ')} {getattr(found, one.name)!r}, not "
            f"{getattr(self, one.name)!r}"
            for one in fields(Identity)
            if one.compare and getattr(found, one.name) != getattr(self, one.name)
        ]
        if differing:
            raise ValueError(
                f"{path} is the journal of another run: it has {'; '.join(differing)}. Name "
                f"another journal, or go on with the run {found.run or 'that began it'}"
            )


def create_tables(db: sqlite3.Connection, identity: Identity, started_ns: int) -> None:
    """Make the tables of a new journal, whole or not at all."""
    columns = "".join(f", {column(name)} REAL" for name in identity.horizons)
    events = (
        "CREATE TABLE events (seq INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, price REAL NOT "
        f"NULL, trade INTEGER NOT NULL, said_ns INTEGER NOT NULL{columns}) STRICT"
    )
    meta = {"format": FORMAT, "started_ns": started_ns, **asdict(identity)}
    with db:
        db.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.split(";\n"):
            db.execute(statement)
        db.execute(events)
        rows = [(key, json.dumps(value)) for key, value in meta.items()]
        db.executemany("INSERT INTO meta VALUES (?, ?)", rows)


def column(horizon: str) -> str:
    """The quoted name of the column of a horizon's probabilities."""
    return f'"p_{horizon}"'


def connect(path: Path) -> sqlite3.Connection:
    """A connection that begins and ends transactions where it is told to, usable in any thread."""
    return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)


def read_meta(db: sqlite3.Connection, path: Path) -> dict[str, Any] | None:
    """What a journal says of itself, None where the file is new; another format is refused."""
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
    if not names:
        return None
    if not {"meta", "trades", "events", "outcomes"} <= names:
        raise ValueError(f"{path} is a database, but no journal: name another file")
    meta = {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM meta")}
    if meta.get("format") != FORMAT:
        raise ValueError(f"{path}: format {meta.get('format')!r}, this version reads {FORMAT}")
    return meta


def identity_of(meta: dict[str, Any]) -> Identity:
    """Whose the journal is."""
    values = {one.name: meta[one.name] for one in fields(Identity)}
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return Identity(**values | lists)


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into those of the house, with the cure.

    Raises:
        TickError: a trade, an event or an outcome is there already.
        OSError: the disk is full or fails, the file cannot be opened.
        RuntimeError: another program holds the journal.
        ValueError: the file is damaged, or no database.
    """
    try:
        yield
    except sqlite3.IntegrityError as error:
        from nexttick.ticks.record import TickError  # brings Polars: only where something is wrong

        raise TickError(
            f"{path}: {error}: what is handed on is in the journal already, or lacks a value; "
            f"nothing of this batch was written"
        ) from error
    except sqlite3.DatabaseError as error:
        from nexttick.ticks.writing import explained

        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise RuntimeError(
                f"{path} is locked by another program ({error}): close what writes to it, and "
                f"start again; all that was printed is in it"
            ) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise ValueError(
                f"{path} is damaged, or no journal ({error}): name another file"
            ) from error
        if code in _SYSTEM_ERRORS:
            raise explained(OSError(_SYSTEM_ERRORS[code], str(error)), path) from error
        raise RuntimeError(f"{path}: {error}") from error
