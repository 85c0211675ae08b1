"""Figures of earlier formats are still read: by `compare`, by the report and by a live run."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from helpers.console import done, refused, strict_json
from nexttick.learn import run_folder
from nexttick.learn.run_folder import METRICS_FORMAT, read_metrics
from nexttick.live.promises import read_promises

KEPT = Path(__file__).parents[1] / "kept" / "2026-11"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of November 2026, whose `metrics.json` knew its network by no name."""
    shutil.copytree(KEPT / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def evaluation(tmp_path: Path, run: Path) -> Path:
    """An evaluation of the same month, with predictions of the run's events."""
    folder = tmp_path / "evaluation"
    folder.mkdir()
    shutil.copy(KEPT / "evaluation" / "config.json", folder)
    figures = gzip.decompress((KEPT / "evaluation" / "metrics.json.gz").read_bytes())
    (folder / "metrics.json").write_bytes(figures)
    table = pl.read_parquet(run / "predictions.parquet")
    said = {f"cnn_{name}": 0.9 * pl.col(f"p_{name}") for name in ("rise@1", "rise@10")}
    table.select("time", "price", **said).write_parquet(folder / "predictions.parquet")
    return folder


def test_scores_of_a_kept_run_are_those_that_were_written(run: Path) -> None:
    written = strict_json((run / "metrics.json").read_text())
    assert "format" not in written
    told = read_metrics(run)
    assert told["networks"] == {"network": written["test"]}
    assert {key: told[key] for key in written} == written


def test_scores_of_a_kept_evaluation_are_those_that_were_written(evaluation: Path) -> None:
    assert read_metrics(evaluation) == strict_json((evaluation / "metrics.json").read_text())


def test_kept_runs_and_evaluations_are_compared(run: Path, evaluation: Path) -> None:
    told = strict_json(done("compare", run, evaluation, "--json").out)
    assert list(told) == ["rise@1", "rise@10"]
    assert list(told["rise@1"]["scores"]) == ["run", "evaluation: cnn"]
    for horizon, written in read_metrics(run)["test"].items():
        one = told[horizon]
        assert one["n"] == written["n"]
        assert one["scores"]["run"]["log_loss"][0] == pytest.approx(written["log_loss"])
        assert one["scores"]["run"]["auc"][0] == pytest.approx(written["auc"])


def test_what_the_test_of_a_kept_run_promised_is_read(run: Path) -> None:
    told = read_promises(run, *run_folder.load_trained(run), window=200)
    for horizon, written in read_metrics(run)["test"].items():
        for key in ("log_loss", "bits", "brier"):
            assert told[horizon].bands[key].value == pytest.approx(written[key], abs=1e-6)


def test_an_unknown_format_is_refused_with_the_reason(run: Path, evaluation: Path) -> None:
    values = strict_json((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({"format": 99, **values}))
    reason = f"format 99, this version reads 1 and {METRICS_FORMAT}"
    with pytest.raises(ValueError, match=reason):
        read_promises(run, *run_folder.load_trained(run))
    assert reason in refused("compare", run, evaluation)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 2}'])
def test_damaged_figures_are_refused(text: str, run: Path) -> None:
    (run / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.json.*(damaged|this version reads)"):
        read_metrics(run)
