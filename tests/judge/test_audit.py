"""The audit catches what was planted, and lets an honest run pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.markets import (
    GAP_NS,
    quick,
    random_events,
    random_ticks,
    seeds,
    simulated_ticks,
    tiny_recipe,
)
from nexttick.judge import audit as package
from nexttick.judge.audit import AuditFinding, AuditOptions, answers, audit, passed, tampering
from nexttick.judge.audit import placebo as placebo_check
from nexttick.judge.audit.answers import plain_answer
from nexttick.judge.audit.shifted import Said, check_shifted_labels, judge_shifts
from nexttick.learn.baselines import fit_on_training
from nexttick.learn.predictor import predictor
from nexttick.learn.predictor.calibration import Platt
from nexttick.learn.predictor.predictor import Predictor, Scores
from nexttick.learn.train import train_network
from nexttick.networks.models import MODELS
from nexttick.networks.models.encoding import fit_encodings
from nexttick.options import EventOptions, LabelOptions, Recipe, SplitOptions
from nexttick.prepare import dataset, features
from nexttick.prepare.dataset import Prepared, Scaler, prepare_ticks
from nexttick.prepare.labels import MISSING, make_labels
from nexttick.ticks.reading.read import read_ticks

N = 4000
FAST = AuditOptions(cuts=2, labels=200, placebo_events=2000, placebo_epochs=1)
FEATURES = "features and the future"
PREDICTIONS = "predictions and the future"
LABELS = "labels counted anew"
FITTED = "fitted on past rows only"
SHIFTED = "shifted labels"
PLACEBO = "placebo"


pytestmark = pytest.mark.usefixtures("one_thread")


def recipe(kind: str = "cnn") -> Recipe:
    return replace(tiny_recipe(kind, epochs=1, threads=1), events=EventOptions(max_gap="10m"))


@cache
def honest(kind: str = "cnn") -> tuple[Prepared, Predictor]:
    prepared = prepare_ticks(simulated_ticks(N), recipe(kind))
    return prepared, train_network(prepared, recipe(kind))


def findings(trained: Predictor, prepared: Prepared, **told: Any) -> dict[str, AuditFinding]:
    found = audit(trained, prepared, simulated_ticks(N), recipe(), options=FAST, **told)
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


def failed(found: dict[str, AuditFinding]) -> set[str]:
    assert passed(found.values()) == (not any(one.passed is False for one in found.values()))
    return {name for name, one in found.items() if one.passed is False}


@pytest.mark.parametrize("kind", MODELS)
def test_an_honest_run_passes(kind: str) -> None:
    prepared, trained = honest(kind)
    found = findings(trained, prepared)
    assert failed(found) == set()
    made = {name for name, one in found.items() if one.passed}
    # So short a training may suit earlier labels better, which is no failure.
    assert made | {SHIFTED} == {FEATURES, PREDICTIONS, LABELS, FITTED, SHIFTED, PLACEBO}
    assert passed(found.values())
    assert all(one.sentence.endswith(".") for one in found.values())


def test_an_audit_repeats_itself() -> None:
    prepared, trained = honest()
    assert findings(trained, prepared) == findings(trained, prepared)


# planted leaks


def test_a_feature_shifted_one_tick_forward_is_caught() -> None:
    """Its column holds at each event what it will be at the next one."""
    prepared, _ = honest()
    leaky = prepared.features_NF.copy()
    column = prepared.spec.names.index("direction")
    leaky[:-1, column] = prepared.features_NF[1:, column]
    prepared = replace(prepared, features_NF=leaky)
    found = findings(train_network(prepared, recipe()), prepared)
    assert FEATURES in failed(found)
    assert found[FEATURES].numbers["features_moved"] == 1
    assert "direction" in found[FEATURES].sentence


def test_a_scaler_fitted_on_all_rows_is_caught() -> None:
    prepared, _ = honest()
    prepared = replace(prepared, scaler=Scaler.fit(prepared.features_NF))
    found = findings(train_network(prepared, recipe()), prepared)
    assert failed(found) == {FITTED}
    assert "scaling" in found[FITTED].sentence


@pytest.mark.parametrize("late", [-1, 1])
def test_a_label_off_by_one_is_caught(late: int) -> None:
    prepared, _ = honest()
    labels = replace(prepared.labels, y_NH=np.roll(prepared.labels.y_NH, late, axis=0))
    prepared = replace(prepared, labels=labels)
    found = findings(train_network(prepared, recipe()), prepared)
    assert LABELS in failed(found)


def test_a_pipeline_that_looks_ahead_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leak is in the features' own code, so that training, test and audit all run it."""

    def looks_ahead(events: pl.DataFrame, spec: Any, state: Any = None) -> np.ndarray:
        out = features.compute_features(events, spec, state)
        out[:-1, 0] = out[1:, 0]
        return out

    for module in (dataset, predictor, tampering):
        monkeypatch.setattr(module, "compute_features", looks_ahead)
    prepared = prepare_ticks(simulated_ticks(N), recipe())
    trained = train_network(prepared, recipe())
    found = findings(trained, prepared)
    assert {FEATURES, PREDICTIONS} <= failed(found)
    assert found[FEATURES].sentence.startswith("1 features change when later ticks do: return")


