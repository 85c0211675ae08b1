"""The commands end to end on a small simulated market: what they write, print and agree on."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

import nexttick
from helpers.console import (
    TINY,
    WRITTEN,
    call,
    contents,
    done,
    log_records,
    python,
    refused,
    strict_json,
)
from helpers.markets import random_ticks, simulated_ticks
from nexttick.cli.main import COMMANDS, main
from nexttick.learn.run_folder import read_config
from nexttick.networks.models import MODELS
from nexttick.ticks.writing import write_table

N = 1500
SCORES = {"n", "base_rate", "log_loss", "bits", "auc", "mcc", "brier", "accuracy"}
SCORES |= {"reliability", "resolution", "uncertainty", "ece", "precision", "npv", "tie_rate"}
SCORES |= {
    f"{name}_{way}" for name in ("auc", "log_loss", "bits") for way in ("moves", "direction")
}
REPORTED = {"format", "test", "networks", "baselines", "leaky", "differences", "bootstrap", "folds"}
REPORTED |= {"reliability", "roc", "backtest", "audit", "data"}
BASELINES = {"base_rate", "last_moves", "persistence", "logistic"}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `market.parquet`, `ticks.csv` (no truth) and a finished `run`."""
    folder = tmp_path_factory.mktemp("cli")
    done("simulate", "--ticks", N, "--seed", 5, "-o", folder / "market.parquet")
    write_table(simulated_ticks(N).drop("truth", "id"), folder / "ticks.csv")
    done("run", *TINY, folder / "ticks.csv", "--out", folder / "run")
    return folder


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def metrics(run: Path) -> dict:
    return strict_json((run / "metrics.json").read_text())


# Training and testing


@pytest.mark.parametrize("kind", MODELS)
def test_the_lectures_command_trains_and_tests(kind: str, tmp_path: Path) -> None:
    write_table(simulated_ticks(N).drop("truth", "id"), tmp_path / "ticks.csv")
    options = ("--num_layers", 1, "--hidden_size", 4, "--sequence_length", 8, "--epochs", 2)
    said = python(ROOT / "run.py", "--type", kind, *options, "ticks.csv", cwd=tmp_path)
    assert (said.code, said.err) == (0, "")
    run = tmp_path / "runs" / f"{kind}-ticks"
    assert sorted(contents(run)) == sorted(WRITTEN)
    for text in ("rise@1", "rise@10", "log loss", "logistic", "epoch   2/2", "ticks/s"):
        assert text in said.out
    assert "its best baseline" in said.out
    model = read_config(run).recipe.model
    assert (model.type, model.num_layers, model.hidden_size, model.sequence_length) == (
        kind,
        1,
        4,
        8,
    )


def test_metrics_hold_the_documented_keys(folder: Path) -> None:
    told = metrics(folder / "run")
    assert told.keys() == REPORTED
    assert told["format"] == 2
    assert told["networks"] == {"cnn": told["test"]}
    assert told["baselines"].keys() == BASELINES
    for scores in (told["test"], *told["baselines"].values()):
        assert scores.keys() == {"rise@1", "rise@10"}
        assert all(one.keys() == SCORES | {"intervals"} for one in scores.values())
        assert all(one["intervals"].keys() == SCORES - {"n"} for one in scores.values())
    assert told["data"]["files"] == [str(folder / "ticks.csv")]
    assert told["data"]["events"] == N
    assert told["data"]["test_events"] == N // 5
    first = told["test"]["rise@1"]
    assert first["n"] == N // 5 - 1  # nobody knows what comes after the last
    assert {one["n"] for one in (b["rise@1"] for b in told["baselines"].values())} == {first["n"]}


def test_the_log_holds_a_record_an_epoch(folder: Path) -> None:
    records = log_records(folder / "run")
    assert [one["epoch"] for one in records] == [1, 2]
    assert records[0]["best"] is True
    assert all(one["train_loss"] > 0 and one["valid_loss"] > 0 for one in records)


def test_a_second_run_gets_the_next_free_folder(folder: Path, here: Path) -> None:
    for _ in range(2):
        done("train", *TINY, folder / "ticks.csv")
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["cnn-ticks", "cnn-ticks-2"]
    first, second = (contents(here / "runs" / name) for name in ("cnn-ticks", "cnn-ticks-2"))
    name = "predictor/weights.safetensors"
    assert first[name] == second[name] == contents(folder / "run")[name]


