"""The house in figures: lines, floors, names, and functions that only one other function calls.

    python -m bench.house [PLACE] [--json]

With a place (`venues`, `learn/predictor`, a file) its functions with a single caller are listed,
each with who calls it. A function is known by its imports, so two of one name are not taken for one
another. A caller is a function or method of the package, its tests and its benchmarks, what is
defined within it included; what stands at the level of a module or class (a registry, a decorator,
a bound beside a field) has to be a function and does not count as having a single caller. `cli/`
and the package's face, with the names that it offers, are left out of the shares: a command is
called once, and users call the rest. Compiled kernels and recursions count, though most of them
cannot stand where they are called: the share without them is printed beside.

Two modules of one name are within one's sight where they lie in the same of the nine folders, or
one of them at the top; a folder's chief module, which bears its name, is no second one, and `cli/`
names its files after commands.
"""

from __future__ import annotations

import argparse
import ast
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import running

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "nexttick"
AT_THE_TOP = {"__init__", "__main__", "checks", "options"}
LONGEST = 45  # lines of a function's body, its docstring apart

Name = tuple[str, str]  # module, name in it; "" is the module itself
_Def = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Module:
    """One file: its tree, and what its names mean."""

    name: str
    path: Path
    tree: ast.Module
    functions: dict[str, _Def] = field(default_factory=dict)
    imported: dict[str, Name] = field(default_factory=dict)

    @property
    def room(self) -> str:
        """The folder or file at the top of the package that it belongs to."""
        return self.name.split(".")[1] if "." in self.name else ""


def read(path: Path, top: Path) -> Module:
    """Parse a file; imports are found wherever they stand."""
    parts = path.relative_to(top).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    module = Module(name, path, ast.parse(path.read_text()))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                module.imported[one.asname or one.name] = (node.module, one.name)
        elif isinstance(node, ast.Import):
            for one in node.names:
                module.imported[one.asname or one.name] = (one.name, "")
    module.functions = {one.name: one for one in module.tree.body if isinstance(one, _Def)}
    return module


def package() -> dict[str, Module]:
    """All modules of the package, by their dotted names."""
    return {m.name: m for m in (read(path, ROOT / "src") for path in sorted(SOURCE.rglob("*.py")))}


# --- who calls whom


def own_names(function: _Def) -> set[str]:
    """Parameters and what is assigned in a function: names that hide those of the module."""
    names = {one.arg for one in ast.walk(function.args) if isinstance(one, ast.arg)}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def uses(module: Module) -> Iterator[tuple[str, str, str]]:
    """Each use of a name or of a name's attribute, and the function or method it stands in."""

    def walk(node: ast.AST, unit: str, hidden: set[str]) -> Iterator[tuple[str, str, str]]:
        inside, within = unit, hidden
        if isinstance(node, _Def | ast.ClassDef):
            for decorator in node.decorator_list:
                yield from walk(decorator, unit, hidden)
            if not functions:
                inside = f"{unit}.{node.name}"
        if isinstance(node, _Def):
            functions.append(node)
            within = hidden | own_names(node)
        if isinstance(node, ast.Name) and node.id not in hidden:
            yield node.id, "", unit
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr, unit
        match node:  # a test that puts another function in the place of one
            case ast.Call(
                func=ast.Attribute(attr="setattr"),
                args=[ast.Name(id=name), ast.Constant(value=str(attribute)), *_],
            ):
                yield name, attribute, unit
        for name, value in ast.iter_fields(node):
            if name != "decorator_list":
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        yield from walk(child, inside, within)
        if isinstance(node, _Def):
            functions.pop()

    functions: list[_Def] = []  # those around, from the outside
    for statement in module.tree.body:
        yield from walk(statement, module.name, set())


def callers(modules: Mapping[str, Module]) -> dict[Name, set[str]]:
    """Who uses each function of module level."""

    def resolve(module: str, name: str) -> Name | None:
        """Where a name is defined, through what a package's face hands on."""
        for _ in range(5):
            if module not in modules or name in modules[module].functions:
                break
            if name not in modules[module].imported:
                break
            module, name = modules[module].imported[name]
        there = module in modules and name in modules[module].functions
        return (module, name) if there else None

    found: dict[Name, set[str]] = defaultdict(set)
    for module in modules.values():
        for name, attribute, unit in uses(module):
            function = resolve(module.name, name)
            if attribute and name in module.imported:  # a module's name, then a function of its
                function = resolve(".".join(filter(None, module.imported[name])), attribute)
            if function is not None and unit != ".".join(function):
                found[function].add(unit)
    return found


def single_callers(source: Mapping[str, Module]) -> tuple[list[Name], dict[Name, str]]:
    """The functions that count, and those of them that one function calls, with that one."""
    tops = (ROOT / "tests", ROOT / "bench")
    around = [read(path, ROOT) for top in tops for path in sorted(top.rglob("*.py"))]
    used = callers({**source, **{module.name: module for module in around}})
    face = {name for module, name in source["nexttick"].imported.values()}
    counted = [
        (module.name, name)
        for module in source.values()
        if module.room not in {"", "cli", "__main__"}
        for name in module.functions
        if not name.startswith("__") and name not in face
    ]
    single = {f: min(used[f]) for f in counted if len(used[f]) == 1}
    classes = {
        f"{module.name}.{node.name}"
        for module in source.values()
        for node in module.tree.body
        if isinstance(node, ast.ClassDef)
    }
    tables = source.keys() | classes  # the bodies of both hold what has to be a function
    return counted, {f: caller for f, caller in single.items() if caller not in tables}


