"""Every benchmark at its smallest, without recorded ticks: it ends with figures, in both forms."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from rich.table import Table

from bench import running

BENCH = Path(running.__file__).parent
APART = {"__init__", "running", "house", "picture"}  # no benchmarks

# Words that make a benchmark as small as it gets.
SMALLEST = {
    "baselines": "--ticks 3000 --only base_rate logistic",
    "condense": "--widths 16 --repeats 1",
    "features": "--millions 0.01",
    "health": "--pairs 1 --ticks 3000",
    "journal": "--rates 1000 --batches 10 --seconds 0.1 --events 200",
    "judge": "--events 3000 --repeats 1 --threads 1",
    "live": "--events 200 --only step",
    "no_signal": "--seeds 1 --ticks 3000 --types --epochs 1",
    "read": "--rows 10000 --repeats 1",
    "store": "--rows 10000 --repeats 1",
    "train": "--lengths 32 --repeats 1 --slice-s 0.01",
    "zoo": "--only cnn-separable --epochs 1 --ticks 3000",
}
# These start servers and train for a while: their options only.
LONG = {"chaos", "feed", "following"}


@pytest.fixture
def without_ticks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEXTTICK_DATA", str(tmp_path / "nothing"))


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    """One thread: some of the benchmarks set their number, others take all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_benchmark_is_tried() -> None:
    names = {path.stem for path in BENCH.glob("*.py")}
    assert names - APART == SMALLEST.keys() | LONG


@pytest.mark.usefixtures("without_ticks")
@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_needs_no_recorded_ticks(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = import_module(f"bench.{name}")
    module.main([*SMALLEST[name].split(), "--json"])
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert ("no recorded ticks" in printed.err) == (name in {"baselines", "live", "zoo"})
    shown = list(module.show(result))
    assert any(isinstance(one, Table) and one.row_count for one in shown)


@pytest.mark.parametrize("name", sorted(SMALLEST.keys() | LONG))
def test_a_benchmark_says_what_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = import_module(f"bench.{name}")
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: python -m bench.{name} ")
    assert module.__doc__.splitlines()[0] in printed


def test_what_a_user_can_mend_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from bench import live

    with pytest.raises(SystemExit) as stop:
        live.main(["no-such-file.csv"])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m bench.live: ")
    assert "no-such-file.csv" in line


def test_ticks_are_those_named_those_recorded_or_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pl.DataFrame({"time": [1.5e9 + i for i in range(9)], "price": 100.0, "amount": 1.0})
    frame.write_csv(tmp_path / "ticks.csv")
    monkeypatch.setenv("NEXTTICK_DATA", str(tmp_path))
    assert len(running.ticks_of([str(tmp_path / "ticks.csv")], "*.none", 5)[1]) == 9
    assert running.ticks_of([], "*.csv", 5)[0] == "*.csv"
    assert not capsys.readouterr().err
    name, ticks = running.ticks_of([], "*.none", 5)
    assert (name, len(ticks)) == ("a simulated market of 5 ticks", 5)
    assert name in capsys.readouterr().err


def test_the_first_turn_warms_up_and_every_way_has_its_turns() -> None:
    calls: list[str] = []
    ways = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    assert list(running.in_turns(ways, 2)) == ["a", "b"]
    assert calls == ["a", "b"] * 3
    calls.clear()
    running.in_turns(ways, 3, shuffled=True)
    assert np.array_equal(sorted(calls), ["a"] * 4 + ["b"] * 4)


def test_a_function_runs_in_a_process_of_its_own() -> None:
    assert running.apart(os.getpid) != os.getpid()
