"""The placebo: it keeps what it should, its truth is true, and nobody knows more."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from helpers.markets import SIDES, few, quick, random_ticks, seeds, simulated_ticks, tiny_recipe
from nexttick.learn.baselines import fit_on_training
from nexttick.learn.baselines.base import Seen
from nexttick.learn.baselines.tables import LastMoves
from nexttick.prepare.dataset import prepare_ticks
from nexttick.prepare.events import merge_events
from nexttick.scores.intervals import bits_over
from nexttick.ticks.placebo import Bounce, Placebo, make_placebo, measure_bounce
from nexttick.ticks.reading.read import read_ticks
from nexttick.ticks.record import TickError
from nexttick.ticks.simulated import SimulatedMarket, simulate

sides = st.sampled_from(SIDES)
BOUNCES = (
    Bounce(0, spread=1, step=1, same_side=0.7, moves=0.4),
    Bounce(2, spread=5, step=2, same_side=0.6, moves=0.8),
    Bounce(1, spread=2, step=7, same_side=0.3, moves=0.5),
    Bounce(0, spread=3, step=1, same_side=0.9, moves=1.0),
    Bounce(0, spread=1, step=1, same_side=1.0, moves=0.0),
)
FILES = (
    "lecture/bitstampUSD_2018-08.csv.gz",
    "bitflyer/bitflyer.execution.20180121.BTC_JPY.csv.gz",
    "bitcoincharts/okcoinUSD.csv.gz",
    "bitcoincharts/krakenCAD.csv.gz",
    "bitcoincharts/coinfalconEUR.csv.gz",
    "dialects/bitmarketEUR.csv.gz",
    "dialects/nautilus_btcusdt-trades.parquet",
    "dialects/mtgoxUSD_newest_first.csv",
)


def placebo_of(ticks: pl.DataFrame, seed: int = 0, *, raw_ticks: bool = False) -> Placebo:
    return make_placebo(ticks, merge_events(ticks, raw_ticks=raw_ticks), seed)


def stays(values: np.ndarray) -> float:
    return float((values[1:] == values[:-1]).mean())


# what is kept


@quick
@given(seeds, sides, st.booleans())
def test_amounts_counts_and_times_are_the_users_own(seed: int, told: str, raw: bool) -> None:
    ticks = random_ticks(seed, sides=told)
    events = merge_events(ticks, raw_ticks=raw)
    placebo = placebo_of(ticks, raw_ticks=raw)
    again = merge_events(placebo.ticks, raw_ticks=raw)
    kept = ["amount", "count"]
    assert_frame_equal(again[kept], events[kept])
    assert placebo.ticks["amount"].equals(ticks["amount"])
    moved_ns = again["time"].to_numpy() - events["time"].to_numpy()
    assert ((moved_ns >= 0) & (moved_ns < len(events))).all()
    distinct = np.diff(events["time"].to_numpy()) > 0
    if distinct.all():
        assert (moved_ns == 0).all()
    assert (np.diff(again["time"].to_numpy()) > 0).all()


@quick
@given(seeds, sides)
def test_sides_are_told_where_the_venue_tells_them(seed: int, told: str) -> None:
    ticks = random_ticks(seed, sides=told)
    events = merge_events(ticks)
    placebo = placebo_of(ticks)
    shown = merge_events(placebo.ticks)["side"].to_numpy()
    known = events["side"].to_numpy() != 0
    assert (shown[known] == placebo.side_N[known]).all()
    assert (shown[~known] == 0).all()
    assert set(placebo.side_N) <= {-1, 1}


@few
@given(seeds)
def test_the_path_hangs_on_its_seed_alone(seed: int) -> None:
    ticks = random_ticks(seed)
    assert_frame_equal(placebo_of(ticks, 3).ticks, placebo_of(ticks, 3).ticks)
    assert not placebo_of(ticks, 3).ticks.equals(placebo_of(ticks, 4).ticks)


def test_the_path_knows_nothing_of_the_users_times_and_amounts() -> None:
    ticks = simulated_ticks(2000)
    other = ticks.with_columns(amount=pl.col("amount") * 7, time=pl.col("time") * 2 - 10**9)
    assert placebo_of(ticks).ticks["price"].equals(placebo_of(other).ticks["price"])


# shares


@quick
@given(seeds, sides)
def test_as_many_prices_stay_as_in_the_market(seed: int, told: str) -> None:
    """In closed form: a price rises after a buyer as often as it falls after a seller."""
    events = merge_events(random_ticks(seed, 60, sides=told))
    bounce = measure_bounce(events)
    after_buyer, after_seller = bounce.truth(np.array([1, -1], np.int8), 1)
    assert 1 - after_buyer - after_seller == pytest.approx(stays(events["price"].to_numpy()))
    assert 0 <= bounce.moves <= 1


@pytest.mark.parametrize("told", SIDES)
def test_shares_of_a_long_placebo_are_those_of_the_market(told: str) -> None:
    ticks = random_ticks(1, 40_000, sides=told)
    check_shares(merge_events(ticks), placebo_of(ticks))


def check_shares(events: pl.DataFrame, placebo: Placebo) -> None:
    again = merge_events(placebo.ticks)
    price = again["price"].to_numpy()
    for share, seen in (
        (stays(events["price"].to_numpy()), stays(price)),
        (placebo.bounce.same_side, stays(placebo.side_N)),
    ):
        assert abs(seen - share) < 5 * np.sqrt(share * (1 - share) / len(price)) + 1e-9
    assert (price > 0).all()


def test_known_sides_give_the_share_of_same_sides() -> None:
    events = merge_events(random_ticks(2, 5000, sides="known"))
    assert measure_bounce(events).same_side == stays(events["side"].to_numpy())


def test_unknown_sides_are_those_of_the_tick_rule() -> None:
    price = np.array([5.0, 5, 6, 6, 5, 4, 4, 5])  # sides 0 0 + + - - - +
    assert measure_bounce(events_of(price)).same_side == pytest.approx(4 / 7)


def test_sides_that_do_not_move_the_price_give_way_to_the_tick_rule() -> None:
    """Sides that alternate while prices stay have no bounce, and no walk makes up for it."""
    price = np.repeat([5.0, 6, 5, 6, 7, 6, 5, 6], 5)
    side = np.tile(np.array([1, -1], np.int8), len(price) // 2)
    bounce = measure_bounce(events_of(price, side))
    assert bounce == measure_bounce(events_of(price))
    assert bounce.same_side > stays(side)


def events_of(price: np.ndarray, side: np.ndarray | int = 0) -> pl.DataFrame:
    n = len(price)
    ticks = pl.DataFrame({"time": 10**18 + np.arange(n) * 10**9, "price": price})
    return merge_events(
        ticks.with_columns(
            amount=pl.lit(1.0), side=pl.Series(np.broadcast_to(side, n), dtype=pl.Int8)
        )
    )


def test_spread_and_step_are_median_changes_in_tick_sizes() -> None:
    price = np.array([10.0, 10.3, 10.1, 10.1, 10.2, 10.5, 10.4])
    side = np.array([-1, 1, -1, -1, -1, 1, 1], np.int8)  # changes side: +.3 -.2 +.3; not: +.1 -.1
    bounce = measure_bounce(events_of(price, side))
    assert (bounce.decimals, bounce.spread, bounce.step) == (1, 3, 1)


def test_prices_may_stay_for_a_long_time() -> None:
    price = np.concatenate([np.full(3000, 7.0), 7 + 0.5 * (np.arange(3000) % 2), np.full(3000, 9)])
    events = events_of(price)
    check_shares(events, make_placebo(events.select("time", "amount"), events))


def test_a_price_that_never_changes_has_no_placebo() -> None:
    with pytest.raises(TickError, match="all 9 prices are 7"):
        measure_bounce(events_of(np.full(9, 7.0)))


@few
@given(seeds)
def test_prices_are_positive_where_the_users_nearly_fall_to_zero(seed: int) -> None:
    cheap = random_ticks(seed, 2000).with_columns(price=pl.col("price").rank("dense") * 1e-3)
    assert (placebo_of(cheap, seed).ticks["price"] > 0).all()


def test_prices_lie_on_the_lattice_of_the_market() -> None:
    prices = placebo_of(random_ticks(5, 3000)).ticks["price"].to_numpy()
    np.testing.assert_array_equal(np.round(prices, 1), prices)


# the truth


@pytest.mark.parametrize("horizon", [1, 2, 3])
@pytest.mark.parametrize("ties", ["down", "skip"])
@pytest.mark.parametrize("bounce", BOUNCES, ids=range(len(BOUNCES)))
def test_the_truth_equals_the_sum_over_all_paths(bounce: Bounce, ties: str, horizon: int) -> None:
    """Every path of sides and moves, one step after the other."""
    for side in (-1, 1):
        rise, stay = 0.0, 0.0
        for path in product(product((-1, 1), (-1, 0, 1)), repeat=horizon):
            p, change, now = 1.0, 0, side
            for then, move in path:
                p *= bounce.same_side if then == now else 1 - bounce.same_side
                p *= bounce.moves / 2 if move else 1 - bounce.moves
                change += move * bounce.step + (then - now) // 2 * bounce.spread
                now = then
            rise, stay = rise + p * (change > 0), stay + p * (change == 0)
        expected = rise if ties == "down" else rise / (1 - stay) if stay < 1 else 0.5
        told = bounce.truth(np.array([side], np.int8), horizon, ties)[0]
        assert told == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("horizon", [1, 2, 10])
@pytest.mark.parametrize("bounce", BOUNCES[:3], ids=range(3))
def test_the_truth_is_calibrated(bounce: Bounce, horizon: int) -> None:
    """Many short markets, drawn step by step."""
    rng, n = np.random.default_rng(horizon), 200_000
    first = rng.choice(np.array([-1, 1], np.int8), n)
    side, change = first.astype(np.int64), np.zeros(n, np.int64)
    for _ in range(horizon):
        then = np.where(rng.random(n) < bounce.same_side, side, -side)
        change += (then - side) // 2 * bounce.spread
        moves = rng.random(n) < bounce.moves
        change += moves * rng.choice([-1, 1], n) * bounce.step
        side = then
    for one in (-1, 1):
        truth = bounce.truth(np.array([one], np.int8), horizon)[0]
        rises = (change > 0)[first == one]
        assert abs(rises.mean() - truth) < 4.5 * np.sqrt(truth * (1 - truth) / len(rises))


def test_the_truth_of_the_next_event_goes_with_the_ticks() -> None:
    placebo = placebo_of(random_ticks(4, 500))
    events = merge_events(placebo.ticks)
    np.testing.assert_array_equal(events["truth"].to_numpy(), placebo.truth(1))


def test_a_far_horizon_is_a_coin_less_the_ties() -> None:
    bounce = BOUNCES[0]
    after_buyer, after_seller = bounce.truth(np.array([1, -1], np.int8), 20_000)
    assert after_buyer == pytest.approx(0.5, abs=0.01)
    assert after_buyer < after_seller  # the bounce is still there


@pytest.mark.parametrize("market", ["simulated", "random"])
def test_no_table_knows_more_than_the_truth(market: str) -> None:
    ticks = (
        simulate(SimulatedMarket(30_000, 1)).drop("truth")
        if market == "simulated"
        else random_ticks(3, 30_000, sides="unknown")
    )
    placebo = placebo_of(ticks)
    prepared = prepare_ticks(placebo.ticks, tiny_recipe())
    fitted = fit_on_training(prepared)
    for h, horizon in ((0, 1), (1, 5)):
        rows = np.arange(prepared.split.test, prepared.split.end)
        rows = rows[prepared.labels.y_NH[rows, h] >= 0]
        y, truth = prepared.labels.y_NH[rows, h], placebo.truth(horizon)[rows]
        table = fitted["last_moves"][h]
        assert isinstance(table, LastMoves)
        told = bits_over(y, table.predict(Seen.of(prepared, h), rows), truth)
        assert told.low < 0
        rate = bits_over(y, truth, np.full(len(rows), y.mean()))
        assert rate.low > 0  # the bounce is there, and worth knowing


@pytest.mark.real_ticks
@pytest.mark.parametrize("file", FILES)
def test_a_placebo_is_made_from_real_ticks(file: str, data_dir: Path) -> None:
    ticks, _ = read_ticks(data_dir / file)
    events = merge_events(ticks)
    placebo = make_placebo(ticks, events)
    check_shares(events, placebo)
    assert len(merge_events(placebo.ticks)) == len(events)
