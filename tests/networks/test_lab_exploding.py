"""The cliff, norm clipping and the lecture's worked example."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers.console import strict_json
from helpers.markets import quick, seeds
from nexttick.networks.lab import worked_example
from nexttick.networks.lab.experiments import ExplodingOptions, check
from nexttick.networks.lab.exploding import clip_norm, descend, error, furthest_step, run, surface

# Algorithm 1


def graded(seed: int, sizes: tuple[int, ...] = (3, 1, 7)) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    weights = [nn.Parameter(torch.zeros(n, 2, dtype=torch.float64)) for n in sizes]
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    return weights


@quick
@given(seeds, st.floats(1e-3, 1e3))
def test_clipping_is_torchs_with_its_epsilon(seed: int, threshold: float) -> None:
    ours, theirs = graded(seed), graded(seed)
    norm = clip_norm(ours, threshold, epsilon=1e-6)
    expected = nn.utils.clip_grad_norm_(theirs, threshold)
    torch.testing.assert_close(norm, expected, rtol=1e-10, atol=0)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.grad, their.grad, rtol=1e-10, atol=1e-14)


@quick
@given(seeds, st.floats(1e-3, 1e3))
def test_clipping_cuts_the_length_and_keeps_the_direction(seed: int, threshold: float) -> None:
    weights, before = graded(seed), graded(seed)
    norm = float(clip_norm(weights, threshold))
    old = torch.cat([weight.grad.flatten() for weight in before])
    new = torch.cat([weight.grad.flatten() for weight in weights])
    assert norm == pytest.approx(float(old.norm()), rel=1e-12)
    assert float(new.norm()) == pytest.approx(min(norm, threshold), rel=1e-12)
    torch.testing.assert_close(new / new.norm(), old / old.norm(), rtol=1e-12, atol=1e-14)


def test_a_gradient_below_the_threshold_is_left_to_the_last_bit() -> None:
    weights, before = graded(1), graded(1)
    clip_norm(weights, 1e3)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(weights, before, strict=True))


def test_weights_without_a_gradient_are_passed_over() -> None:
    weights = [*graded(1), nn.Parameter(torch.ones(2))]
    assert float(clip_norm(weights, 0.1)) == pytest.approx(float(clip_norm(graded(1), 0.1)))
    assert weights[-1].grad is None
    assert float(clip_norm([nn.Parameter(torch.ones(2))], 0.1)) == 0


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan])
def test_a_threshold_that_is_not_above_zero_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="norm above 0"):
        clip_norm(graded(1), threshold)


# The cliff

OPTIONS = ExplodingOptions()


def plain_error(w: float, b: float, ticks: int) -> float:
    x = 0.5
    for _ in range(ticks):
        x = w / (1 + math.exp(-x)) + b
    return (1 / (1 + math.exp(-x)) - 0.7) ** 2


@quick
@given(st.floats(3, 7), st.floats(-4, -1), st.integers(1, 50))
def test_the_error_is_that_of_the_paper(w: float, b: float, ticks: int) -> None:
    w_1, b_1 = torch.tensor([w], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)
    # Near the wall, digits are lost tick by tick; so far apart they are at most.
    assert error(w_1, b_1, ticks).item() == pytest.approx(plain_error(w, b, ticks), abs=1e-6)


def test_a_place_of_the_surface_is_the_error_there() -> None:
    ground = surface(replace(OPTIONS, grid=7))
    assert (len(ground["w"]), len(ground["b"])) == (7, 7)
    for i, b in enumerate(ground["b"]):
        for j, w in enumerate(ground["w"]):
            assert ground["error"][i][j] == pytest.approx(plain_error(w, b, 50), rel=1e-3, abs=1e-9)


def test_the_surface_has_a_wall() -> None:
    ground = surface(OPTIONS)
    assert ground["steepest"] > 50
    gradients = descend(OPTIONS, None)["grad_norm"]
    assert gradients[0] < 0.1  # on the plain


def test_the_first_gradient_is_the_slope_between_neighbours() -> None:
    (w, b), step = OPTIONS.start, 1e-5
    slope_w = (plain_error(w + step, b, 50) - plain_error(w - step, b, 50)) / (2 * step)
    slope_b = (plain_error(w, b + step, 50) - plain_error(w, b - step, 50)) / (2 * step)
    path = descend(OPTIONS, None)
    assert path["grad_norm"][0] == pytest.approx(math.hypot(slope_w, slope_b), rel=1e-6)
    assert path["w"][1] == pytest.approx(w - OPTIONS.lr * slope_w, rel=1e-9)
    assert path["b"][1] == pytest.approx(b - OPTIONS.lr * slope_b, rel=1e-9)


def test_without_clipping_the_wall_throws_a_descent_away_and_with_it_not() -> None:
    result = run(OPTIONS)
    plain, clipped = result["plain"], result["clipped"]
    assert max(plain["grad_norm"]) > 100 * OPTIONS.clip_norm
    assert max(clipped["grad_norm"]) > 100 * OPTIONS.clip_norm  # it meets the wall as well
    assert furthest_step(plain)[1] > 5
    assert furthest_step(clipped)[1] <= OPTIONS.lr * OPTIONS.clip_norm * (1 + 1e-6)
    assert plain["error"][-1] > 0.4
    assert clipped["error"][-1] < 0.02
    assert (plain["w"][0], plain["b"][0]) == (clipped["w"][0], clipped["b"][0]) == OPTIONS.start


def test_the_furthest_step_is_found() -> None:
    path = {"w": [0.0, 1.0, 1.0, 4.0], "b": [0.0, 0.0, 2.0, 6.0]}
    assert furthest_step(path) == (2, 5.0)


def test_the_result_is_plain_json() -> None:
    result = run(replace(OPTIONS, grid=4, steps=3))
    assert len(result["plain"]["w"]) == 4
    ground = strict_json(json.dumps(result))
    assert ground["clipped"] == result["clipped"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ticks": 0}, "--ticks 0"),
        ({"grid": -1}, "--grid -1"),
        ({"lr": 0.0}, "--lr 0.0"),
        ({"clip_norm": math.inf}, "--clip-norm inf"),
        ({"start": (math.nan, 0.0)}, "--start"),
    ],
)
def test_options_without_sense_are_refused(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check(replace(OPTIONS, **options))


def test_a_descent_that_leaves_all_numbers_says_so() -> None:
    path = descend(OPTIONS, None)
    k, _ = furthest_step(path)
    with pytest.raises(ValueError, match="--lr, or nearer --start"):
        descend(replace(OPTIONS, start=(path["w"][k], path["b"][k]), lr=1e308), None)


# The worked example

PRINTED = """
0.77 -0.11 0.11 0.33 0.55 -0.11 0.33
-0.11 1.00 -0.11 0.33 -0.11 0.11 -0.11
0.11 -0.11 1.00 -0.33 0.11 -0.11 0.55
0.33 0.33 -0.33 0.55 -0.33 0.33 0.33
0.55 -0.11 0.11 -0.33 1.00 -0.11 0.11
-0.11 0.11 -0.11 0.33 -0.11 1.00 -0.11
0.33 -0.11 0.55 0.33 0.11 -0.11 0.77
"""


def test_the_lectures_worked_example_is_reproduced_as_printed() -> None:
    printed = [[float(word) for word in line.split()] for line in PRINTED.strip().splitlines()]
    assert worked_example.run()["result"] == printed


def test_the_image_is_an_x_and_the_kernel_a_diagonal() -> None:
    image, kernel = worked_example.image().numpy(), worked_example.kernel().numpy()
    assert ((image == 1).sum(), (image == -1).sum()) == (13, 68)
    assert np.array_equal(image, image.T)
    assert np.array_equal(image, image[::-1])
    assert np.array_equal(kernel, [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]])


def test_each_value_is_the_mean_over_its_window() -> None:
    windows = np.lib.stride_tricks.sliding_window_view(worked_example.image().numpy(), (3, 3))
    expected = (windows * worked_example.kernel().numpy()).mean(axis=(2, 3))
    np.testing.assert_allclose(worked_example.convolved().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "digits"),
    [(7 / 9, 0.77), (-1 / 9, -0.11), (1.0, 1.0), (0.9999999, 1.0), (5 / 9, 0.55)],
)
def test_digits_are_cut_off_and_not_rounded(value: float, digits: float) -> None:
    assert worked_example.cut(value) == digits
