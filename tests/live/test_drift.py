"""Drift: bins of training, the index against closed forms, and no alarm without a change."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from helpers.markets import quick, seeds, simulated_ticks, tampered, tiny_recipe, tiny_spec
from nexttick.learn.predictor.predictor import Predictor
from nexttick.learn.predictor.training_shares import BINS, TrainingShares, psi
from nexttick.learn.train import train_network
from nexttick.live.drift import Drift
from nexttick.prepare.dataset import prepare_ticks
from nexttick.prepare.events import merge_events
from nexttick.prepare.features import FeatureSpec, compute_features
from nexttick.ticks.simulated import SimulatedMarket, simulate

SPEC = FeatureSpec(10**18)

pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def features(ticks: int, seed: int = 5, signal: float = 1.0) -> NDArray[np.float32]:
    return compute_features(merge_events(simulate(SimulatedMarket(ticks, seed, signal))), SPEC)


@cache
def training_shares() -> TrainingShares:
    return TrainingShares.fit(features(200_000)[:120_000])


def same(one: TrainingShares, other: TrainingShares) -> bool:
    return one.to_json() == other.to_json()


# The index


def test_the_index_is_the_sum_of_its_definition() -> None:
    counts, shares = np.array([[20, 30, 50]]), np.array([[0.25, 0.25, 0.5]])
    a = (counts[0] + 0.5) / 101.5
    expected = sum((p - q) * np.log(p / q) for p, q in zip(a, shares[0], strict=True))
    assert psi(counts, shares)[0] == pytest.approx(expected, rel=1e-12)


def test_bins_that_a_feature_lacks_count_for_nothing() -> None:
    alone = psi(np.array([[3, 7]]), np.array([[0.5, 0.5]]))
    padded = psi(np.array([[3, 7, 0, 0]]), np.array([[0.5, 0.5, 0.0, 0.0]]))
    assert alone == padded
    assert psi(np.array([[9, 0]]), np.array([[1.0, 0.0]]))[0] == 0


def test_without_drift_the_index_is_what_chance_makes_of_it() -> None:
    rng = np.random.default_rng(0)
    told = []
    for _ in range(12):
        x_NF = rng.normal(size=(20_000, 30)).astype(np.float32)
        fitted = TrainingShares.fit(x_NF)
        told.append(fitted.psi_of_windows(rng.normal(size=(5_000, 30)).astype(np.float32)))
    assert fitted.window == 1_000
    assert fitted.chance_F == pytest.approx((BINS - 1) * (1 / 1_000 + 1 / 20_000))
    assert np.mean(told) == pytest.approx(fitted.chance_F[0], rel=0.05)


# Bins


def test_values_that_many_events_share_have_bins_of_their_own() -> None:
    sign = np.repeat([-1.0, 0.0, 1.0], [300, 500, 200])
    mostly_zero = np.concatenate([np.zeros(700), np.linspace(0.1, 1.0, 300)])
    one_value = np.full(1000, 3.0)
    spread = np.arange(1000.0)
    x_NF = np.stack([sign, mostly_zero, one_value, spread], axis=1).astype(np.float32)
    rng = np.random.default_rng(1)
    fitted = TrainingShares.fit(rng.permutation(x_NF))
    assert [len(one) for one in fitted.shares] == [3, 4, 1, BINS]
    assert fitted.shares[0].tolist() == [0.3, 0.5, 0.2]
    assert fitted.shares[1].tolist() == [0.7, 0.1, 0.1, 0.1]
    assert fitted.shares[2].tolist() == [1.0]
    assert fitted.shares[3].tolist() == [0.1] * BINS


@quick
@given(seeds)
def test_no_bin_is_too_small_to_count_in(seed: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = np.round(rng.standard_t(2, (500, 6)), int(rng.integers(0, 3)))
    fitted = TrainingShares.fit(coarse.astype(np.float32))
    for edges, shares in zip(fitted.edges, fitted.shares, strict=True):
        assert (np.diff(edges) > 0).all()
        assert len(shares) == len(edges) + 1
        assert shares.sum() == pytest.approx(1)
        assert shares.min() >= 0.25 / BINS


def test_a_reference_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no event to take training shares from"):
        TrainingShares.fit(np.empty((0, 3), np.float32))


# The window


@pytest.mark.parametrize("taken", [2500, 2501, 6007])
def test_the_window_holds_the_last_events(taken: int) -> None:
    x_NF = features(200_000)[:50_000]
    fitted = TrainingShares.fit(x_NF)
    drift = Drift(fitted, SPEC.names)
    assert fitted.window == 2500
    for x_F in x_NF[: taken - 1]:
        drift.take(x_F)
    assert (drift.psi() == {}) == (taken == 2500)
    drift.take(x_NF[taken - 1])
    told = drift.psi()
    assert tuple(told) == SPEC.names
    for f, name in enumerate(SPEC.names):
        edges, shares = fitted.edges[f], fitted.shares[f]
        bins = np.searchsorted(edges, x_NF[taken - 2500 : taken, f], side="right")
        counts = np.bincount(bins, minlength=len(shares))
        assert told[name] == pytest.approx(psi(counts[None], shares[None])[0], rel=1e-12)


@pytest.mark.parametrize("taken", [0, 1, 2499, 2500, 4000])
def test_a_window_that_is_taken_over_goes_on_as_if_nothing_had_been(taken: int) -> None:
    x_NF = features(200_000)[:50_000]
    fitted = TrainingShares.fit(x_NF)
    one, other = Drift(fitted, SPEC.names), Drift(fitted, SPEC.names)
    for x_F in x_NF[:taken]:
        one.take(x_F)
    other.load({name: array.copy() for name, array in one.state().items()})
    assert other.psi() == one.psi()
    for x_F in x_NF[taken : taken + 3000]:
        one.take(x_F)
        other.take(x_F)
    assert other.psi() == one.psi() != {}


def test_a_window_of_another_reference_is_refused() -> None:
    longer, shorter = (
        Drift(TrainingShares.fit(features(200_000)[:n]), SPEC.names) for n in (9000, 8000)
    )
    with pytest.raises(ValueError, match=r"a window of \(450, 48\) where \(400, 48\) is needed"):
        shorter.load(longer.state())


def watched(x_NF: NDArray[np.float32]) -> list[tuple[set[str], list[str]]]:
    """Features that have left training, and the warnings, at the end of each window."""
    drift, told = Drift(training_shares(), SPEC.names), []
    for i, x_F in enumerate(x_NF, 1):
        drift.take(x_F)
        if i % training_shares().window == 0:
            told.append((set(drift.left()), drift.warnings()))
    return told


def test_a_market_that_stays_as_it_was_is_not_warned_of() -> None:
    later = [*watched(features(200_000)[120_000:]), *watched(features(100_000, seed=6)[5_000:])]
    assert len(later) == 35
    assert sum(bool(words) for _, words in later) <= 1


def test_a_market_that_changes_is_warned_of_by_the_features_that_changed() -> None:
    for left, words in watched(features(30_000, signal=0.0)[5_000:]):
        assert {"return", "side_flow_8", "side_flow_32"} < left  # flow has lost its memory
        assert not {"amount", "pause", "rate_8"} & left  # its sizes and bursts are as they were
        assert re.search(
            r": side_flow_8 1\.\d\d \(there 0\.\d\d at most\), .* and \d+ more$", words[0]
        )


def test_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 names, 48 features"):
        Drift(training_shares(), ("a", "b"))


# In the predictor


def test_it_is_of_the_training_part_and_kept_to_the_last_bit(tmp_path: Path) -> None:
    recipe, ticks = tiny_recipe(epochs=1), simulated_ticks(1500).drop("truth")
    prepared = prepare_ticks(ticks, recipe)
    predictor = train_network(prepared, recipe)
    stop = prepared.split.train_stop
    assert predictor.training_shares is not None
    assert same(predictor.training_shares, TrainingShares.fit(prepared.features_NF[:stop]))
    later = train_network(prepare_ticks(tampered(ticks, stop, "noise"), recipe), recipe)
    assert later.training_shares is not None
    assert same(predictor.training_shares, later.training_shares)
    predictor.save(tmp_path / "predictor")
    read = Predictor.load(tmp_path / "predictor").training_shares
    assert read is not None
    assert same(predictor.training_shares, read)
    assert all(a.dtype == np.float32 for a in read.edges)
    pairs = zip(read.edges, predictor.training_shares.edges, strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_a_reference_that_does_not_fit_is_refused() -> None:
    told = TrainingShares.fit(features(200_000)[:1000]).to_json()
    assert told is not None
    told["shares"][3].pop()
    with pytest.raises(ValueError, match="edges, shares and limits do not fit"):
        TrainingShares.from_json(told)


def test_the_reference_is_kept_and_decides_no_prediction(tmp_path: Path) -> None:
    recipe = tiny_recipe(epochs=1)
    predictor = train_network(prepare_ticks(simulated_ticks(1500), recipe), recipe)
    predictor.save(tmp_path / "one")
    again, before = Predictor.load(tmp_path / "one"), predictor.fingerprint()
    assert again.fingerprint() == before
    assert again.training_shares is not None
    assert again.training_shares.to_json() == predictor.training_shares.to_json()
    assert len(again.training_shares.edges) == len(tiny_spec().names)
    again.training_shares = None
    assert again.fingerprint() == before
    next(again.model.parameters()).data += 1
    assert again.fingerprint() != before