def test_scores_follow_from_the_predictions_and_prices_alone(folder: Path) -> None:
    table = pl.read_parquet(folder / "run" / "predictions.parquet")
    assert table.columns == ["time", "price", "p_rise@1", "p_rise@10"]
    price = table["price"].to_numpy()
    told = metrics(folder / "run")["test"]
    for h in (1, 10):
        y, p = price[h:] > price[:-h], table[f"p_rise@{h}"].to_numpy()[:-h].astype(float)
        scores = told[f"rise@{h}"]
        assert scores["n"] == len(y)
        assert scores["base_rate"] == pytest.approx(y.mean())
        assert scores["log_loss"] == pytest.approx(log_loss(y, p), rel=1e-6)
        assert scores["auc"] == pytest.approx(roc_auc_score(y, p), rel=1e-6)


def test_events_are_the_ticks_of_one_time_and_side(here: Path) -> None:
    ticks = random_ticks(3, N, sides="known", gaps=0)
    write_table(ticks, "ticks.csv")
    done("run", *TINY, "ticks.csv", "--out", "run")
    table = pl.read_parquet("run/predictions.parquet")
    time, side = ticks["time"].to_numpy(), ticks["side"].to_numpy()
    last = np.append((np.diff(time) != 0) | (np.diff(side) != 0), True)
    own = ticks.filter(last).tail(len(table))
    assert len(table) < 0.2 * N
    assert table["time"].equals(own["time"])
    assert table["price"].equals(own["price"])
    price = own["price"].to_numpy()
    p = table["p_rise@1"].to_numpy()[:-1].astype(float)
    told = metrics(Path("run"))["test"]["rise@1"]["log_loss"]
    assert told == pytest.approx(log_loss(price[1:] > price[:-1], p), rel=1e-6)


def test_a_simulated_market_shows_the_share_of_the_attainable(folder: Path, here: Path) -> None:
    said = done("run", *TINY, folder / "market.parquet", "--out", "run")
    for words in ("attained", "base_rate", "last_moves", "accuracy"):
        assert words in said.out
    assert "…" not in said.out  # nothing is cut short
    told = metrics(Path("run"))
    assert told["truth"].keys() == {"cnn", *BASELINES}
    table = pl.read_parquet("run/predictions.parquet")
    price = table["price"].to_numpy()
    truth = simulated_ticks(N)["truth"].to_numpy()[-len(table) : -1]
    best = log_loss(price[1:] > price[:-1], truth)
    base, got = (
        scores["rise@1"]["log_loss"] for scores in (told["baselines"]["base_rate"], told["test"])
    )
    assert told["truth"]["cnn"]["share"] == pytest.approx((base - got) / (base - best), rel=1e-5)


def test_the_lectures_spelling_and_dashes_are_the_same(folder: Path, here: Path) -> None:
    done("train", *TINY, folder / "ticks.csv", "--out", "a")
    done("train", *(str(w).replace("_", "-") for w in TINY), folder / "ticks.csv", "--out", "b")
    assert contents(here / "a")["config.json"] == contents(here / "b")["config.json"]


@pytest.mark.parametrize(
    "options",
    [
        ("--horizon", "1", "10", "5s", "move"),
        ("--ties", "skip"),
        ("--smooth", "--horizon", "5"),
        ("--raw-ticks",),
        ("--max-gap", "10m"),
        ("--half-lives-events", "4", "--half-lives-s"),
        ("--no-outliers", "--norm", "none", "--bins", "0"),
        ("--type", "rnn", "--dropout", "0.1", "--num_layers", "2"),
    ],
)
def test_options_hold_from_training_to_prediction(
    options: tuple[str, ...], folder: Path, here: Path
) -> None:
    ticks = folder / "ticks.csv"
    done("run", *TINY, *options, ticks, "--out", "run")  # files after many words too
    recipe = read_config(Path("run")).recipe
    told = metrics(Path("run"))["test"]
    assert list(told) == [f"rise@{h}" for h in recipe.labels.horizon]
    done("test", "run", ticks, "--out", "tested")
    assert metrics(Path("tested"))["test"] == told
    done("predict", "run", ticks, "-o", "p.parquet")
    predictions = pl.read_parquet("run/predictions.parquet")
    assert pl.read_parquet("p.parquet").columns == predictions.columns


def test_skipped_ties_are_not_scored(folder: Path, here: Path) -> None:
    done("run", *TINY, "--ties", "skip", folder / "ticks.csv", "--out", "run")
    price = pl.read_parquet("run/predictions.parquet")["price"].to_numpy()
    assert metrics(Path("run"))["test"]["rise@1"]["n"] == (np.diff(price) != 0).sum()


