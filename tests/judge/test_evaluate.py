"""Evaluating: fold by fold, no fold sees its future, nothing is lost, and all of it is written."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from sklearn.metrics import log_loss, roc_auc_score, roc_curve

from helpers.console import TINY, call, contents, done, refused, strict_json
from helpers.markets import FINITE_TAMPERINGS, simulated_ticks, tampered, tiny_recipe
from nexttick.checks import validate_evaluation
from nexttick.cli import screen, screen_scores
from nexttick.judge.audit import AuditFinding
from nexttick.judge.folds import BASELINES_TASK, TEST, VALID, Task, plan, pool, run_tasks
from nexttick.judge.pooling import Pooled, report
from nexttick.judge.report.page import render
from nexttick.options import EvaluateOptions, EvaluationRecipe, ModelOptions, Recipe, read_recipe
from nexttick.prepare.events import merge_events
from nexttick.ticks.writing import write_table

ROOT = Path(__file__).parents[2]
N = 1500
SMALL = (*TINY, "--folds", 2, "--baselines", "none", "--jobs", 1, "--quiet")
HORIZONS = ("rise@1", "rise@5")
OPTIONS = EvaluateOptions(folds=3)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of two networks in two folds, by the command."""
    folder = tmp_path_factory.mktemp("evaluated")
    file = write_table(simulated_ticks(N), folder / "ticks.parquet")
    args = (*SMALL, "--networks", "cnn", "rnn-gru", "--horizon", 1, 5, "--out", folder / "run")
    (folder / "said.txt").write_text(done("evaluate", file, *args).out)
    return folder / "run"


def metrics_of(run: Path) -> dict:
    return strict_json((run / "metrics.json").read_text())


# What it writes


def test_metrics_hold_every_contestant_with_intervals(evaluated: Path) -> None:
    told = metrics_of(evaluated)
    assert told["test"] == told["networks"]["cnn"]
    assert set(told["networks"]) == {"cnn", "rnn-gru"}
    assert set(told["baselines"]) == {"base_rate", "last_moves", "persistence", "logistic"}
    for scores in (*told["networks"].values(), *told["baselines"].values()):
        assert set(scores) == set(HORIZONS)
        for one in scores.values():
            low, high = one["intervals"]["log_loss"]
            assert low <= one["log_loss"] <= high
    assert told["audit"]["passed"] is True
    assert {"test", "baselines", "audit", "backtest", "differences", "folds"} <= set(told)


def test_scores_are_those_of_the_pooled_predictions(evaluated: Path) -> None:
    told, table = metrics_of(evaluated), pl.read_parquet(evaluated / "predictions.parquet")
    for horizon in HORIZONS:
        names = [*told["networks"], *told["baselines"]]
        rows = table.filter(
            pl.col(f"y_{horizon}") >= 0,
            *(pl.col(f"{name}_{horizon}").is_finite() for name in names),
        )
        y = rows[f"y_{horizon}"].to_numpy()
        assert told["test"][horizon]["n"] == len(y) > N // 2
        for name, scores in (told["networks"] | told["baselines"]).items():
            p = rows[f"{name}_{horizon}"].to_numpy().astype(np.float64)
            assert scores[horizon]["log_loss"] == pytest.approx(log_loss(y, p), rel=1e-5)
            # Scores take probabilities in float32, where a pair of close ones may be equal.
            assert scores[horizon]["auc"] == pytest.approx(roc_auc_score(y, p), abs=1e-5)


def test_on_a_simulated_market_the_share_of_the_attainable_is_told(evaluated: Path) -> None:
    told = metrics_of(evaluated)
    table = pl.read_parquet(evaluated / "predictions.parquet").filter(pl.col("y_rise@1") >= 0)
    y, truth_N = table["y_rise@1"].to_numpy(), simulated_ticks(N)["truth"].to_numpy()
    best = log_loss(y, truth_N[table["event"].to_numpy()])
    for name in ("cnn", "logistic"):
        base, own = (log_loss(y, table[f"{one}_rise@1"].to_numpy()) for one in ("base_rate", name))
        assert told["truth"][name]["share"] == pytest.approx((base - own) / (base - best), rel=1e-4)
        value, low, high = told["truth"][name]["bits_over_truth"]
        assert low <= value <= high < 0
    assert "attained" in (evaluated.parent / "said.txt").read_text()


