"""Outcomes, one event in at a time, against the labels of the whole."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.markets import GAP_NS, quick, random_events, seeds
from nexttick.live.outcomes import NEVER_NS, OutcomeTracker
from nexttick.live.records import Outcome, Prediction
from nexttick.options import LabelOptions
from nexttick.prepare.labels import MISSING, Labels, make_labels

HORIZONS = ("1", "3", "10", "100", "200ms", "5s", "2m", "move")
ties = st.sampled_from(["down", "skip"])


def options_of(ties: str, smooth: bool) -> LabelOptions:
    return LabelOptions(("1", "3", "10", "100") if smooth else HORIZONS, ties, smooth)


def said(events: pl.DataFrame, horizons: int) -> list[Prediction]:
    """Events with probabilities that tell which event and horizon they are of."""
    rows = events.select("time", "price").iter_rows()
    return [
        Prediction(i, time_ns, price, i, 0, tuple(i + h / 100 for h in range(horizons)))
        for i, (time_ns, price) in enumerate(rows)
    ]


def taken(tracker: OutcomeTracker, events: list[Prediction]) -> list[tuple[int, Outcome]]:
    """Outcomes, each with the event that made it known."""
    return [(one.event, outcome) for one in events for outcome in tracker.take(one)]


def check_against(labels: Labels, outcomes: list[tuple[int, Outcome]], pending: int) -> None:
    """Every outcome once, as the labels have it; what is pending has no label and no tie."""
    n, horizons = labels.y_NH.shape
    waiting = {(i, h) for i in range(n) for h in range(horizons)}
    for known_at, one in outcomes:
        at = one.event, one.horizon
        waiting.remove(at)
        assert one.y == labels.y_NH[at]
        assert one.tie == labels.tie_NH[at]
        assert one.known_ns == labels.known_ns_NH[at]
        assert one.p == one.event + one.horizon / 100
        if one.known_ns != NEVER_NS:
            assert known_at == labels.known_at_NH[at]
    assert len(waiting) == pending
    assert all(labels.known_at_NH[at] == n and labels.y_NH[at] == MISSING for at in waiting)


@quick
@given(seeds, ties, st.booleans())
def test_outcomes_are_the_labels_and_come_when_these_are_known(
    seed: int, ties: str, smooth: bool
) -> None:
    events, options = random_events(seed, 250), options_of(ties, smooth)
    tracker = OutcomeTracker(options, GAP_NS)
    outcomes = taken(tracker, said(events, len(options.horizon)))
    labels = make_labels(events, options, GAP_NS)
    assert (labels.y_NH != MISSING).any()
    check_against(labels, outcomes, sum(tracker.pending_H))


EDGES: dict[str, tuple[list[int], list[float]]] = {
    "a pause as long as may be, and one longer": ([0, GAP_NS, 2 * GAP_NS + 1], [1.0, 2.0, 3.0]),
    # One up, one down: 100.3 - 100.2 and 100.1 - 100.2 do not quite cancel in floating point.
    "a mean that equals the price": ([0, 1, 2], [100.2, 100.3, 100.1]),
}


@pytest.mark.parametrize("edge", EDGES)
def test_outcomes_are_the_labels_at_the_edges(edge: str) -> None:
    time_ns, price = EDGES[edge]
    events = pl.DataFrame({"time": time_ns, "price": price})
    for smooth in (False, True):
        options = LabelOptions(("1", "2"), smooth=smooth)
        tracker = OutcomeTracker(options, GAP_NS)
        outcomes = taken(tracker, said(events, 2))
        assert len(outcomes) >= 2
        check_against(make_labels(events, options, GAP_NS), outcomes, sum(tracker.pending_H))


@quick
@given(seeds, st.integers(1, 100), ties, st.booleans())
def test_a_reset_cuts_as_if_the_market_ended_and_began_anew(
    seed: int, at: int, ties: str, smooth: bool
) -> None:
    events, options = random_events(seed, 150, gaps=1), options_of(ties, smooth)
    at = min(at, len(events) - 1)
    tracker = OutcomeTracker(options, GAP_NS)
    rows = said(events, len(options.horizon))
    outcomes = [*taken(tracker, rows[:at]), *((at, one) for one in tracker.cut())]
    assert sum(tracker.pending_H) == 0
    outcomes += taken(tracker, rows[at:])
    before, after = (make_labels(part, options, GAP_NS) for part in (events[:at], events[at:]))
    both = Labels(
        before.names,
        np.concatenate([before.y_NH, after.y_NH]),
        np.concatenate(
            [
                np.where(before.known_at_NH < at, before.known_at_NH, len(events)),
                after.known_at_NH + at,
            ]
        ),
        np.concatenate([before.known_ns_NH, after.known_ns_NH]),
        np.concatenate([before.tie_NH, after.tie_NH]),
    )
    check_against(both, outcomes, sum(tracker.pending_H))


@quick
@given(seeds, st.integers(0, 120), ties, st.booleans())
def test_a_restart_goes_on_without_a_hole_or_a_double(
    seed: int, stop: int, ties: str, smooth: bool
) -> None:
    events, options = random_events(seed, 120), options_of(ties, smooth)
    rows = said(events, len(options.horizon))
    whole = taken(OutcomeTracker(options, GAP_NS), rows)
    first = taken(OutcomeTracker(options, GAP_NS), rows[:stop])
    known_H = tuple(
        1 + max((one.event for _, one in first if one.horizon == h), default=-1)
        for h in range(len(options.horizon))
    )
    tracker = OutcomeTracker(options, GAP_NS)
    assert tracker.rebuild(rows[min(known_H) : stop], known_H) == []
    assert first + taken(tracker, rows[stop:]) == whole


def test_outcomes_that_the_journal_lacks_are_given_on_a_restart() -> None:
    options = options_of("down", smooth=False)
    rows = said(random_events(3, 60, gaps=0), len(options.horizon))
    known_H = (2,) * len(options.horizon)
    told = OutcomeTracker(options, GAP_NS).rebuild(rows[2:], known_H)
    whole = [one for _, one in taken(OutcomeTracker(options, GAP_NS), rows)]
    assert told == [one for one in whole if one.event >= 2]


@pytest.mark.parametrize("horizon", ["1", "50", "10s"])
def test_what_waits_is_bounded_by_the_horizon(horizon: str) -> None:
    tracker = OutcomeTracker(LabelOptions((horizon,)), GAP_NS)
    most = 0
    for i in range(3000):
        tracker.take(Prediction(i, i * 1_000_000_000, 100.0 + i % 3, i, 0, (math.nan,)))
        most = max(most, *tracker.pending_H)
    assert most == {"1": 1, "50": 50, "10s": 11}[horizon]
