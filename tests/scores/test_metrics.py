"""Scores pinned to scikit-learn, sums over blocks, and an interval that covers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from helpers.markets import quick, seeds
from nexttick.scores.metrics import auc, log_losses, score, scores_of
from nexttick.scores.tally import BINS, Losses, Outcomes, equal_mass_edges, ranking, tally


def random_scores(seed: int, n: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n).astype(np.int8)
    y[:2] = 0, 1
    p = np.clip(rng.beta(2, 2, n) + 0.2 * (y - 0.5), 0.01, 0.99)
    return y, np.round(p, 1) if ties else p.astype(np.float32)


def random_signs(y: np.ndarray, seed: int) -> np.ndarray:
    """Signs that y comes from: some non-rises are falls, some ties, at least one of each."""
    others = np.random.default_rng(seed).integers(-1, 1, len(y))
    sign = np.where(y == 1, 1, others).astype(np.int8)
    sign[np.flatnonzero(y == 0)[:2]] = -1, 0
    return sign


@quick
@given(seeds, st.integers(2, 300), st.booleans(), st.sampled_from([0.3, 0.5, 0.6]))
def test_scores_equal_those_of_scikit_learn(
    seed: int, n: int, ties: bool, threshold: float
) -> None:
    y, p = random_scores(seed, n, ties)
    said = p.astype(np.float64) > threshold
    p_sure = np.clip(p.astype(np.float64), 1e-7, 1 - 1e-7)
    expected = {
        "n": n,
        "base_rate": y.mean(),
        "log_loss": sk.log_loss(y, p_sure, labels=[0, 1]),
        "bits": (0.7 - sk.log_loss(y, p_sure, labels=[0, 1])) / math.log(2),
        "auc": sk.roc_auc_score(y, p),
        "mcc": sk.matthews_corrcoef(y, said),
        "brier": sk.brier_score_loss(y, p.astype(np.float64)),
        "accuracy": sk.accuracy_score(y, said),
        "precision": sk.precision_score(y, said, zero_division=np.nan),
        "npv": sk.precision_score(y, said, pos_label=0, zero_division=np.nan),
    }
    computed = score(y, p, base_log_loss=0.7, threshold=threshold)
    parts = {"reliability", "resolution", "uncertainty", "ece"}
    assert computed.keys() == expected.keys() | parts
    for name, value in expected.items():
        assert computed[name] == pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True), name


@quick
@given(seeds, st.integers(1, 20))
def test_the_calibration_error_is_that_of_scikit_learns_curve(seed: int, times: int) -> None:
    n = BINS * times  # so that all bins are equally full, and scikit-learn's edges part the same
    y, _ = random_scores(seed, n, ties=False)
    p = np.random.default_rng(seed).permutation(n) / n
    rate, mean = calibration_curve(y, p, n_bins=BINS, strategy="quantile")
    told = score(y, p, 0.7)
    assert told["ece"] == pytest.approx(np.abs(rate - mean).mean(), abs=1e-6)
    assert told["reliability"] == pytest.approx(((rate - mean) ** 2).mean(), abs=1e-6)


@quick
@given(seeds, st.integers(2, 300), st.booleans())
def test_the_parts_of_the_brier_score_are_those_of_their_papers(
    seed: int, n: int, ties: bool
) -> None:
    """Murphy 1973, equation 10, and Stephenson et al. 2008, equations 5 to 7."""
    y, p = random_scores(seed, n, ties)
    p = p.astype(np.float64)
    k_N = np.searchsorted(equal_mass_edges(p, BINS), p, side="right")
    bins = [(p[k_N == k], y[k_N == k]) for k in np.unique(k_N)]
    reliability = sum(len(f) * (f.mean() - o.mean()) ** 2 for f, o in bins) / n
    resolution = sum(len(f) * (o.mean() - y.mean()) ** 2 for f, o in bins) / n
    within_variance = sum(((f - f.mean()) ** 2).sum() for f, o in bins) / n
    within_covariance = 2 * sum(((o - o.mean()) * (f - f.mean())).sum() for f, o in bins) / n
    told = score(y, p, 0.7)
    assert told["reliability"] == pytest.approx(reliability, abs=1e-12)
    generalised = resolution - within_variance + within_covariance
    assert told["resolution"] == pytest.approx(generalised, abs=1e-12)
    assert told["uncertainty"] == pytest.approx(y.mean() * (1 - y.mean()))
    parts = told["reliability"] - told["resolution"] + told["uncertainty"]
    assert parts == pytest.approx(sk.brier_score_loss(y, p), rel=1e-12)


@quick
@given(seeds, st.integers(1, 1000), st.integers(1, 40), st.integers(1, 40))
def test_bins_are_equally_full_up_to_equal_values(
    seed: int, n: int, bins: int, values: int
) -> None:
    p = np.random.default_rng(seed).integers(0, values, n) / values
    edges = equal_mass_edges(p, bins)
    counts = np.bincount(np.searchsorted(edges, p, side="right"), minlength=len(edges) + 1)
    assert len(counts) == len(edges) + 1 <= bins
    assert counts.min() > 0
    if values == 1:
        assert len(edges) == 0
    distinct = np.random.default_rng(seed).permutation(n) / n
    counts = np.bincount(np.searchsorted(equal_mass_edges(distinct, bins), distinct, side="right"))
    assert counts.max() - counts.min() <= 1


@quick
@given(seeds, st.integers(2, 300))
def test_the_auc_is_the_share_of_pairs_in_order_with_ties_half(seed: int, n: int) -> None:
    y, p = random_scores(seed, n, ties=True)
    rises, others = p[y == 1], p[y == 0]
    pairs = np.sign(rises[:, None] - others[None, :])
    assert auc(y, p) == pytest.approx((1 + pairs.mean()) / 2)


def test_probabilities_from_zero_to_one_are_ranked_as_they_are() -> None:
    p = np.array([0.0, -0.0, 5e-324, 1e-300, 0.25, 0.5, np.nextafter(1, 0), 1.0])
    for values in (p, p.astype(np.float32)):
        ranked = ranking(values[::-1], np.zeros(len(p), np.int8))
        bits = ranked >> ranked.dtype.type(2)
        kind = np.float32 if values.dtype == np.float32 else np.float64
        assert (bits.view(kind) == values).all()


# Rises, falls, ties


@quick
@given(seeds, st.integers(5, 300), st.booleans())
def test_the_scores_of_moves_and_direction_are_those_of_parts_of_the_events(
    seed: int, n: int, equal: bool
) -> None:
    y, p = random_scores(seed, n, equal)
    y[:4] = 0, 0, 1, 1
    sign = random_signs(y, seed)
    told = score(y, p, 0.7, sign=sign)
    t = (sign == 0).sum() / (sign <= 0).sum()
    p = np.clip(p.astype(np.float64), 1e-7, 1 - 1e-7)
    for name, part, left in (("moves", sign >= 0, t), ("direction", sign != 0, 1 - t)):
        assert told[f"auc_{name}"] == pytest.approx(sk.roc_auc_score(y[part], p[part]))
        narrowed = (p / (p + (1 - p) * left))[part]
        loss = sk.log_loss(y[part], narrowed, labels=[0, 1])
        assert told[f"log_loss_{name}"] == pytest.approx(loss, rel=1e-7)
    assert told["tie_rate"] == pytest.approx((sign == 0).mean())
    mean = t * told["auc_moves"] + (1 - t) * told["auc_direction"]
    assert mean == pytest.approx(told["auc"], rel=1e-12)


def test_signs_change_no_other_score() -> None:
    y, p = random_scores(3, 200, ties=False)
    plain, signed = score(y, p, 0.7), score(y, p, 0.7, sign=random_signs(y, 3))
    assert {name: signed[name] for name in plain} == pytest.approx(plain)


def test_who_knows_only_when_the_price_moves_knows_no_direction() -> None:
    rng = np.random.default_rng(4)
    moves = rng.random(20_000) < 0.5
    sign = np.where(moves, rng.choice([-1, 1], 20_000), 0).astype(np.int8)
    p = np.where(moves, 0.5, 1e-3)
    told = score((sign > 0).astype(np.int8), p, 0.7, sign=sign)
    assert told["auc_moves"] == 1
    assert told["auc_direction"] == pytest.approx(0.5, abs=0.01)


def test_scores_that_need_a_tie_or_a_fall_are_undefined_without_one() -> None:
    p = np.array([0.2, 0.4, 0.6])
    without_ties = score(np.array([0, 0, 1]), p, 0.7, sign=np.array([-1, -1, 1]))
    assert math.isnan(without_ties["auc_moves"])
    assert math.isnan(without_ties["log_loss_moves"])
    assert without_ties["auc_direction"] == without_ties["auc"] == 1
    assert without_ties["log_loss_direction"] == pytest.approx(without_ties["log_loss"], rel=1e-6)
    without_falls = score(np.array([0, 0, 1]), p, 0.7, sign=np.array([0, 0, 1]))
    assert math.isnan(without_falls["auc_direction"])
    assert math.isnan(without_falls["log_loss_direction"])
    assert without_falls["auc_moves"] == 1


# Where scores end


def test_scores_of_one_class_are_undefined_and_never_fail() -> None:
    y, p = np.zeros(5, np.int8), np.linspace(0.1, 0.9, 5)
    assert math.isnan(auc(y, p))
    assert math.isnan(auc(1 - y, p))
    told = score(y, p, 0.5, sign=y)
    assert {name for name, value in told.items() if math.isnan(value)} == {
        "auc",
        "auc_moves",
        "auc_direction",
        "log_loss_moves",
        "log_loss_direction",
    }
    assert told["mcc"] == 0


def test_answers_that_were_never_given_have_no_predictive_value() -> None:
    y, p = np.array([0, 1, 1]), np.array([0.1, 0.2, 0.3])
    always, never = score(y, p, 0.5, threshold=0.0), score(y, p, 0.5, threshold=1.0)
    assert always["precision"] == pytest.approx(2 / 3)
    assert math.isnan(always["npv"])
    assert never["npv"] == pytest.approx(1 / 3)
    assert math.isnan(never["precision"])
    assert always["mcc"] == never["mcc"] == 0


def test_a_sure_and_wrong_answer_costs_16_nats() -> None:
    y, p = np.array([1, 0, 1]), np.array([0.0, 1.0, 1.0])
    loss = log_losses(y, p)
    np.testing.assert_allclose(loss[:2], -math.log(1e-7))
    assert 16 < loss[0] < 16.2
    assert loss[2] < 1e-6
    many = np.tile(y, 1000), np.tile(p, 1000)  # no product of likelihoods underflows
    told = score(*many, 0.7, sign=np.tile([1, -1, 1], 1000))
    assert told["log_loss"] == pytest.approx(loss.mean())
    assert math.isfinite(told["log_loss_direction"])


def test_the_mcc_of_millions_does_not_overflow() -> None:
    y = np.tile(np.array([0, 1], np.int8), 2_000_000)
    assert score(y, y.astype(np.float32), 0.7)["mcc"] == pytest.approx(1)
    assert score(y, 1 - y.astype(np.float32), 0.7)["mcc"] == pytest.approx(-1)


def test_the_base_rate_itself_gains_no_bits() -> None:
    y, _ = random_scores(1, 100, ties=False)
    p = np.full(100, 0.3)
    base = float(log_losses(y, p).mean())
    told = score(y, p, base)
    assert told["bits"] == pytest.approx(0, abs=1e-15)
    assert told["resolution"] == pytest.approx(0, abs=1e-15)
    assert told["ece"] == pytest.approx(abs(y.mean() - 0.3))


@pytest.mark.parametrize(
    ("y", "p", "sign", "message"),
    [
        ([], [], None, "no event"),
        ([0, 1], [0.5], None, "2 labels, 1 probabilities"),
        ([0, 1], [0.5, 1.5], None, r"event 1: 1.5 is no probability"),
        ([0, 1], [-0.1, 0.5], None, r"event 0: -0.1 is no probability"),
        ([0, 1], [0.5, math.nan], None, r"event 1: nan is no probability"),
        ([0, 1], [0.5, 0.5], [1, 0], "y and sign disagree"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    y: list[int], p: list[float], sign: list[int] | None, message: str
) -> None:
    signs = None if sign is None else np.array(sign)
    with pytest.raises(ValueError, match=message):
        score(np.array(y), np.array(p), 0.5, sign=signs)


# Sums over blocks


@quick
@given(seeds, st.integers(20, 300), st.booleans())
def test_weighted_sums_of_blocks_give_the_scores_of_repeated_events(
    seed: int, n: int, single: bool
) -> None:
    y, p = random_scores(seed, n, ties=True)
    p = p.astype(np.float32) if single else p
    sign = random_signs(y, seed)
    bounds = np.array([0, n // 3, n // 2, n])
    weights = np.array([[1, 1, 1], [2, 0, 3], [1, 4, 2]])
    t = (sign == 0).sum() / (sign <= 0).sum()
    told = scores_of(tally(Outcomes.of(y, sign), p, bounds), weights.astype(np.float64))
    k_N = np.searchsorted(equal_mass_edges(p, BINS), p, side="right")
    for r, times in enumerate(weights):
        rows = np.repeat(np.arange(n), np.repeat(times, np.diff(bounds)))
        end = np.array([0, len(rows)])
        outcomes = replace(Outcomes.of(y[rows], sign[rows]), tie_share=t)
        whole = tally(outcomes, p[rows], end)
        expected = {name: value[0] for name, value in scores_of(whole, np.ones((1, 1))).items()}
        del expected["ece_error"]
        in_bin = [rows[k_N[rows] == k] for k in np.unique(k_N[rows])]
        expected["ece"] = sum(abs((p[k] - y[k]).sum(dtype=float)) for k in in_bin) / len(rows)
        off = [(p[k] - y[k]).mean(dtype=float) ** 2 * len(k) for k in in_bin]
        expected["reliability"] = sum(off) / len(rows)
        rate = y[rows].mean()
        expected["resolution"] = expected["reliability"] + rate * (1 - rate) - expected["brier"]
        for name, value in expected.items():
            if not name.startswith("auc"):  # nearly so, see below
                assert told[name][r] == pytest.approx(value, abs=1e-7, nan_ok=True), name


def test_single_precision_weights_lose_nothing_that_shows() -> None:
    y, p = random_scores(5, 20_000, ties=False)
    told = tally(Outcomes.of(y, random_signs(y, 5)), p, np.arange(0, 20_001, 100))
    weights = np.random.default_rng(0).integers(0, 4, (5, 200))
    exact = scores_of(told, weights.astype(np.float64))
    for name, values in scores_of(told, weights.astype(np.float32)).items():
        np.testing.assert_allclose(values, exact[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_resampled_aucs_differ_from_exact_ones_by_little() -> None:
    y, p = random_scores(6, 20_000, ties=False)
    bounds = np.arange(0, 20_001, 100)
    weights = np.random.default_rng(0).integers(0, 4, (20, 200))
    resampled = scores_of(tally(Outcomes.of(y), p, bounds), weights.astype(np.float64))["auc"]
    exact = [sk.roc_auc_score(y, p, sample_weight=np.repeat(times, 100)) for times in weights]
    spread = np.std(exact)
    assert np.abs(resampled - exact).max() < spread / 10
    assert scores_of(tally(Outcomes.of(y), p, bounds), np.ones((1, 200)))["auc"][
        0
    ] == pytest.approx(sk.roc_auc_score(y, p), rel=1e-12)


@quick
@given(seeds, st.integers(1, 200), st.integers(1, 40))
def test_means_of_losses_are_means_of_log_losses(seed: int, n: int, group: int) -> None:
    y, p = random_scores(seed, max(n, 2), ties=False)
    group = min(group, len(y))
    whole = len(y) // group * group
    expected = log_losses(y, p)[:whole].reshape(-1, group).mean(axis=1)
    told = Losses.of(Outcomes.of(y), p, np.arange(0, whole + 1, group))
    np.testing.assert_allclose(told.means(), expected, rtol=1e-12)


def test_outcomes_are_falls_ties_and_rises() -> None:
    y = np.array([0, 0, 0, 1])
    told = Outcomes.of(y, np.array([-3, 0, -1, 2]))
    assert told.of_N.tolist() == [0, 1, 0, 2]
    assert (told.tie_share, told.signed) == (1 / 3, True)
    assert Outcomes.of(y).of_N.tolist() == [0, 0, 0, 2]
    assert not Outcomes.of(y).signed
