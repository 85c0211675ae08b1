"""Where recorded ticks are, and a count of the tests that went without them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

NO_TICKS = "no recorded ticks"


def _data_dir() -> Path | None:
    told = os.environ.get("NEXTTICK_DATA")
    folder = Path(told) if told else Path(__file__).parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of recorded ticks; the test is skipped where there is none."""
    folder = _data_dir()
    if folder is None:
        pytest.skip(f"{NO_TICKS}: set NEXTTICK_DATA to their folder, or put it at ../shared/data")
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One CPU thread: the tests' networks are too small to share, and sums then never differ."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Print, after all else, how many tests were skipped for want of recorded ticks."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # a worker that has no terminal
        return
    skipped = [r for r in reporter.stats.get("skipped", []) if NO_TICKS in str(r.longrepr)]
    reporter.write_line(f"tests skipped for want of recorded ticks: {len(skipped)}")
