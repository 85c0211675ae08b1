"""The test: all contestants on the same events, and what could have been known."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from helpers.markets import (
    FINITE_TAMPERINGS,
    S_NS,
    random_ticks,
    simulated_ticks,
    tampered,
    tiny_recipe,
)
from nexttick.cli.screen_scores import sentence
from nexttick.judge.held_out import Tested as Judged  # pytest takes Test… for its own
from nexttick.judge.held_out import judge
from nexttick.learn.baselines import CHEAP, Fitted, fit_on_training, lecture
from nexttick.learn.baselines.base import Seen
from nexttick.learn.predictor.predictor import Predictor, Scores
from nexttick.learn.train import train_network
from nexttick.networks.models import MODELS
from nexttick.options import EventOptions, LabelOptions, SplitOptions
from nexttick.prepare.dataset import Prepared, prepare_ticks
from nexttick.prepare.labels import MISSING
from nexttick.scores.intervals import evaluate
from nexttick.scores.metrics import log_losses, score
from nexttick.ticks.record import TickError

N = 1000
HORIZONS = ("rise@1", "rise@5", "rise@5s", "rise@move")
WAYS = ("moves", "direction")


pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def market() -> pl.DataFrame:
    """Simulated ticks with an outage in the test part."""
    return simulated_ticks(N).with_columns(
        time=pl.col("time") + (pl.col("id") >= 900).cast(pl.Int64) * 3600 * S_NS
    )


@cache
def run(kind: str = "cnn") -> tuple[Prepared, Predictor, Fitted, Judged]:
    recipe = replace(tiny_recipe(kind, epochs=1), events=EventOptions(max_gap="10m"))
    prepared = prepare_ticks(market(), recipe)
    predictor = train_network(prepared, recipe)
    fitted = fit_on_training(prepared)
    return prepared, predictor, fitted, judge(predictor, fitted, prepared, prepared.split.test)


def scored(kind: str, h: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the test part that can be scored, their labels and the network's answers."""
    prepared, predictor, _, _ = run(kind)
    table = predictor.predict(market())
    p = table[f"p_{HORIZONS[h]}"].to_numpy()
    y = prepared.labels.y_NH[:, h]
    rows = np.array(
        [i for i in range(prepared.split.test, N) if y[i] != MISSING and not np.isnan(p[i])]
    )
    return rows, y[rows], p[rows]


def scores_of(tested: Judged, name: str) -> dict[str, dict]:
    """Scores of a contestant by horizon, without their intervals."""
    by_horizon = (tested.metrics["networks"] | tested.metrics["baselines"])[name]
    return {
        horizon: {key: value for key, value in scores.items() if key != "intervals"}
        for horizon, scores in by_horizon.items()
    }


every_kind = pytest.mark.parametrize("kind", MODELS)
every_horizon = pytest.mark.parametrize("h", range(len(HORIZONS)))


@every_kind
@every_horizon
def test_all_contestants_are_scored_on_the_same_events(kind: str, h: int) -> None:
    prepared, _, fitted, tested = run(kind)
    rows, y, p = scored(kind, h)
    assert 0 < len(rows) < N - prepared.split.test  # the outage and the end cost some
    contestants = [scores_of(tested, name) for name in (kind, *CHEAP)]
    assert [one[HORIZONS[h]]["n"] for one in contestants] == [len(rows)] * 5
    assert {one[HORIZONS[h]]["base_rate"] for one in contestants} == {float(y.mean())}
    base = log_losses(y, np.full(len(y), fitted["base_rate"][h].rate)).mean()  # type: ignore[union-attr]
    expected = score(y, p, base)
    told = scores_of(tested, kind)[HORIZONS[h]]
    assert tested.metrics["test"] == tested.metrics["networks"][kind]
    for name, value in expected.items():
        assert told[name] == pytest.approx(None if np.isnan(value) else value, abs=1e-6), name
    assert scores_of(tested, "base_rate")[HORIZONS[h]]["bits"] == 0


