"""Intervals that cover, resamples equal to slow ones, and blocks of the length that papers ask."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given

from helpers.markets import few, seeds
from nexttick.scores.bootstrap import FEWEST, MOST, Resampler, optimal_block


def ar1(seed: int, n: int, phi: float) -> np.ndarray:
    """x[i] = phi x[i - 1] + noise, from 0."""
    noise = np.random.default_rng(seed).normal(size=n)
    x = np.zeros(n)
    for i in range(n):
        x[i] = phi * (x[i - 1] if i else 0.0) + noise[i]
    return x


# Blocks


@pytest.mark.parametrize(
    ("seed", "n", "phi", "expected"),
    [  # arch 8.0.0: arch.bootstrap.optimal_block_length(x)["stationary"]
        (1, 500, 0.0, 3.1897),
        (2, 1000, 0.5, 9.0066),
        (3, 5000, 0.9, 54.8226),
        (4, 2000, -0.6, 26.2393),
        (5, 300, 0.98, 27.2547),
    ],
)
def test_the_optimal_block_is_that_of_arch(seed: int, n: int, phi: float, expected: float) -> None:
    # arch counts the last lag of note by one more than the paper, which moves the result a little.
    assert optimal_block(ar1(seed, n, phi)) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("phi", [0.3, 0.7])
def test_the_optimal_block_is_on_average_that_of_theory(phi: float) -> None:
    n = 4000
    found = np.median([optimal_block(ar1(seed, n, phi)) for seed in range(30)])
    assert found == pytest.approx(((2 * phi / (1 - phi**2)) ** 2 * n) ** (1 / 3), rel=0.2)


@pytest.mark.parametrize("series", [np.ones(100), np.full(3, 0.1), np.arange(3.0), np.zeros(1)])
def test_a_series_that_tells_nothing_asks_for_single_events(series: np.ndarray) -> None:
    assert optimal_block(series) == 1


def test_there_are_neither_few_nor_too_many_blocks() -> None:
    noise, slow = ar1(1, 2000, 0.0), ar1(1, 2000, 0.99)
    alone = Resampler.fit([noise])
    assert alone.blocks == MOST
    assert alone.long_enough
    both = Resampler.fit([noise, slow])
    assert both.blocks == FEWEST
    assert not both.long_enough
    assert both.optimal == optimal_block(slow) > both.block == 66
    between = Resampler.fit([ar1(1, 2000, 0.7)])
    assert FEWEST < between.blocks < MOST
    assert between.optimal - 1 < between.block < between.optimal + 2


@few
@given(seeds)
def test_blocks_cover_all_events_once_and_are_drawn_as_often_as_there_are(seed: int) -> None:
    n = int(np.random.default_rng(seed).integers(1, 2000))
    told = Resampler.fit([np.random.default_rng(seed).normal(size=n)], resamples=50, seed=seed)
    lengths = np.diff(told.bounds)
    assert told.bounds[0] == 0
    assert told.bounds[-1] == n
    assert lengths.max() - lengths.min() <= 1
    assert (told.weights_RB.sum(axis=1) == told.blocks).all()
    assert (told.weights_RB >= 0).all()
    assert told.weights_RB.shape == (50, told.blocks)


def test_draws_are_those_of_a_multinomial() -> None:
    weights = Resampler.fit([np.random.default_rng(0).normal(size=40)], resamples=20_000).weights_RB
    B = weights.shape[1]
    assert weights.mean(axis=0) == pytest.approx(np.ones(B), abs=0.05)
    assert weights.var(axis=0) == pytest.approx(np.full(B, 1 - 1 / B), abs=0.06)


def test_grouped_means_ask_for_blocks_of_the_same_length() -> None:
    x = ar1(7, 40_000, 0.95)
    groups, grouped = np.arange(0, 40_001, 5), x.reshape(-1, 5).mean(axis=1)
    single, means = Resampler.fit([x]), Resampler.fit([grouped], bounds=groups)
    assert means.optimal == pytest.approx(single.optimal, rel=0.15)
    assert means.bounds[-1] == len(x)
    assert set(means.bounds) <= set(groups)


def test_nothing_to_resample_is_refused() -> None:
    for series in ([], [np.zeros(0)]):
        with pytest.raises(ValueError, match="nothing to resample"):
            Resampler.fit(series)


# Coverage


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_intervals_cover_the_true_mean_of_a_loss_that_remembers(phi: float) -> None:
    """190 of 200 are expected; a right method falls below 180 once in a thousand times."""
    covered = 0
    for seed in range(200):
        loss = 0.6 + ar1(seed, 2000, phi)
        told = Resampler.fit([loss], seed=seed).mean(loss)
        assert told.low < told.value < told.high
        covered += told.low <= 0.6 <= told.high
    assert 180 <= covered <= 198


def test_blocks_of_single_events_would_cover_far_less() -> None:
    covered = 0
    for seed in range(50):
        loss = ar1(seed, 200, 0.8)
        single = Resampler.fit([ar1(seed, 200, 0.0)])  # asks for blocks of one
        told = single.mean(loss)
        covered += told.low <= 0 <= told.high
    assert covered < 35


def test_few_blocks_widen_the_interval_as_students_t_does() -> None:
    """Of 40 independent values: mean ± t s / √n, with n - 1 degrees of freedom."""
    x = np.random.default_rng(3).normal(size=FEWEST)
    told = Resampler.fit([np.zeros(len(x))], resamples=100_000).mean(x)
    half = 2.0452 * x.std(ddof=1) / math.sqrt(len(x))
    assert (told.high - told.low) / 2 == pytest.approx(half, rel=0.02)
