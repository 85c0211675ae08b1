"""The journal: what was printed is in it, whatever ends the process, and once."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.journal_writer import IDENTITY, Stepper, outcomes_by, trade, whole
from nexttick.live.journal import schema
from nexttick.live.journal.journal import Journal
from nexttick.live.journal.table import reading
from nexttick.live.records import Checkpoint, Outcome, Prediction, Reset
from nexttick.ticks.record import TickError
from nexttick.venues.messages import Gap

WRITER = Path(__file__).parents[1] / "helpers" / "journal_writer.py"
ENDLESS = 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made-up.journal"


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


def append(journal: Journal, stepper: Stepper, trades: int, *, checkpoint: bool = False) -> None:
    """One batch."""
    messages = [trade(stepper.trades + k) for k in range(trades)]
    said = [one for one in map(stepper.step, messages) if one is not None]
    state = Checkpoint(stepper.trades, stepper.events, stepper.state()) if checkpoint else None
    outcomes = [outcome for one in said for outcome in outcomes_by(one)]
    journal.append(messages, said, outcomes, checkpoint=state)


def check_holds(path: Path, trades: int) -> None:
    """The journal holds the first so many trades and all that follows from them, once."""
    said, outcomes = whole(trades)
    assert rows(path, "SELECT * FROM trades ORDER BY seq") == [
        (i, *trade(i)) for i in range(trades)
    ]
    assert rows(path, "SELECT * FROM events ORDER BY seq") == [(*one[:5], *one.p_H) for one in said]
    told = sorted((*one[:3], int(one.tie), one.known_ns) for one in outcomes)
    assert rows(path, "SELECT * FROM outcomes ORDER BY event, horizon") == told


# Killed


def killed(path: Path, seed: int, lines: int) -> list[str]:
    """What a writer printed that was killed after so many lines, or soon after."""
    command = [sys.executable, str(WRITER), str(path), str(seed), str(ENDLESS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        printed = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        printed += child.stdout.read().splitlines(keepends=True)
        assert child.stderr.read() == b""
    return [line.decode() for line in printed if line.endswith(b"\n")]


def test_a_kill_loses_nothing_that_was_printed_and_doubles_nothing(path: Path) -> None:
    rng = random.Random(1)
    printed = [line for seed in range(20) for line in killed(path, seed, rng.randint(1, 600))]
    events = [int(line.split()[0]) for line in printed]
    assert len(events) == len(set(events))
    with Journal(path, IDENTITY) as journal:
        trades = journal.trades
    check_holds(path, trades)
    said = {one.event: one.p_H for one in whole(trades)[0]}
    assert printed == [" ".join(map(str, (event, *said[event]))) + "\n" for event in events]


# A cut of the power


@pytest.fixture
def logged(path: Path) -> Iterator[tuple[Path, list[int], list[int]]]:
    """A journal whose commits are in the log alone; size of the log and trades after each."""
    sizes, trades, stepper, rng = [0], [0], Stepper(), random.Random(2)
    with Journal(path, IDENTITY, sync_s=ENDLESS) as journal:
        journal._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        for _ in range(40):
            append(journal, stepper, rng.randint(1, 6), checkpoint=rng.random() < 0.2)
            sizes.append(Path(f"{path}-wal").stat().st_size)
            trades.append(journal.trades)
        yield path, sizes, trades


def copied(path: Path, to: Path, log: bytes) -> Path:
    to.mkdir()
    shutil.copy(path, to / path.name)
    (to / f"{path.name}-wal").write_bytes(log)
    return to / path.name


def test_a_log_cut_off_anywhere_leaves_whole_batches(
    logged: tuple[Path, list[int], list[int]], tmp_path: Path
) -> None:
    path, sizes, trades = logged
    log, rng = Path(f"{path}-wal").read_bytes(), random.Random(3)
    seen = set()
    for k in range(30):
        cut = rng.randint(0, len(log))
        copy = copied(path, tmp_path / str(k), log[:cut])
        with Journal(copy, IDENTITY) as journal:
            found = journal.trades
            assert found == max(n for n, size in zip(trades, sizes, strict=True) if size <= cut)
            append(journal, resumed(journal), 3)
        check_holds(copy, found + 3)
        seen.add(found)
    assert len(seen) > 10


def resumed(journal: Journal) -> Stepper:
    told = journal.resume()
    stepper = Stepper(told.checkpoint.state) if told.checkpoint else Stepper()
    assert [one for one in map(stepper.step, told.trades) if one is not None] == told.predictions
    return stepper


def test_a_torn_page_of_the_log_ends_it(
    logged: tuple[Path, list[int], list[int]], tmp_path: Path
) -> None:
    path, sizes, trades = logged
    log, rng = bytearray(Path(f"{path}-wal").read_bytes()), random.Random(4)
    torn = rng.randint(sizes[20], sizes[21] - 1)
    log[torn] ^= 0xFF
    copy = copied(path, tmp_path / "torn", bytes(log))
    with Journal(copy, IDENTITY) as journal:
        assert journal.trades == trades[20]
    check_holds(copy, trades[20])


def test_commits_reach_the_file_itself_by_and_by(path: Path, tmp_path: Path) -> None:
    """The file without its log has them: the thread has synced both."""
    deadline_s = time.monotonic() + 120
    with Journal(path, IDENTITY, sync_s=0.001) as journal:
        append(journal, Stepper(), 5)
        copy, found = tmp_path / "copy", 0
        while found < 5 and time.monotonic() < deadline_s:
            shutil.copy(path, copy)
            with contextlib.suppress(sqlite3.DatabaseError):  # copied while it was written
                ((found,),) = rows(copy, "SELECT count(*) FROM trades")  # type: ignore[assignment]
    assert found == 5


def test_what_the_syncing_thread_meets_is_told_with_the_next_batch(path: Path) -> None:
    with Journal(path, IDENTITY, sync_s=ENDLESS) as journal:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        journal._syncing._error = error
        with pytest.raises(OSError, match="disk I/O error"):
            append(journal, Stepper(), 1)
        append(journal, Stepper(), 1)


def test_the_log_stays_small(path: Path) -> None:
    stepper, most = Stepper(), 0
    with Journal(path, IDENTITY, sync_s=ENDLESS, log_bytes=2**17) as journal:
        for _ in range(1500):
            append(journal, stepper, 2, checkpoint=True)
            most = max(most, Path(f"{path}-wal").stat().st_size)
    assert most < 2**18
    assert rows(path, "SELECT count(*) FROM trades") == [(3000,)]


# Going on


def test_what_was_appended_is_where_one_goes_on(path: Path) -> None:
    stepper = Stepper()
    nan = float("nan")
    with Journal(path, IDENTITY) as journal:
        fresh = journal.resume()
        assert (fresh.last_trade, fresh.checkpoint, fresh.known_H) == (None, None, (0, 0))
        append(journal, stepper, 7, checkpoint=True)
        reset = Reset(7, 5, trade(7).time_ns, "a gap")
        gap = Gap(trade(6).time_ns, trade(7).time_ns, 1006, 1007, "the venue has them no more")
        said = Prediction(5, trade(7).time_ns, 101.5, 7, 9, (nan, nan))
        journal.append([gap, trade(7)], [said], resets=[reset])
        assert (journal.trades, journal.events) == (8, 6)
    with Journal(path, IDENTITY) as journal:
        told = journal.resume()
        assert (journal.trades, journal.events) == (8, 6)
    assert told.last_trade == trade(7)
    assert told.checkpoint == Checkpoint(7, 5, stepper.state())
    assert told.trades == [trade(7)]
    assert [str(one) for one in told.predictions] == [str(said)]
    assert told.resets == [reset]
    assert told.known_H == (4, 1)
    assert [one.event for one in told.waiting] == [1, 2, 3, 4, 5]
    assert rows(path, "SELECT * FROM gaps") == [(7, *gap)]


def test_the_newest_two_checkpoints_are_kept(path: Path) -> None:
    stepper = Stepper()
    with Journal(path, IDENTITY) as journal:
        for _ in range(5):
            append(journal, stepper, 3, checkpoint=True)
        newest, older = journal.resume(), journal.resume(older=True)
    assert rows(path, "SELECT trades FROM checkpoints") == [(12,), (15,)]
    assert newest.checkpoint == Checkpoint(15, 10, stepper.state())
    assert older.checkpoint is not None
    assert older.checkpoint.trades == 12
    assert older.trades == [trade(i) for i in range(12, 15)]
    assert [one.event for one in older.predictions] == [8, 9]


def test_a_journal_that_was_killed_while_it_was_made_is_made_anew(path: Path) -> None:
    rows(path, "PRAGMA journal_mode=WAL")
    with Journal(path, IDENTITY) as journal:
        append(journal, Stepper(), 3)
    check_holds(path, 3)


# Refused


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fingerprint": "e" * 64}, "has fingerprint 'fff.*, not 'eee.*go on with the run runs/ma"),
        ({"symbol": "ETH/USDT"}, "has symbol 'BTC/USDT', not 'ETH/USDT'"),
        ({"source": "replay", "smooth": True}, "source 'made-up', not 'replay'; smooth False"),
    ],
    ids=["fingerprint", "symbol", "source"],
)
def test_the_journal_of_another_run_is_refused(
    path: Path, change: dict[str, object], reason: str
) -> None:
    Journal(path, IDENTITY).close()
    with pytest.raises(ValueError, match=reason):
        Journal(path, replace(IDENTITY, **change))  # type: ignore[arg-type]
    Journal(path, replace(IDENTITY, run="moved/elsewhere")).close()


def test_what_is_no_journal_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("time,price\n" * 100)
    with pytest.raises(ValueError, match="damaged, or no journal"):
        Journal(path, IDENTITY)
    assert path.read_text() == "time,price\n" * 100
    path.unlink()
    rows(path, "CREATE TABLE songs (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="a database, but no journal"):
        Journal(path, IDENTITY)
    assert path.read_bytes() == before


def test_another_format_is_refused(path: Path) -> None:
    Journal(path, IDENTITY).close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    db.close()
    with pytest.raises(ValueError, match="format 99, this version reads 1"):
        Journal(path, IDENTITY)


def test_a_second_writer_is_refused_until_the_first_has_closed(path: Path) -> None:
    with Journal(path, IDENTITY) as journal:
        with pytest.raises(RuntimeError, match="being written by another process"):
            Journal(path, IDENTITY)
        other = subprocess.run(
            [sys.executable, str(WRITER), str(path), "0", "1"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "being written by another process" in other.stderr
        append(journal, Stepper(), 2)
        journal.close()
        journal.close()
    Journal(path, IDENTITY).close()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no such folder"):
        Journal(tmp_path / "nowhere" / "x.journal", IDENTITY)


def test_a_doubled_trade_is_refused_with_all_of_its_batch(path: Path) -> None:
    stepper = Stepper()
    with Journal(path, IDENTITY) as journal:
        append(journal, stepper, 4)
        with pytest.raises(TickError, match=r"UNIQUE.*trades\.id.*nothing of this batch"):
            journal.append([trade(4), trade(2)])
        assert journal.trades == 4
        append(journal, stepper, 2)
    check_holds(path, 6)


def test_a_venue_that_numbers_its_trades_anew_is_taken(path: Path) -> None:
    with Journal(path, IDENTITY) as journal:
        journal.append([trade(4), trade(4)._replace(time_ns=trade(4).time_ns + 1)])
        assert journal.trades == 2


def test_a_journal_that_nobody_can_write_to_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(path, IDENTITY) as journal:
        append(journal, Stepper(), 4)
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    monkeypatch.setattr("os.access", lambda *_: False)
    with reading(path) as view:
        assert view.db.execute("SELECT count(*) FROM trades").fetchone() == (4,)
        assert [*path.parent.iterdir()] == [path]


def test_trades_without_an_id_are_all_taken(path: Path) -> None:
    with Journal(path, IDENTITY) as journal:
        journal.append([trade(0)._replace(id=-1)] * 2)
        assert journal.trades == 2


@pytest.mark.parametrize("event", [0, 3])
def test_events_go_on_from_those_before(path: Path, event: int) -> None:
    with Journal(path, IDENTITY) as journal:
        append(journal, Stepper(), 2)
        said = Prediction(event, trade(2).time_ns, 100.0, 2, 9, (0.5, 0.5))
        with pytest.raises(ValueError, match=f"event {event} where event 2 comes next"):
            journal.append([trade(2)], [said])
        assert journal.trades == 2


def test_a_doubled_outcome_is_refused(path: Path) -> None:
    stepper = Stepper()
    with Journal(path, IDENTITY) as journal:
        append(journal, stepper, 4)
        with pytest.raises(TickError, match=r"outcomes\.event"):
            journal.append(outcomes=[Outcome(0, 0, 1, False, 0, 0.5)])


def test_a_full_disk_is_told_and_the_batch_can_be_given_again(path: Path) -> None:
    stepper = Stepper()
    with Journal(path, IDENTITY) as journal:
        ((pages,),) = journal._db.execute("PRAGMA page_count").fetchall()
        journal._db.execute(f"PRAGMA max_page_count={pages + 9}")
        append(journal, stepper, 20)
        kept = Stepper(stepper.state())
        with pytest.raises(OSError, match="disk is full"):
            append(journal, stepper, 1000)
        assert journal.trades == kept.trades
        journal._db.execute("PRAGMA max_page_count=1000000")
        append(journal, kept, 50)
    check_holds(path, kept.trades)


def test_another_program_that_writes_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_BUSY_S", 0.01)
    with Journal(path, IDENTITY) as journal:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RuntimeError, match="locked by another program"):
            append(journal, Stepper(), 1)
        other.execute("ROLLBACK")
        other.close()
        append(journal, Stepper(), 1)