def test_features_scaled_by_the_whole_file_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the lecture's program did; no single tick ahead is copied."""

    def scaled(events: pl.DataFrame, spec: Any, state: Any = None) -> np.ndarray:
        out = features.compute_features(events, spec, state)
        out[:, 6] = events["amount"] / events["amount"].mean()
        return out

    for module in (dataset, predictor, tampering):
        monkeypatch.setattr(module, "compute_features", scaled)
    prepared = prepare_ticks(simulated_ticks(N), recipe())
    found = findings(train_network(prepared, recipe()), prepared)
    assert {FEATURES, PREDICTIONS} <= failed(found)


def test_an_encoding_fitted_on_all_rows_is_caught() -> None:
    prepared, _ = honest()
    trained = train_network(prepared, recipe())
    fit_encodings(trained.model, prepared.x_NF)
    found = findings(trained, prepared)
    assert failed(found) == {FITTED}
    assert "encoding" in found[FITTED].sentence


def test_a_calibration_fitted_on_the_test_part_is_caught() -> None:
    prepared, trained = honest()
    p_NH, begin = trained.score(prepared.x_NF, prepared.starts).raw_NH, prepared.split.test
    curves = []
    for y_N, p_N in zip(prepared.labels.y_NH.T, p_NH.T, strict=True):
        known = (np.arange(len(y_N)) >= begin) & (y_N != MISSING) & np.isfinite(p_N)
        curves.append(Platt.fit(y_N[known], p_N[known]))
    found = findings(replace(trained, calibration=tuple(curves)), prepared)
    assert failed(found) == {FITTED}
    assert "calibration" in found[FITTED].sentence


