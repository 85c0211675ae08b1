"""Running commands as a user does, in this process or another, and looking at what they leave."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexttick.cli.main import main

# A network that trains in a blink; one thread, so that every process gets the same numbers.
TINY = (
    *("--num_layers", "1", "--hidden_size", "4", "--sequence_length", "8", "--kernel-size", "3"),
    *("--epochs", "2", "--threads", "1", "--device", "cpu"),
)
WRITTEN = (
    "baselines.json",
    "config.json",
    "log.jsonl",
    "metrics.json",
    "predictions.parquet",
    "predictor/predictor.json",
    "predictor/weights.safetensors",
)


@dataclass(frozen=True)
class Said:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


def call(*args: object) -> Said:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Said(code, out.getvalue(), err.getvalue())


def done(*args: object) -> Said:
    """Run a command that must end well."""
    said = call(*args)
    assert said.code == 0, said.err
    assert said.err == ""
    return said


def refused(*args: object) -> str:
    """Run a command that must end with exit code 2; its message."""
    said = call(*args)
    assert said.code == 2, said
    assert "Traceback" not in said.err
    assert said.err.strip()
    return said.err


def python(*args: object, cwd: Path, prelude: str = "") -> Said:
    """Run Python in another process, with warnings as errors.

    Args:
        args: of the interpreter; or of the command, where there is a prelude.
        cwd: where.
        prelude: code to run before the command `nexttick`.
    """
    code = ("-c", f"import sys\n{prelude}\nfrom nexttick.cli.main import main\nsys.exit(main())")
    child = subprocess.run(
        [sys.executable, "-W", "error", *(code if prelude else ()), *map(str, args)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return Said(child.returncode, child.stdout, child.stderr)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def strict_json(text: str) -> Any:
    """Parse JSON that has neither NaN nor infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def log_records(run: Path) -> list[dict[str, Any]]:
    """The records of `log.jsonl`."""
    return [strict_json(line) for line in (run / "log.jsonl").read_text().splitlines()]