def test_a_test_part_of_one_class_has_an_undefined_auc(here: Path) -> None:
    ticks = simulated_ticks(N)
    fall = pl.int_range(N).clip(N * 8 // 10 - 50, N) * 10.0
    write_table(ticks.select("time", "amount", price=pl.col("price") + 5000 - fall), "fall.csv")
    said = done("run", *TINY, "fall.csv", "--out", "run")
    scores = metrics(Path("run"))["test"]["rise@1"]
    assert scores["auc"] is None
    assert scores["base_rate"] == 0
    assert " none " in said.out


def test_a_market_that_only_falls_is_learned_without_a_word_of_complaint(here: Path) -> None:
    ticks = simulated_ticks(N).select("time", "amount", price=50_000 - pl.int_range(N) * 1.0)
    write_table(ticks, "fall.csv")
    done("run", *TINY, "fall.csv", "--out", "run")
    told = metrics(Path("run"))
    assert told["test"]["rise@1"]["auc"] is None
    assert all(told["baselines"][name]["rise@1"]["accuracy"] == 1 for name in BASELINES)


# Train, test, predict


def test_training_and_testing_apart_say_what_run_says(folder: Path, here: Path) -> None:
    done("train", *TINY, folder / "ticks.csv", "--out", "trained")
    said = done("test", "trained", folder / "ticks.csv", "--out", "tested")
    assert f"{N * 8 // 10:,} events from the time that training saw are not scored" in said.out
    once, apart = metrics(folder / "run"), metrics(here / "tested")
    for part in REPORTED - {"data"}:
        assert apart[part] == once[part]
    assert contents(here / "tested")["predictions.parquet"] == (
        (folder / "run" / "predictions.parquet").read_bytes()
    )
    assert not (here / "trained" / "metrics.json").exists()


def test_only_unseen_events_are_scored_unless_told(folder: Path, here: Path) -> None:
    write_table(simulated_ticks(N)[: N // 2], "old.csv")
    run = folder / "run"
    message = refused("test", run, "old.csv", "--out", "tested")
    assert f"all {N // 2} events lie in the time that training saw" in message
    assert "--seen" in message
    assert not Path("tested").exists()
    done("test", run, "old.csv", "--seen", "--out", "tested")
    assert metrics(Path("tested"))["test"]["rise@1"]["n"] == N // 2 - 1 - 7  # 7 before a window
    assert metrics(Path("tested"))["data"]["test_events"] == N // 2


def test_ticks_before_the_training_are_unseen_too(folder: Path, here: Path) -> None:
    day_ns = 24 * 3600 * 10**9
    write_table(simulated_ticks(N).with_columns(time=pl.col("time") - day_ns), "before.csv")
    said = done("test", folder / "run", "before.csv")
    assert "not scored" not in said.out
    assert f"{N - 1 - 7:,} events" in said.out


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_predict_writes_a_row_an_event(suffix: str, folder: Path, here: Path) -> None:
    said = done("predict", folder / "run", folder / "ticks.csv", "-o", f"p.{suffix}")
    assert f"{N:,} events" in said.out
    assert "7 of them without enough history" in said.out
    table = pl.read_parquet("p.parquet") if suffix == "parquet" else pl.read_csv("p.csv")
    assert table.columns == ["time", "price", "p_rise@1", "p_rise@10"]
    assert len(table) == N
    assert table["p_rise@1"].null_count() == 7
    known = table["p_rise@1"].drop_nulls()
    assert known.is_between(0, 1).all()
    tested = pl.read_parquet(folder / "run" / "predictions.parquet")
    for name in table.columns:
        np.testing.assert_allclose(table[name].tail(len(tested)), tested[name], atol=1e-6)


def test_predictions_do_not_need_what_comes_later(folder: Path, here: Path) -> None:
    write_table(simulated_ticks(N)[:700].drop("truth", "id"), "begin.csv")
    done("predict", folder / "run", "begin.csv", "-o", "begin.parquet")
    done("predict", folder / "run", folder / "ticks.csv", "-o", "all.parquet")
    begin, whole = pl.read_parquet("begin.parquet"), pl.read_parquet("all.parquet")[:700]
    np.testing.assert_allclose(begin["p_rise@1"][7:], whole["p_rise@1"][7:], atol=1e-6)


# Ticks and simulate


def test_ticks_describes_as_table_and_json(folder: Path) -> None:
    said = done("ticks", folder / "market.parquet")
    assert f"{N:,}" in said.out
    assert "sides known share" in said.out
    report = strict_json(done("ticks", folder / "market.parquet", "--json").out)
    assert report["ticks"]["rows"] == N
    assert report["ticks"]["has_ids"] is True
    assert report["set_aside"] == []


def test_ticks_tells_what_it_set_aside(here: Path) -> None:
    ticks = simulated_ticks(100).with_columns(
        price=pl.when(pl.col("id") == 50).then(-1.0).otherwise("price")
    )
    write_table(ticks, "ticks.csv")
    assert "Rows set aside" in done("ticks", "ticks.csv").out
    report = json.loads(done("ticks", "ticks.csv", "--json").out)
    assert report["ticks"]["rows"] == 99
    assert [one["rows"] for one in report["set_aside"]] == [1]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_converted_ticks_are_the_same_ticks(suffix: str, folder: Path, here: Path) -> None:
    done("ticks", folder / "market.parquet", "--convert", f"a.{suffix}")
    done("ticks", f"a.{suffix}", "--convert", "b.parquet")
    assert pl.read_parquet("b.parquet").equals(pl.read_parquet(folder / "market.parquet"))


def test_several_files_folders_and_patterns_are_one_market(folder: Path, here: Path) -> None:
    ticks = simulated_ticks(N).drop("truth", "id")
    Path("parts").mkdir()
    write_table(ticks[:600], "parts/b.csv")
    write_table(ticks[600:], "parts/a.csv")
    for files in (("parts/b.csv", "parts/a.csv"), ("parts",), ("parts/*.csv",)):
        done("train", *TINY, *files, "--out", "run", "--overwrite")
        weights = "predictor/weights.safetensors"
        assert contents(here / "run")[weights] == contents(folder / "run")[weights]


def test_simulate_repeats_by_its_seed(folder: Path, here: Path) -> None:
    done("simulate", "--ticks", N, "--seed", 5, "-o", "again.parquet")
    done("simulate", "--ticks", N, "--seed", 6, "-o", "other.parquet")
    market = pl.read_parquet(folder / "market.parquet")
    assert pl.read_parquet("again.parquet").equals(market)
    assert not pl.read_parquet("other.parquet").equals(market)


# The program


def test_the_module_is_the_same_program(tmp_path: Path) -> None:
    said = python("-m", "nexttick", "simulate", "--ticks", 50, "-o", "a.csv", cwd=tmp_path)
    assert (said.code, said.err) == (0, "")
    assert len(pl.read_csv(tmp_path / "a.csv")) == 50
    said = python("-m", "nexttick", "ticks", "tick.txt", cwd=tmp_path)
    assert said.code == 2
    assert said.err == "nexttick: tick.txt: there is no such file; check the path\n"


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    said = call()
    assert said.code == 2
    assert all(name in said.out for name in COMMANDS)
    assert nexttick.__doc__ is not None
    assert call("--help").code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str) -> None:
    said = call(command, "--help")
    assert said.code == 0
    assert f"usage: nexttick {command}" in said.out
    if command in ("run", "train"):
        options = ("--type", "--num-layers", "--hidden-size", "--sequence-length", "--horizon")
        assert all(option in said.out for option in (*options, "--resume", "--overwrite"))


def test_quiet_prints_results_only(folder: Path, here: Path) -> None:
    loud = done("run", *TINY, folder / "ticks.csv").out
    quiet = done("run", *TINY, folder / "ticks.csv", "--quiet").out
    assert "epoch" in loud
    assert "epoch" not in quiet
    assert "log loss" in quiet


def test_a_reader_that_has_seen_enough_is_no_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    closed: list[tuple[int, int]] = []
    monkeypatch.setattr("nexttick.cli.main.os.dup2", lambda *fds: closed.append(fds))
    monkeypatch.setattr(sys, "stdout", Closed())
    err = io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["ticks", str(folder / "ticks.csv"), "--json"]) == 141
    assert err.getvalue() == ""
    assert len(closed) == 1


# Recorded ticks


@pytest.mark.real_ticks
@pytest.mark.parametrize("kind", MODELS)
def test_the_lectures_file_runs(kind: str, data_dir: Path, here: Path) -> None:
    file = data_dir / "lecture" / "bitstampUSD_2018-08.csv.gz"
    done("run", *TINY, "--epochs", 1, "--type", kind, file)
    run = here / "runs" / f"{kind}-bitstampUSD_2018-08"
    told = metrics(run)
    assert told["test"]["rise@1"]["n"] > 1000
    assert 0 < told["test"]["rise@1"]["base_rate"] < 1
    done("test", run, file, "--out", "tested")
    assert metrics(Path("tested"))["test"].keys() == told["test"].keys()


RAISED_TWICE = """
import _thread, asyncio, operator, sys
from nexttick.cli import main

def ticks():
    raised = asyncio.new_event_loop().create_future()
    raised.set_exception(KeyboardInterrupt())
    list(map(operator.call, [_thread.interrupt_main, raised.result]))

main.GROUPS["Data"]["ticks"] = ticks
sys.exit(main.main(["ticks"]))
"""


def test_ctrl_c_that_is_raised_twice_is_told_once(tmp_path: Path) -> None:
    """As one that meets polars is: by compiled code, and at the next step by Python."""
    said = python("-W", "ignore::ResourceWarning", "-c", RAISED_TWICE, cwd=tmp_path)
    assert (said.code, said.out, said.err) == (130, "", "nexttick: stopped\n")
