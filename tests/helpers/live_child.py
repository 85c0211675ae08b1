"""A live process of the tests: a replay through market, journal and JSON lines, to be killed.

The processes are forked from one that has imported everything, so that a test can kill many.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nexttick.learn.predictor.stepper
import nexttick.live.follow
import nexttick.live.journal.journal
import nexttick.live.market
import nexttick.live.page.app
import nexttick.live.promises
import nexttick.venues.feeds.replay
from nexttick.cli import live, screen_live
from nexttick.options import LiveOptions

__all__ = ["nexttick", "screen_live"]  # loaded here, so that no child has to


def follow(run: Path, options: LiveOptions, out: Path) -> None:
    """`nexttick live` with its lines appended to a file."""
    handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - the process's own
    live.live((run,), options)
