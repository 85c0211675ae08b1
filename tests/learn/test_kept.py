"""What the code of earlier months wrote is read, says what it said; other formats are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from helpers.console import TINY, contents, done, python, refused
from helpers.markets import simulated_ticks
from nexttick.learn import run_folder
from nexttick.learn.predictor.predictor import FORMAT, Predictor
from nexttick.learn.run_folder import CHECKPOINT
from nexttick.prepare import features
from nexttick.ticks.writing import write_table

KEPT = Path(__file__).parents[1] / "kept" / "2026-11"
FINGERPRINT = "bb54d26ba68192eaf08bc9ae60065f52c2c174a80d0ab68f6fa0d6fe5a56cf44"  # in its journal
HORIZONS = ["p_rise@1", "p_rise@10"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all that is kept; the current folder is a temporary one."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(KEPT, tmp_path / "kept"))


def assert_says_what_it_said(predictor: Predictor) -> None:
    said, expected = (
        predictor.predict(pl.read_parquet(KEPT / "later.parquet")),
        pl.read_parquet(KEPT / "predicted.parquet"),
    )
    assert said.select("time", "price").equals(expected.select("time", "price"))
    for name in HORIZONS:
        assert said[name].is_null().equals(expected[name].is_null())
        np.testing.assert_allclose(said[name], expected[name], rtol=0, atol=1e-6)


def test_a_predictor_of_format_3_says_what_it_said() -> None:
    predictor, _ = run_folder.load_trained(KEPT / "run")
    assert_says_what_it_said(predictor)
    assert predictor.fingerprint() == FINGERPRINT
    assert predictor.spec.revision == 1
    assert predictor.training_shares is not None
    old = json.loads((KEPT / "run" / "predictor" / "predictor.json").read_text())
    assert old["format"] == 3
    assert predictor.training_shares.to_json() == old["reference"]


def test_saved_again_it_is_of_the_newest_format_and_the_same(tmp_path: Path) -> None:
    Predictor.load(KEPT / "run" / "predictor").save(tmp_path / "predictor")
    again = Predictor.load(tmp_path / "predictor")
    assert_says_what_it_said(again)
    assert again.fingerprint() == FINGERPRINT
    new = json.loads((tmp_path / "predictor" / "predictor.json").read_text())
    assert (new["format"], new["features"]["revision"]) == (FORMAT, features.REVISION)
    assert "reference" not in new


def test_a_kept_run_is_tested_predicts_and_is_exported(kept: Path) -> None:
    run, later = kept / "run", kept / "later.parquet"
    done("predict", run, later, "-o", "p.parquet")
    expected = pl.read_parquet(kept / "predicted.parquet")
    for name in HORIZONS:
        np.testing.assert_allclose(
            pl.read_parquet("p.parquet")[name], expected[name], rtol=0, atol=1e-6
        )
    done("test", run, later, "--seen", "--out", "tested")
    told = json.loads(Path("tested/metrics.json").read_text())
    assert told["test"]["rise@1"]["n"] > 200
    assert "from 8 events on" in done("export", run, "-o", "model.onnx").out


def test_a_kept_run_followed_again_says_what_it_said(kept: Path) -> None:
    words = ("live", kept / "run", "--source", "replay", "--file", kept / "later.parquet")
    options = ("--speed", "max", "--json", "--journal", "new")
    child = python("-m", "nexttick", *words, *options, cwd=kept)
    assert child.code == 0, child.err
    said = child.out.splitlines()
    expected = (kept / "said.jsonl").read_text().splitlines()
    assert len(said) == len(expected)
    for line, other in zip(map(json.loads, said), map(json.loads, expected), strict=True):
        assert (line["time"], line["price"]) == (other["time"], other["price"])
        for name in HORIZONS:
            assert line[name] == pytest.approx(other[name], abs=1e-6)


def test_a_kept_training_goes_on_to_the_weights_of_one_that_never_stopped(kept: Path) -> None:
    write_table(simulated_ticks(1000), "ticks.csv")
    assert set(contents(kept / "unfinished")) == {"config.json", "log.jsonl", CHECKPOINT}
    done("run", "--resume", "--out", kept / "unfinished")
    recipe = (*TINY, "--bins", 2, "--epochs", 4, "--patience", 4, "--calibration", "none")
    done("run", *recipe, "ticks.csv", "--out", "whole")
    ours, theirs = (
        load_file(run / "predictor" / "weights.safetensors")
        for run in (kept / "unfinished", Path("whole"))
    )
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=0, atol=1e-6)


# Formats that nobody knows yet


def renumbered(path: Path) -> None:
    """Give a JSON file, or each line of one, a number that nobody knows."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    path.write_text("\n".join(json.dumps({**json.loads(line), "format": 99}) for line in lines))


@pytest.mark.parametrize(
    ("name", "command", "reads"),
    [
        ("predictor/predictor.json", ("export", "run", "-o", "model.onnx"), "3 and 4"),
        ("baselines.json", ("export", "run", "-o", "model.onnx"), "1"),
        ("config.json", ("test", "run", "later.parquet"), "1"),
        ("log.jsonl", ("lab", "health", "run"), "1"),
    ],
)
def test_an_unknown_format_is_refused_in_one_line(
    name: str, command: tuple[str, ...], reads: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kept)
    renumbered(Path("run") / name)
    message = refused(*command)
    assert f"{name}" in message
    assert f"format 99, this version reads {reads}" in message
    assert len(message.strip().splitlines()) == 1


def test_a_checkpoint_of_an_unknown_format_is_refused(kept: Path) -> None:
    write_table(simulated_ticks(1000), "ticks.csv")
    path = kept / "unfinished" / CHECKPOINT
    with safe_open(path, framework="np") as file:
        description = file.metadata()
    save_file(load_file(path), path, {**description, "format": "99"})
    message = refused("run", "--resume", "--out", kept / "unfinished")
    assert f"{path}: format 99, this version reads 1" in message


def test_features_of_another_revision_are_refused_with_the_version(kept: Path) -> None:
    predictor = Predictor.load(kept / "run" / "predictor")
    predictor.save(kept / "run" / "predictor")
    path = kept / "run" / "predictor" / "predictor.json"
    values = json.loads(path.read_text())
    values["features"]["revision"], values["nexttick"] = 2, "9.9"
    path.write_text(json.dumps(values))
    message = refused("export", kept / "run", "-o", "model.onnx")
    assert "features are of revision 2, not 1" in message
    assert "made by 9.9" in message


def test_what_is_written_now_carries_its_number(kept: Path) -> None:
    write_table(simulated_ticks(1000), "ticks.csv")
    done("run", *TINY, "ticks.csv", "--out", "run")
    for name in ("config.json", "baselines.json"):
        assert json.loads(Path("run", name).read_text())["format"] == 1
    for line in Path("run/log.jsonl").read_text().splitlines():
        assert json.loads(line)["format"] == 1
