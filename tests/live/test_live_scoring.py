"""Running scores against scikit-learn, and alarms: none on a market that stays as it was."""

from __future__ import annotations

import json
import math
import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from helpers.console import TINY, done
from helpers.markets import simulated_ticks
from nexttick.learn import run_folder
from nexttick.learn.predictor.predictor import Predictor
from nexttick.live.journal.journal import Journal
from nexttick.live.outcomes import OutcomeTracker
from nexttick.live.promises import Promise, identify, read_promises
from nexttick.live.records import Outcome, Prediction
from nexttick.live.scoring import LiveScores
from nexttick.options import LabelOptions
from nexttick.prepare.events import merge_events
from nexttick.prepare.labels import MISSING, make_labels
from nexttick.scores.metrics import score
from nexttick.ticks.simulated import SimulatedMarket, simulate
from nexttick.ticks.writing import write_table
from nexttick.venues.messages import Trade

RATE = 0.3
Answers = tuple[NDArray[np.int8], NDArray[np.float64]]


@cache
def answers(ticks: int, seed: int) -> Answers:
    """A simulated market whose predictor is the best of all, and what came true."""
    events = merge_events(simulate(SimulatedMarket(ticks, seed)))
    y = make_labels(events, LabelOptions(("1",)), 10**18).y_NH[:, 0]
    return y[y != MISSING], events["truth"].to_numpy()[y != MISSING]


def outcomes(y: NDArray[np.int8], p: NDArray[np.float64], horizon: int = 0) -> list[Outcome]:
    rows = enumerate(zip(y.tolist(), p.tolist(), strict=True))
    return [Outcome(i, horizon, one, False, 0, said) for i, (one, said) in rows]


# Scores


@pytest.mark.parametrize("n", [1, 700, 5000])
def test_scores_over_all_and_over_the_window_are_those_of_scikit_learn(n: int) -> None:
    y, p = (column[:n] for column in answers(20_000, 1))
    scores = LiveScores({"rise@1": Promise(RATE, 1000)})
    scores.add(outcomes(y, p))
    told = scores.scores()["rise@1"]
    for what, first in (("all", 0), ("window", max(0, n - 1000))):
        some_y, some_p, one = y[first:], p[first:], told[what]
        assert one["n"] == len(some_y)
        assert one["log_loss"] == pytest.approx(log_loss(some_y, some_p, labels=[0, 1]))
        base = log_loss(some_y, np.full(len(some_y), RATE), labels=[0, 1])
        assert one["bits"] == pytest.approx((base - one["log_loss"]) / math.log(2))
        expected = brier_score_loss(some_y, some_p, pos_label=1)
        assert one["brier"] == pytest.approx(expected)
        assert one["base_rate"] == pytest.approx(some_y.mean())
        if n == 1:
            assert math.isnan(one["auc"])
        else:  # of all outcomes, near probabilities share a bin
            exact = roc_auc_score(some_y, some_p)
            assert one["auc"] == pytest.approx(exact, abs=3e-4 if what == "all" else 1e-9)
            ece = score(some_y, some_p, 0.0)["ece"]
            assert one["ece"] == pytest.approx(ece, abs=2e-3 if what == "all" else 1e-12)


def test_outcomes_one_by_one_and_those_of_a_journal_are_the_same() -> None:
    y, p = (column[:3000] for column in answers(20_000, 1))
    promises = {"rise@1": Promise(RATE, 1000), "rise@10": Promise(0.4, 1000)}
    one, other = LiveScores(promises), LiveScores(promises)
    one.add(outcomes(y, p, horizon=1))
    for first in range(0, 3000, 700):
        piece = slice(first, first + 700)
        other.add_many(1, y[piece].tolist(), p[piece].tolist())
    told, again = one.scores(), other.scores()
    assert told["rise@1"] == again["rise@1"] == {"all": {}, "window": {}}
    assert told["rise@10"]["all"] == pytest.approx(again["rise@10"]["all"], rel=1e-12)
    assert told["rise@10"]["window"] == again["rise@10"]["window"]


def test_what_has_no_answer_or_no_prediction_does_not_count() -> None:
    scores = LiveScores({"rise@1": Promise(RATE)})
    scores.add([Outcome(0, 0, MISSING, False, 0, 0.5), Outcome(1, 0, 1, False, 0, math.nan)])
    assert scores.scores() == {"rise@1": {"all": {}, "window": {}}}
    assert scores.warnings() == []


# Alarms


def alarms(promise: Promise, y: NDArray[np.int8], p: NDArray[np.float64]) -> list[list[str]]:
    """Warnings after every quarter of a window."""
    scores, told = LiveScores({"rise@1": promise}), []
    step = promise.window // 4
    for first in range(0, len(y) - step + 1, step):
        scores.add_many(0, y[first : first + step].tolist(), p[first : first + step].tolist())
        told.append(scores.warnings())
    return told


@cache
def promise(tested: int = 40_000, window: int = 2000) -> Promise:
    y, p = answers(200_000, 2)
    return Promise.of(y[:tested], p[:tested], RATE, window)


@pytest.mark.parametrize(("tested", "window"), [(40_000, 2000), (40_000, 500), (3000, 2000)])
def test_a_market_that_stays_as_it_was_is_not_warned_of(tested: int, window: int) -> None:
    y, p = (column[40_000:] for column in answers(200_000, 2))
    told = alarms(promise(tested, window), y, p)
    assert len(told) >= 319
    assert sum(map(bool, told)) <= 0.02 * len(told)


def test_no_stretch_of_the_test_itself_is_warned_of() -> None:
    y, p = (column[:40_000] for column in answers(200_000, 2))
    assert not any(alarms(promise(), y, p))