@every_kind
def test_predictions_of_the_part_are_those_of_the_predictor(kind: str) -> None:
    prepared, predictor, _, tested = run(kind)
    expected = predictor.predict(market())[prepared.split.test :]
    assert tested.predictions.columns == ["time", "price", *(f"p_{name}" for name in HORIZONS)]
    # Where an array begins in memory may change the last bit of a convolution.
    assert_frame_equal(tested.predictions, expected, rel_tol=1e-5)
    assert tested.predictions["p_rise@1"].null_count() > 0


@every_kind
def test_the_network_is_compared_with_the_baseline_of_the_lowest_loss(kind: str) -> None:
    *_, tested = run(kind)
    for horizon in HORIZONS:
        losses = {name: scores_of(tested, name)[horizon]["log_loss"] for name in CHEAP}
        best = min(losses, key=lambda name: losses[name])
        said = sentence(tested.metrics, kind, horizon)
        assert f"At {horizon} {kind} " in said
        assert f"its best baseline, {best}: " in said
        bits = (losses[best] - scores_of(tested, kind)[horizon]["log_loss"]) / np.log(2)
        value, low, high = tested.metrics["differences"][kind][best][horizon]["bits"]
        assert value == pytest.approx(bits, abs=1e-9)
        assert low < value < high
        assert f"{value:+.4f} [{low:.4f}, {high:.4f}] bits an event." in said


@every_kind
def test_the_attainable_share_is_what_the_truth_would_gain(kind: str) -> None:
    prepared, _, _, tested = run(kind)
    rows, y, p = scored(kind, 0)
    truth = market()["truth"].to_numpy()[rows]
    base = scores_of(tested, "base_rate")["rise@1"]["log_loss"]

    def loss(p: np.ndarray) -> float:
        return float(-np.mean(np.where(y == 1, np.log(p), np.log(1 - p))))

    share = (base - loss(p)) / (base - loss(truth))
    told = tested.metrics["truth"]
    assert told[kind]["share"] == pytest.approx(share, rel=1e-5)
    assert told["base_rate"]["share"] == 0
    assert set(told) == {kind, *CHEAP}
    assert prepared.labels.names[0] == "rise@1"


