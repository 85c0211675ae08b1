"""For the process that others are forked from: all modules, and compiled code, loaded once.

Nothing here may start a thread, for a fork would not take it along: no Polars frame is made.
"""

from __future__ import annotations

import numpy as np

import nexttick.ticks.store.fetch
from helpers import recorded_source
from nexttick.ticks.cleaning import _count_outside

__all__ = ["nexttick", "recorded_source"]

_count_outside(np.ones(1), 0.0, 1.0)
_count_outside(np.ones(1, np.int64), 0, 1)
