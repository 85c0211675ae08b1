"""All scores of all contestants: resamples equal to slow ones, intervals that cover, pairs."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from sklearn import metrics as sk

from nexttick.scores.bootstrap import Estimate, Resampler
from nexttick.scores.intervals import Evaluation, bits_over, evaluate
from nexttick.scores.metrics import log_losses


@cache
def contest(n: int = 400) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Outcomes that remember, and three forecasters, one in single precision."""
    rng = np.random.default_rng(8)
    mood = np.convolve(rng.normal(size=n), 0.7 ** np.arange(30))[:n]
    truth = 1 / (1 + np.exp(0.8 - mood))
    y = (rng.random(n) < truth).astype(np.int8)
    sign = np.where(y == 1, 1, rng.integers(-1, 1, n)).astype(np.int8)
    noisy = np.clip(truth + 0.2 * rng.normal(size=n), 0.02, 0.98)
    p_by = {
        "network": truth.astype(np.float32),
        "table": np.round(noisy, 1).clip(0.1, 0.9),
        "base_rate": np.full(n, 0.35),
    }
    return y, sign, p_by


@cache
def evaluated() -> Evaluation:
    y, sign, p_by = contest()
    return evaluate(y, p_by, sign=sign, resamples=40, seed=3)


def rows_of(resampler: Resampler, r: int) -> np.ndarray:
    """The events of a resample, block after block."""
    times = resampler.weights_RB[r].astype(int)
    blocks = np.split(np.arange(resampler.bounds[-1]), resampler.bounds[1:-1])
    return np.concatenate([block for block, k in zip(blocks, times, strict=True) for _ in range(k)])


def slow_scores(y: np.ndarray, p: np.ndarray, base: np.ndarray) -> dict[str, float]:
    said = p > 0.5
    loss = sk.log_loss(y, p, labels=[0, 1])
    return {
        "base_rate": y.mean(),
        "log_loss": loss,
        "bits": (sk.log_loss(y, base, labels=[0, 1]) - loss) / math.log(2),
        "brier": sk.brier_score_loss(y, p),
        "mcc": sk.matthews_corrcoef(y, said),
        "accuracy": sk.accuracy_score(y, said),
        "precision": sk.precision_score(y, said, zero_division=np.nan),
        "npv": sk.precision_score(y, said, pos_label=0, zero_division=np.nan),
    }


def test_resampled_scores_are_those_of_resampled_events() -> None:
    told = evaluated()
    y, _, p_by = contest()
    base = p_by["base_rate"]
    for r in range(40):
        rows = rows_of(told.resampler, r)
        for name, p in p_by.items():
            expected = slow_scores(y[rows], p[rows].astype(np.float64), base[rows])
            resampled = {key: told.resampled[name][key][r] for key in expected}
            assert resampled == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)


def test_resampled_aucs_are_those_of_resampled_events() -> None:
    told = evaluated()
    y, sign, p_by = contest()
    for r in range(40):
        rows = rows_of(told.resampler, r)
        for key, part in (("auc", rows), ("auc_moves", rows[sign[rows] >= 0])):
            for name, tolerance in (("network", 0.005), ("table", 1e-6), ("base_rate", 1e-6)):
                expected = sk.roc_auc_score(y[part], p_by[name][part])
                assert told.resampled[name][key][r] == pytest.approx(expected, abs=tolerance)


def test_intervals_are_expanded_percentiles_of_the_resamples() -> None:
    told = evaluated()
    B = told.resampler.blocks
    # Student's t of 0.975 with B - 1 degrees of freedom, by Cornish & Fisher.
    z, v = 1.959964, B - 1
    t = z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    tail = 0.5 * math.erfc(t * math.sqrt(B / (B - 1)) / math.sqrt(2))
    for key in ("log_loss", "auc", "mcc", "bits"):
        low, high = np.quantile(told.resampled["network"][key], [tail, 1 - tail])
        one = told.intervals("network")[key]
        assert one.value == told.scores["network"][key]
        assert (one.low, one.high) == pytest.approx((low, high), rel=1e-4)


