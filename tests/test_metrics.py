"""Scores pinned to scikit-learn, and an interval that covers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from markets import quick, seeds
from nexttick.metrics import Comparison, auc, compare, log_losses, mcc, score


def random_scores(seed: int, n: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n).astype(np.int8)
    y[:2] = 0, 1
    p = np.clip(rng.beta(2, 2, n) + 0.2 * (y - 0.5), 0.01, 0.99)
    return y, np.round(p, 1) if ties else p.astype(np.float32)


@quick
@given(seeds, st.integers(2, 300), st.booleans())
def test_scores_equal_those_of_scikit_learn(seed: int, n: int, ties: bool) -> None:
    y, p = random_scores(seed, n, ties)
    said = p > 0.5
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
    }
    computed = score(y, p, base_log_loss=0.7)
    assert computed.keys() == expected.keys()
    for name, value in expected.items():
        assert computed[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


@quick
@given(seeds, st.integers(2, 300))
def test_the_auc_is_the_share_of_pairs_in_order_with_ties_half(seed: int, n: int) -> None:
    y, p = random_scores(seed, n, ties=True)
    rises, others = p[y == 1], p[y == 0]
    pairs = np.sign(rises[:, None] - others[None, :])
    assert auc(y, p) == pytest.approx((1 + pairs.mean()) / 2)


def test_scores_of_one_class_are_undefined_and_never_fail() -> None:
    y, p = np.zeros(5, np.int8), np.linspace(0.1, 0.9, 5)
    assert math.isnan(auc(y, p))
    assert math.isnan(auc(1 - y, p))
    assert mcc(y, p > 0.5) == 0
    assert math.isnan(score(y, p, 0.5)["auc"])


def test_a_sure_and_wrong_answer_costs_16_nats() -> None:
    loss = log_losses(np.array([1, 0, 1]), np.array([0.0, 1.0, 1.0]))
    np.testing.assert_allclose(loss[:2], -math.log(1e-7))
    assert 16 < loss[0] < 16.2
    assert loss[2] < 1e-6


def test_the_mcc_of_millions_does_not_overflow() -> None:
    y = np.tile(np.array([0, 1], np.int8), 2_000_000)
    assert mcc(y, y == 1) == pytest.approx(1)
    assert mcc(y, y == 0) == pytest.approx(-1)


def test_the_base_rate_itself_gains_no_bits() -> None:
    y, _ = random_scores(1, 100, ties=False)
    p = np.full(100, 0.3)
    base = float(log_losses(y, p).mean())
    assert score(y, p, base)["bits"] == 0


# The comparison


def equals(seed: int, n: int, memory: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers that last, and two forecasters that are equally good and equally bad."""
    rng = np.random.default_rng(seed)
    turns = rng.random(n) < (1 - memory) / 2
    y = ((rng.integers(2) + np.cumsum(turns)) % 2).astype(np.int8)
    return y, np.full(n, 0.6), np.full(n, 0.4)


def covered_zero(memory: float, times: int, **options: int) -> int:
    comparisons = [compare("other", *equals(s, 5000, memory), **options) for s in range(times)]
    return sum(abs(one.bits) <= one.margin for one in comparisons)


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_the_interval_covers_zero_between_equals_nineteen_times_in_twenty(memory: float) -> None:
    # 190 expected of 200, with a standard deviation of 3.
    assert 175 <= covered_zero(memory, 200) <= 199


def test_single_events_for_blocks_would_cover_far_less() -> None:
    assert covered_zero(0.8, 40, blocks=5000) < 30


def test_the_interval_covers_a_true_gain() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        truth = rng.choice([0.3, 0.6], 2000)
        y = (rng.random(2000) < truth).astype(np.int8)
        gain = np.mean(
            [t * math.log2(t / 0.45) + (1 - t) * math.log2((1 - t) / 0.55) for t in (0.3, 0.6)]
        )
        comparison = compare("base_rate", y, truth, np.full(2000, 0.45))
        covered += abs(comparison.bits - gain) <= comparison.margin
    assert 175 <= covered <= 199


def test_alike_neighbours_widen_the_interval() -> None:
    # Each event counted ten times in a row says no more than counted once.
    y, p, q = equals(1, 1000, 0.0)
    once = compare("other", y, p, q)
    tenfold = compare("other", *(np.repeat(part, 10) for part in (y, p, q)))
    assert tenfold.bits == pytest.approx(once.bits)
    assert tenfold.margin == pytest.approx(once.margin, rel=0.05)


def test_bits_are_the_mean_difference_of_log_losses() -> None:
    y, p = random_scores(1, 500, ties=False)
    comparison = compare("flat", y, p, np.full(500, 0.5))
    expected = (math.log(2) - log_losses(y, p).mean()) / math.log(2)
    assert comparison.bits == pytest.approx(expected)
    assert comparison.baseline == "flat"


@pytest.mark.parametrize(
    ("bits", "verdict"),
    [
        (0.2, "more"),
        (-0.2, "less"),
        (0.1, "no surely different"),
        (-0.05, "no surely different"),
        (0.0, "no surely different"),
    ],
)
def test_the_verdict_says_whether_the_interval_excludes_zero(bits: float, verdict: str) -> None:
    assert Comparison("logistic", bits, 0.1).verdict == verdict


def test_one_event_decides_nothing() -> None:
    comparison = compare("base_rate", np.array([1]), np.array([0.9]), np.array([0.1]))
    assert comparison.margin == math.inf
    assert comparison.verdict == "no surely different"
