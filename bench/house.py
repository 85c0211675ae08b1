"""The house in figures: lines, floors, functions that only one other function calls.

    python -m bench.house [PLACE]

With a place (`venues`, `learn/predictor`, a file) its functions with a single caller are listed,
each with who calls it. A function is told by its imports, so two of one name are not taken for one
another. Callers are functions of the package, its tests and its benchmarks; what stands in a table
at module level (a registry, a decorator) does not count as having a single caller, for it has to
be a function. `cli/` and the package's face are left out of the shares: a command is called once.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "nexttick"
LONGEST = 45  # lines of a function's body, its docstring apart

Function = tuple[str, str]  # module, name
_Def = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Module:
    """One file: its tree, and what its names mean.

    Attributes:
        name: dotted.
        path: of the file.
        tree: its syntax.
        functions: those of module level, by name.
        imported: local name to (module, name), name "" for the module itself.
    """

    name: str
    path: Path
    tree: ast.Module
    functions: dict[str, _Def] = field(default_factory=dict)
    imported: dict[str, Function] = field(default_factory=dict)


def read(path: Path, top: Path) -> Module:
    """Parse a file."""
    parts = path.relative_to(top).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    module = Module(name, path, ast.parse(path.read_text()))
    for statement in module.tree.body:
        if isinstance(statement, _Def):
            module.functions[statement.name] = statement
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                module.imported[one.asname or one.name] = (node.module, one.name)
    return module


def references(module: Module) -> Iterator[tuple[str, str, str]]:
    """Each use of a name or of a name's attribute, and the function in which it stands."""

    def walk(node: ast.AST, unit: str) -> Iterator[tuple[str, str, str]]:
        if isinstance(node, _Def | ast.ClassDef):
            for decorator in node.decorator_list:
                yield from walk(decorator, unit)
            unit = f"{unit}.{node.name}"
        if isinstance(node, ast.Name):
            yield node.id, "", unit
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr, unit
        for child in ast.iter_child_nodes(node):
            yield from walk(child, unit)

    for statement in module.tree.body:
        yield from walk(statement, module.name)


def callers(modules: dict[str, Module]) -> dict[Function, set[str]]:
    """Who uses each function of module level."""

    def resolve(module: str, name: str) -> Function | None:
        """Where a name is defined, through what a package's face hands on."""
        for _ in range(5):
            if module not in modules or name in modules[module].functions:
                break
            if name not in modules[module].imported:
                break
            module, name = modules[module].imported[name]
        there = module in modules and name in modules[module].functions
        return (module, name) if there else None

    found: dict[Function, set[str]] = defaultdict(set)
    for module in modules.values():
        for name, attribute, unit in references(module):
            inside, imported = resolve(module.name, name), module.imported.get(name)
            function = inside
            if attribute and imported is not None:  # a module's name, then one of its functions
                function = resolve(".".join(imported), attribute) or function
            if function is not None and unit != ".".join(function):
                found[function].add(unit)
    return found


def bodies(module: Module) -> Iterator[tuple[str, int]]:
    """Each function's name and the lines of its body, the docstring apart."""
    for node in ast.walk(module.tree):
        if isinstance(node, _Def):
            told = ast.get_docstring(node) is not None and len(node.body) > 1
            first = node.body[1 if told else 0]
            yield node.name, (node.end_lineno or 0) - first.lineno + 1


def main(args: list[str]) -> None:
    """Print the figures, or with a place its functions with a single caller."""
    source = {m.name: m for m in (read(p, ROOT / "src") for p in sorted(SOURCE.rglob("*.py")))}
    around = [
        read(path, ROOT)
        for top in ("tests", "bench")
        for path in sorted((ROOT / top).rglob("*.py"))
    ]
    used = callers(source | {module.name: module for module in around})
    apart = ("nexttick.cli", "nexttick.__main__")
    counted = [
        (module.name, name)
        for module in source.values()
        if not module.name.startswith(apart) and module.name != "nexttick"
        for name in module.functions
        if not name.startswith("__")
    ]
    tables = {f for f in counted if used[f] & set(source)}  # a unit that is a module: a table
    single = [f for f in counted if len(used[f]) == 1 and f not in tables]
    inside = {f: {unit for unit in used[f] if unit.startswith("nexttick")} for f in counted}
    if args:
        for place, name in single:
            path = source[place].path.relative_to(SOURCE)
            if path.as_posix().startswith(args[0].removeprefix("src/nexttick/")):
                print(f"{path}: {name}  <- {min(used[place, name])}")
        return
    lines = Counter[str]()
    remarks = 0
    for module in source.values():
        rows = module.path.read_text().splitlines()
        lines[module.path.relative_to(SOURCE).parts[0]] += len(rows)
        remarks += sum(row.lstrip().startswith("#") for row in rows)
    classes = Counter(
        node.name
        for module in source.values()
        for node in module.tree.body
        if isinstance(node, ast.ClassDef)
    )
    long = [
        f"{module.path.relative_to(SOURCE)}: {name} {length}"
        for module in source.values()
        for name, length in bodies(module)
        if length > LONGEST
    ]
    once = sum(len(inside[f]) == 1 for f in counted if f not in tables)
    private = sum(name.startswith("_") for _, name in single)
    print(f"lines of Python in src/nexttick      {lines.total():,}")
    for name, count in sorted(lines.items(), key=lambda item: -item[1]):
        print(f"  {name:34} {count:,}")
    print(f"whole-line comments in 100 lines     {100 * remarks / lines.total():.1f}")
    print(f"functions of module level            {len(counted)}")
    print(f"  with a single caller, in 100       {100 * len(single) / len(counted):.1f}")
    print(f"  of these private, in 100           {100 * private / len(counted):.1f}")
    print(f"  one caller in the package itself   {100 * once / len(counted):.1f}")
    print(f"bodies over {LONGEST} lines                 {', '.join(long) or 'none'}")
    print(
        f"class names twice                    {[n for n, k in classes.items() if k > 1] or 'none'}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