def test_differences_are_paired() -> None:
    told = evaluated()
    difference = told.differences("network", "table")["log_loss"]
    one, other = told.intervals("network")["log_loss"], told.intervals("table")["log_loss"]
    assert difference.value == pytest.approx(one.value - other.value)
    unpaired = math.hypot(one.high - one.low, other.high - other.low)
    assert difference.high - difference.low < 0.8 * unpaired
    reverse = told.differences("table", "network")["log_loss"]
    assert reverse == pytest.approx(Estimate(-difference[0], -difference[2], -difference[1]))
    bits = told.differences("network", "table")["bits"].value
    assert bits == pytest.approx(-difference.value / math.log(2))


def test_a_contestant_does_not_differ_from_itself() -> None:
    for one in evaluated().differences("table", "table").values():
        assert one == (0, 0, 0) or all(map(math.isnan, one))


def test_the_base_rate_gains_nothing_over_itself() -> None:
    told = evaluated().intervals("base_rate")
    assert told["bits"] == told["bits_moves"] == told["bits_direction"] == (0, 0, 0)
    assert told["auc"] == pytest.approx((0.5, 0.5, 0.5))


def test_the_same_seed_gives_the_same_intervals_and_another_one_others() -> None:
    y, sign, p_by = contest()
    again = evaluate(y, p_by, sign=sign, resamples=40, seed=3)
    assert again.intervals("network") == evaluated().intervals("network")
    other = evaluate(y, p_by, sign=sign, resamples=40, seed=4).intervals("network")["auc"]
    assert other.low != evaluated().intervals("network")["auc"].low


def test_a_score_that_is_not_defined_has_no_interval() -> None:
    y, _, p_by = contest()
    told = evaluate(y, p_by, sign=np.where(y == 1, 1, -1), threshold=0.0, resamples=40)
    network = told.intervals("network")
    assert all(map(math.isnan, network["npv"]))
    assert all(map(math.isnan, network["auc_moves"]))
    assert network["auc_direction"] == pytest.approx(network["auc"])


def test_a_score_that_many_resamples_lack_has_a_value_and_no_interval() -> None:
    y = np.zeros(200, np.int8)
    y[7] = 1  # a third of the resamples have no rise
    told = evaluate(y, {"p": np.linspace(0.1, 0.4, 200)}, base="p").intervals("p")
    assert math.isfinite(told["auc"].value)
    assert math.isnan(told["auc"].low)
    assert math.isnan(told["auc"].high)


def test_one_event_has_scores_and_no_interval() -> None:
    told = evaluate(np.array([1]), {"p": np.array([0.8])}, base="p").intervals("p")
    assert told["log_loss"].value == pytest.approx(-math.log(0.8))
    assert all(math.isnan(one.low) and math.isnan(one.high) for one in told.values())


def test_what_cannot_be_evaluated_is_refused() -> None:
    y, _, p_by = contest()
    with pytest.raises(ValueError, match=r"no contestant 'logistic'.*network, table"):
        evaluate(y, p_by, base="logistic")
    with pytest.raises(ValueError, match="no event"):
        evaluate(y[:0], {"base_rate": np.zeros(0)})
    with pytest.raises(ValueError, match="no probability"):
        evaluate(y, {"base_rate": np.full(len(y), 1.5)})
    with pytest.raises(ValueError, match="400 labels, 3 probabilities"):
        evaluate(y, {"base_rate": np.full(3, 0.5)})


def test_threads_change_nothing() -> None:
    y, sign, p_by = contest()
    shared = evaluate(y, p_by, sign=sign, resamples=40, seed=3, threads=2)
    for name in ("network", "table"):
        assert shared.intervals(name) == evaluated().intervals(name)


def test_columns_of_a_table_are_taken_as_they_are() -> None:
    y, sign, p_by = contest()
    table = np.stack(list(p_by.values()), axis=1)
    columns = {name: table[:, k] for k, name in enumerate(p_by)}
    told = evaluate(y, columns, sign=sign, resamples=40, seed=3)
    assert told.intervals("table") == evaluated().intervals("table")


# Coverage


def test_the_calibration_error_of_who_is_calibrated_covers_zero() -> None:
    covered = reliable = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        p = rng.uniform(0.1, 0.6, 3000)
        y = (rng.random(3000) < p).astype(np.int8)
        told = evaluate(y, {"truth": p}, base="truth", resamples=200).intervals("truth")
        assert told["ece"].low < told["ece"].value < told["ece"].high < 0.1
        covered += told["ece"].low == 0
        reliable += told["reliability"].low == 0
    assert 90 <= covered <= 99
    assert reliable >= 90


