"""The Python of the README and of the pages under docs runs as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from nexttick.ticks.simulated import SimulatedMarket, simulate
from nexttick.ticks.writing import write_table

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, str]]:
    """The Python blocks of a page and the lines that they start on."""
    text = page.read_text()
    found = _BLOCK.finditer(text)
    return [(text.count("\n", 0, match.start(1)) + 1, match[1]) for match in found]


def test_blocks_are_found_with_their_lines(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n```python\nx = 1\ny = 2\n```\n```\nno python\n```\n```python\nz\n```\n")
    assert blocks(page) == [(3, "x = 1\ny = 2\n"), (10, "z\n")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of a page follow each other, in a folder with ticks.csv and market.parquet."""
    monkeypatch.chdir(tmp_path)
    market = simulate(SimulatedMarket(ticks=3000, seed=0))
    write_table(market, "market.parquet")
    write_table(market.select("time", "price", "amount", "side"), "ticks.csv")
    page_module = ModuleType("page")  # found by its name, as a script's own module is
    monkeypatch.setitem(sys.modules, "page", page_module)
    threads = torch.get_num_threads()
    for line, code in blocks(page):
        # Blank lines before it, so that a traceback names the line of the page.
        program = compile("\n" * (line - 1) + code, str(page), "exec")
        exec(program, page_module.__dict__)  # noqa: S102 - it is the project's own text
    torch.set_num_threads(threads)
    assert page.exists()
