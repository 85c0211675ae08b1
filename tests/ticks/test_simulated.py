"""The simulated market: repeatable, calibrated, causal, and hard for linear models."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from nexttick.ticks import simulated as sim
from nexttick.ticks import simulated_walk as walk
from nexttick.ticks.record import SCHEMA
from nexttick.ticks.simulated import SimulatedMarket, simulate

COLUMNS = {**SCHEMA, "id": pl.Int64(), "truth": pl.Float64()}


@cache
def ticks_of(ticks: int, seed: int, signal: float = 1.0) -> pl.DataFrame:
    return simulate(SimulatedMarket(ticks, seed, signal))


def rises(ticks: pl.DataFrame) -> np.ndarray:
    return np.diff(ticks["price"].to_numpy()) > 0


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    return float(-np.mean(np.where(y, np.log(p), np.log1p(-p))))


def autocorrelation(x: np.ndarray, lag: int) -> float:
    return float(np.corrcoef(x[:-lag], x[lag:])[0, 1])


# What a run looks like


def test_schema_and_ranges() -> None:
    ticks = ticks_of(100_000, 1)
    assert dict(ticks.schema) == COLUMNS
    assert ticks.height == 100_000
    assert ticks.null_count().sum_horizontal().item() == 0
    assert ticks["time"].diff().drop_nulls().min() >= walk.LATENCY_NS  # type: ignore[operator]
    assert ticks["price"].min() > 0  # type: ignore[operator]
    assert ticks["amount"].min() > 0  # type: ignore[operator]
    assert set(ticks["side"].unique()) == {-1, 1}
    assert ticks["truth"].is_between(0, 1, closed="none").all()
    assert ticks["id"].to_list() == list(range(100_000))


def test_price_is_mid_plus_side_times_half_spread() -> None:
    market = SimulatedMarket(20_000, seed=3, tick_size=0.01, start_price=2000.0)
    ticks = simulate(market)
    mid = ticks["price"].to_numpy() - ticks["side"].to_numpy() * market.tick_size / 2
    moves = np.diff(mid) / market.tick_size
    np.testing.assert_allclose(moves, np.round(moves), atol=1e-6)
    assert set(np.round(moves)) == {-1, 0, 1}


def test_a_seed_repeats_to_the_byte_and_another_differs() -> None:
    one, again = (simulate(SimulatedMarket(5000, seed=7)) for _ in range(2))
    for name in COLUMNS:
        assert one[name].to_numpy().tobytes() == again[name].to_numpy().tobytes()
    other = ticks_of(5000, 8)
    assert not one["price"].equals(other["price"])
    assert not one["time"].equals(other["time"])


def test_a_longer_run_begins_with_the_shorter_one() -> None:
    assert ticks_of(20_000, 5).head(3000).equals(ticks_of(3000, 5))


def test_habits_of_real_ticks() -> None:
    ticks = ticks_of(300_000, 11)
    returns, side = np.diff(ticks["price"].to_numpy()), ticks["side"].to_numpy()
    log_pause = np.log(np.diff(ticks["time"].to_numpy()))
    assert 0.25 < np.mean(returns == 0) < 0.45
    assert autocorrelation(returns, 1) < -0.2  # bounce
    assert autocorrelation(side, 1) > 0.05  # flow that remembers, for long
    assert autocorrelation(side, 10) > 0.05
    assert autocorrelation(log_pause, 10) > 0.1  # bursts
    assert autocorrelation(returns**2, 2) > 0.05


@pytest.mark.parametrize("signal", [0.0, 1.0])
def test_statistics_stay_the_same_through_time(signal: float) -> None:
    parts = np.array_split(rises(ticks_of(1_000_000, 2, signal)), 5)
    assert np.ptp([part.mean() for part in parts]) < 0.01
    pauses = np.array_split(np.diff(ticks_of(1_000_000, 2, signal)["time"].to_numpy()) / 1e9, 5)
    assert np.ptp([np.log(part).mean() for part in pauses]) < 0.1


# The truth is true


@pytest.mark.parametrize("signal", [0.0, 0.4, 1.0])
def test_rises_are_as_frequent_as_truth_says(signal: float) -> None:
    ticks = ticks_of(1_000_000, 2, signal)
    truth, y = ticks["truth"].to_numpy()[:-1], rises(ticks)
    bins = np.unique(truth, return_inverse=True)[1] * 20 // np.unique(truth).size
    count = np.bincount(bins)
    hits, expected = np.bincount(bins, y), np.bincount(bins, truth)
    error = np.sqrt(np.bincount(bins, truth * (1 - truth)))
    z = ((hits - expected) / np.maximum(error, 1e-9))[count > 0]
    assert np.abs(z).max() < 4


def test_log_loss_is_the_entropy_of_truth() -> None:
    ticks = ticks_of(1_000_000, 2)
    truth, y = ticks["truth"].to_numpy()[:-1], rises(ticks)
    entropy = -(truth * np.log(truth) + (1 - truth) * np.log1p(-truth))
    surprise = np.where(y, -np.log(truth), -np.log1p(-truth)) - entropy
    assert abs(surprise.mean()) < 4 * surprise.std() / np.sqrt(y.size)


def test_recalibration_cannot_improve_truth() -> None:
    ticks = ticks_of(1_000_000, 2)
    truth, y = ticks["truth"].to_numpy()[:-1], rises(ticks)
    side = ticks["side"].to_numpy()[:-1]
    logit = np.log(truth) - np.log1p(-truth)
    x = np.stack([logit, logit**2, side, side * logit], axis=1)
    half = y.size // 2
    fitted = LogisticRegression(C=1e6).fit(x[:half], y[:half])
    recalibrated = log_loss(y[half:], fitted.predict_proba(x[half:])[:, 1])
    assert log_loss(y[half:], truth[half:]) < recalibrated + 2e-5


def truth_from_visible(ticks: pl.DataFrame, market: SimulatedMarket, i: int) -> float:
    """The closed form at tick i in other words: weighted sums instead of recursions."""
    seen = ticks.head(i + 1)
    side, amount = seen["side"].to_numpy().astype(float), seen["amount"].to_numpy()
    pause_s = np.diff(seen["time"].to_numpy()) / 1e9
    signed = side * (1 + walk.AMOUNT_WEIGHT * np.tanh(np.log(amount / market.typical_amount)))
    surprise = np.log(pause_s / market.typical_pause_s) + np.euler_gamma
    flow = (1 - walk.MEMORY) * signed @ walk.MEMORY ** np.arange(i, -1, -1.0)
    calm = walk.PAUSE_WEIGHT * surprise @ walk.MEMORY ** np.arange(i - 1, -1, -1.0)
    swing = np.tanh(flow / walk.FLOW_WIDTH) * np.tanh((walk.CALM_FROM - calm) / walk.CALM_WIDTH)
    buy = (1 + market.signal * walk.FLOW_SWING * swing) / 2
    with_order = walk.MOVE_SHARE * (1 + market.signal * walk.IMPACT) / 2
    against_order = walk.MOVE_SHARE - with_order
    if side[-1] > 0:  # only another buyer, a step higher, pays more than this one
        return float(buy * with_order)
    return float(buy * (1 - against_order) + (1 - buy) * against_order)


@pytest.mark.parametrize("signal", [0.3, 1.0])
def test_truth_follows_from_visible_ticks(signal: float) -> None:
    market = SimulatedMarket(
        1500, seed=4, signal=signal, typical_pause_s=0.2, typical_amount=3.0, tick_size=0.01
    )
    ticks = simulate(market)
    recomputed = [truth_from_visible(ticks, market, i) for i in range(ticks.height)]
    np.testing.assert_allclose(ticks["truth"].to_numpy(), recomputed, rtol=0, atol=1e-12)


def test_later_draws_change_nothing_before_them() -> None:
    market, n = SimulatedMarket(2000, seed=6), 1200
    draws = sim._draw(market)
    tampered = sim._Draws(*(np.r_[x[:n], x[n:][::-1]] for x in draws))
    one, other = sim._assemble(market, draws), sim._assemble(market, tampered)
    assert one.head(n).equals(other.head(n))
    assert not one.equals(other)


# How hard it is


def test_without_signal_only_the_side_tells() -> None:
    ticks = ticks_of(100_000, 9, 0.0)
    values = ticks.group_by("side").agg(pl.col("truth").unique()).sort("side")["truth"].to_list()
    assert values == [[pytest.approx(1 / 2)], [pytest.approx(walk.MOVE_SHARE / 4)]]
    assert abs(autocorrelation(ticks["side"].to_numpy(), 1)) < 0.015


def known_beyond_the_side(signal: float) -> float:
    ticks = ticks_of(100_000, 9, signal)
    y, truth, side = rises(ticks), ticks["truth"].to_numpy()[:-1], ticks["side"].to_numpy()[:-1]
    from_side = np.where(side > 0, y[side > 0].mean(), y[side < 0].mean())
    return log_loss(y, from_side) - log_loss(y, truth)


def test_more_signal_can_be_known_better() -> None:
    known = [known_beyond_the_side(signal) for signal in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert known == sorted(known)
    assert abs(known[0]) < 1e-4
    assert known[-1] > 0.1


def averages(x: np.ndarray) -> list[np.ndarray]:
    series = pl.Series(x)
    return [series.ewm_mean(half_life=h).to_numpy() for h in (1, 2, 4, 8, 32)]


def single_tick_features(ticks: pl.DataFrame) -> np.ndarray:
    price, side = ticks["price"].to_numpy(), ticks["side"].to_numpy().astype(float)
    change = np.diff(price, prepend=price[0])
    log_amount = np.log(ticks["amount"].to_numpy())
    log_pause = np.log(np.diff(ticks["time"].to_numpy(), prepend=ticks["time"][0] - 10**9))
    last_paid = [
        ticks.select(pl.when(side=taker).then("price").forward_fill().fill_null(price[0]))
        .to_series()
        .to_numpy()
        - price
        for taker in (-1, 1)
    ]
    memory = [*averages(side), *averages(log_pause), *averages(change), *averages(np.abs(change))]
    own = [change, np.sign(change), side, side * log_amount, log_amount, log_pause]
    return StandardScaler().fit_transform(np.stack([*own, *last_paid, *memory], axis=1))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_linear_model_gets_less_than_seven_tenths(seed: int) -> None:
    ticks = ticks_of(60_000, seed)
    x, y, truth = single_tick_features(ticks)[:-1], rises(ticks), ticks["truth"].to_numpy()[:-1]
    half = y.size // 2
    fitted = LogisticRegression(solver="newton-cholesky").fit(x[:half], y[:half])
    base = log_loss(y[half:], np.full(y.size - half, y[:half].mean()))
    linear = log_loss(y[half:], fitted.predict_proba(x[half:])[:, 1])
    share = (base - linear) / (base - log_loss(y[half:], truth[half:]))
    assert 0.3 < share < 0.65


# Bad parameters


def test_all_mistakes_are_reported_at_once_with_their_cure() -> None:
    with pytest.raises(ValueError, match="cannot be simulated") as caught:
        SimulatedMarket(
            ticks=1,
            seed=-1,
            signal=1.5,
            tick_size=0.0,
            start_price=float("nan"),
            typical_pause_s=0.0,
            typical_amount=-1.0,
            start_time_ns=0,
        )
    message = str(caught.value)
    for name in SimulatedMarket.__dataclass_fields__:
        assert f"{name}=" in message
    assert "signal=1.5: give a number from 0 to 1" in message
    assert "ticks=1: give a whole number from 2" in message


@pytest.mark.parametrize(
    ("bad", "cure"),
    [
        ({"ticks": 10.0}, "whole number"),
        ({"ticks": True}, "whole number"),
        ({"signal": "1"}, "a number from 0 to 1"),
        ({"start_price": 100.0}, "give at least 1000"),
        ({"start_time_ns": 2**63 - 10**9}, "start earlier"),
    ],
)
def test_a_mistake_names_its_cure(bad: dict[str, object], cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        SimulatedMarket(**{"ticks": 10_000, "seed": 0, **bad})  # type: ignore[arg-type]
