"""Features: one code path, no peeking, no units, and the numbers of an independent reference."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.markets import (
    FINITE_TAMPERINGS,
    GAP_NS,
    S_NS,
    SIDES,
    TAMPERINGS,
    few,
    quick,
    random_events,
    random_ticks,
    seeds,
    simulated_ticks,
    tampered,
    tiny_spec,
)
from nexttick.prepare.events import merge_events
from nexttick.prepare.features import AVERAGED, EVENT, FIXED, FeatureSpec, compute_features, update
from nexttick.ticks.gaps import segment_starts

SPEC = tiny_spec()
LONG = 0.5 ** (1 / 1000)
cuts = st.lists(st.integers(0, 100), max_size=6)


def as_columns(x_NF: np.ndarray, spec: FeatureSpec = SPEC) -> dict[str, np.ndarray]:
    return dict(zip(spec.names, x_NF.T, strict=True))


def squash(x: float) -> float:
    return x / (1 + abs(x) / 4)


def weighted(values: list[float], weights: np.ndarray) -> float:
    return float(np.dot(values, weights) / weights.sum())


class Reference:
    """The features of the last event of one segment, each from its definition, in float64."""

    def __init__(self, events: pl.DataFrame):
        columns = {name: events[name].to_list() for name in EVENT}
        self.time, self.amount, self.count = columns["time"], columns["amount"], columns["count"]
        self.first, self.vwap = columns["first"], columns["vwap"]
        self.log_price = [math.log(price) for price in columns["price"]]
        self.change = [0.0, *np.diff(self.log_price).tolist()]
        self.pause = [0.0, *(np.diff(self.time) / S_NS).tolist()]
        self.log_pause = [math.log(max(pause, 0.001)) for pause in self.pause]
        self.log_amount = [math.log(amount) for amount in self.amount]
        self.taker = [side or self.last_move(i) for i, side in enumerate(columns["side"])]

    def last_move(self, i: int) -> float:
        moves = [np.sign(change) for change in self.change[: i + 1] if change != 0]
        return moves[-1] if moves else 0.0

    def usual_volatility(self, i: int) -> float:
        weights = LONG ** np.arange(i)[::-1]
        squares = float(np.dot(np.square(self.change[:i]), weights))
        return math.sqrt((squares + 1e-8) / (weights.sum() + 1))

    def usual(self, values: list[float], i: int) -> float:
        return weighted(values[:i], LONG ** np.arange(i)[::-1]) if i else values[i]

    def last_price_of(self, side: float, i: int) -> float:
        taken = [self.log_price[j] for j in range(i + 1) if np.sign(self.taker[j]) == side]
        return taken[-1] if taken else self.log_price[0]

    def fixed(self, i: int) -> dict[str, float]:
        vol, price = self.usual_volatility(i), self.log_price[i]
        moved = [j for j in range(i + 1) if self.change[j] != 0]
        more = self.log_amount[i] - self.usual(self.log_amount, i)
        return {
            "return": squash(self.change[i] / vol),
            "direction": np.sign(self.change[i]),
            "last_move": self.last_move(i),
            "since_move": math.log(1 + (i - moved[-1] if moved else i + 1)),
            "side": self.taker[i],
            "signed_amount": self.taker[i] * math.log(1 + math.exp(more)),
            "amount": squash(more),
            "pause": squash(self.log_pause[i] - self.usual(self.log_pause, i)),
            "count": math.log(self.count[i]),
            "sweep": squash((price - math.log(self.first[i])) / vol),
            "vwap": squash((math.log(self.vwap[i]) - price) / vol),
            "buyer": squash((self.last_price_of(1, i) - price) / vol),
            "seller": squash((self.last_price_of(-1, i) - price) / vol),
        }

    def averaged(self, i: int, weights: np.ndarray, timed: bool) -> dict[str, float]:
        vol, now = self.usual_volatility(i), slice(0, i + 1)
        taker, amount = np.array(self.taker[now]), np.array(self.amount[now])
        squares = np.dot(np.square(self.change[now]), weights) / vol**2
        below = self.log_price[i] - weighted(self.log_price[now], weights)
        usual_log_pause = self.usual(self.log_pause, i)
        return {
            "flow": np.dot(taker * amount, weights) / np.dot(amount, weights),
            "side_flow": np.dot(taker, weights) / weights.sum(),
            "volatility": 0.5 * math.log((squares + 1) / (weights.sum() + 1)),
            "trend": squash(below / vol),
            "rate": math.log(weights.sum())
            if timed
            else weighted(self.log_pause[now], weights) - usual_log_pause,
        }

    def row(self, i: int, spec: FeatureSpec) -> dict[str, float]:
        row = self.fixed(i)
        age_events = i - np.arange(i + 1)
        age_s = (self.time[i] - np.array(self.time[: i + 1])) / S_NS
        spans = [(h, f"{h:g}", age_events) for h in spec.half_lives_events]
        spans += [(h, f"{h:g}s", age_s) for h in spec.half_lives_s]
        for half_life, span, age in spans:
            means = self.averaged(i, 0.5 ** (age / half_life), span.endswith("s"))
            row |= {f"{name}_{span}": value for name, value in means.items()}
        return row


@few
@given(seeds, st.sampled_from(SIDES))
def test_features_agree_with_an_independent_reference(seed: int, sides: str) -> None:
    events = random_events(seed, sides=sides)
    starts = segment_starts(events["time"].to_numpy(), GAP_NS)
    rows = []
    for start, stop in zip(starts, [*starts[1:], len(events)], strict=True):
        reference = Reference(events[int(start) : int(stop)])
        rows += [reference.row(i, SPEC) for i in range(stop - start)]
    computed = as_columns(compute_features(events, SPEC))
    assert set(rows[0]) == set(computed)
    for name, values in computed.items():
        expected = [row[name] for row in rows]
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_names_match_columns() -> None:
    spec = FeatureSpec(GAP_NS, (2.0, 0.5), (20.0,))
    assert compute_features(random_events(1), spec).shape[1] == len(spec.names)
    assert spec.names[: len(FIXED)] == FIXED
    assert spec.names[len(FIXED) : len(FIXED) + len(AVERAGED)] == (
        *("flow_2", "side_flow_2", "volatility_2", "trend_2", "rate_2"),
    )
    assert spec.names[-1] == "rate_20s"
    assert len(set(spec.names)) == len(spec.names)


def test_a_spec_may_do_without_averages() -> None:
    spec = FeatureSpec(GAP_NS, (), ())
    assert spec.names == FIXED
    full = compute_features(random_events(1), SPEC)
    np.testing.assert_array_equal(compute_features(random_events(1), spec), full[:, : len(FIXED)])


# One code path


@quick
@given(seeds, cuts)
def test_a_file_in_chunks_gives_the_same_bits(seed: int, cuts: list[int]) -> None:
    events = random_events(seed)
    state = SPEC.initial_state()
    bounds = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    chunks = [compute_features(events[a:b], SPEC, state) for a, b in pairwise(bounds)]
    np.testing.assert_array_equal(np.concatenate(chunks), compute_features(events, SPEC))


@few
@given(seeds)
def test_event_by_event_gives_the_same_bits(seed: int) -> None:
    events = random_events(seed)
    state, out = SPEC.initial_state(), np.empty(len(SPEC.names), np.float32)
    expected = compute_features(events, SPEC)
    for event, row in zip(events.select(EVENT).iter_rows(), expected, strict=True):
        update(state, event, out, SPEC.constants())
        np.testing.assert_array_equal(out, row)


# No peeking


@pytest.mark.parametrize("how", TAMPERINGS)
@few
@given(seeds, st.integers(1, 40))
def test_the_future_moves_no_feature(how: str, seed: int, start: int) -> None:
    events = random_events(seed)
    before = compute_features(events, SPEC)
    after = compute_features(tampered(events, start, how, seed), SPEC)
    np.testing.assert_array_equal(before[:start], after[:start])
    assert not np.array_equal(before[start:], after[start:], equal_nan=True)


@few
@given(seeds, st.integers(1, 40))
def test_features_of_cut_off_ticks_are_those_of_all(seed: int, stop: int) -> None:
    events = random_events(seed)
    whole, part = (compute_features(some, SPEC) for some in (events, events[:stop]))
    np.testing.assert_array_equal(whole[:stop], part)


def test_the_truth_of_a_simulated_market_never_enters() -> None:
    events = merge_events(simulated_ticks(500))
    lied = events.with_columns(truth=1 - pl.col("truth"))
    assert not lied["truth"].equals(events["truth"])
    expected = compute_features(events.drop("truth"), SPEC)
    for some in (events, lied):
        np.testing.assert_array_equal(compute_features(some, SPEC), expected)


# Gaps


@quick
@given(seeds)
def test_after_a_gap_nothing_is_remembered(seed: int) -> None:
    events = random_events(seed, gaps=3)
    starts = segment_starts(events["time"].to_numpy(), GAP_NS)
    pieces = [
        compute_features(events[int(a) : int(b)], SPEC)
        for a, b in zip(starts, [*starts[1:], len(events)], strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate(pieces), compute_features(events, SPEC))


@quick
@given(
    max_gap_ns=st.integers(10**6, 10**15),
    first_ns=st.integers(0, 2 * 10**18),
    longer_ns=st.integers(-1, 1),
)
def test_features_and_segments_agree_to_the_nanosecond_where_a_gap_is(
    max_gap_ns: int, first_ns: int, longer_ns: int
) -> None:
    events = random_events(1)[:2].with_columns(
        time=pl.Series([first_ns, first_ns + max_gap_ns + longer_ns]),
        price=pl.Series([100.0, 200.0]),
    )
    starts = segment_starts(events["time"].to_numpy(), max_gap_ns)
    direction = compute_features(events, FeatureSpec(max_gap_ns))[:, FIXED.index("direction")]
    assert (direction[1] == 0) == (len(starts) == 2) == (longer_ns == 1)


# Ranges and units


@quick
@given(seeds, st.sampled_from(SIDES))
def test_features_are_finite_and_bounded(seed: int, sides: str) -> None:
    x_NF = compute_features(random_events(seed, sides=sides), SPEC)
    assert np.isfinite(x_NF).all()
    assert np.abs(x_NF).max() < 25
    bounded = as_columns(x_NF)
    for name in ("return", "amount", "pause", "sweep", "vwap", "buyer", "seller", "trend_2"):
        assert np.abs(bounded[name]).max() <= 4
    for name in ("direction", "last_move", "side"):
        assert set(bounded[name]) <= {-1.0, 0.0, 1.0}
    for name in ("flow_2", "flow_10s", "side_flow_16"):
        assert np.abs(bounded[name]).max() <= 1 + 1e-6


@quick
@given(seeds)
def test_wild_values_give_finite_and_bounded_features(seed: int) -> None:
    events = random_events(seed)
    rng = np.random.default_rng(seed)
    wild = 10.0 ** rng.integers(-12, 13, (2, len(events)))
    price = events["price"].to_numpy() * wild[0]
    events = events.with_columns(
        price=price, first=price[::-1], vwap=price, amount=events["amount"].to_numpy() * wild[1]
    )
    x_NF = compute_features(events, SPEC)
    assert np.isfinite(x_NF).all()
    assert np.abs(x_NF).max() < 50


@quick
@given(seeds, st.sampled_from([1e-3, 7.0, 1000.0]), st.sampled_from([1e-6, 7.0, 1e6]))
def test_units_of_price_and_amount_do_not_matter(seed: int, price: float, amount: float) -> None:
    events = random_events(seed)
    prices = [pl.col(name) * price for name in ("first", "price", "vwap")]
    others = events.with_columns(*prices, pl.col("amount") * amount)
    np.testing.assert_allclose(
        compute_features(others, SPEC), compute_features(events, SPEC), rtol=1e-4, atol=1e-4
    )


def test_a_still_market_is_finite() -> None:
    events = random_events(3, gaps=0).with_columns(
        price=pl.lit(5.0), first=pl.lit(5.0), vwap=pl.lit(5.0), amount=pl.lit(1.0)
    )
    columns = as_columns(compute_features(events, SPEC))
    for name in ("return", "direction", "sweep", "vwap", "buyer", "seller", "trend_2", "amount"):
        assert (columns[name] == 0).all()
    assert np.isfinite(columns["volatility_2"]).all()


# The tick rule


def test_where_no_side_is_told_the_last_move_stands_for_it() -> None:
    prices = [10.0, 10.0, 11.0, 11.0, 10.5, 10.5]
    n = len(prices)
    events = merge_events(
        pl.DataFrame(
            {
                "time": np.arange(n) * S_NS,
                "price": prices,
                "amount": np.ones(n),
                "side": np.array([0, 0, 0, 0, 0, 1], np.int8),
            }
        )
    )
    columns = as_columns(compute_features(events, SPEC))
    assert columns["side"].tolist() == [0, 0, 1, 1, -1, 1]
    assert columns["last_move"].tolist() == [0, 0, 1, 1, -1, -1]
    # The buyer paid 11 when the seller then got 10.5, and 10.5 himself at the end.
    assert columns["buyer"][4] > 0
    assert columns["seller"][3] < 0
    assert columns["buyer"][5] == columns["seller"][5] == 0


def test_told_sides_are_taken_as_they_are() -> None:
    events = random_events(4, sides="known")
    assert as_columns(compute_features(events, SPEC))["side"].tolist() == events["side"].to_list()


@pytest.mark.parametrize("how", FINITE_TAMPERINGS)
def test_tampering_in_these_tests_spares_the_past(how: str) -> None:
    ticks = random_ticks(5)
    other = tampered(ticks, 50, how)
    assert other[:50].equals(ticks[:50])
    assert not other[50:].equals(ticks[50:])
    assert other["time"].is_sorted()
    assert other.schema == ticks.schema
