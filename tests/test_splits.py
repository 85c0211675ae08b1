"""Parts in time order, and labels purged of all that is not known at a part's end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets import GAP_NS, few, quick, random_events, seeds, tampered
from nexttick.config import LabelOptions, SplitOptions
from nexttick.labels import MISSING, make_labels
from nexttick.splits import chronological_split, purged

HORIZONS = ("1", "10", "5s", "move")


@quick
@given(st.integers(10, 10**6), st.floats(0.01, 0.5), st.floats(0, 0.49))
def test_training_comes_first_then_validation_then_test(n: int, valid: float, test: float) -> None:
    split = chronological_split(n, SplitOptions(valid, test))
    assert 0 <= split.valid <= split.test <= split.end == n
    assert abs((split.test - split.valid) - n * valid) <= 0.5
    assert abs((n - split.test) - n * test) <= 0.5


def test_without_a_test_part_validation_ends_with_the_events() -> None:
    split = chronological_split(100, SplitOptions(valid=0.1, test=0.0))
    assert (split.valid, split.test, split.end) == (90, 100, 100)


@quick
@given(seeds, st.integers(0, 60), st.integers(0, 60), st.sampled_from(["down", "skip"]))
def test_a_part_keeps_the_labels_of_its_events_that_are_known_in_it(
    seed: int, start: int, length: int, ties: str
) -> None:
    events = random_events(seed)
    labels = make_labels(events, LabelOptions(HORIZONS, ties), GAP_NS)
    stop = min(start + length, len(events))
    kept = purged(labels, start, stop)
    for i in range(len(events)):
        for h in range(len(HORIZONS)):
            inside = start <= i < stop and labels.known_at_NH[i, h] < stop
            assert kept[i, h] == (labels.y_NH[i, h] if inside else MISSING)


@pytest.mark.parametrize("how", ["noise", "shuffle", "stretch", "nan"])
@few
@given(seeds, st.integers(10, 50))
def test_purged_labels_are_the_same_whatever_comes_at_their_end_or_later(
    how: str, seed: int, stop: int
) -> None:
    options = LabelOptions(HORIZONS)
    events = random_events(seed)
    before, after = (
        purged(make_labels(some, options, GAP_NS), 0, stop)
        for some in (events, tampered(events, stop, how, seed))
    )
    np.testing.assert_array_equal(before, after)
    assert (before != MISSING).any()


def test_purging_leaves_the_labels_themselves_alone() -> None:
    labels = make_labels(random_events(1), LabelOptions(HORIZONS), GAP_NS)
    y_NH = labels.y_NH.copy()
    purged(labels, 0, 20)
    np.testing.assert_array_equal(labels.y_NH, y_NH)
