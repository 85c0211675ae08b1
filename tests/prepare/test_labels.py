"""Labels against brute force, and when they are known: by truncating the ticks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.markets import GAP_NS, S_NS, few, quick, random_events, seeds
from nexttick.options import LabelOptions, parse_duration_ns
from nexttick.prepare.labels import MISSING, make_labels

HORIZONS = ("1", "10", "5s", "move")
NEVER_NS = np.iinfo(np.int64).max
ties = st.sampled_from(["down", "skip"])


class Slow:
    """The label of one event, by looking at one event after another."""

    def __init__(self, events: pl.DataFrame, horizon: str, ties: str, smooth: bool):
        self.time, self.price = events["time"].to_list(), events["price"].to_list()
        self.horizon, self.ties, self.smooth = horizon, ties, smooth

    def segment_end(self, i: int) -> int:
        for j in range(i + 1, len(self.time)):
            if self.time[j] - self.time[j - 1] > GAP_NS:
                return j
        return len(self.time)

    def known(self, i: int) -> tuple[int, int, Fraction] | None:
        """Index and time at which the later price is known, and that price."""
        for j in range(i + 1, self.segment_end(i)):
            duration_ns = parse_duration_ns(self.horizon)
            if duration_ns is not None:
                if self.time[j] > self.time[i] + duration_ns:
                    return j, self.time[i] + duration_ns, Fraction(self.price[j - 1])
            elif self.horizon == "move":
                if self.price[j] != self.price[i]:
                    return j, self.time[j], Fraction(self.price[j])
            elif j == i + int(self.horizon):
                later = self.price[i + 1 : j + 1] if self.smooth else [self.price[j]]
                mean = sum(map(Fraction, later)) / len(later)
                return j, self.time[j], mean
        return None

    def label(self, i: int) -> tuple[int, int, int, bool]:
        known = self.known(i)
        if known is None:
            return MISSING, len(self.time), NEVER_NS, False
        at, ns, later = known
        now = Fraction(self.price[i])
        skipped = self.ties == "skip" and later == now
        return MISSING if skipped else int(later > now), at, ns, later == now


def on_a_binary_grid(events: pl.DataFrame) -> pl.DataFrame:
    """Prices of whole eighths, whose means of 1, 2 and 4 are exact in floating point."""
    return events.with_columns(price=(pl.col("price") * 8).round() / 8)


@quick
@given(seeds, st.sampled_from(HORIZONS), ties)
def test_labels_equal_brute_force(seed: int, horizon: str, ties: str) -> None:
    events = random_events(seed)
    labels = make_labels(events, LabelOptions((horizon,), ties), GAP_NS)
    slow = Slow(events, horizon, ties, smooth=False)
    expected = [slow.label(i) for i in range(len(events))]
    computed = (labels.y_NH, labels.known_at_NH, labels.known_ns_NH, labels.tie_NH)
    for values, column in zip(computed, zip(*expected, strict=True), strict=True):
        assert values[:, 0].tolist() == list(column)


@quick
@given(seeds, st.sampled_from(["1", "2", "4"]), ties)
def test_smooth_labels_equal_brute_force(seed: int, horizon: str, ties: str) -> None:
    events = on_a_binary_grid(random_events(seed))
    labels = make_labels(events, LabelOptions((horizon,), ties, smooth=True), GAP_NS)
    slow = Slow(events, horizon, ties, smooth=True)
    expected = [slow.label(i) for i in range(len(events))]
    computed = (labels.y_NH, labels.known_at_NH, labels.known_ns_NH, labels.tie_NH)
    for values, column in zip(computed, zip(*expected, strict=True), strict=True):
        assert values[:, 0].tolist() == list(column)


def test_smooth_labels_see_no_rise_where_the_price_stays() -> None:
    # Decimal prices far from the first one: sums over all of history would round differently.
    rng = np.random.default_rng(1)
    price = np.repeat(100 + 0.1 * rng.integers(-500, 500, 300), 20)
    events = random_events(1, gaps=0)[:1].select(pl.all().repeat_by(len(price)).explode())
    events = events.with_columns(price=price, time=np.arange(len(price)) * S_NS)
    labels = make_labels(events, LabelOptions(("3",), smooth=True), GAP_NS)
    stays = np.arange(len(price)) % 20 < 17
    inside = labels.known_at_NH[:, 0] < len(price)
    assert labels.tie_NH[stays & inside, 0].all()
    assert (labels.y_NH[stays & inside, 0] == 0).all()


def test_smooth_labels_take_a_mean_that_equals_the_price_for_a_tie() -> None:
    # One up, one down: 100.3 - 100.2 and 100.1 - 100.2 do not quite cancel in floating point.
    events = random_events(1, gaps=0)[:3].with_columns(
        price=pl.Series([100.2, 100.3, 100.1]), time=pl.Series([0, S_NS, 2 * S_NS])
    )
    labels = make_labels(events, LabelOptions(("2",), smooth=True), GAP_NS)
    assert labels.tie_NH[0, 0]
    assert labels.y_NH[0, 0] == 0


@few
@given(seeds, st.sampled_from([*HORIZONS, "3"]), ties, st.booleans())
def test_a_label_is_known_at_the_first_event_that_decides_it(
    seed: int, horizon: str, ties: str, smooth: bool
) -> None:
    """Recompute on the ticks up to each event j: missing before `known_at`, equal from then on."""
    options = LabelOptions((horizon,), ties, smooth and horizon.isdigit())
    events = random_events(seed, n=80)
    whole = make_labels(events, options, GAP_NS)
    y, known_at = whole.y_NH[:, 0], whole.known_at_NH[:, 0]
    assert (known_at < len(events)).any()
    for j in range(len(events)):
        part = make_labels(events[: j + 1], options, GAP_NS)
        is_known = known_at[: j + 1] <= j
        # A tie that is skipped is known, too, though its label is missing.
        np.testing.assert_array_equal(part.known_at_NH[:, 0] <= j, is_known)
        np.testing.assert_array_equal(part.y_NH[:, 0], np.where(is_known, y[: j + 1], MISSING))


@few
@given(seeds)
def test_no_label_is_missing_but_for_gaps_the_end_and_skipped_ties(seed: int) -> None:
    events = random_events(seed)
    down = make_labels(events, LabelOptions(HORIZONS), GAP_NS)
    np.testing.assert_array_equal(down.y_NH == MISSING, down.known_at_NH == len(events))
    skip = make_labels(events, LabelOptions(HORIZONS, "skip"), GAP_NS)
    np.testing.assert_array_equal(skip.y_NH == MISSING, (down.y_NH == MISSING) | down.tie_NH)
    assert down.tie_NH[:, 0].any()
    assert not down.tie_NH[:, HORIZONS.index("move")].any()


@few
@given(seeds)
def test_several_horizons_are_the_single_ones_side_by_side(seed: int) -> None:
    events = random_events(seed)
    together = make_labels(events, LabelOptions(HORIZONS), GAP_NS)
    assert together.names == ("rise@1", "rise@10", "rise@5s", "rise@move")
    for h, horizon in enumerate(HORIZONS):
        alone = make_labels(events, LabelOptions((horizon,)), GAP_NS)
        np.testing.assert_array_equal(together.y_NH[:, h], alone.y_NH[:, 0])
        np.testing.assert_array_equal(together.known_ns_NH[:, h], alone.known_ns_NH[:, 0])


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("n", [1, 2])
def test_a_market_shorter_than_its_horizon_has_no_label(horizon: str, n: int) -> None:
    events = random_events(1)[:n].with_columns(price=pl.lit(5.0), time=pl.lit(S_NS, pl.Int64))
    labels = make_labels(events, LabelOptions((horizon,)), GAP_NS)
    missing = n - 1 if horizon == "1" else 0
    assert (labels.y_NH[missing:] == MISSING).all()
    assert labels.y_NH.shape == (n, 1)
