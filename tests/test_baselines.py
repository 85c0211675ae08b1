"""Baselines against counting and scikit-learn, and kept as JSON."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from markets import GAP_NS, few, quick, random_events, seeds, tiny_spec
from nexttick.baselines import (
    BASELINES,
    DIRECTION,
    BaseRate,
    LastMoves,
    Logistic,
    Seen,
    dump,
    fit_baselines,
    last_moves,
    load,
)
from nexttick.events import segment_starts
from nexttick.features import compute_features
from nexttick.labels import MISSING

PRIOR = 10


def random_seen(seed: int, n: int = 400) -> tuple[Seen, np.ndarray]:
    """What baselines see, and two horizons of labels, some missing."""
    rng = np.random.default_rng(seed)
    x_NF = rng.normal(size=(n, 4)).astype(np.float32)
    moves_N3 = rng.choice(np.array([-1, 0, 1], np.int8), (n, 3), p=[0.2, 0.7, 0.1])
    y_NH = (rng.normal(size=(n, 2)) < x_NF[:, :1] + moves_N3[:, :1]).astype(np.int8)
    y_NH[rng.random((n, 2)) < 0.1] = MISSING
    return Seen(x_NF, moves_N3), y_NH


@few
@given(seeds)
def test_the_base_rate_is_the_share_of_rises(seed: int) -> None:
    seen, y_NH = random_seen(seed)
    y = np.abs(y_NH[:, 0])
    fitted = BaseRate.fit(seen, y)
    assert fitted.rate == pytest.approx((y == 1).sum() / len(y))
    assert (fitted.predict(seen) == fitted.rate).all()
    assert len(fitted.predict(seen[:7])) == 7


@few
@given(seeds)
def test_the_table_of_last_moves_equals_counting(seed: int) -> None:
    seen, y_NH = random_seen(seed)
    y = np.abs(y_NH[:, 0])
    predicted = LastMoves.fit(seen, y).predict(seen)
    for triple in {tuple(row) for row in seen.moves_N3.tolist()}:
        same = (seen.moves_N3 == triple).all(axis=1)
        expected = (y[same].sum() + PRIOR * y.mean()) / (same.sum() + PRIOR)
        np.testing.assert_allclose(predicted[same], expected, rtol=1e-12)


def test_a_triple_never_seen_gets_the_base_rate() -> None:
    seen = Seen(np.zeros((4, 1), np.float32), np.ones((4, 3), np.int8))
    fitted = LastMoves.fit(seen, np.array([1, 1, 1, 0], np.int8))
    others = Seen(np.zeros((1, 1), np.float32), -np.ones((1, 3), np.int8))
    assert fitted.predict(others) == pytest.approx(0.75)


@few
@given(seeds)
def test_the_logistic_baseline_equals_scikit_learn(seed: int) -> None:
    seen, y_NH = random_seen(seed)
    y = np.abs(y_NH[:, 0])
    expected = LogisticRegression(max_iter=2000).fit(seen.x_NF, y).predict_proba(seen.x_NF)[:, 1]
    np.testing.assert_allclose(Logistic.fit(seen, y).predict(seen), expected, rtol=1e-6)


def test_all_baselines_are_fitted_for_each_horizon_on_known_labels_only() -> None:
    seen, y_NH = random_seen(1)
    fitted = fit_baselines(seen, y_NH)
    assert set(fitted) == set(BASELINES) == {"base_rate", "last_moves", "logistic"}
    for name, ones in fitted.items():
        for h, one in enumerate(ones):
            known = y_NH[:, h] != MISSING
            assert one == BASELINES[name].fit(seen[known], y_NH[known, h])


def test_baselines_survive_json() -> None:
    seen, y_NH = random_seen(2)
    fitted = fit_baselines(seen, y_NH)
    again = load(dump(fitted))
    assert again == fitted
    for name, ones in fitted.items():
        for one, other in zip(ones, again[name], strict=True):
            np.testing.assert_array_equal(one.predict(seen), other.predict(seen))


@quick
@given(seeds, st.integers(0, 6))
def test_last_moves_are_the_signs_of_the_last_three_changes_of_the_segment(
    seed: int, gaps: int
) -> None:
    events = random_events(seed, gaps=gaps)
    starts = segment_starts(events["time"].to_numpy(), GAP_NS)
    direction = compute_features(events, tiny_spec())[:, DIRECTION]
    moves = last_moves(direction, starts)
    price = events["price"].to_numpy()
    for i in range(len(events)):
        start = max(s for s in starts if s <= i)
        for lag in range(3):
            newer = i - lag
            expected = np.sign(price[newer] - price[newer - 1]) if newer > start else 0
            assert moves[i, lag] == expected


def test_last_moves_do_not_see_across_a_segment_start() -> None:
    direction = np.array([0, 1, 1, 0, -1, -1, -1], np.float32)
    moves = last_moves(direction, np.array([0, 3]))
    assert moves.tolist() == [
        [0, 0, 0],
        [1, 0, 0],
        [1, 1, 0],
        [0, 0, 0],
        [-1, 0, 0],
        [-1, -1, 0],
        [-1, -1, -1],
    ]
