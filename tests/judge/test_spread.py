"""Spreads estimated from markets whose spread is known, and mids that are the true ones."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given

from helpers.markets import GAP_NS, quick, random_events, seeds
from nexttick.judge.costs.spread import (
    estimate_spread,
    log_mids,
    roll_spread_bps,
    sides_spread_bps,
    taker_sides,
)
from nexttick.prepare.events import merge_events
from nexttick.ticks.gaps import segment_starts
from nexttick.ticks.simulated import SimulatedMarket, simulate

ALONE = np.array([0])


@cache
def bounce(signal: float = 0.0) -> pl.DataFrame:
    """A simulated market; its spread is one tick size of 0.5 at a price near 50,000: 0.1 bps."""
    return merge_events(simulate(SimulatedMarket(100_000, 3, signal=signal)))


def columns(events: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return events["price"].to_numpy(), events["side"].to_numpy()


def true_bps(events: pl.DataFrame) -> float:
    return 0.5 / events["price"].mean() * 1e4  # type: ignore[operator]


def test_both_estimates_find_the_spread_of_a_market_that_only_bounces() -> None:
    price, side = columns(bounce())
    assert sides_spread_bps(price, side, ALONE) == pytest.approx(true_bps(bounce()), rel=0.01)
    assert roll_spread_bps(price, ALONE) == pytest.approx(true_bps(bounce()), rel=0.02)


def test_orders_that_move_the_mid_widen_the_estimate_and_never_narrow_it() -> None:
    price, side = columns(bounce(signal=1.0))
    told = sides_spread_bps(price, side, ALONE) / true_bps(bounce(signal=1.0))
    assert told == pytest.approx(1.36, abs=0.02)  # 1 + MOVE_SHARE · IMPACT


def test_the_sides_spread_is_the_mean_distance_at_changes_of_side() -> None:
    price = np.array([101.0, 102.0, 100.0, 99.0, 101.5])
    side = np.array([1, 1, -1, -1, 1], np.int8)
    expected = (math.log(102 / 100) + math.log(101.5 / 99)) / 2 * 1e4
    assert sides_spread_bps(price, side, ALONE) == pytest.approx(expected)
    assert sides_spread_bps(price, side, np.array([0, 4])) == pytest.approx(
        math.log(102 / 100) * 1e4
    )
    assert math.isnan(sides_spread_bps(price, np.abs(side), ALONE))
    assert math.isnan(sides_spread_bps(price[:1], side[:1], ALONE))


def test_rolls_spread_is_the_root_of_the_covariance_within_segments() -> None:
    price = np.exp(np.array([0.0, 0.01, 0.0, 0.01, 5.0, 5.01, 5.0]))
    now, before = np.array([-0.01, 0.01, -0.01]), np.array([0.01, -0.01, 0.01])
    covariance = np.mean((now - now.mean()) * (before - before.mean()))
    expected = 2e4 * math.sqrt(-covariance)
    assert roll_spread_bps(price, np.array([0, 4])) == pytest.approx(expected)
    assert roll_spread_bps(price, ALONE) != pytest.approx(expected)


def test_roll_says_nothing_of_prices_that_run_or_are_too_few() -> None:
    running = np.exp(np.cumsum(np.repeat([0.01, -0.01], 20)))
    assert math.isnan(roll_spread_bps(running, ALONE))
    assert math.isnan(roll_spread_bps(running[:2], ALONE))


def test_the_venues_sides_are_preferred_to_rolls_rule() -> None:
    events = bounce()
    price, side = columns(events)
    assert estimate_spread(events, ALONE) == (sides_spread_bps(price, side, ALONE), "sides")
    unknown = events.with_columns(side=pl.lit(0, pl.Int8))
    assert estimate_spread(unknown, ALONE) == (roll_spread_bps(price, ALONE), "Roll 1984")


def test_where_no_spread_can_be_estimated_one_is_asked_for() -> None:
    running = pl.DataFrame({"price": np.exp(np.arange(9) ** 2 / 100), "side": np.zeros(9, np.int8)})
    with pytest.raises(ValueError, match=r"these 9 events.*give one in basis points"):
        estimate_spread(running, ALONE)


def test_mids_are_those_of_the_market() -> None:
    events = bounce(signal=1.0)
    price, side = columns(events)
    mid = price - side * 0.25
    told = log_mids(price, side, ALONE, true_bps(events))
    # The spread is fixed in units of price, not in basis points; the price moves by a per cent.
    np.testing.assert_allclose(told, np.log(mid), atol=2e-7)
    assert np.abs(np.log(price) - np.log(mid)).min() > 4e-6


@quick
@given(seeds)
def test_unknown_sides_follow_the_last_price_change_of_the_segment(seed: int) -> None:
    events = random_events(seed)
    starts = segment_starts(events["time"].to_numpy(), GAP_NS)
    price, side = columns(events)
    told = taker_sides(price, side, starts)
    for i in range(len(price)):
        start = max(s for s in starts if s <= i)
        changes = [np.sign(price[k] - price[k - 1]) for k in range(start + 1, i + 1)]
        moves = [change for change in changes if change != 0]
        assert told[i] == (side[i] or (moves[-1] if moves else 0))
