"""The run folder: what a run leaves behind, and reading it back.

`config.json` (recipe and files), `log.jsonl` (a record an epoch), `checkpoint.safetensors` (to go
on from), `predictor/`, `baselines.json`, `predictions.parquet` and `metrics.json`; of an evaluation
`report.html` and `folds/` too. Live runs keep their journals in `live/`: it is not in `_WRITTEN`,
so that `--overwrite` refuses such a folder: no training brings back what was recorded there.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexttick.checks import validate
from nexttick.learn.formats import check_format, read_json
from nexttick.options import EvaluateOptions, Recipe, from_values, to_dict
from nexttick.ticks.writing import explained, write_text

# What is wrong with a run folder is told without torch, which takes seconds to load.
if TYPE_CHECKING:
    from nexttick.learn.baselines import Fitted
    from nexttick.learn.checkpoint import EpochRecord
    from nexttick.learn.predictor.predictor import Predictor

RUNS = Path("runs")  # where runs go that are not told where
CHECKPOINT = "checkpoint.safetensors"
CONFIG_FORMAT = LOG_FORMAT = 1
METRICS_FORMAT = 2  # of `metrics.json`
_WRITTEN = (
    *("config.json", "log.jsonl", CHECKPOINT, "predictor", "baselines.json"),
    *("predictions.parquet", "metrics.json", "report.html", "folds"),
)
_UNFINISHED = (".part", ".partial")  # what a kill leaves of a file or folder being written


@dataclass(frozen=True)
class RunConfig:
    """A run's recipe, its files, the fingerprint of their ticks; and how an evaluation judges."""

    recipe: Recipe
    files: tuple[str, ...]
    data_hash: str
    evaluate: EvaluateOptions | None = None


def name_of(what: str, files: Sequence[str]) -> str:
    """The name of a run: what is run, and on which file."""
    stem = re.sub(r"[^\w-]", "", Path(files[0]).name.split(".")[0]) or "ticks"
    return f"{what}-{stem}"


def create(out: Path | None, name: str, overwrite: bool, config: RunConfig) -> Path:
    """Make a run folder with its `config.json`, or raise what `check_free` does.

    Where `out` is None it is the first that is free of `runs/<name>`, `-2`, `-3`.
    """
    check_free(out, overwrite)
    try:
        folder = RUNS / name if out is None else out
        for k in itertools.count(2):
            try:
                # Whoever makes it has it: runs may start together.
                folder.mkdir(parents=True, exist_ok=out is not None)
                break
            except FileExistsError:
                if out is not None or not folder.exists():
                    raise
                folder = RUNS / f"{name}-{k}"
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise explained(error, RUNS if out is None else out) from error
    values = {"format": CONFIG_FORMAT, **to_dict(config.recipe)}
    if config.evaluate is not None:
        values["evaluate"] = asdict(config.evaluate)
    values["source"] = {"files": config.files, "data_hash": config.data_hash}
    try:
        write_json(folder / "config.json", values)
    except OSError:
        discard(folder)
        raise
    return folder


def check_free(out: Path | None, overwrite: bool) -> None:
    """Find out, before the work is done, whether its results can go to `out`."""
    if out is None or not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise ValueError(
            f"{out} exists: give another --out, --overwrite to replace it, or --resume to go on"
        )
    if not (out / "config.json").exists():
        raise ValueError(
            f"{out} is no run folder, so --overwrite leaves it alone: remove it yourself"
        )
    names = [path.name for path in out.iterdir()]
    foreign = [one for one in names if one not in _WRITTEN and not one.endswith(_UNFINISHED)]
    if foreign:
        raise ValueError(
            f"{out} holds {', '.join(sorted(foreign))}, which no run wrote, so --overwrite leaves "
            f"the folder alone: move that elsewhere"
        )


def discard(folder: Path) -> None:
    """Remove a run folder in which there is nothing to go on from."""
    shutil.rmtree(folder, ignore_errors=True)


