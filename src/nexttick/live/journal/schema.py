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
    """Whose trades and predictions a journal holds; another one's are refused.

    Attributes:
        fingerprint: of the predictor, from `Predictor.fingerprint`.
        source: where the trades come from, e.g. `binance`.
        symbol: as ccxt writes it.
        horizons: H names, `rise@h`.
        ties: `down` or `skip`, as the labels have it.
        smooth: likewise.
        max_gap_ns: a longer pause ends a segment.
        raw_ticks: whether each tick is an event of its own.
        base_rates: share of rises in the training part at each horizon.
        run: the run folder, which may move.
    """

    fingerprint: str
    source: str
    symbol: str
    horizons: tuple[str, ...]
    ties: str
    smooth: bool
    max_gap_ns: int
    raw_ticks: bool
    base_rates: tuple[float, ...]
    run: str = field(default="", compare=False)


def create_tables(db: sqlite3.Connection, identity: Identity, started_ns: int) -> None:
    """Make the tables of a new journal, whole or not at all."""
    columns = "".join(f", {column(name)} REAL" for name in identity.horizons)
    events = (
        "CREATE TABLE events (seq INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, price REAL NOT "
        f"NULL, trade INTEGER NOT NULL, said_ns INTEGER NOT NULL{columns}) STRICT"
    )
    told = {"format": FORMAT, "started_ns": started_ns, **asdict(identity)}
    with db:
        db.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.split(";\n"):
            db.execute(statement)
        db.execute(events)
        rows = [(key, json.dumps(value)) for key, value in told.items()]
        db.executemany("INSERT INTO meta VALUES (?, ?)", rows)


def column(horizon: str) -> str:
    """The quoted name of the column of a horizon's probabilities."""
    return f'"p_{horizon}"'


def connect(path: Path) -> sqlite3.Connection:
    """A connection that begins and ends transactions where it is told to, usable in any thread."""
    return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)


def read_meta(db: sqlite3.Connection, path: Path) -> dict[str, Any] | None:
    """What a journal says of itself; None where the file is new.

    Raises:
        ValueError: it is a database of something else, or a journal of another format.
    """
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
    if not names:
        return None
    if not {"meta", "trades", "events", "outcomes"} <= names:
        raise ValueError(f"{path} is a database, but no journal: name another file")
    told = {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM meta")}
    if told.get("format") != FORMAT:
        raise ValueError(f"{path}: format {told.get('format')!r}, this version reads {FORMAT}")
    return told


def identity_of(meta: dict[str, Any]) -> Identity:
    """Whose the journal is."""
    values = {one.name: meta[one.name] for one in fields(Identity)}
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return Identity(**values | lists)


def check_same(path: Path, found: Identity, wanted: Identity) -> None:
    """Refuse a journal of another predictor, source or symbol.

    Raises:
        ValueError: names all that differs.
    """
    if found == wanted:
        return
    differing = [
        f"{one.name.replace('_', ' ')} {getattr(found, one.name)!r}, not "
        f"{getattr(wanted, one.name)!r}"
        for one in fields(Identity)
        if one.compare and getattr(found, one.name) != getattr(wanted, one.name)
    ]
    raise ValueError(
        f"{path} is the journal of another run: it has {'; '.join(differing)}. Name another "
        f"journal, or go on with the run {found.run or 'that began it'}"
    )


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
        raise _explained(error, path) from error


def _explained(error: sqlite3.DatabaseError, path: Path) -> Exception:
    from nexttick.ticks.writing import explained

    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return RuntimeError(
            f"{path} is locked by another program ({error}): close what writes to it, and start "
            f"again; all that was printed is in it"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return ValueError(f"{path} is damaged, or no journal ({error}): name another file")
    number = _SYSTEM_ERRORS.get(code)
    if number is None:
        return RuntimeError(f"{path}: {error}")
    return explained(OSError(number, str(error)), path)
