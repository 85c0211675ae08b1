"""The picture of the house: nine folders on their floors, drawn from the imports in their code.

    python -m bench.picture [--out docs/pictures/architecture.svg]

Each folder shows the first line of its own docstring, the folders in it and all that it imports
from; arrows are drawn only where no way around says the same (the transitive reduction), and
none to the two files at the bottom.
"""

from __future__ import annotations

import argparse
import ast
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from bench import running
from bench.house import ROOT, SOURCE, Module, between_rooms, floors, package

PICTURE = ROOT / "docs" / "pictures" / "architecture.svg"
GREY, LIGHT = "#444444", "#f2f2f2"  # all is told by words and places, nothing by colour
WIDE, HIGH, STOREY = 34.0, 11.5, 15.0  # of a box, and from floor to floor
# Where each stands from left to right, so that arrows fall straight; its floor is the contract's.
FOLDERS = {
    "cli": 53,
    "live": 30,
    "judge": 76,
    "learn": 60,
    "networks": 54,
    "venues": 18,
    "prepare": 54,
    "ticks": 36,
    "scores": 83,
}
CENTRE = {**FOLDERS, "checks": 30, "options": 70}  # these two are imported from everywhere


def imports(source: Mapping[str, Module]) -> dict[str, list[str]]:
    """The rooms that each room imports from, from the top floor down."""
    pairs = set(between_rooms(source))
    rooms = [room for floor in floors() for room in floor]
    return {a: [b for b in rooms if (a, b) in pairs] for a in rooms}


def reduced(imports: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """The imports that do not follow from others."""

    def reached(room: str) -> set[str]:
        return {room}.union(*(reached(below) for below in imports[room]))

    for room, below in imports.items():
        for one in below:
            if not any(one in reached(other) for other in below if other != one):
                yield room, one


def about(room: str) -> tuple[str, list[str]]:
    """The first line of a room's docstring, and the folders in it."""
    folder = SOURCE / room
    face = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    line = (ast.get_docstring(ast.parse(face.read_text())) or "").splitlines()[0]
    return line, sorted(one.parent.name for one in folder.glob("*/__init__.py"))


def between(upper: str, lower: str, levels: Sequence[Sequence[str]]) -> float | None:
    """Where an arrow can fall straight from one room to another and meets no third."""
    height = {room: level for level, rooms in enumerate(levels) for room in rooms}
    sides = [CENTRE[room] + side for room in (upper, lower) for side in (-WIDE / 2, WIDE / 2)]
    x = np.arange(max(sides[0], sides[2]) + 1, min(sides[1], sides[3]))
    for room in CENTRE:
        if height[upper] < height[room] < height[lower]:
            x = x[np.abs(x - CENTRE[room]) > WIDE / 2 + 1]
    return float(np.median(x)) if len(x) else None


def draw(path: Path, source: Mapping[str, Module]) -> None:
    """Draw the house as it stands in the code."""
    below = imports(source)
    levels = [[room for room in floor if (SOURCE / room).is_dir()] for floor in floors()]
    levels = [floor for floor in levels if floor] + [["checks", "options"]]
    figure = Figure(figsize=(10, 1.25 * len(levels)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 101), ylim=(-1, STOREY * len(levels) - (STOREY - HIGH) + 1))
    axes.axis("off")
    floor_y = {room: STOREY * y for y, rooms in enumerate(reversed(levels)) for room in rooms}
    for room, y in floor_y.items():
        line, folders = about(room)
        left = CENTRE[room] - WIDE / 2
        name = f"{room}/" if (SOURCE / room).is_dir() else f"{room}.py"
        box = FancyBboxPatch((left, y), WIDE, HIGH, boxstyle="round,pad=0,rounding_size=1")
        box.set(facecolor=LIGHT, edgecolor=GREY, gid=room)
        axes.add_patch(box)
        words = textwrap.wrap(line.replace("`", ""), 56)
        words += [" ".join(f"{one}/" for one in folders)] if folders else []
        words += textwrap.wrap(f"imports {', '.join(below[room]) or 'nothing'}", 56)
        axes.text(left + 1, y + HIGH - 1, name, va="top", weight="bold", size=11)
        axes.text(left + 1, y + HIGH - 3.6, "\n".join(words), va="top", size=7.5)
    for room, one in reduced({room: [b for b in below[room] if b in FOLDERS] for room in FOLDERS}):
        x = between(room, one, levels)
        ends = (CENTRE[room], CENTRE[one]) if x is None else (x, x)
        line_ends = (ends[0], floor_y[room]), (ends[1], floor_y[one] + HIGH)
        arrow = FancyArrowPatch(*line_ends, arrowstyle="-|>", shrinkA=0, shrinkB=0)
        arrow.set(color=GREY, mutation_scale=10, zorder=0, gid=f"{room} to {one}")
        axes.add_patch(arrow)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


def measure(args: argparse.Namespace) -> running.Result:
    # What hangs on nothing but the code: no date, and no random names.
    with mpl.rc_context({"svg.hashsalt": "nexttick", "svg.fonttype": "none"}):
        draw(args.out, package())
    return {"picture": str(args.out)}


def main(words: Sequence[str] | None = None) -> None:
    options = running.parser(__doc__)
    options.add_argument("--out", type=Path, default=PICTURE)
    running.run(options, measure, lambda result: [result["picture"]], words)


if __name__ == "__main__":
    main()
