"""Parts in time order, and labels purged of all that is not known at a part's end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.markets import GAP_NS, S_NS, few, quick, random_events, seeds, tampered
from nexttick.options import LabelOptions, SplitOptions
from nexttick.prepare.labels import MISSING, make_labels
from nexttick.prepare.splits import chronological_split, purged, walk_forward

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


# Walk-forward


def brute_purge(labels, fold, time_ns, embargo_ns) -> tuple[set[tuple[int, int]], ...]:
    """Rows and horizons that training and validation may use, event by event."""
    split, begin = fold.split, fold.start
    first_valid, first_test = begin + split.valid, begin + split.test
    allowed: tuple[set[tuple[int, int]], ...] = (set(), set())
    for i in range(begin, begin + split.end):
        for h in range(labels.y_NH.shape[1]):
            known = int(labels.known_at_NH[i, h])
            if labels.y_NH[i, h] == MISSING or known >= len(time_ns):
                continue
            for part, (low, high) in enumerate(((begin, first_valid), (first_valid, first_test))):
                early = time_ns[known] <= time_ns[high] - embargo_ns if embargo_ns else True
                if low <= i < high and known < high and early:
                    allowed[part].add((i, h))
    return allowed


@quick
@given(
    seeds,
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([0, 1, 3 * S_NS, 40 * S_NS]),
    st.sampled_from(["down", "skip"]),
)
def test_folds_are_purged_exactly(
    seed: int, folds: int, sliding: bool, embargo_ns: int, ties: str
) -> None:
    events = random_events(seed, 150, gaps=3)
    time_ns = events["time"].to_numpy()
    made = walk_forward(time_ns, folds, 0.3, sliding=sliding, embargo_ns=embargo_ns)
    for fold in made:
        past = events[fold.start : fold.start + fold.split.end]
        own = make_labels(past, LabelOptions(HORIZONS, ties), GAP_NS)
        split = fold.split
        parts = (
            purged(own, 0, split.train_stop),
            purged(own, split.valid, max(split.valid, split.valid_stop)),
        )
        used = tuple(
            {(int(i) + fold.start, int(h)) for i, h in np.argwhere(y_NH != MISSING)}
            for y_NH in parts
        )
        whole = make_labels(events, LabelOptions(HORIZONS, ties), GAP_NS)
        assert used == brute_purge(whole, fold, time_ns, embargo_ns)


@quick
@given(st.integers(2, 500), st.integers(1, 9), st.floats(0.05, 0.5), st.booleans())
def test_test_parts_follow_each_other_and_cover_the_rest(
    n: int, folds: int, valid: float, sliding: bool
) -> None:
    time_ns = np.arange(n) * S_NS
    if n < folds + 1:
        with pytest.raises(ValueError, match="fewer folds"):
            walk_forward(time_ns, folds, valid, sliding=sliding)
        return
    made = walk_forward(time_ns, folds, valid, sliding=sliding)
    tests = [(f.start + f.split.test, f.start + f.split.end) for f in made]
    assert [a for a, _ in tests[1:]] == [b for _, b in tests[:-1]]
    assert tests[-1][1] == n
    assert abs(tests[0][0] - n / (folds + 1)) <= 0.5
    for fold in made:
        assert fold.split.train_stop == fold.split.valid
        assert fold.start == 0 or sliding
    if sliding:
        assert [f.start for f in made[1:]] == [a for a, _ in tests[:-1]]