def test_a_predictor_with_another_scaler_than_its_training_is_caught() -> None:
    prepared, trained = honest()
    other = replace(trained, scaler=Scaler.fit(prepared.features_NF[: N // 2]))
    assert FITTED in failed(findings(other, prepared))


@pytest.mark.parametrize(
    "change",
    [
        lambda labels: replace(labels, known_at_NH=labels.known_at_NH - 1),
        lambda labels: replace(labels, known_ns_NH=labels.known_ns_NH + 1),
        lambda labels: replace(labels, tie_NH=~labels.tie_NH),
        lambda labels: replace(labels, y_NH=np.maximum(labels.y_NH, 0)),  # guessed at the end
    ],
    ids=["known_at", "known_ns", "tie", "guessed"],
)
def test_whatever_is_wrong_with_labels_is_caught(change: Callable[[Any], Any]) -> None:
    prepared, _ = honest()
    found = answers.check_labels(
        replace(prepared, labels=change(prepared.labels)),
        recipe().labels,
        np.random.default_rng(0),
        200,
    )
    assert found.passed is False
    assert found.numbers["wrong"] > 0


def test_half_of_the_labels_counted_anew_lie_near_the_end_of_a_segment() -> None:
    """There horizons cross a gap, and labels go missing."""
    prepared = prepare_ticks(
        random_ticks(1, 20_000), replace(recipe(), events=EventOptions(False, "60s"))
    )
    rows = np.array(answers._sample(prepared, np.random.default_rng(0), 60))
    ends = np.append(prepared.starts[1:], len(prepared.events))
    left = ends[np.searchsorted(ends, rows, side="right")] - rows
    assert len(set(rows.tolist())) == len(rows) <= 60
    assert 20 <= (left <= 32).sum() <= 32


# labels by plain code


@quick
@given(
    seeds,
    st.sampled_from(["1", "3", "20", "3s", "1m", "move"]),
    st.sampled_from(["down", "skip"]),
    st.booleans(),
)
def test_the_plain_answer_is_that_of_the_labels(
    seed: int, horizon: str, ties: str, smooth: bool
) -> None:
    events = random_events(seed)
    options = LabelOptions((horizon,), ties, smooth)
    labels = make_labels(events, options, GAP_NS)
    time, price = events["time"].to_numpy(), events["price"].to_numpy()
    for i in range(len(events)):
        answer, steps = plain_answer(time, price, i, horizon, options, GAP_NS)
        given = (labels.y_NH, labels.known_at_NH, labels.known_ns_NH, labels.tie_NH)
        assert answer == tuple(column[i, 0] for column in given)
        assert 0 < steps <= len(events) - i


def test_long_horizons_are_walked_within_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_STEPS", 1000)
    prepared, _ = honest()
    options = LabelOptions(("100",))
    labels = make_labels(prepared.events, options, prepared.spec.max_gap_ns)
    prepared = replace(prepared, labels=labels)
    found = answers.check_labels(prepared, options, np.random.default_rng(0), 200)
    assert found.passed
    assert 10 <= found.numbers["labels"] < 100


# shifted labels: forecasters whose answers are known


def said(y: np.ndarray, p: np.ndarray, *honest: np.ndarray) -> AuditFinding:
    """The verdict on p; of honest forecasters there is the base rate at least."""
    return judge_shifts([Said("rise@1", y, p, [np.full(len(y), y[y >= 0].mean()), *honest])])


def chain(goes_on: float, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Answers that repeat the one before with this probability, and the truth about each."""
    flips = np.random.default_rng(0).random(n) >= goes_on
    y = (np.cumsum(flips) % 2).astype(np.int8)
    before = np.roll(y, 1)
    return y, np.where(before == 1, goes_on, 1 - goes_on).astype(np.float32)


def drawn(n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Answers that nothing but p of their own event tells."""
    rng = np.random.default_rng(1)
    p = rng.uniform(0.1, 0.9, n)
    return (rng.random(n) < p).astype(np.int8), p


def nearly(p: np.ndarray) -> np.ndarray:
    """What a baseline says that knows nine tenths of it."""
    return 0.5 + 0.9 * (p - 0.5)


@pytest.mark.parametrize("goes_on", [0.1, 0.3, 0.5])
def test_the_truth_scores_best_on_its_own_labels_where_prices_bounce(goes_on: float) -> None:
    y, p = chain(goes_on)
    assert said(y, p, p).passed


def test_the_truth_of_a_market_that_goes_on_agrees_with_the_known_label_and_does_not_fail() -> None:
    y, p = chain(0.8)
    found = said(y, p, p)
    assert found.passed is None
    assert "earlier events (rise@1 -1)" in found.sentence
    entropy = -(0.8 * np.log2(0.8) + 0.2 * np.log2(0.2))
    assert found.numbers["rise@1 -1"] == pytest.approx(entropy + np.log2(0.8), abs=0.02)


@pytest.mark.parametrize("early", [1, 2])
@pytest.mark.parametrize("known", [True, False], ids=["good baseline", "base rate only"])
def test_predictions_that_stand_too_early_are_caught(early: int, known: bool) -> None:
    """At each event it says what is true of the next one or the one after."""
    y, p = drawn()
    found = said(y, np.roll(p, -early), *[nearly(p)] * known)
    assert found.passed is False
    assert f"later events (rise@1 +{early})" in found.sentence


@pytest.mark.parametrize("goes_on", [0.1, 0.3])
def test_predictions_that_know_the_next_tick_are_caught_where_prices_bounce(goes_on: float) -> None:
    y, p = chain(goes_on)
    assert said(y, np.roll(p, -1), nearly(p)).passed is False


def test_a_bad_network_that_is_luckier_on_later_labels_is_no_leak() -> None:
    """Wrong about its own event, a little right about the next, and worse than a baseline."""
    y, p = drawn()
    weak = 0.5 + 0.3 * (np.roll(p, -1) - 0.5) - 0.3 * (p - 0.5)
    found = said(y, weak, p)
    assert found.passed
    assert found.numbers["rise@1 +1"] > 2 * found.numbers["rise@1 +1 margin"]
    assert said(y, weak).passed is False  # nobody is known to be better


def test_missing_labels_and_predictions_are_left_out() -> None:
    y, p = chain(0.3)
    y[::7], p[::5] = MISSING, np.nan
    with np.errstate(invalid="raise"):
        found = said(y, p, np.where(np.isnan(p), 0.5, p))
    assert found.passed
    clean = said(*chain(0.3), chain(0.3)[1])
    assert found.numbers["rise@1 +1"] == pytest.approx(clean.numbers["rise@1 +1"], abs=0.05)


def test_too_few_events_are_not_judged() -> None:
    found = said(*chain(0.3, 50))
    assert found.passed is None
    assert "Too few" in found.sentence


def test_only_the_test_part_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions of the other parts may be anything."""
    prepared, trained = honest()
    fitted = fit_on_training(prepared)
    before = check_shifted_labels(trained, fitted, prepared)
    p_NH = trained.score(prepared.x_NF, prepared.starts).p_NH
    p_NH[: prepared.split.test] = 1 - p_NH[: prepared.split.test]
    monkeypatch.setattr(trained, "score", lambda x_NF, starts: Scores(p_NH, p_NH, None))
    assert check_shifted_labels(trained, fitted, prepared) == before


# the placebo


def test_a_recipe_that_sees_answers_finds_them_in_the_placebo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def leaky(ticks: pl.DataFrame, recipe: Recipe) -> Prepared:
        prepared = prepare_ticks(ticks, recipe)
        column = prepared.spec.names.index("direction")
        prepared.features_NF[:, column] = np.roll(prepared.features_NF[:, column], -1)
        return prepared

    monkeypatch.setattr(placebo_check, "prepare_ticks", leaky)
    prepared, _ = honest()
    longer = replace(recipe(), train=replace(recipe().train, epochs=8))
    found = placebo_check.check_placebo(
        prepared, simulated_ticks(N), longer, events=3000, epochs=8, seed=0
    )
    assert found.passed is False
    assert found.numbers["rise@1"] > found.numbers["rise@1 margin"]
    assert found.numbers["events"] == 3000
    assert "more than can be known" in found.sentence


@pytest.mark.parametrize(
    "labels", [LabelOptions(("5s", "move")), LabelOptions(("5",), smooth=True)], ids=range(2)
)
def test_horizons_without_a_known_truth_have_no_placebo(labels: LabelOptions) -> None:
    prepared, _ = honest()
    other = replace(recipe(), labels=labels)
    found = placebo_check.check_placebo(
        prepared, simulated_ticks(N), other, events=N, epochs=1, seed=0
    )
    assert found.passed is None


def test_a_placebo_too_short_to_train_on_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, _ = honest()
    found = placebo_check.check_placebo(
        prepared, simulated_ticks(N), recipe(), events=60, epochs=1, seed=0
    )
    assert found.passed is None
    assert "can't be trained on a placebo" in found.sentence


def test_a_recipe_without_a_test_part_gets_one_for_the_placebo() -> None:
    prepared, _ = honest()
    untested = replace(recipe(), split=SplitOptions(0.1, 0.0))
    found = placebo_check.check_placebo(
        prepared, simulated_ticks(N), untested, events=2000, epochs=1, seed=0
    )
    assert found.passed


# facts, and what the audit is given


def test_facts_are_counted() -> None:
    ticks = random_ticks(1, 3000, sides="known")
    plain = replace(tiny_recipe(epochs=1, threads=1), events=EventOptions(max_gap="60s"))
    prepared = prepare_ticks(ticks, plain)
    set_aside = pl.DataFrame(
        {
            "rows": [3, 5, 2],
            "kept": [False, True, False],
            "reason": ["bad price", "side not told", "bad time"],
        }
    )
    found = package.facts(prepared, ticks, set_aside)
    told = {one.name: one for one in found}
    assert {one.passed for one in found} == {None}
    price = prepared.events["price"].to_list()
    ties = sum(a == b for a, b in pairwise(price)) / (len(price) - 1)
    assert told["ties"].numbers["next"] == pytest.approx(ties)
    stamps = len(set(ticks["time"].to_list()))
    assert told["ticks a time stamp"].numbers == {
        "ticks": 3000,
        "stamps": stamps,
        "events": len(price),
    }
    pauses = np.diff(prepared.events["time"].to_numpy())
    assert told["gaps"].numbers == {"gaps": (pauses > GAP_NS).sum(), "max_gap_s": 60}
    assert told["rows set aside"].numbers == {"rows": 5, "reasons": 2}


def test_facts_are_part_of_the_audit() -> None:
    prepared, trained = honest()
    assert "rows set aside" not in findings(trained, prepared)
    empty = pl.DataFrame(schema={"rows": pl.Int64, "kept": pl.Boolean, "reason": pl.String})
    found = findings(trained, prepared, set_aside=empty)
    assert found["rows set aside"].numbers == {"rows": 0, "reasons": 0}


def test_other_ticks_than_the_prepared_ones_are_refused() -> None:
    prepared, trained = honest()
    with pytest.raises(ValueError, match="not the ticks that were prepared"):
        audit(trained, prepared, simulated_ticks(N, seed=6), recipe())


def test_other_horizons_than_the_predictors_are_refused() -> None:
    prepared, trained = honest()
    with pytest.raises(ValueError, match=r"speaks of rise@2, the labels are rise@1, rise@5"):
        audit(replace(trained, horizons=("rise@2",)), prepared, simulated_ticks(N), recipe())


def test_on_another_file_nothing_was_fitted() -> None:
    _, trained = honest()
    ticks = simulated_ticks(2000, seed=6)
    prepared = prepare_ticks(ticks, recipe(), trained)
    fitted = fit_on_training(honest()[0])
    told = audit(trained, prepared, ticks, recipe(), fitted=fitted, options=FAST)
    found = {one.name: one for one in told}
    assert failed(found) == set()
    assert found[FITTED].passed is None
    with pytest.raises(ValueError, match="give the baselines too"):
        audit(trained, prepared, ticks, recipe(), options=FAST)


@pytest.mark.parametrize("raw", [False, True])
def test_bursts_gaps_and_unknown_sides_do_not_fail_an_honest_run(raw: bool) -> None:
    ticks = random_ticks(2, 3000, sides="mixed", gaps=3)
    plain = replace(recipe(), events=EventOptions(raw, "60s"))
    prepared = prepare_ticks(ticks, plain)
    found = audit(train_network(prepared, plain), prepared, ticks, plain, options=FAST)
    assert passed(found), [one for one in found if one.passed is False]


@pytest.mark.real_ticks
@pytest.mark.parametrize(
    "file",
    ["bitflyer/bitflyer.execution.20180123.BTC_JPY.csv.gz", "bitcoincharts/okcoinUSD.csv.gz"],
    ids=["bitflyer", "okcoin"],
)
def test_an_honest_model_of_a_real_market_passes(file: str, data_dir: Path) -> None:
    ticks, set_aside = read_ticks(data_dir / file)
    ticks = ticks[:25_000]
    plain = tiny_recipe(epochs=2, threads=1)
    prepared = prepare_ticks(ticks, plain)
    trained = train_network(prepared, plain)
    options = AuditOptions(placebo_events=6000, placebo_epochs=1)
    found = audit(trained, prepared, ticks, plain, set_aside=set_aside, options=options)
    assert passed(found), [one for one in found if one.passed is False]
    assert sum(one.passed is True for one in found) >= 5
