"""`import nexttick`: its public names, and what it does not load."""

from __future__ import annotations

from pathlib import Path

import pytest

import nexttick
from helpers.console import python
from nexttick.cli.main import COMMANDS
from nexttick.options import Recipe
from nexttick.ticks.reading.read import read_ticks

HEAVY = {"torch", "numba", "polars", "sklearn"}


@pytest.mark.parametrize("name", nexttick.__all__)
def test_each_public_name_is_there_and_listed(name: str) -> None:
    assert callable(getattr(nexttick, name))
    assert name in dir(nexttick)
    assert getattr(nexttick, name).__doc__


def test_a_public_name_is_the_thing_itself() -> None:
    assert nexttick.Recipe is Recipe
    assert nexttick.read_ticks is read_ticks


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'reed_ticks'"):
        _ = nexttick.reed_ticks
    assert not hasattr(nexttick, "cli2")


def loads_nothing_heavy(statements: str, cwd: Path) -> None:
    check = f"import sys\nloaded = {HEAVY} & sys.modules.keys()\nassert not loaded, loaded"
    said = python("-c", f"{statements}\n{check}", cwd=cwd)
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    "statement", ["import nexttick; dir(nexttick)", "import nexttick.cli.main"]
)
def test_importing_loads_nothing_heavy(statement: str, tmp_path: Path) -> None:
    loads_nothing_heavy(statement, tmp_path)


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_asking_for_help_loads_nothing_heavy(command: tuple[str, ...], tmp_path: Path) -> None:
    lines = (
        "from nexttick.cli.main import main",
        "try:",
        f"    main({[*command, '--help']})",
        "except SystemExit as stop:",
        "    assert not stop.code",
    )
    loads_nothing_heavy("\n".join(lines), tmp_path)


@pytest.mark.parametrize(
    "statements",
    [
        "from nexttick import read_ticks, write_table, TickError, simulate",
        "from nexttick.cli.main import main; main(['simulate', '--ticks', '99', '-o', 'a.csv'])\n"
        "assert main(['ticks', 'a.csv', '--convert', 'a.parquet']) == 0",
    ],
)
def test_reading_and_writing_ticks_load_no_torch(statements: str, tmp_path: Path) -> None:
    check = "import sys; assert 'torch' not in sys.modules"
    said = python("-c", f"{statements}\n{check}", cwd=tmp_path)
    assert said.code == 0, said.err
