"""`import nexttick`: its public names, and what it does not load."""

from __future__ import annotations

from pathlib import Path

import pytest

import nexttick
from console import python
from nexttick.config import Recipe
from nexttick.formats import read_ticks

HEAVY = ("torch", "numba", "polars", "sklearn", "rich.table")


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


@pytest.mark.parametrize(
    "statement",
    [
        "import nexttick; dir(nexttick)",
        "from nexttick import Recipe",
        *(
            f"from nexttick.cli import main\ntry: main([{command}'--help'])\nexcept SystemExit: pass"
            for command in ("", *(f"{c!r}, " for c in ("run", "train", "test", "predict")))
        ),
        "from nexttick.cli import main\ntry: main(['ticks', '--help'])\nexcept SystemExit: pass",
        "from nexttick.cli import main\ntry: main(['simulate', '--help'])\nexcept SystemExit: pass",
    ],
)
def test_importing_and_asking_for_help_load_nothing_heavy(statement: str, tmp_path: Path) -> None:
    check = (
        f"import sys\nloaded = [m for m in {HEAVY} if m in sys.modules]\nassert not loaded, loaded"
    )
    said = python("-c", f"{statement}\n{check}", cwd=tmp_path)
    assert said.code == 0, said.err


def test_reading_ticks_loads_no_torch(tmp_path: Path) -> None:
    statement = "import sys\nfrom nexttick import read_ticks, write_table, TickError, simulate"
    said = python("-c", f"{statement}\nassert 'torch' not in sys.modules", cwd=tmp_path)
    assert said.code == 0, said.err
