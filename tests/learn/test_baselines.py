"""Baselines against counting and scikit-learn, and kept as JSON."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from helpers.markets import GAP_NS, few, quick, random_events, seeds
from helpers.seen import NONE, seen_of
from nexttick.learn.baselines import (
    BASELINES,
    CHEAP,
    choose,
    dump,
    fit_baselines,
    is_leaky,
    lecture,
    load,
)
from nexttick.learn.baselines.base import Baseline, Known, Seen, newest_known
from nexttick.learn.baselines.tables import BaseRate, LastMoves, Logistic, Persistence, last_moves
from nexttick.options import LabelOptions
from nexttick.prepare.labels import MISSING, Labels, make_labels

PRIOR = 10


@cache
def market(seed: int, n: int = 400, ties: str = "down", gaps: int = 2) -> tuple[list[Seen], Labels]:
    """What is seen of random events at two horizons, and the labels."""
    events = random_events(seed, n, gaps=gaps)
    labels = make_labels(events, LabelOptions(("1", "5"), ties), GAP_NS)
    return [seen_of(events, labels, h) for h in range(2)], labels


def known_of(labels: Labels, h: int) -> Known:
    return Known.of(labels.y_NH[:, h])


@few
@given(seeds)
def test_the_base_rate_is_the_share_of_rises(seed: int) -> None:
    (seen, _), labels = market(seed)
    known = known_of(labels, 0)
    fitted = BaseRate.fit(seen, known, NONE)
    assert fitted.rate == pytest.approx((known.y == 1).sum() / len(known.y))
    assert fitted.predict(seen, np.arange(7)).tolist() == [fitted.rate] * 7


@few
@given(seeds, st.integers(1, 4))
def test_the_table_of_last_moves_equals_counting(seed: int, k: int) -> None:
    (seen, _), labels = market(seed)
    known = known_of(labels, 0)
    fitted = LastMoves.fit(seen, known, NONE, k)
    assert len(fitted.rates) == 3**k
    predicted = fitted.predict(seen, known.rows)
    moves = last_moves(seen, known.rows, k)
    for sequence in {tuple(row) for row in moves.tolist()}:
        same = (moves == sequence).all(axis=1)
        expected = (known.y[same].sum() + PRIOR * known.y.mean()) / (same.sum() + PRIOR)
        np.testing.assert_allclose(predicted[same], expected, rtol=1e-12)


def test_three_moves_are_looked_at_by_default() -> None:
    (seen, _), labels = market(1)
    known = known_of(labels, 0)
    assert LastMoves.fit(seen, known, NONE) == LastMoves.fit(seen, known, NONE, 3)


def test_a_sequence_never_seen_gets_the_base_rate() -> None:
    direction = np.array([1, 1, 1, 1, -1], np.int8)
    zeros = np.zeros(5)
    seen = Seen(np.zeros((5, 1), np.float32), np.array([0]), direction, direction, zeros, zeros)
    fitted = LastMoves.fit(seen, Known.of(np.array([1, 1, 1, 0, MISSING], np.int8)), NONE)
    assert fitted.predict(seen, np.array([4])) == pytest.approx(0.75)


@quick
@given(seeds, st.integers(0, 6))
def test_last_moves_are_the_signs_of_the_last_changes_of_the_segment(seed: int, gaps: int) -> None:
    events = random_events(seed, gaps=gaps)
    labels = make_labels(events, LabelOptions(("1",)), GAP_NS)
    seen = seen_of(events, labels, 0)
    rows = np.arange(len(events))[::3]
    moves = last_moves(seen, rows, 4)
    price = events["price"].to_numpy()
    for i, row in enumerate(rows):
        start = max(s for s in seen.starts if s <= row)
        for lag in range(4):
            newer = row - lag
            expected = np.sign(price[newer] - price[newer - 1]) if newer > start else 0
            assert moves[i, lag] == expected


# persistence


@quick
@given(seeds, st.sampled_from(["1", "5", "3s", "move"]), st.sampled_from(["down", "skip"]))
def test_the_newest_known_label_is_what_someone_who_waits_has_written_down(
    seed: int, horizon: str, ties: str
) -> None:
    events = random_events(seed)
    labels = make_labels(events, LabelOptions((horizon,), ties), GAP_NS)
    newest = newest_known(labels.y_NH[:, 0], labels.known_at_NH[:, 0])
    for i in range(len(events)):
        known = [j for j in range(i) if labels.known_at_NH[j, 0] <= i]
        answers = [labels.y_NH[j, 0] for j in known if labels.y_NH[j, 0] != MISSING]
        assert newest[i] == (answers[-1] if answers else MISSING)


@few
@given(seeds)
def test_persistence_equals_counting(seed: int) -> None:
    seen_H, labels = market(seed)
    for h, seen in enumerate(seen_H):
        known = known_of(labels, h)
        fitted = Persistence.fit(seen, known, NONE)
        predicted = fitted.predict(seen, known.rows)
        for last in (MISSING, 0, 1):
            same = seen.known_N[known.rows] == last
            expected = (known.y[same].sum() + PRIOR * known.y.mean()) / (same.sum() + PRIOR)
            np.testing.assert_allclose(predicted[same], expected, rtol=1e-12)
            assert fitted.rates[last + 1] == pytest.approx(expected)


def test_persistence_at_the_next_event_knows_whether_the_last_one_rose() -> None:
    events = random_events(3, gaps=0)
    labels = make_labels(events, LabelOptions(("1",)), GAP_NS)
    price = events["price"].to_numpy()
    newest = newest_known(labels.y_NH[:, 0], labels.known_at_NH[:, 0])
    assert newest[1:].tolist() == (np.diff(price) > 0).astype(int).tolist()


# logistic regression


@few
@given(seeds)
def test_the_logistic_baseline_equals_scikit_learn(seed: int) -> None:
    (seen, _), labels = market(seed)
    known = known_of(labels, 0)
    x = seen.x_NF[known.rows]
    expected = LogisticRegression(max_iter=2000).fit(x, known.y).predict_proba(x)[:, 1]
    predicted = Logistic.fit(seen, known, NONE).predict(seen, known.rows)
    np.testing.assert_allclose(predicted, expected, rtol=1e-6)


# all of them


def test_all_are_fitted_for_each_horizon_on_known_labels_only() -> None:
    seen_H, labels = market(1)
    none = np.full_like(labels.y_NH, MISSING)
    fitted = fit_baselines(seen_H, labels.y_NH, none)
    assert tuple(fitted) == CHEAP
    for name, ones in fitted.items():
        for h, one in enumerate(ones):
            assert one == BASELINES[name].fit(seen_H[h], known_of(labels, h), NONE)


@pytest.mark.parametrize("ties", ["down", "skip"])
@pytest.mark.parametrize("name", BASELINES)
def test_a_fitted_baseline_gives_probabilities_for_any_events(name: str, ties: str) -> None:
    seen_H, fitted = all_fitted(ties)
    for seen, one in zip(seen_H, fitted[name], strict=True):
        p = one.predict(seen, np.arange(len(seen)))
        assert p.shape == (len(seen),)
        assert ((p > 0) & (p < 1)).all()
        some = np.array([3, 50, 399])
        some = some[some < len(seen)]
        np.testing.assert_allclose(one.predict(seen, some), p[some], rtol=1e-5)
        assert len(one.predict(seen, np.empty(0, np.int64))) == 0


@cache
def all_fitted(ties: str) -> tuple[list[Seen], dict[str, list[Baseline]]]:
    seen_H, labels = market(2, ties=ties)
    train, valid = labels.y_NH.copy(), labels.y_NH.copy()
    train[200:], valid[:200] = MISSING, MISSING
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lecture, "SAMPLES", 400)
        return seen_H, fit_baselines(seen_H, train, valid, BASELINES)


def test_baselines_survive_json() -> None:
    seen_H, fitted = all_fitted("down")
    again = load(dump(fitted))
    assert list(again) == list(BASELINES)
    assert again == fitted
    for name, ones in fitted.items():
        for h, one in enumerate(ones):
            rows = np.arange(len(seen_H[h]))
            other = again[name][h].predict(seen_H[h], rows)
            np.testing.assert_array_equal(one.predict(seen_H[h], rows), other)


def test_the_cheap_ones_run_always_and_others_when_asked_for() -> None:
    assert choose(()) == CHEAP
    assert choose(["trees", "logistic"]) == (*CHEAP, "trees")
    assert choose(BASELINES) == tuple(BASELINES)


def test_unknown_names_are_told_all_at_once() -> None:
    with pytest.raises(ValueError, match=r"'tree'.*did you mean 'trees'[\s\S]*'lecture'"):
        choose(["tree", "lecture", "trees"])


def test_only_the_lectures_model_is_leaky_and_its_name_says_so() -> None:
    assert [name for name in BASELINES if is_leaky(name)] == ["lecture_2018_leaky"]
    assert not is_leaky("network")