def stands_alone(function: _Def) -> bool:
    """Whether it is compiled, or calls itself."""
    compiled = any("njit" in ast.unparse(decorator) for decorator in function.decorator_list)
    names = (node.id for node in ast.walk(function) if isinstance(node, ast.Name))
    return compiled or function.name in names


# --- sizes and names


def bodies(module: Module) -> Iterator[tuple[str, int]]:
    """Each function's name and the lines of its body, the docstring apart."""
    for node in ast.walk(module.tree):
        if isinstance(node, _Def):
            documented = ast.get_docstring(node) is not None and len(node.body) > 1
            first = node.body[1 if documented else 0]
            yield node.name, (node.end_lineno or 0) - first.lineno + 1


def floors() -> list[list[str]]:
    """The rooms as the import contract of pyproject.toml has them, from the top down."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (one["layers"] for one in options["contracts"] if one["type"] == "layers")
    return [[place.split(".")[1] for place in layer.split(" | ")] for layer in layers]


def between_rooms(source: Mapping[str, Module]) -> Counter[tuple[str, str]]:
    """How many names of one room are imported in another: (from, to)."""
    found = Counter[tuple[str, str]]()
    for module in source.values():
        for place, name in module.imported.values():
            if place.split(".")[0] == "nexttick":
                to = f"{place}.{name}".split(".")[1]
                if to and module.room not in {"", "__main__", to}:  # the face hands on by name
                    found[module.room, to] += 1
    return found


def upwards(source: Mapping[str, Module]) -> list[str]:
    """Imports that do not run down the floors."""
    height = {room: -level for level, rooms in enumerate(floors()) for room in rooms}
    pairs = sorted(between_rooms(source))
    return [f"{a} -> {b}" for a, b in pairs if height.get(a, 0) <= height.get(b, 1)]


def classes_twice(source: Mapping[str, Module]) -> list[str]:
    """Names of classes that stand in two modules, with both."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in source.values():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module.path.relative_to(SOURCE).as_posix())
    return [f"{name} ({', '.join(of)})" for name, of in sorted(places.items()) if len(of) > 1]


def modules_twice(source: Mapping[str, Module]) -> list[str]:
    """Names of modules that stand twice within one's sight."""
    rooms: dict[str, Counter[str]] = defaultdict(Counter)
    for module in source.values():
        path = module.path.relative_to(SOURCE)
        if module.room != "cli" and path.stem not in {"__init__", "__main__", path.parent.name}:
            rooms[module.room][path.stem] += 1
    at_the_top = set(rooms)
    return sorted(
        f"{room}: {name}"
        for room, names in rooms.items()
        for name, count in names.items()
        if count > 1 or (name in at_the_top and name != room)
    )


def measure(args: argparse.Namespace) -> running.Result:
    source = package()
    counted, single = single_callers(source)
    where = {name: module.path.relative_to(SOURCE).as_posix() for name, module in source.items()}
    if args.place:
        place = args.place.removeprefix("src/nexttick/")
        if not (SOURCE / place).exists():
            raise ValueError(f"{place}: there is no such file or folder in src/nexttick")
        return {
            f"{where[module]}: {name}": caller
            for (module, name), caller in single.items()
            if where[module].startswith(place)
        }
    rows = {module.name: module.path.read_text().splitlines() for module in source.values()}
    lines = Counter[str]()
    for name in source:
        lines[where[name].split("/")[0]] += len(rows[name])
    remarks = sum(row.lstrip().startswith("#") for text in rows.values() for row in text)
    long = [
        f"{where[module.name]}: {name} {length}"
        for module in source.values()
        for name, length in bodies(module)
        if length > LONGEST
    ]
    private = sum(name.startswith("_") for _, name in single)
    alone = {f for f in counted if stands_alone(source[f[0]].functions[f[1]])}
    movable = len(single.keys() - alone) / len(set(counted) - alone)
    return {
        "lines of Python in src/nexttick": lines.total(),
        "lines of each": dict(lines.most_common()),
        "whole-line comments in 100 lines": round(100 * remarks / lines.total(), 1),
        "functions of module level": len(counted),
        "with a single caller, in 100": round(100 * len(single) / len(counted), 1),
        "private with a single caller, in 100": round(100 * private / len(counted), 1),
        "single, kernels and recursions apart": round(100 * movable, 1),
        f"bodies over {LONGEST} lines": long,
        "loose modules": sorted(
            path.name for path in SOURCE.glob("*.py") if path.stem not in AT_THE_TOP
        ),
        "class names twice": classes_twice(source),
        "module names twice within sight": modules_twice(source),
        "imports up the floors": upwards(source),
    }


def show(result: running.Result) -> Iterator[str]:
    for what, value in result.items():
        if isinstance(value, dict):
            yield from (f"  {name:36} {count:,}" for name, count in value.items())
        elif isinstance(value, list):
            yield f"{what:38} {'; '.join(value) or 'none'}"
        else:
            yield f"{what:38} {value if isinstance(value, str) else f'{value:,}'}"


def main(words: Sequence[str] | None = None) -> None:
    options = running.parser(__doc__)
    options.add_argument("place", nargs="?", help="list its functions with a single caller")
    running.run(options, measure, show, words)


if __name__ == "__main__":
    main()
