"""A journal's second thread, which brings what was committed to the disk."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from nexttick.live.journal_schema import connect, explaining


class Syncing:
    """The thread that brings commits to the disk.

    Attributes:
        due: whether there is something to bring.
    """

    def __init__(self, path: Path, every_s: float):
        self.due = False
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
        db = connect(self._path)
        while not self._ended.wait(self._every_s):
            if self.due:
                self.due = False
                try:
                    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                except sqlite3.Error as error:
                    self._error, self.due = error, True
        db.close()
