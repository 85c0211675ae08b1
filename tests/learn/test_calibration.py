"""Calibration against scikit-learn, closed forms and markets whose miscalibration is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from helpers.markets import quick, seeds
from nexttick.learn.predictor.calibration import (
    CALIBRATIONS,
    Calibration,
    Isotonic,
    Platt,
    Temperature,
    Unchanged,
    fit_calibration,
    from_json,
    to_json,
)
from nexttick.scores.metrics import log_losses, score

GRID = np.concatenate([[0.0, 1e-12], np.linspace(0.001, 0.999, 500), [1 - 1e-12, 1.0]])
every_kind = pytest.mark.parametrize("kind", CALIBRATIONS)


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def off_by(slope: float, bias: float, seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes, and probabilities whose truth is sigmoid(slope · logit + bias)."""
    rng = np.random.default_rng(seed)
    p = sigmoid(rng.normal(-0.5, 0.8, n))
    return (rng.random(n) < sigmoid(slope * logit(p) + bias)).astype(np.int8), p


def smoothed(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Platt's soft targets as weighted pairs of hard ones."""
    rises, n = y.sum(), len(y)
    target = np.where(y == 1, (rises + 1) / (rises + 2), 1 / (n - rises + 2))
    return np.tile(p, 2), np.repeat([1, 0], n), np.concatenate([target, 1 - target])


# Fits


def test_temperature_finds_the_slope_that_was_planted() -> None:
    y, p = off_by(0.6, 0.0, 1, 100_000)
    assert Temperature.fit(y, p).slope == pytest.approx(0.6, abs=0.02)
    y, p = off_by(1.7, 0.0, 2, 100_000)
    assert Temperature.fit(y, p.astype(np.float32)).slope == pytest.approx(1.7, abs=0.03)


def test_platt_finds_slope_and_bias_that_were_planted() -> None:
    y, p = off_by(0.7, 0.4, 3, 100_000)
    fitted = Platt.fit(y, p)
    assert (fitted.slope, fitted.bias) == pytest.approx((0.7, 0.4), abs=0.03)


@quick
@given(seeds, st.integers(20, 400))
def test_platt_and_temperature_are_those_of_scikit_learn(seed: int, n: int) -> None:
    y, p = off_by(0.8, 0.1, seed, n)
    y[:2] = 0, 1
    p_2N, y_2N, weight_2N = smoothed(y, p)
    for kind, intercept in ((Platt, True), (Temperature, False)):
        model = LogisticRegression(C=1e12, fit_intercept=intercept, tol=1e-10, max_iter=10_000)
        model.fit(logit(p_2N)[:, None], y_2N, weight_2N)
        if model.coef_[0, 0] < 0.01:
            continue
        expected = model.predict_proba(logit(p)[:, None])[:, 1]
        np.testing.assert_allclose(kind.fit(y, p)(p), expected, atol=2e-5)


@quick
@given(seeds, st.integers(20, 400), st.booleans())
def test_isotonic_is_that_of_scikit_learn(seed: int, n: int, ties: bool) -> None:
    y, p = off_by(0.8, 0.1, seed, n)
    y[:2], p = (0, 1), np.round(p, 1) if ties else p
    imagined = np.append(p, [p.min(), p.max()]), np.append(y, [1, 0])
    expected = IsotonicRegression(out_of_bounds="clip").fit(*imagined).predict(GRID)
    np.testing.assert_allclose(Isotonic.fit(y, p)(GRID), expected, atol=1e-7)


@pytest.mark.parametrize("kind", ["temperature", "platt", "isotonic"])
def test_a_fit_gains_on_events_not_seen_where_probabilities_are_off(kind: str) -> None:
    y, p = off_by(0.5, 0.3, 4, 20_000)
    fitted = CALIBRATIONS[kind].fit(y[:10_000], p[:10_000])
    y, p = y[10_000:], p[10_000:]
    assert log_losses(y, fitted(p)).mean() < log_losses(y, p).mean() - 0.01
    assert score(y, fitted(p), 0.7)["ece"] < score(y, p, 0.7)["ece"] / 2


@every_kind
def test_a_fit_changes_little_where_probabilities_are_right(kind: str) -> None:
    y, p = off_by(1.0, 0.0, 5, 50_000)
    fitted = CALIBRATIONS[kind].fit(y, p)
    common = (GRID > 0.1) & (GRID < 0.7)
    assert np.abs(fitted(GRID) - GRID)[common].max() < 0.04


# What every calibration keeps


@quick
@given(seeds, st.integers(1, 300), st.sampled_from(sorted(CALIBRATIONS)), st.booleans())
def test_curves_never_fall_and_never_leave_the_open_interval(
    seed: int, n: int, kind: str, wrong: bool
) -> None:
    y, p = off_by(-1.0 if wrong else 1.0, 0.2, seed, n)
    curve = CALIBRATIONS[kind].fit(y, p)(GRID)
    assert (np.diff(curve) >= 0).all()
    assert curve.min() > 0
    assert curve.max() < 1


@every_kind
@pytest.mark.parametrize(
    ("y", "p"),
    [
        ([], []),
        ([0, 0, 0], [0.1, 0.2, 0.3]),
        ([1, 1], [0.1, 0.2]),
        ([0, 1, 1], [0.3, 0.3, 0.3]),
    ],
    ids=["no event", "no rise", "rises only", "one probability"],
)
def test_where_there_is_nothing_to_fit_nothing_changes(
    kind: str, y: list[int], p: list[float]
) -> None:
    fitted = CALIBRATIONS[kind].fit(np.array(y, np.int8), np.array(p))
    np.testing.assert_allclose(fitted(GRID), np.clip(GRID, 1e-7, 1 - 1e-7), rtol=1e-9)


@pytest.mark.parametrize("kind", ["temperature", "platt", "isotonic"])
def test_outcomes_parted_without_an_error_leave_a_finite_curve(kind: str) -> None:
    y = np.repeat([0, 1], 50).astype(np.int8)
    p = np.concatenate([np.linspace(0.3, 0.4, 50), np.linspace(0.6, 0.7, 50)])
    fitted = CALIBRATIONS[kind].fit(y, p)
    assert all(math.isfinite(number) for number in np.ravel(list(vars(fitted).values())))
    assert fitted(np.array([0.35]))[0] < 0.1
    assert fitted(np.array([0.65]))[0] > 0.9


@pytest.mark.parametrize("kind", ["temperature", "platt"])
def test_who_is_always_wrong_is_made_to_say_little(kind: str) -> None:
    y, p = off_by(-2.0, 0.0, 6, 5000)
    fitted = CALIBRATIONS[kind].fit(y, p)
    assert fitted(np.array([0.9]))[0] - fitted(np.array([0.1]))[0] < 0.02
    if kind == "platt":
        assert fitted(p).mean() == pytest.approx(y.mean(), abs=1e-6)


def test_order_survives_slopes_to_the_bit() -> None:
    y, p = off_by(0.7, 0.2, 7, 2000)
    for kind in (Temperature, Platt):
        assert (np.argsort(kind.fit(y, p)(p), kind="stable") == np.argsort(p, kind="stable")).all()


# Kept where it surely helps


def test_a_calibration_that_surely_helps_is_fitted_on_all_events() -> None:
    y, p = off_by(0.5, 0.3, 11, 20_000)
    for kind, fits in CALIBRATIONS.items():
        expected = Unchanged() if kind == "none" else fits.fit(y, p)
        assert fit_calibration(y, p, kind) == expected


def test_a_calibration_of_who_is_right_is_mostly_not_kept() -> None:
    kept = 0
    for seed in range(40):
        y, p = off_by(1.0, 0.0, seed, 2000)
        kept += fit_calibration(y, p, "platt") != Unchanged()
    assert kept <= 3  # one of forty is expected at the most


def test_a_calibration_that_does_not_last_is_not_kept() -> None:
    y, p = off_by(0.5, 0.0, 12, 10_000)
    later_y, later_p = off_by(1.5, 0.0, 13, 10_000)
    y, p = np.concatenate([y, later_y]), np.concatenate([p, later_p])
    assert Temperature.fit(y, p).slope != pytest.approx(1, abs=0.02)
    assert fit_calibration(y, p) == Unchanged()


def test_what_cannot_be_judged_is_not_calibrated() -> None:
    for n in (0, 1, 2):
        assert (
            fit_calibration(np.arange(n, dtype=np.int8) % 2, np.linspace(0.4, 0.6, n))
            == Unchanged()
        )
    with pytest.raises(ValueError, match="did you mean 'isotonic'"):
        fit_calibration(np.array([0, 1]), np.array([0.4, 0.6]), "isotonc")


# Kept as JSON


def test_calibrations_survive_json() -> None:
    y, p = off_by(0.8, 0.1, 8, 500)
    fitted: list[Calibration] = [kind.fit(y, p) for kind in CALIBRATIONS.values()]
    again = from_json(json.loads(json.dumps(to_json(fitted), allow_nan=False)))
    assert again == fitted
    for one, other in zip(fitted, again, strict=True):
        np.testing.assert_array_equal(one(GRID), other(GRID))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "temprature", "slope": 1.0}, "did you mean 'temperature'"),
        ({"slope": 1.0}, "Known: temperature"),
        ({"kind": "platt", "slop": 1.0}, "'platt' is damaged"),
        ({"kind": "isotonic", "x": [0.0]}, "'isotonic' is damaged"),
    ],
    ids=["unknown", "missing", "wrong key", "half"],
)
def test_a_damaged_calibration_is_refused(value: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json([value])
