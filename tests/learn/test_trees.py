"""Gradient-boosted trees: what they see, that they stop early, and that they are repeatable."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache

import lightgbm
import numpy as np
import pytest
from hypothesis import given

from helpers.markets import GAP_NS, few, random_events, seeds
from helpers.seen import seen_of
from nexttick.learn.baselines import trees
from nexttick.learn.baselines.base import Known, Seen
from nexttick.learn.baselines.trees import LAGS, Trees, inputs
from nexttick.options import LabelOptions
from nexttick.prepare.features import FIXED
from nexttick.prepare.labels import make_labels
from nexttick.scores.metrics import log_losses

TRAIN, VALID = slice(0, 1200), slice(1200, 1800)


@cache
def market() -> tuple[Seen, np.ndarray]:
    """Events whose label hangs on the direction three events ago, which only lags show."""
    events = random_events(3, 3000, gaps=3)
    seen = seen_of(events, make_labels(events, LabelOptions(("1",)), GAP_NS), 0)
    rng = np.random.default_rng(0)
    column = FIXED.index("direction")
    cause = np.roll(seen.x_NF[:, column], 3)
    y = (rng.random(len(seen)) < np.where(cause > 0, 0.9, 0.2)).astype(np.int8)
    return seen, y


def part(rows: slice) -> Known:
    _, y = market()
    return Known(np.arange(rows.start, rows.stop), y[rows])


@few
@given(seeds)
def test_inputs_are_the_features_and_lags_that_stay_in_the_segment(seed: int) -> None:
    events = random_events(seed, gaps=4)
    seen = seen_of(events, make_labels(events, LabelOptions(("1",)), GAP_NS), 0)
    rows = np.arange(len(events))[::2]
    table = inputs(seen, rows)
    width, F = len(FIXED), seen.x_NF.shape[1]
    assert table.shape == (len(rows), F + LAGS * width)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table[:, :F], seen.x_NF[rows])
    for i, row in enumerate(rows):
        start = max(s for s in seen.starts if s <= row)
        for lag in range(1, LAGS + 1):
            got = table[i, F + (lag - 1) * width : F + lag * width]
            if row - lag >= start:
                np.testing.assert_array_equal(got, seen.x_NF[row - lag, :width])
            else:
                assert np.isnan(got).all()


def test_trees_find_what_only_lags_show() -> None:
    seen, y = market()
    rows = np.arange(VALID.stop, len(seen))
    fitted = Trees.fit(seen, part(TRAIN), part(VALID))
    cause = np.roll(seen.x_NF[:, FIXED.index("direction")], 3)[rows]
    truth = log_losses(y[rows], np.where(cause > 0, 0.9, 0.2)).mean()
    base = log_losses(y[rows], np.full(len(rows), y[TRAIN].mean())).mean()
    found = log_losses(y[rows], fitted.predict(seen, rows)).mean()
    assert (base - found) / (base - truth) > 0.8


def test_the_round_with_the_lowest_validation_loss_is_kept() -> None:
    """Replayed round by round on the validation part, through LightGBM itself."""
    seen, _ = market()
    valid = part(VALID)
    fitted = Trees.fit(seen, part(TRAIN), valid)
    kept = lightgbm.Booster(model_str=fitted.model).num_trees()
    data = lightgbm.Dataset(inputs(seen, part(TRAIN).rows), part(TRAIN).y)
    longer = lightgbm.train(trees.PARAMETERS, data, kept + trees.PATIENCE)
    table = inputs(seen, valid.rows)
    losses = [
        log_losses(valid.y, longer.predict(table, num_iteration=rounds)).mean()
        for rounds in range(1, kept + trees.PATIENCE + 1)
    ]
    assert np.argmin(losses) + 1 == kept < trees.ROUNDS


def test_the_validation_part_decides_nothing_but_the_number_of_rounds() -> None:
    seen, _ = market()
    valid = part(VALID)
    one = Trees.fit(seen, part(TRAIN), valid)
    other = Trees.fit(seen, part(TRAIN), replace(valid, y=1 - valid.y))
    rows = valid.rows[:50]
    rounds = lightgbm.Booster(model_str=other.model).num_trees()
    first = lightgbm.Booster(model_str=one.model).predict(inputs(seen, rows), num_iteration=rounds)
    np.testing.assert_array_equal(other.predict(seen, rows), first)


def test_trees_are_the_same_every_time_and_read_back_exactly() -> None:
    seen, _ = market()
    fitted = Trees.fit(seen, part(TRAIN), part(VALID))
    assert Trees.fit(seen, part(TRAIN), part(VALID)) == fitted
    data = lightgbm.Dataset(inputs(seen, part(TRAIN).rows), part(TRAIN).y)
    rounds = lightgbm.Booster(model_str=fitted.model).num_trees()
    never_written = lightgbm.train(trees.PARAMETERS, data, rounds)
    rows = np.arange(len(seen))
    expected = never_written.predict(inputs(seen, rows))
    np.testing.assert_array_equal(fitted.predict(seen, rows), expected)


def test_many_events_are_predicted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, _ = market()
    fitted = Trees.fit(seen, part(TRAIN), part(VALID))
    whole = fitted.predict(seen, np.arange(len(seen)))
    monkeypatch.setattr(trees, "_CHUNK", 700)
    np.testing.assert_array_equal(fitted.predict(seen, np.arange(len(seen))), whole)


@pytest.mark.parametrize("y", [0, 1])
def test_a_market_with_one_answer_is_fitted(y: int) -> None:
    seen, _ = market()
    train, valid = (replace(part(rows), y=np.full(600, y, np.int8)) for rows in (VALID, VALID))
    p = Trees.fit(seen, train, valid).predict(seen, np.arange(100))
    assert (np.abs(p - y) < 1e-3).all()


def test_without_lightgbm_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    seen, _ = market()
    with pytest.raises(ValueError, match=r"needs LightGBM.*pip install 'nexttick\[trees\]'"):
        Trees.fit(seen, part(TRAIN), part(VALID))
