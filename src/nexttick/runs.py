"""The run folder: what a run leaves behind, and reading it back.

`config.json` (recipe and files), `log.jsonl` (a record an epoch), `checkpoint.safetensors` (to go
on from), `predictor/`, `baselines.json`, `predictions.parquet` and `metrics.json`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nexttick import baselines
from nexttick.config import Recipe, from_dict, to_dict
from nexttick.judge import Tested
from nexttick.predictor import Predictor
from nexttick.train import EpochRecord
from nexttick.writing import explained, write_table, write_text

CHECKPOINT = "checkpoint.safetensors"


def create(out: Path | None, name: str, overwrite: bool) -> Path:
    """Make a run folder: `out`, or else the first that is free of `runs/<name>`, `-2`, `-3`.

    Raises:
        ValueError: `out` exists and is not to be overwritten, or is no run folder.
    """
    if out is None:
        folders = (Path("runs") / (name if k == 1 else f"{name}-{k}") for k in range(1, 10**6))
        out = next(folder for folder in folders if not folder.exists())
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        _check_replaceable(out, overwrite)
        shutil.rmtree(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "log.jsonl", "")  # a folder that cannot be written is found out now
    except OSError as error:
        raise explained(error, out) from error
    return out


def _check_replaceable(out: Path, overwrite: bool) -> None:
    if not overwrite:
        raise ValueError(
            f"{out} exists: give another --out, --overwrite to replace it, or --resume to go on"
        )
    if not (out / "config.json").exists():
        raise ValueError(
            f"{out} is no run folder, so --overwrite leaves it alone: remove it yourself"
        )


@dataclass(frozen=True)
class RunConfig:
    """What a run is made of: its recipe, its files and the fingerprint of their ticks."""

    recipe: Recipe
    files: tuple[str, ...]
    data_hash: str


def write_config(run: Path, config: RunConfig) -> None:
    """Write `config.json`."""
    source = {"files": config.files, "data_hash": config.data_hash}
    write_json(run / "config.json", {**to_dict(config.recipe), "source": source})


def read_config(run: Path) -> RunConfig:
    """Read `config.json`.

    Raises:
        ValueError: there is no such run, or its configuration is damaged or has unknown keys.
    """
    path = run / "config.json"
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{run} is no run folder: it holds no config.json") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: damaged JSON ({error.msg})") from error
    source = values.pop("source", {})
    return RunConfig(from_dict(values), tuple(source["files"]), source["data_hash"])


def write_log(run: Path, records: Iterable[EpochRecord]) -> None:
    """Write one JSON line an epoch."""
    write_text(run / "log.jsonl", "".join(json.dumps(asdict(record)) + "\n" for record in records))


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write readable JSON, whole."""
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def write_test(run: Path, tested: Tested, data: dict[str, Any]) -> None:
    """Write `predictions.parquet` and `metrics.json`."""
    write_table(tested.predictions, run / "predictions.parquet")
    write_json(run / "metrics.json", {**tested.metrics(), "data": data})


def save_trained(run: Path, predictor: Predictor, fitted: baselines.Fitted) -> None:
    """Keep what training made; the checkpoint has done its work."""
    write_text(run / "baselines.json", baselines.dump(fitted) + "\n")
    predictor.save(run / "predictor")
    (run / CHECKPOINT).unlink(missing_ok=True)


def load_trained(run: Path, device: str = "cpu") -> tuple[Predictor, baselines.Fitted]:
    """Predictor and baselines of a run.

    Raises:
        ValueError: the run is not finished, or damaged.
    """
    if not run.is_dir():
        raise ValueError(f"{run} is no run folder: name one made by train or run")
    predictor = Predictor.load(run / "predictor", device)
    return predictor, baselines.load((run / "baselines.json").read_text())
