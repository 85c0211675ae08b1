"""What commands take: the words that their help shows, and what options say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from nexttick import options

_DEFAULTS = {"None": "", "": "", "''": "", "False": "", "True": "(default: on)"}


def _default(label: str) -> str:
    """The end of an option's text; what is nothing by default says so in its own words."""
    return _DEFAULTS.get(label, f"(default: {label})")


def words(metavar: str | None = None, **more: Any) -> Any:
    """How the value of an option is called in the help."""
    return tyro.conf.arg(metavar=metavar, **{"help_behavior_hint": _default, **more})


Files = Annotated[tyro.conf.Positional[tuple[str, ...]], words("FILE…")]
RunFolder = Annotated[tyro.conf.Positional[Path], words("RUN")]
RunFolders = Annotated[tyro.conf.Positional[tuple[Path, ...]], words("RUN…")]
OutFile = Annotated[Path, words("FILE", aliases=["-o"])]
Folder = Annotated[Path, words("FOLDER")]
Device = Annotated[str, words("DEVICE")]
Flag = Annotated[bool, words()]

# Options in groups; the name of a group is its title.
Recipe = Annotated[options.Recipe, tyro.conf.arg(name="")]
Reading = Annotated[options.ReadOptions, tyro.conf.arg(name="Reading")]
Network = Annotated[options.ModelOptions, tyro.conf.arg(name="Network")]
Judging = Annotated[options.EvaluateOptions, tyro.conf.arg(name="Judging")]
Following = Annotated[
    tyro.conf.UseAppendAction[options.LiveOptions], tyro.conf.arg(name="Following")
]
Output = Annotated[options.OutputOptions, tyro.conf.arg(name="Output")]
