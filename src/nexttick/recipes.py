"""Recipes in files: TOML with the sections of a recipe, `evaluate` beside them, and files of ticks.

files = ["ticks.csv"]

[model]
type = "cnn"

[evaluate]
folds = 5
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexttick.config import SECTIONS, EvaluateOptions, Recipe, read_sections


@dataclass(frozen=True)
class EvaluationRecipe:
    """A recipe, how it is judged, and on which files."""

    recipe: Recipe = Recipe()
    evaluate: EvaluateOptions = EvaluateOptions()
    files: tuple[str, ...] = ()


def read_recipe(path: Path) -> EvaluationRecipe:
    """Read a recipe from a TOML file, closed to unknown keys.

    Raises:
        ValueError: it cannot be read, is no TOML, or holds what a recipe does not know.
    """
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}): name a recipe") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no TOML ({error})") from error
    try:
        return from_values(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def from_values(values: dict[str, Any]) -> EvaluationRecipe:
    """A recipe from plain values.

    Raises:
        ValueError: every unknown section and key, each with the nearest known one.
    """
    files = values.pop("files", [])
    if not (isinstance(files, list) and all(isinstance(file, str) for file in files)):
        raise ValueError(f"files is {files!r}: give a list of files, folders or globs")
    read = read_sections(values, {**SECTIONS, "evaluate": EvaluateOptions})
    evaluate = read.pop("evaluate")
    return EvaluationRecipe(Recipe(**read), evaluate, tuple(files))