def test_a_predictor_that_knows_nothing_any_more_is_warned_of() -> None:
    y, p = (column[40_000:] for column in answers(200_000, 2))
    told = alarms(promise(), y[1:20_001], p[:20_000])  # each says what the event before it should
    assert not any(told[:3])  # the window is not full
    assert all(told[3:])
    pattern = r"in the last 2,000 events the log loss at rise@1 is \d\.\d{4}; the test promised 0\."
    assert all(any(re.match(pattern, words) for words in one) for one in told[3:])


def test_probabilities_that_are_off_are_warned_of() -> None:
    y, p = (column[40_000:60_000] for column in answers(200_000, 2))
    kept = np.random.default_rng(0).random(len(y)) < 0.7  # rises become rarer
    told = alarms(promise(), (y * kept).astype(np.int8), p)
    off = [any("expected calibration error" in words for words in one) for one in told[3:]]
    assert np.mean(off) > 0.9


def test_without_a_test_nothing_was_promised() -> None:
    y, p = (column[:3000] for column in answers(20_000, 1))
    assert not any(alarms(Promise(RATE, 1000), y, 1 - p))


def test_what_is_promised_is_the_tests_value_between_its_bounds() -> None:
    y, p = (column[:40_000] for column in answers(200_000, 2))
    told = promise().bands
    base = log_loss(y, np.full(len(y), RATE))
    assert told["log_loss"].value == pytest.approx(log_loss(y, p))
    assert told["bits"].value == pytest.approx((base - log_loss(y, p)) / math.log(2))
    assert told["brier"].value == pytest.approx(brier_score_loss(y, p))
    assert told["auc"].value == pytest.approx(roc_auc_score(y, p), abs=0.005)
    assert told["ece"].value > score(y, p, base)["ece"]  # chance adds to it over fewer events
    assert all(one.low < one.value < one.high for one in told.values())
    narrow = promise(window=8000).bands["log_loss"]
    assert narrow.high - narrow.low < told["log_loss"].high - told["log_loss"].low


# Of a run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("promised")
    write_table(simulated_ticks(2000).drop("truth"), folder / "ticks.parquet")
    done("run", folder / "ticks.parquet", *TINY, "--horizon", "1", "5s", "--out", folder / "run")
    return folder / "run"


def test_what_the_test_of_a_run_promised_is_read(run: Path) -> None:
    predictor, fitted = run_folder.load_trained(run)
    told = read_promises(run, predictor, fitted, window=200)
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    rates = json.loads((run / "baselines.json").read_text())
    assert tuple(told) == predictor.horizons == ("rise@1", "rise@5s")
    for name, one in told.items():
        assert one.window == 200
        for key in ("log_loss", "bits", "brier"):
            assert one.bands[key].value == pytest.approx(metrics[name][key], abs=1e-6)
    assert "base_rate" in rates
    identity = identify(run, predictor, fitted, "replay", "BTC/USDT")
    assert identity.fingerprint == Predictor.load(run / "predictor").fingerprint()
    assert identity.base_rates == tuple(one.base_rate for one in told.values())
    assert identity.horizons == predictor.horizons
    assert identity.max_gap_ns == predictor.spec.max_gap_ns


def test_a_journal_of_the_test_part_is_scored_as_the_test_was(run: Path, tmp_path: Path) -> None:
    predictor, fitted = run_folder.load_trained(run)
    path = tmp_path / "replay.journal"
    options = run_folder.read_config(run).recipe.labels
    tracker = OutcomeTracker(options, predictor.spec.max_gap_ns)
    with Journal(path, identify(run, predictor, fitted, "replay", "BTC/USDT")) as journal:
        table = pl.read_parquet(run / "predictions.parquet").fill_null(math.nan)
        for i, (time_ns, price, *p_H) in enumerate(table.iter_rows()):
            said = Prediction(i, time_ns, price, i, time_ns, p_H)
            trade = Trade(time_ns, price, 1.0, 0, i, time_ns)
            journal.append([trade], [said], tracker.take(said))
        told = json.loads(done("journal", path, "--json").out)
        live = LiveScores(read_promises(run, predictor, fitted))
        for h in range(len(predictor.horizons)):
            for y, p in journal.scored(h):
                live.add_many(h, y, p)
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    for name, scores in told["scores"].items():
        assert scores["n"] == metrics[name]["n"] == live.scores()[name]["all"]["n"]
        assert scores["n"] + scores["waiting"] + scores["missing"] == len(table)
        for key in ("log_loss", "bits", "auc", "brier", "ece", "mcc", "accuracy"):
            value, low, high = scores[key]
            assert value == pytest.approx(metrics[name][key], abs=1e-5)
            assert (low is None) == (high is None) == (scores["n"] < 500)


def test_a_run_that_was_only_trained_promises_nothing(run: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    shutil.copytree(run, trained)
    (trained / "metrics.json").unlink()
    predictor, fitted = run_folder.load_trained(trained)
    told = read_promises(trained, predictor, fitted)
    assert all(not one.bands for one in told.values())


@pytest.mark.parametrize(
    "damage",
    [
        "no table",
        "other table",
        "{}",
        '{"format": 2}',
        '{"format": 2, "test": null}',
        '{"format": 2, "test": {}}',
    ],
)
def test_a_test_that_does_not_fit_is_refused(run: Path, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    predictor, fitted = run_folder.load_trained(copy)
    table = copy / "predictions.parquet"
    if damage == "no table":
        table.unlink()
    elif damage == "other table":
        write_table(pl.read_parquet(table).with_columns(pl.col("p_rise@1") / 2), table)
    else:
        (copy / "metrics.json").write_text(damage)
    reason = "not of the same test" if damage == "other table" else "missing or damaged"
    with pytest.raises(ValueError, match=reason):
        read_promises(copy, predictor, fitted)
