"""Where recorded ticks are, and a count of the tests that went without them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if NO_TICKS in str(report.longrepr)
    ]
    terminalreporter.write_line(f"tests skipped for want of recorded ticks: {len(skipped)}")
