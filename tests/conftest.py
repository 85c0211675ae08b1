"""Where recorded ticks are, and a count of the tests that went without them."""

from __future__ import annotations

import os
import shutil
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
        pytest.skip(
            f"{NO_TICKS}: set NEXTTICK_DATA to their folder, or have a folder shared/data "
            "beside the clone"
        )
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One CPU thread: the tests' networks are too small to share, and sums then never differ."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def live_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run for the tests of live, small and tested."""
    from helpers.live_runs import trained

    return trained(tmp_path_factory.mktemp("live"))


@pytest.fixture(scope="session")
def untested_run(live_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without its test, which makes no promises and so begins sooner."""
    copy = tmp_path_factory.mktemp("untested") / "run"
    shutil.copytree(live_run, copy)
    (copy / "metrics.json").unlink()
    return copy


@pytest.fixture(scope="session")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of ticks after those of `live_run`: bursts of one time stamp, and a pause."""
    from helpers.live_runs import later_ticks
    from nexttick.ticks.writing import write_table

    path = tmp_path_factory.mktemp("later") / "later.parquet"
    write_table(later_ticks(), path)
    return path


def pytest_unconfigure(config: pytest.Config) -> None:
    """Print, after all else, how many tests were skipped for want of recorded ticks."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # a worker that has no terminal
        return
    skipped = [r for r in reporter.stats.get("skipped", []) if NO_TICKS in str(r.longrepr)]
    reporter.write_line(f"tests skipped for want of recorded ticks: {len(skipped)}")
