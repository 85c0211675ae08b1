"""What the pages name exists: paths, names, tests, benchmarks; so do the tree and the picture."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import house

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "nexttick"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
HOUSE = [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"]
# What a word between backticks may be, apart from the project's own names.
ELSEWHERE = {
    "ruff", "lint-imports", "NEXTTICK_DATA", "ValueError", "except", "_ns", "_s", "_bps", "x_BTF",
    ".venv", "torch.nn", "--json", "--help", "metrics.json",
}  # fmt: skip


def quoted(page: Path) -> list[str]:
    """What stands between single backticks."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def names_of(tree: ast.AST) -> set[str]:
    """What a file defines, at any depth."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    named = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    return named | {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def defined() -> set[str]:
    """Every name that the package defines."""
    return set().union(*(names_of(module.tree) for module in house.package().values()))


def is_path(word: str) -> bool:
    return bool(re.fullmatch(r"(\.\./)?[\w./-]+(\.py|\.toml|\.txt|\.md|\.svg|/)", word))


@pytest.mark.parametrize("page", HOUSE, ids=lambda page: page.name)
def test_paths_and_names_of_the_house_exist(page: Path) -> None:
    words = quoted(page)
    paths = [word for word in words if is_path(word)]
    assert len(paths) > 3
    tops = (ROOT, SOURCE, ROOT / "bench")
    lost = [word for word in paths if not any((top / word).exists() for top in tops)]
    assert lost == []
    known, commands = defined(), {"run", "train", "test", "predict", "evaluate"}
    names = [word for word in words if re.fullmatch(r"[\w.-]+", word) and not is_path(word)]
    assert [name for name in names if name not in known | commands | ELSEWHERE] == []


@pytest.mark.parametrize("page", HOUSE, ids=lambda page: page.name)
def test_tests_that_a_page_names_exist(page: Path) -> None:
    tests = [word.split("::") for word in quoted(page) if "::" in word]
    for path, name in tests:
        assert name in names_of(ast.parse((ROOT / path).read_text())), path
    assert bool(tests) == (page.name == "CONTRIBUTING.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_benchmarks_modules_and_links_of_a_page_exist(page: Path) -> None:
    text = page.read_text()
    for name in set(re.findall(r"python -m bench\.([a-z_]+)", text)):
        assert (ROOT / "bench" / f"{name}.py").exists(), name
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    if page.name == "log.md":
        return  # it tells what was
    for dotted in set(re.findall(r"\bnexttick(?:\.[A-Za-z_]\w*)+", text)):
        assert resolves(dotted), dotted
    for path in (word for word in quoted(page) if re.fullmatch(r"[\w./]+/\w+\.py", word)):
        assert any((top / path).exists() for top in (ROOT, SOURCE)), path


def resolves(dotted: str) -> bool:
    """Whether it is a module, or a name in one."""
    parts, rest = dotted.split("."), list[str]()
    while parts:
        try:
            found = import_module(".".join(parts))
        except ModuleNotFoundError:
            rest.insert(0, parts.pop())
            continue
        for name in rest:
            found = getattr(found, name, None)
        return found is not None
    return False


def tree_of(page: Path) -> list[str]:
    """The paths of the tree that a page ends with."""
    paths: list[str] = []
    above: list[tuple[int, str]] = []
    for line in page.read_text().split("## The code")[1].splitlines():
        if not (found := re.match(r" {4}( *)([\w./]+)(?:  |$)", line)):
            continue
        depth = len(found[1])
        while above and above[-1][0] >= depth:
            above.pop()
        paths.append("".join(part for _, part in above) + found[2])
        if found[2].endswith("/"):
            above.append((depth, found[2]))
    return paths


def test_the_tree_of_the_readme_is_that_of_the_code() -> None:
    named = tree_of(ROOT / "README.md")
    assert [path for path in named if not (ROOT / path).exists()] == []
    folders = {
        f"{path.parent.relative_to(ROOT).as_posix()}/" for path in SOURCE.rglob("__init__.py")
    }
    assert folders <= set(named)
    assert len(named) < 60  # two screens


def test_a_tree_is_read_by_its_indents(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("## The code\n\n    a/\n      b/    words\n        c.py  words\n    d/  too\n")
    assert tree_of(page) == ["a/", "a/b/", "a/b/c.py", "d/"]


def picture_of(path: Path) -> tuple[set[str], list[str]]:
    """Boxes and arrows of a picture, and its words."""
    nodes = list(ElementTree.parse(path).iter())
    ids = {node.get("id", "") for node in nodes}
    rooms = "|".join(room for floor in house.floors() for room in floor)
    words = [node.text or "" for node in nodes if node.tag.endswith(("text", "tspan"))]
    return {one for one in ids if re.fullmatch(rf"({rooms})( to ({rooms}))?", one)}, words


def test_the_picture_is_that_of_the_imports(tmp_path: Path) -> None:
    from bench import picture

    picture.main(["--out", str(tmp_path / "now.svg")])
    now = picture_of(tmp_path / "now.svg")
    assert {"cli", "options", "venues to ticks"} <= now[0]
    assert picture_of(picture.PICTURE) == now, "python -m bench.picture draws it anew"