def test_the_calibration_error_of_who_is_off_by_a_known_amount_is_covered() -> None:
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = rng.uniform(0.2, 0.6, 3000)
        y = (rng.random(3000) < truth).astype(np.int8)
        told = evaluate(y, {"off": truth + 0.1}, base="off", resamples=300).intervals("off")
        covered += told["ece"].low <= 0.1 <= told["ece"].high
    assert covered >= 53


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_the_difference_of_equals_covers_zero(memory: float) -> None:
    """Outcomes that last, and two forecasters that are equally good: 95 of 100 are expected."""
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        turns = rng.random(3000) < (1 - memory) / 2
        y = ((rng.integers(2) + np.cumsum(turns)) % 2).astype(np.int8)
        p_by = {"yes": np.full(3000, 0.6), "no": np.full(3000, 0.4)}
        told = evaluate(y, p_by, base="no", resamples=200, seed=seed).differences("yes", "no")
        covered += told["log_loss"].low <= 0 <= told["log_loss"].high
    assert 89 <= covered <= 100


# Bits over another forecaster


def equals(seed: int, n: int, memory: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers that last, and two forecasters that are equally good and equally bad."""
    rng = np.random.default_rng(seed)
    turns = rng.random(n) < (1 - memory) / 2
    y = ((rng.integers(2) + np.cumsum(turns)) % 2).astype(np.int8)
    return y, np.full(n, 0.6), np.full(n, 0.4)


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_the_interval_covers_zero_between_equals_nineteen_times_in_twenty(memory: float) -> None:
    # 190 expected of 200, with a standard deviation of 3.
    estimates = [bits_over(*equals(seed, 5000, memory)) for seed in range(200)]
    assert 175 <= sum(one.low <= 0 <= one.high for one in estimates) <= 199


def test_blocks_of_single_events_would_cover_far_less() -> None:
    single = Resampler.fit([np.random.default_rng(0).normal(size=200)])  # asks for blocks of one
    covered = 0
    for seed in range(40):
        y, p, other = equals(seed, 200, 0.8)
        told = single.mean(log_losses(y, other) - log_losses(y, p))
        covered += told.low <= 0 <= told.high
    assert covered < 30


def test_the_interval_covers_a_true_gain() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        truth = rng.choice([0.3, 0.6], 2000)
        y = (rng.random(2000) < truth).astype(np.int8)
        gain = np.mean(
            [t * math.log2(t / 0.45) + (1 - t) * math.log2((1 - t) / 0.55) for t in (0.3, 0.6)]
        )
        told = bits_over(y, truth, np.full(2000, 0.45))
        covered += told.low <= gain <= told.high
    assert 175 <= covered <= 199


def test_alike_neighbours_widen_the_interval() -> None:
    # Each event counted ten times in a row says no more than counted once.
    y, p, other = equals(1, 1000, 0.0)
    once = bits_over(y, p, other)
    tenfold = bits_over(*(np.repeat(part, 10) for part in (y, p, other)))
    assert tenfold.value == pytest.approx(once.value)
    assert tenfold.margin == pytest.approx(once.margin, rel=0.05)


def test_bits_are_the_mean_difference_of_log_losses() -> None:
    y, _, p_by = contest()
    told = bits_over(y, p_by["network"], np.full(len(y), 0.5))
    expected = (math.log(2) - log_losses(y, p_by["network"]).mean()) / math.log(2)
    assert told.value == pytest.approx(expected)


def test_bits_over_another_are_those_of_the_whole_evaluation() -> None:
    y, _, p_by = contest()
    told = bits_over(y, p_by["table"], p_by["base_rate"])
    difference = evaluate(y, p_by).differences("table", "base_rate")["bits"]
    assert told.value == pytest.approx(difference.value, abs=1e-6)
    assert told.margin == pytest.approx(difference.margin, rel=0.3)


def test_one_event_decides_nothing() -> None:
    told = bits_over(np.array([1]), np.array([0.9]), np.array([0.1]))
    assert told.value > 0
    assert math.isnan(told.low)
    assert math.isnan(told.high)
