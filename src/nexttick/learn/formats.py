"""What learning writes carries a format number; an unknown one is refused with the reason.

Files of before there were numbers in them (`config.json`, `baselines.json`, `log.jsonl` and
checkpoints, until November 2026) are those of number 1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def check_format(where: object, form: object, *known: int) -> None:
    """Find out whether a file is of a format that can be read, or else raise a `ValueError`."""
    if form not in known:
        numbers = " and ".join(map(str, known))
        raise ValueError(f"{where}: format {form!r}, this version reads {numbers}")


def read_json(path: Path, missing: str) -> Any:
    """The values of a JSON file; `missing` is what the `ValueError` says where there is none."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(missing) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: damaged JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {error}") from error
