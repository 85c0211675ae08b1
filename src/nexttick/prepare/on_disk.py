"""Arrays larger than memory: in files without a name, seen as memory maps.

The system reads their pages when they are looked at, and takes the memory back when it is wanted
elsewhere. The files have no name, so that they vanish with the process, however it ends.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Empty(Protocol):
    """Makes arrays whose values will be written: `np.empty`, or `Spill.empty`."""

    def __call__(self, shape: Any, dtype: Any) -> NDArray[Any]:
        """An array of this shape and type."""
        ...


class Spill:
    """Arrays on disk.

    Args:
        folder: where they lie; not a file system in memory, as /tmp is on some systems.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def empty(self, shape: Any, dtype: Any) -> NDArray[Any]:
        """An array of this shape and type, all zeros; what is never written takes no room.

        Raises:
            OSError: the folder cannot be written.
        """
        size = math.prod(np.atleast_1d(shape).tolist()) * np.dtype(dtype).itemsize
        with tempfile.TemporaryFile(dir=self.folder, prefix="nexttick-") as file:
            file.truncate(max(size, 1))
            return np.memmap(file, dtype, "r+", shape=shape) if size else np.empty(shape, dtype)
