"""The house's figures say what they claim, and what they hold stays true."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import house

MOST_SINGLE = 0.15  # of the functions of module level, compiled and recursive ones apart

WALLS = """
from rooms import helpers
from rooms.helpers import shared, only_once as renamed

TABLE = {"listed": lambda: listed}

def listed(): ...
def called_by_two(): ...
def called_twice_by_one(): ...
def hidden(): ...
def recursive(): recursive()
def put_in(): ...

def first():
    def inner():
        called_twice_by_one()
    called_by_two(), called_twice_by_one(), shared(), renamed(), inner()

class Second:
    def method(self, hidden):
        hidden(), called_by_two(), helpers.by_module()

def test_third(monkeypatch):
    monkeypatch.setattr(helpers, "replaced", put_in)
"""
HELPERS = """
def shared(): ...
def only_once(): ...
def by_module(): ...
def replaced(): ...
def unused(): shared()
"""


@pytest.fixture
def rooms(tmp_path: Path) -> dict[str, house.Module]:
    folder = tmp_path / "rooms"
    folder.mkdir()
    (folder / "walls.py").write_text(WALLS)
    (folder / "helpers.py").write_text(HELPERS)
    modules = [house.read(path, tmp_path) for path in sorted(folder.glob("*.py"))]
    return {module.name: module for module in modules}


def test_callers_are_functions_and_methods(rooms: dict[str, house.Module]) -> None:
    callers = house.callers(rooms)
    found = {f[1]: {unit.removeprefix("rooms.") for unit in units} for f, units in callers.items()}
    assert found == {  # and nobody calls `unused`, `hidden` or, but itself, `recursive`
        "listed": {"walls"},  # in a table at module level
        "called_by_two": {"walls.first", "walls.Second.method"},
        "called_twice_by_one": {"walls.first"},
        "put_in": {"walls.test_third"},
        "shared": {"walls.first", "helpers.unused"},
        "only_once": {"walls.first"},
        "by_module": {"walls.Second.method"},
        "replaced": {"walls.test_third"},
    }


def test_a_body_is_counted_without_its_docstring(tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    path.write_text('def f():\n    """Words.\n\n    More.\n    """\n    a = 1\n\n    return a\n')
    assert list(house.bodies(house.read(path, tmp_path))) == [("f", 3)]


def test_the_house_stands() -> None:
    source = house.package()
    assert house.upwards(source) == []
    rooms = {path.name for path in house.SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert rooms == {room for floor in house.floors() for room in floor} - {"checks", "options"}
    assert {path.stem for path in house.SOURCE.glob("*.py")} == house.AT_THE_TOP
    long = [(m.name, *f) for m in source.values() for f in house.bodies(m) if f[1] > house.LONGEST]
    assert long == []
    counted, single = house.single_callers(source)
    alone = {f for f in counted if house.stands_alone(source[f[0]].functions[f[1]])}
    assert len(single.keys() - alone) <= MOST_SINGLE * len(set(counted) - alone)


def test_what_runs_up_the_floors_is_told(tmp_path: Path) -> None:
    (tmp_path / "nexttick" / "ticks").mkdir(parents=True)
    path = tmp_path / "nexttick" / "ticks" / "record.py"
    path.write_text("from nexttick.live import market\nfrom nexttick.scores.tally import Tally\n")
    module = house.read(path, tmp_path)
    assert house.upwards({module.name: module}) == ["ticks -> live", "ticks -> scores"]
