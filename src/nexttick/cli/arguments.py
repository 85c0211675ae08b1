"""What commands take: the words that their help shows, and what options say of themselves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from nexttick import options

_METAVARS = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}
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

REGISTRY = ConstructorRegistry()
_asked: list[type] = []


@REGISTRY.struct_rule
def _options(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Options as tyro takes any dataclass, but with the words that stand beside their fields."""
    if not dataclasses.is_dataclass(info.type) or info.type in _asked:
        return None
    _asked.append(info.type)
    try:
        plain = ConstructorRegistry.get_struct_spec(info)  # by tyro's own rule
    finally:
        _asked.remove(info.type)
    assert isinstance(plain, StructConstructorSpec)
    fields = tuple(dataclasses.replace(one, type=_in_words(one.type)) for one in plain.fields)
    return dataclasses.replace(plain, fields=fields)


def _in_words(hint: Any) -> Any:
    """The type of a field with what the help calls its value, or the title of its section."""
    kind, *beside = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    given = next((one for one in beside if isinstance(one, options.Words)), options.Words(""))
    if dataclasses.is_dataclass(kind):
        return Annotated[kind, tyro.conf.arg(name=given.text or None)]
    if get_origin(kind) is Literal:
        beside.append(options.OneOf(get_args(kind)))
    choices = ["|".join(one.known) for one in beside if isinstance(one, options.OneOf)]
    parts = [part for part in (kind, *get_args(kind)) if part in _METAVARS]
    metavar = given.text or "".join(choices) or next((_METAVARS[part] for part in parts), None)
    return Annotated[kind, words(metavar, help_behavior_hint=given.hint or _default)]
