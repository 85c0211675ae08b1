"""The program: it finds a command, hands it its options, and says what went wrong."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import tyro

import nexttick
from nexttick.cli import evaluate, lab, live, networks, run, store, ticks
from nexttick.cli.arguments import REGISTRY
from nexttick.options import EvaluateOptions, FeatureOptions, LabelOptions, is_horizon, nearest

Command = Callable[..., int | None]


class Family(NamedTuple):
    """Commands under one word: `nexttick store check`."""

    about: str
    commands: Mapping[str, Command]


# As the first screen shows them. A command loads what it needs when it runs, no sooner: its help
# and its mistakes are told at once.
GROUPS: dict[str, dict[str, Command | Family]] = {
    "Learn": {"run": run.run, "train": run.train, "predict": run.predict},
    "Judge": {"test": run.test, "evaluate": evaluate.evaluate, "compare": evaluate.compare},
    "Run live": {"live": live.live, "journal": live.journal},
    "Data": {
        "fetch": store.fetch,
        "store": Family("Look after stored ticks: list, check, describe, export.", store.COMMANDS),
        "ticks": ticks.ticks,
        "simulate": ticks.simulate,
    },
    "Look inside": {
        "describe": networks.describe,
        "export": networks.export,
        "lab": Family(
            "Experiments on gradients: vanishing, exploding, example, health.", lab.COMMANDS
        ),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}

# Options that take several words.
_MANY = {
    f"--{field.name.replace('_', '-')}"
    for options in (FeatureOptions, LabelOptions, EvaluateOptions)
    for field in dataclasses.fields(options)
    if isinstance(field.default, tuple)
}
_FILE = re.compile(r"[/*?\\]|\.[A-Za-z]\w*$")
_WIDTH = 80


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 2 where the user can mend what went wrong."""
    # OpenMP's threads wait in a busy loop, and where another process wants the same core, training
    # was measured 12 times slower for it. Read once, when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        code = _run_command(list(sys.argv[1:] if args is None else args), "nexttick", GROUPS)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("NEXTTICK_TRACEBACK"):
            # A message says what the user can mend, and not where a bug of ours lies.
            raise
        text = str(error)
        if isinstance(error, OSError) and error.strerror and error.filename is None:
            # Without Python's `[Errno 28]`: it says it in words.
            text = error.strerror
        for line in text.splitlines():
            print(f"nexttick: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        # One that meets polars is raised by polars, and by Python at the next step, which may lie
        # in the code of `suppress` itself.
        try:  # noqa: SIM105
            time.sleep(0)
        except KeyboardInterrupt:
            pass
        print("nexttick: stopped", file=sys.stderr)
        return 130
    return code


def _run_command(
    args: list[str],
    prog: str,
    groups: Mapping[str, Mapping[str, Command | Family]],
    about: str | None = nexttick.__doc__,
) -> int:
    if not args or args[0] in ("-h", "--help"):
        _show_commands(prog, groups, about)
        return 0 if args else 2
    commands = {name: command for group in groups.values() for name, command in group.items()}
    name, *rest = args
    if name not in commands:
        said = " ".join([*prog.split()[1:], name])
        raise ValueError(f"command {said!r} is unknown: {nearest(name, commands)}")
    command, prog = commands[name], f"{prog} {name}"
    if isinstance(command, Family):
        return _run_command(rest, prog, {"Commands": command.commands}, command.about)
    code = tyro.cli(
        command,
        prog=prog,
        args=_files_first(rest),
        config=(tyro.conf.OmitArgPrefixes,),
        registry=REGISTRY,
    )
    return code or 0


def _show_commands(
    prog: str, groups: Mapping[str, Mapping[str, Command | Family]], about: str | None
) -> None:
    """A line a command, in groups."""
    print(f"usage: {prog} [-h] COMMAND …\n\n{textwrap.fill(about or '', _WIDTH)}")
    for title, commands in groups.items():
        print(f"\n{title}")
        for name, command in commands.items():
            text = command.about if isinstance(command, Family) else command.__doc__ or ""
            print(f"  {name:9}  {text.splitlines()[0]}")
    print(f"\n{prog} COMMAND --help tells of a command and its options.")


def _files_first(args: list[str]) -> list[str]:
    """Move files from behind an option that takes several words, which would swallow them."""
    files: list[str] = []
    others: list[str] = []
    option = ""
    for word in args:
        option = word.replace("_", "-") if word.startswith("--") else option
        swallowed = option in _MANY and word != option and not is_horizon(word)
        is_file = swallowed and (_FILE.search(word) or Path(word).exists())
        (files if is_file else others).append(word)
    return [*files, *others]
