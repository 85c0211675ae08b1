"""Where a store's files lie: a local folder, or one that fsspec reaches (`s3://…`, `memory://…`).

Both write a file whole. Locally it is a temporary file beside, forced to the disk and renamed; an
object store takes it in one put. A kill leaves the old file or the new one.

universal-pathlib was tried in place of `RemoteFolder`, and left out: its `write_bytes` empties a
file before it writes it, so that the one put has to go round it, as listing with stamps has to.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from nexttick.ticks.writing import explained, write_whole

Fill = Callable[[IO[bytes]], object]
LOCK = ".lock"
_LOCAL = "file://"


class LockedError(RuntimeError):
    """Another process has the lock: where, and the cure."""


@dataclass(frozen=True)
class LocalFolder:
    """A folder of this machine, which need not be there yet."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def child(self, name: str) -> LocalFolder:
        """A folder in it."""
        return LocalFolder(self.path / name)

    def folders(self) -> list[str]:
        """Names of the folders in it, sorted."""
        return sorted(one.name for one in self._entries() if one.is_dir())

    def files(self) -> dict[str, str]:
        """Names of the files in it, sorted, each with a stamp that changes with its content."""
        stamps = {}
        for one in sorted(self._entries()):
            # A writer's temporary file may be gone by now.
            with contextlib.suppress(FileNotFoundError):
                if one.is_file():
                    stamps[one.name] = self.stamp(one.name)
        return stamps

    def stamp(self, name: str) -> str:
        """The stamp of one file: its size, and its time of change."""
        status = (self.path / name).stat()
        return f"{status.st_size} {status.st_mtime_ns}"

    def _entries(self) -> list[Path]:
        return list(self.path.iterdir()) if self.path.is_dir() else []

    def open(self, name: str) -> Path:
        """A file in the form in which Polars reads it: its path; `FileNotFoundError` if none."""
        path = self.path / name
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such file")
        return path

    def write(self, name: str, fill: Fill) -> None:
        """Let `fill` write a file, and put it in the place of an earlier one at once."""
        self._make()
        write_whole(self.path / name, fill)

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explained(error, self.path) from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, on_wait: Callable[[str], None], wait_s: float) -> Iterator[None]:
        """Keep other writers out, by a lock that the system frees however its process ends."""
        self._make()
        lock = FileLock(self.path / LOCK)
        try:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                on_wait(
                    f"{self}: another process is writing here; waiting for it, {wait_s:g} s at most"
                )
                lock.acquire(timeout=wait_s)
        except Timeout as error:
            raise LockedError(
                f"{self}: another process has been writing here for {wait_s:g} s; wait for it "
                "to end, or stop it, and try again"
            ) from error
        except OSError as error:
            raise explained(error, self.path / LOCK) from error
        # The lock's file stays: who removed it could take it from under another that waits for it.
        try:
            yield
        finally:
            lock.release()


@dataclass(frozen=True)
class RemoteFolder:
    """A folder that fsspec reaches; it has no lock, so one process may write a series at a time.

    Two that do lose no committed day's file to a half-written one, but the later put of a day wins,
    whatever the earlier one had added.
    """

    fs: Any
    path: str
    url: str

    def __str__(self) -> str:
        return self.url

    def child(self, name: str) -> RemoteFolder:
        """A folder in it."""
        return RemoteFolder(self.fs, f"{self.path.rstrip('/')}/{name}", f"{self.url}/{name}")

    def folders(self) -> list[str]:
        """Names of the folders in it."""
        return sorted(_name(one) for one in self._entries() if one["type"] == "directory")

    def files(self) -> dict[str, str]:
        """Names of the files in it; size and what the store tells of changes are the stamp."""
        files = (one for one in self._entries() if one["type"] == "file")
        return {_name(one): _stamp(one) for one in sorted(files, key=_name)}

    def stamp(self, name: str) -> str:
        """Size, and what the store tells of changes."""
        return _stamp(self.fs.info(f"{self.path}/{name}"))

    def _entries(self) -> list[dict[str, Any]]:
        # fsspec remembers listings; what another process has put there since must be seen.
        self.fs.invalidate_cache()
        try:
            return self.fs.ls(self.path, detail=True)
        except FileNotFoundError:
            return []

    def open(self, name: str) -> io.BytesIO:
        """The file's bytes."""
        return io.BytesIO(self.fs.cat_file(f"{self.path}/{name}"))

    def write(self, name: str, fill: Fill) -> None:
        """By one put."""
        buffer = io.BytesIO()
        fill(buffer)
        self.fs.makedirs(self.path, exist_ok=True)
        self.fs.pipe_file(f"{self.path}/{name}", buffer.getvalue())

    def remove(self, name: str) -> None:
        """Remove a file."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(f"{self.path}/{name}")

    @contextlib.contextmanager
    def lock(self, on_wait: Callable[[str], None], wait_s: float) -> Iterator[None]:
        """No lock: object stores have none."""
        yield


def _name(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]


def _stamp(entry: dict[str, Any]) -> str:
    # Each kind of store has its own word for what changes with a file.
    keys = ("ETag", "etag", "LastModified", "mtime", "updated", "created")
    changes = (entry[key] for key in keys if entry.get(key) is not None)
    return f"{entry['size']} {next(changes, '')}"


Folder = LocalFolder | RemoteFolder


def open_folder(url: str | Path) -> Folder:
    """A local path or an fsspec URL; `ValueError` where fsspec lacks what such URLs need."""
    text = str(url)
    if "://" not in text or text.startswith(_LOCAL):
        return LocalFolder(Path(text.removeprefix(_LOCAL)).expanduser())
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(text)
    except (ValueError, ImportError) as error:
        raise ValueError(
            f"{text}: {error}; give a local folder, or install what it needs"
        ) from error
    return RemoteFolder(fs, path, text.rstrip("/"))