def test_who_knows_the_truth_gets_all_that_is_attainable(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, predictor, fitted, _ = run()
    truth = market()["truth"].to_numpy().astype(np.float32)
    known = np.tile(truth[:, None], len(HORIZONS))
    monkeypatch.setattr(predictor, "score", lambda x_NF, starts: Scores(known, known, None))
    tested = judge(predictor, fitted, prepared, prepared.split.test)
    assert tested.metrics["truth"]["cnn"]["share"] == pytest.approx(1, abs=1e-5)


def test_real_ticks_have_no_attainable_share() -> None:
    _, predictor, fitted, _ = run()
    prepared = prepare_ticks(market().drop("truth"), tiny_recipe(), predictor)
    tested = judge(predictor, fitted, prepared, 0)
    assert "truth" not in tested.metrics


@pytest.mark.parametrize("labels", [LabelOptions(("1",), "skip"), LabelOptions(("5",))])
def test_a_truth_about_another_question_is_no_measure(labels: LabelOptions) -> None:
    """`truth` is the probability that the next price is higher, of all next prices."""
    recipe = replace(tiny_recipe(epochs=1), labels=labels)
    prepared = prepare_ticks(market(), recipe)
    predictor = train_network(prepared, recipe)
    tested = judge(predictor, fit_on_training(prepared), prepared, prepared.split.test)
    assert "truth" not in tested.metrics


def test_another_file_is_judged_with_what_was_fitted_before() -> None:
    _, predictor, fitted, _ = run()
    other = random_ticks(7, 400, sides="known")
    prepared = prepare_ticks(other, tiny_recipe(), predictor)
    tested = judge(predictor, fitted, prepared, 0)
    assert len(tested.predictions) == len(prepared.events)
    assert tested.metrics["test"]["rise@1"]["n"] > 100


def test_a_part_without_a_scorable_event_is_refused() -> None:
    _, predictor, fitted, _ = run()
    short = prepare_ticks(market()[:7], tiny_recipe(), predictor)
    with pytest.raises(TickError, match=r"rise@1.*8 events of history"):
        judge(predictor, fitted, short, 0)


@pytest.mark.parametrize("how", FINITE_TAMPERINGS)
def test_baselines_see_the_training_part_only(how: str) -> None:
    prepared, _, fitted, _ = run()
    recipe = replace(tiny_recipe(), events=EventOptions(max_gap="10m"))
    other = prepare_ticks(tampered(market(), prepared.split.valid, how), recipe)
    assert other.split == prepared.split
    assert fit_on_training(other) == fitted


@pytest.mark.parametrize("how", ["noise", "stretch"])
def test_trees_see_training_and_validation_part_only(how: str) -> None:
    prepared, _, _, _ = run()
    recipe = replace(tiny_recipe(), events=EventOptions(max_gap="10m"))
    other = prepare_ticks(tampered(market(), prepared.split.test, how), recipe)
    fitted, again = (fit_on_training(one, ["trees"]) for one in (prepared, other))
    assert again["trees"] == fitted["trees"]
    before = prepare_ticks(tampered(market(), prepared.split.valid - 200, how), recipe)
    assert fit_on_training(before, ["trees"])["trees"] != fitted["trees"]


def test_the_lectures_model_does_see_the_test_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scaling is that of the whole file: this is what makes it leaky."""
    monkeypatch.setattr(lecture, "SAMPLES", 100)
    prepared, _, _, _ = run()
    recipe = replace(tiny_recipe(), events=EventOptions(max_gap="10m"))
    other = prepare_ticks(tampered(market(), prepared.split.test, "noise"), recipe)
    fitted, again = (fit_on_training(one, ["lecture_2018_leaky"]) for one in (prepared, other))
    assert again["lecture_2018_leaky"] != fitted["lecture_2018_leaky"]
    assert again["logistic"] == fitted["logistic"]


def test_the_best_baseline_is_never_a_leaky_one(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, predictor, fitted, _ = run()
    y_NH = prepared.labels.y_NH

    def knows(self: object, seen: object, rows: np.ndarray) -> np.ndarray:
        return np.clip(y_NH[rows, 0].astype(float), 0.01, 0.99)

    monkeypatch.setattr(lecture.Lecture2018, "predict", knows)
    leaky = [lecture.Lecture2018([], [], 0.5, 0.7, "")] * len(HORIZONS)
    with_leaky = {**fitted, "lecture_2018_leaky": leaky}
    tested = judge(predictor, with_leaky, prepared, prepared.split.test)
    told = tested.metrics
    losses = {name: one["rise@1"]["log_loss"] for name, one in told["baselines"].items()}
    assert min(losses, key=lambda name: losses[name]) == "lecture_2018_leaky"
    assert told["leaky"] == ["lecture_2018_leaky"]
    best = min(CHEAP, key=lambda name: losses[name])
    assert f"its best baseline, {best}: " in sentence(told, "cnn", "rise@1")


def test_baselines_do_see_the_training_part() -> None:
    prepared, _, fitted, _ = run()
    recipe = replace(tiny_recipe(), events=EventOptions(max_gap="10m"))
    other = prepare_ticks(tampered(market(), prepared.split.valid - 200, "noise"), recipe)
    refitted = fit_on_training(other)
    for name, ones in fitted.items():
        assert refitted[name] != ones


# metrics.json


def test_metrics_are_json_and_hold_every_horizon_and_baseline() -> None:
    *_, tested = run()
    told = json.loads(json.dumps(tested.metrics, allow_nan=False))
    names = {"n", "base_rate", "log_loss", "bits", "auc", "mcc", "brier", "accuracy"}
    names |= {"reliability", "resolution", "uncertainty", "ece", "precision", "npv", "tie_rate"}
    names |= {f"{name}_{way}" for name in ("auc", "log_loss", "bits") for way in WAYS}
    names |= {"intervals"}
    assert set(told["baselines"]) == set(CHEAP)
    for scores in (told["test"], *told["baselines"].values()):
        assert set(scores) == set(HORIZONS)
        assert all(set(one) == names for one in scores.values())
        for one in scores.values():
            assert set(one["intervals"]) == names - {"n", "intervals"}
    assert set(told["truth"]) == {"cnn", *CHEAP}
    assert set(told["differences"]["cnn"]) == set(CHEAP)


def test_one_part_is_one_fold() -> None:
    prepared, _, _, tested = run()
    told, events = tested.metrics, prepared.events
    (fold,) = told["folds"]
    test = prepared.split.test
    assert (fold["number"], fold["events"]) == (1, len(events) - test)
    assert (fold["from_ns"], fold["to_ns"]) == (events["time"][test], events["time"][-1])
    for horizon in HORIZONS:
        assert fold["bits"][horizon]["cnn"] == pytest.approx(
            told["test"][horizon]["bits"], abs=1e-6
        )
    assert told["backtest"] is None
    assert told["audit"] == {"passed": None}
    assert set(told["reliability"]["cnn"]["rise@1"]) == {"before", "after"}
    assert set(told["roc"]["rise@1"]) == {"false_positive_rate", "cnn", *CHEAP}


def test_blocks_are_those_of_an_evaluation_of_the_same_answers() -> None:
    prepared, _, fitted, tested = run()
    rows, y, p = scored("cnn", 0)
    seen = Seen.of(prepared, 0)
    tie = prepared.labels.tie_NH[rows, 0]
    p_by = {"cnn": p} | {name: ones[0].predict(seen, rows) for name, ones in fitted.items()}
    whole = evaluate(y, p_by, sign=np.where(y == 1, 1, np.where(tie, 0, -1)))
    told = tested.metrics["test"]["rise@1"]["intervals"]
    for key, one in whole.intervals("cnn").items():
        if np.isfinite(one.low):
            assert told[key] == pytest.approx([one.low, one.high], abs=1e-6), key


def test_scores_that_are_not_defined_are_null_in_json() -> None:
    """One scorable event: its AUC is undefined, and the interval knows no bounds."""
    recipe = replace(tiny_recipe(epochs=1), labels=LabelOptions(("1",)))
    prepared = prepare_ticks(market(), recipe)
    predictor, fitted = train_network(prepared, recipe), fit_on_training(prepared)
    one = prepare_ticks(market()[:9], recipe, predictor)
    told = judge(predictor, fitted, one, 0).metrics
    assert told["test"]["rise@1"]["n"] == 1
    assert told["test"]["rise@1"]["auc"] is None
    assert told["differences"]["cnn"]["logistic"]["rise@1"]["bits"][1:] == [None, None]
    assert set(told["roc"]["rise@1"]["cnn"]) == {None}
    json.dumps(told, allow_nan=False)


def test_a_market_that_only_rises_is_judged() -> None:
    rising = market().with_columns(price=100.0 + pl.col("id"))
    recipe = replace(
        tiny_recipe(epochs=1), labels=LabelOptions(("1",)), split=SplitOptions(0.1, 0.2)
    )
    prepared = prepare_ticks(rising, recipe)
    predictor = train_network(prepared, recipe)
    tested = judge(predictor, fit_on_training(prepared), prepared, prepared.split.test)
    for scores in (scores_of(tested, name) for name in ("cnn", *CHEAP)):
        assert scores["rise@1"]["base_rate"] == 1
        assert scores["rise@1"]["auc"] is None
    assert scores_of(tested, "logistic")["rise@1"]["log_loss"] < 1e-3
