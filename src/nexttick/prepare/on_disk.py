"""Arrays larger than memory: in files without a name, seen as memory maps.

The system reads their pages when they are looked at, and takes the memory back when it is wanted
elsewhere. The files have no name, so that they vanish with the process, however it ends.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.ticks.record import TickError

# Makes an array of a shape and type whose values will be written: `np.empty`, or `OnDisk.empty`.
Empty = Callable[[Any, Any], NDArray[Any]]


@dataclass(frozen=True)
class OnDisk:
    """Arrays in files of a folder, which may raise the system's `OSError`."""

    folder: Path  # not in a file system in memory, as /tmp is on some systems

    def empty(self, shape: Any, dtype: Any) -> NDArray[Any]:
        """An array of this shape and type, all zeros; what is never written takes no room."""
        size = math.prod(np.atleast_1d(shape).tolist()) * np.dtype(dtype).itemsize
        with self._file() as file:
            file.truncate(max(size, 1))
            return np.memmap(file, dtype, "r+", shape=shape) if size else np.empty(shape, dtype)

    def table(self, parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
        """Consecutive parts of a table as one, whose columns of numbers lie on disk."""
        files: dict[str, IO[bytes]] = {}
        rows, part = 0, None
        with ExitStack() as opened:
            for part in parts:
                for name in part.columns:
                    if name not in files:
                        files[name] = opened.enter_context(self._file())
                    part[name].to_numpy().tofile(files[name])
                rows += len(part)
            if part is None:
                raise TickError("there is no tick in any of these files: give others too")
            if rows == 0:
                return part
            dtypes = {name: part[name].to_numpy().dtype for name in files}
            return pl.DataFrame(
                {n: np.memmap(file, dtypes[n], "r+", shape=rows) for n, file in files.items()}
            )

    def _file(self) -> IO[bytes]:
        return tempfile.TemporaryFile(dir=self.folder, prefix="nexttick-")