def test_differences_of_a_pair_are_those_of_their_scores(evaluated: Path) -> None:
    told = metrics_of(evaluated)
    for other in ("rnn-gru", "logistic"):
        scores = (told["networks"] | told["baselines"])[other]["rise@1"]
        value, low, high = told["differences"]["cnn"][other]["rise@1"]["bits"]
        assert value == pytest.approx(told["test"]["rise@1"]["bits"] - scores["bits"])
        assert low <= value <= high


def test_every_test_event_is_predicted_once_by_the_fold_before_it(evaluated: Path) -> None:
    table = pl.read_parquet(evaluated / "predictions.parquet")
    assert table["event"].to_list() == list(range(table["event"][0], N))
    assert table["fold"].is_sorted()
    assert table["fold"].n_unique() == 2


def test_in_80_columns_a_name_is_folded_and_no_number_cut(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, told = io.StringIO(), metrics_of(evaluated)
    monkeypatch.setattr(screen_scores, "console", Console(file=out, width=80, highlight=False))
    told["baselines"]["a_baseline_of_a_name_that_is_far_too_long"] = told["baselines"]["logistic"]
    screen_scores.show_scores(told)
    tables = [line for line in out.getvalue().splitlines() if "bits an event" not in line]
    assert max(map(len, tables)) <= 80
    assert "…" not in out.getvalue()
    for by_horizon in (told["test"], *told["baselines"].values()):
        for scores in by_horizon.values():
            for key in screen.COLUMNS:
                assert f"{scores[key]:.4f}" in out.getvalue()
            low, high = scores["intervals"]["bits"]
            assert f"[{low:.4f}, {high:.4f}]" in out.getvalue()


def test_the_page_needs_nothing_beside_it_and_says_the_numbers(evaluated: Path) -> None:
    page, told = (evaluated / "report.html").read_text(), metrics_of(evaluated)
    assert page == render(evaluated)
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"<script|@import|url\((?!#)", page)
    assert "The audit passed." in page
    assert f"{told['test']['rise@1']['log_loss']:.4f}" in page
    assert told["data"]["hash"] in page
    ids = re.findall(r'id="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_a_page_of_a_log_of_an_unknown_format_is_refused(evaluated: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(evaluated, tmp_path / "run"))
    log = run / "folds" / "2" / "cnn" / "log.jsonl"
    log.write_text(log.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(ValueError, match="line 1: format 99, this version reads 1"):
        render(run)


def test_a_folds_predictor_is_kept_and_predicts(evaluated: Path) -> None:
    out = evaluated.parent / "p.parquet"
    fold = evaluated / "folds" / "2" / "cnn"
    assert not (fold / "checkpoint.safetensors").exists()
    from nexttick.learn.predictor.predictor import Predictor

    predictor = Predictor.load(fold / "predictor")
    pooled = pl.read_parquet(evaluated / "predictions.parquet").filter(pl.col("fold") == 2)
    write_table(predictor.predict(simulated_ticks(N)), out)
    again = pl.read_parquet(out)[pooled["event"].to_list()]
    np.testing.assert_allclose(again["p_rise@1"], pooled["cnn_rise@1"], atol=1e-6)


def one_forecaster(y: np.ndarray, p: np.ndarray) -> dict:
    """What is reported of one network and a base rate that are asked about rise@1."""
    n = len(y)
    columns = {"event": np.arange(n), "fold": np.ones(n, np.int32), "y_rise@1": y.astype(np.int8)}
    columns |= {"tie_rise@1": np.zeros(n, bool), "net_rise@1": p, "raw_net_rise@1": p}
    columns |= {"base_rate_rise@1": np.full(n, 0.4)}
    events = pl.DataFrame({"time": np.arange(n), "price": np.ones(n)})
    return report(Pooled.of(pl.DataFrame(columns), events, ["net"], ("rise@1",)), events, 50)


def test_roc_curves_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    p = np.round(rng.random(300), 2)
    rise = rng.random(300) < p
    told = one_forecaster(rise, p)["roc"]["rise@1"]
    alarms, hits, _ = roc_curve(rise, p, drop_intermediate=False)
    # Where the curve is vertical, both interpolations take its upper end but at 0.
    expected = np.interp(told["false_positive_rate"], alarms, hits)
    np.testing.assert_allclose(told["net"][1:], expected[1:], atol=1e-12)


def test_roc_curves_give_the_share_of_rises_above_each_share_of_alarms() -> None:
    """By hand, at every threshold where the curve has a corner on the grid."""
    y, p = np.repeat([1, 0], 100), np.concatenate([np.arange(100, 200), np.arange(50, 150)]) / 256
    told = one_forecaster(y, p)["roc"]["rise@1"]
    for alarms, hits in zip(told["false_positive_rate"], told["net"], strict=True):
        threshold = np.sort(p[y == 0])[100 - round(100 * alarms)] if alarms else 1.0
        assert hits == pytest.approx((p[y == 1] >= threshold).mean() if alarms else told["net"][0])


def test_who_is_asked_about_one_class_only_has_no_roc() -> None:
    told = one_forecaster(np.ones(50), np.full(50, 0.6))["roc"]["rise@1"]
    assert all(np.isnan(told["net"]))


# No fold sees its future


def tasks_on(ticks: pl.DataFrame, folder: Path, options: EvaluateOptions = OPTIONS) -> list[Task]:
    recipe = replace(
        tiny_recipe("cnn", epochs=1, threads=1),
        model=ModelOptions("cnn", None, 1, 4, sequence_length=8, kernel_size=3, bins=2),
    )
    events = merge_events(ticks)
    tasks = plan(folder, events["time"].to_numpy(), {"cnn": recipe}, options, ())
    list(run_tasks(tasks, events, "", 1))
    return tasks


@pytest.mark.parametrize("how", FINITE_TAMPERINGS)
def test_what_comes_after_a_fold_moves_none_of_its_predictions(how: str, tmp_path: Path) -> None:
    """The tampering test of walk-forward: fold, calibration, baselines, all from the past."""
    ticks = simulated_ticks(N)
    honest = tasks_on(ticks, tmp_path / "a")
    end = honest[0].fold.start + honest[0].fold.split.end  # of the first fold
    other = tasks_on(tampered(ticks.drop("truth"), end, how), tmp_path / "b")
    for task, again in zip(honest, other, strict=True):
        if task.number == 1:
            assert task.read().equals(again.read())
        else:
            assert not task.read().equals(again.read())


@pytest.mark.parametrize("how", FINITE_TAMPERINGS)
def test_the_test_part_moves_nothing_that_was_fitted(how: str, tmp_path: Path) -> None:
    ticks = simulated_ticks(N)
    honest = tasks_on(ticks, tmp_path / "a", replace(OPTIONS, folds=1))
    test = honest[0].fold.split.test
    tasks_on(tampered(ticks.drop("truth"), test, how), tmp_path / "b", replace(OPTIONS, folds=1))
    kept = [contents(tmp_path / side / "folds/1/cnn/predictor") for side in "ab"]
    assert kept[0]["weights.safetensors"] == kept[1]["weights.safetensors"]
    told = [json.loads(one["predictor.json"]) for one in kept]
    assert told[0] == told[1]
    assert told[0]["calibration"] != []


def test_validation_predictions_are_kept_apart_from_those_of_the_test(tmp_path: Path) -> None:
    (task, last) = tasks_on(simulated_ticks(N), tmp_path, replace(OPTIONS, folds=1))
    table, split = task.read(), task.fold.split
    valid = table.filter(pl.col("part") == VALID)["event"]
    test = table.filter(pl.col("part") == TEST)["event"]
    assert (valid[0], valid[-1]) == (split.valid, split.valid_stop - 1)
    assert (test[0], test[-1]) == (split.test, split.end - 1)
    assert last.contestant == BASELINES_TASK
    assert last.read()["event"].equals(test)


def test_processes_change_no_number(tmp_path: Path) -> None:
    ticks = simulated_ticks(600)
    alone = tasks_on(ticks, tmp_path / "a", replace(OPTIONS, folds=2))
    events = merge_events(ticks)
    together = [replace(task, folder=tmp_path / "b" / str(k)) for k, task in enumerate(alone)]
    assert len(list(run_tasks(together, events, "", 2))) == len(alone)
    for one, other in zip(alone, together, strict=True):
        assert one.read().equals(other.read())


# Going on, and being told off


def values(by_horizon: dict) -> dict:
    """Scores without intervals, which hang on all contestants: they share the blocks."""
    return {
        horizon: {key: value for key, value in scores.items() if key != "intervals"}
        for horizon, scores in by_horizon.items()
    }


def test_an_interrupted_evaluation_goes_on_where_it_stopped(
    evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_table(simulated_ticks(N), tmp_path / "ticks.parquet")
    args = (*SMALL, "--horizon", 1, 5, "--out", tmp_path / "run")
    from nexttick.judge import folds

    real, ran = folds.run_task, []

    def stopped(task: Task, *rest: object) -> Task:
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append((task.number, task.contestant))
        return real(task, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(folds, "run_task", stopped)
    assert call("evaluate", file, *args).code == 130
    assert ran == [(1, "cnn"), (1, BASELINES_TASK)]
    assert "is no run" in refused("run", "--resume", "--out", tmp_path / "run")
    monkeypatch.setattr(
        folds,
        "run_task",
        lambda task, *rest: ran.append((task.number, task.contestant)) or real(task, *rest),
    )
    done("evaluate", "--resume", "--out", tmp_path / "run", "--quiet")
    assert ran[2:] == [(2, "cnn"), (2, BASELINES_TASK)]
    whole, again = metrics_of(evaluated), metrics_of(tmp_path / "run")
    assert values(whole["test"]) == values(again["test"])
    for name, scores in whole["baselines"].items():
        assert values(scores) == values(again["baselines"][name])


def test_an_audit_that_fails_ends_with_exit_code_1_and_a_red_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_table(simulated_ticks(N), tmp_path / "ticks.parquet")
    found = AuditFinding("planted", False, "It has seen <the> answers.", {"bits": float("nan")})
    monkeypatch.setattr("nexttick.judge.evaluate.audit", lambda *args, **options: [found])
    said = call("evaluate", file, *SMALL, "--out", tmp_path / "run")
    assert said.code == 1
    assert "THE AUDIT FAILED" in said.out
    page = (tmp_path / "run" / "report.html").read_text()
    assert '<header class="failed">' in page
    assert "It has seen &lt;the&gt; answers." in page
    assert metrics_of(tmp_path / "run")["audit"]["passed"] is False


def test_without_an_audit_the_page_says_so(tmp_path: Path) -> None:
    file = write_table(simulated_ticks(N), tmp_path / "ticks.parquet")
    assert (
        "No audit was made."
        in done("evaluate", file, *SMALL, "--no-audit", "--folds", 1, "--out", tmp_path / "run").out
    )
    assert "No audit was made." in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--folds", 0), "--folds 0 must be at least 1"),
        (("--scheme", "expandin"), "did you mean 'expanding'"),
        (("--embargo", "soon"), "--embargo 'soon' is no duration"),
        (("--latency", "1 s"), "--latency '1 s' is no duration"),
        (("--spread-bps", "-1"), "--spread-bps -1.0 must be"),
        (("--jobs", 0), "--jobs 0 must be"),
        (("--networks", "cnn", "cnn"), "names cnn twice"),
        (("--networks", "densse"), "did you mean 'dense'"),
        (("--baselines", "tress"), "did you mean 'trees'"),
        (("--calibration", "isotonik"), "did you mean 'isotonic'"),
        (("--resume",), "--resume needs --out"),
    ],
)
def test_bad_options_are_told_before_anything_is_read(
    args: tuple[object, ...], message: str, tmp_path: Path
) -> None:
    assert message in refused("evaluate", tmp_path / "nowhere.csv", *args)


def test_a_run_that_is_no_evaluation_is_not_resumed_as_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(simulated_ticks(600), "ticks.csv")
    done("train", "ticks.csv", *TINY, "--quiet", "--out", "run")
    assert "is no evaluation" in refused("evaluate", "--resume", "--out", "run")


# Recipes


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_every_recipe_is_read_and_runs(path: Path, tmp_path: Path, monkeypatch) -> None:
    told = read_recipe(path)
    validate_evaluation(told.recipe, told.evaluate)
    assert told != EvaluationRecipe()
    shorter = _made_small(path.read_text())
    small = tmp_path / path.name
    small.write_text(shorter)
    file = write_table(simulated_ticks(N), tmp_path / "ticks.parquet")
    done("evaluate", small, file, "--quiet", "--out", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["evaluate"]["scheme"] == told.evaluate.scheme
    assert set(metrics_of(tmp_path / "run")["networks"]) == set(
        told.evaluate.networks or [told.recipe.model.name]
    )


def _made_small(text: str) -> str:
    """The same recipe with sizes that train in a blink; what it does beside is its own."""
    sizes = "num_layers = 1\nhidden_size = 4\nsequence_length = 8\nkernel_size = 3\n"
    text = text if "[model]" in text else text + "\n[model]\n"
    text = text.replace("[model]\n", "[model]\n" + sizes)
    text = re.sub(r"folds = \d", "folds = 2\naudit = false\njobs = 1", text)
    text = text.replace('["all"]', '["trees"]').replace('"10m"', '"10s"').replace('"100"', '"20"')
    return text + "\n[train]\nepochs = 1\nthreads = 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[modle]\n", "unknown section 'modle': did you mean 'model'"),
        ("[model]\nhiden_size = 3\n", "unknown key 'hiden_size'.*did you mean 'hidden_size'"),
        ("[evaluate]\nfold = 3\n", "unknown key 'fold'.*did you mean 'folds'"),
        ("[train]\nepochs = 'x'\n", "epochs in 'train' is 'x'"),
        ("files = 'ticks.csv'\n", "give a list of files"),
        ("[model\n", "no TOML"),
    ],
)
def test_a_wrong_recipe_is_told_with_its_name(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    said = refused("evaluate", path, "ticks.csv")
    assert re.search(message, said)
    assert "x.toml" in said


def test_options_beside_a_recipe_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[evaluate]\nfolds = 2\n")
    assert "change it there" in refused("evaluate", path, "ticks.csv", "--folds", 3)
    assert "cannot be read" in refused("evaluate", tmp_path / "none.toml")


def test_files_of_a_recipe_and_those_of_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('files = ["a.csv", "b.csv"]\n')
    assert read_recipe(path) == EvaluationRecipe(Recipe(), EvaluateOptions(), ("a.csv", "b.csv"))
    assert "a.csv" in refused("evaluate", path)
    assert "c.csv" in refused("evaluate", path, "c.csv")


def test_pooling_knows_contestants_by_their_columns(evaluated: Path) -> None:
    time_ns = simulated_ticks(N)["time"].to_numpy()
    recipe = replace(tiny_recipe("cnn"), labels=replace(tiny_recipe().labels, horizon=("1", "5")))
    recipes = {"cnn": recipe, "rnn-gru": recipe}
    tasks = plan(evaluated, time_ns, recipes, EvaluateOptions(folds=2), ())
    pooled = pool(tasks, merge_events(simulated_ticks(N)))
    assert pooled.networks == ("cnn", "rnn-gru")
    assert pooled.baselines == ("base_rate", "last_moves", "persistence", "logistic")


# Runs side by side


def test_runs_are_compared_on_the_events_they_share(
    evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(simulated_ticks(N), "ticks.parquet")
    args = (*TINY, "--quiet", "--horizon", 5, 1, "--out")
    for name, seed in (("a", 0), ("b", 1)):
        done("run", "ticks.parquet", *args, name, "--seed", seed)
    told = strict_json(done("compare", "a", "b", evaluated, "--json").out)
    assert list(told) == ["rise@5", "rise@1"]
    names = ["a", "b", "run: cnn", "run: rnn-gru"]
    assert list(told["rise@1"]["scores"]) == names
    assert list(told["rise@1"]["differences"]) == names[1:]
    for name in "ab":
        (own,) = (strict_json(Path(name, "metrics.json").read_text())["test"]["rise@1"],)
        assert told["rise@1"]["n"] == own["n"]
        assert told["rise@1"]["scores"][name]["log_loss"][0] == pytest.approx(own["log_loss"])
    losses = [told["rise@1"]["scores"][name]["log_loss"][0] for name in "ab"]
    more, low, high = told["rise@1"]["differences"]["b"]["bits"]
    assert more == pytest.approx((losses[0] - losses[1]) / np.log(2))
    assert low <= more <= high
    assert "bits more than the first" in done("compare", "a", "b").out


def test_what_cannot_be_compared_is_said(
    evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(simulated_ticks(600), "ticks.parquet")
    write_table(simulated_ticks(600, seed=8), "others.parquet")
    done("run", "ticks.parquet", *TINY, "--quiet", "--out", "a")
    done("run", "others.parquet", *TINY, "--quiet", "--out", "other")
    done("run", "ticks.parquet", *TINY, "--quiet", "--ties", "skip", "--out", "skip")
    done("run", "ticks.parquet", *TINY, "--quiet", "--horizon", "7", "--out", "seven")
    done("train", "ticks.parquet", *TINY, "--quiet", "--out", "untested")
    assert "at least two runs" in refused("compare", "a")
    assert "no event in common" in refused("compare", "a", "other")
    assert "different things a rise" in refused("compare", "a", "skip")
    assert "no horizon in common" in refused("compare", "a", "seven")
    assert "no finished run" in refused("compare", "a", "untested")
    assert "no run folder" in refused("compare", "a", "nowhere")
