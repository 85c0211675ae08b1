"""Reliability diagrams: what lies in each bin, and intervals that know neighbours for alike."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nexttick.scores.bootstrap import Resampler
from nexttick.scores.metrics import log_losses, score
from nexttick.scores.reliability import reliability_curve


def off_by(slope: float, bias: float, seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes, and probabilities whose truth has a logit of slope · logit + bias."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-0.5, 0.8, n)
    truth = 1 / (1 + np.exp(-slope * logit - bias))
    return (rng.random(n) < truth).astype(np.int8), 1 / (1 + np.exp(-logit))


def blocks_of(y: np.ndarray, p: np.ndarray) -> Resampler:
    return Resampler.fit([log_losses(y, p)])


def wilson(rate: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson 1927: the rates that a test at 5 % would not reject, every event independent."""
    z2 = 1.959964**2 / n
    centre = (rate + z2 / 2) / (1 + z2)
    half = np.sqrt(z2 * (rate * (1 - rate) + z2 / 4)) / (1 + z2)
    return centre - half, centre + half


def test_the_reliability_curve_counts_what_lies_in_each_bin() -> None:
    p = np.repeat([0.2, 0.4, 0.6], [50, 30, 20])
    y = np.zeros(100, np.int8)
    y[:5] = y[50:65] = y[80:98] = 1
    curve = reliability_curve(y, p, blocks_of(y, p), bins=50)
    assert curve["n"].to_list() == [50, 30, 20]
    assert curve["p"].to_list() == pytest.approx([0.2, 0.4, 0.6])
    assert curve["rate"].to_list() == pytest.approx([0.1, 0.5, 0.9])


def test_wilsons_interval_is_the_one_he_printed() -> None:
    """The yardstick below. Newcombe 1998, table I: 81 of 263 ... 1 of 29 by method 3."""
    for rises, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(np.array(rises / n), np.array(n)) == pytest.approx((low, high), abs=5e-5)


def test_intervals_are_wilsons_where_events_are_independent_and_wider_else() -> None:
    y, p = off_by(1.0, 0.0, 9, 20_000)
    curve = reliability_curve(y, p, blocks_of(y, p))
    low, high = wilson(curve["rate"].to_numpy(), curve["n"].to_numpy())
    np.testing.assert_allclose(curve["low"], low, atol=0.01)
    np.testing.assert_allclose(curve["high"], high, atol=0.01)
    alike_y, alike_p = np.repeat(y, 5), np.repeat(p, 5)
    alike = reliability_curve(alike_y, alike_p, blocks_of(alike_y, alike_p))
    low, high = wilson(alike["rate"].to_numpy(), alike["n"].to_numpy())
    ratio = (alike["high"] - alike["low"]).to_numpy() / (high - low)
    assert ratio.mean() == pytest.approx(math.sqrt(5), rel=0.15)


def test_bins_of_the_curve_give_the_calibration_error() -> None:
    y, p = off_by(0.7, 0.1, 10, 5000)
    curve = reliability_curve(y, p, blocks_of(y, p))
    error = (curve["n"] * (curve["p"] - curve["rate"]).abs()).sum() / len(y)
    assert error == pytest.approx(score(y, p, 0.7)["ece"])