def read_config(run: Path) -> RunConfig:
    """Read `config.json`; that it is missing, damaged or has unknown keys is a `ValueError`."""
    path = run / "config.json"
    values = read_json(path, f"{run} is no run folder: it holds no config.json")
    try:
        check_format(path, values.pop("format", 1), CONFIG_FORMAT)
        source, judged = values.pop("source"), "evaluate" in values
        source = tuple(source["files"]), source["data_hash"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no configuration of a run ({error})") from error
    try:
        read = from_values(values)
        validate(read.recipe)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return RunConfig(read.recipe, *source, read.evaluate if judged else None)


def write_log(run: Path, records: Iterable[EpochRecord]) -> None:
    """Write one JSON line an epoch."""
    lines = [json.dumps({"format": LOG_FORMAT, **asdict(record)}) + "\n" for record in records]
    write_text(run / "log.jsonl", "".join(lines))


def read_log(run: Path) -> list[Any]:
    """The record of each epoch so far; the training may still be going on."""
    path = run / "log.jsonl"
    if not path.is_file():
        raise ValueError(f"{run} is no run folder: it holds no log.jsonl")
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: damaged JSON ({error.msg})") from error
        if isinstance(record, dict):
            check_format(where, record.get("format", 1), LOG_FORMAT)
        records.append(record)
    return records


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write readable JSON, whole."""
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def write_metrics(run: Path, metrics: dict[str, Any]) -> None:
    """Write `metrics.json` with its format number."""
    write_json(run / "metrics.json", {"format": METRICS_FORMAT, **metrics})


def read_metrics(run: Path) -> dict[str, Any]:
    """Read `metrics.json`, in the present form where an earlier one was written.

    Format 1 had no number. An evaluation's was as it is now. A run's knew its network by no name
    and had neither intervals nor what follows from them: those keys are not there.
    """
    path = run / "metrics.json"
    metrics = read_json(path, f"{run} holds no metrics.json: test it first")
    form = metrics.pop("format", 1) if isinstance(metrics, dict) else None
    check_format(path, form, 1, METRICS_FORMAT)
    if "test" not in metrics:
        raise ValueError(f"{path}: the scores of the test are missing or damaged: test it again")
    return {"networks": {"network": metrics["test"]}} | metrics


def save_trained(run: Path, predictor: Predictor, fitted: Fitted) -> None:
    """Keep what training made; the checkpoint has done its work."""
    from nexttick.learn import baselines

    write_text(run / "baselines.json", baselines.dump(fitted) + "\n")
    predictor.save(run / "predictor")
    (run / CHECKPOINT).unlink(missing_ok=True)
    for path in run.iterdir():
        if path.is_file() and path.name.endswith(_UNFINISHED):
            path.unlink()


def check_trained(run: Path) -> None:
    """Find out, before anything heavy is loaded, whether there is a finished training."""
    if not run.is_dir():
        raise ValueError(f"{run} is no run folder: name one made by train or run")
    if not (run / "predictor").exists():
        go_on = f"its training is not finished; go on with it by nexttick run --resume --out {run}"
        cure = go_on if (run / "config.json").exists() else "name a run folder made by train or run"
        raise ValueError(f"{run} holds no predictor: {cure}")


def load_trained(run: Path, device: str = "cpu") -> tuple[Predictor, Fitted]:
    """Predictor and baselines of a run; one that is not finished, or damaged, is a `ValueError`."""
    from nexttick.learn import baselines
    from nexttick.learn.predictor.predictor import Predictor

    check_trained(run)
    predictor = Predictor.load(run / "predictor", device)
    path = run / "baselines.json"
    try:
        fitted = baselines.load(path.read_text())
        missing = set(baselines.CHEAP) - set(fitted)
        if missing or {len(ones) for ones in fitted.values()} != {len(predictor.horizons)}:
            raise ValueError("they are not of the predictor's horizons")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: missing or damaged ({error}): train again") from error
    return predictor, fitted
