"""Batch norm as its algorithm reads, against `torch.nn` in float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from nexttick.networks.layers.normalisation import (
    ChannelNorm,
    RunningStatistics,
    batch_norm_evaluation,
    batch_norm_training,
)

close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)
CHANNELS = 5


def batches(nd: int, count: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(nd)
    shape = (3, CHANNELS, *[6] * nd)
    draw = partial(torch.randn, shape, generator=generator, dtype=torch.float64)
    return [10 * place + (place + 1) * draw() for place in range(count)]


def affine(layer: nn.Module) -> tuple[Tensor, Tensor]:
    gamma_C = torch.linspace(-1, 2, CHANNELS, dtype=torch.float64)
    beta_C = torch.linspace(3, -1, CHANNELS, dtype=torch.float64)
    layer.load_state_dict({"weight": gamma_C, "bias": beta_C}, strict=False)
    return gamma_C, beta_C


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
@pytest.mark.parametrize("nd", [0, 1, 2])
def test_training_and_evaluation_are_those_of_torch(nd: int, momentum: float | None) -> None:
    kind = nn.BatchNorm2d if nd == 2 else nn.BatchNorm1d
    layer = kind(CHANNELS, momentum=momentum).double()
    gamma_C, beta_C = affine(layer)
    running = RunningStatistics.fresh(CHANNELS, torch.float64)
    for x in batches(nd):
        y, running = batch_norm_training(x, gamma_C, beta_C, running, momentum)
        close(y, layer(x))
        close(running.mean_C, layer.running_mean)
        close(running.var_C, layer.running_var)
        assert running.batches == layer.num_batches_tracked
    layer.eval()
    close(batch_norm_evaluation(x, gamma_C, beta_C, running), layer(x))


def test_the_gradient_is_that_of_torch() -> None:
    layer = nn.BatchNorm1d(CHANNELS, eps=1e-3).double()
    gamma_C, beta_C = affine(layer)
    x = batches(1)[1].requires_grad_()
    weights = torch.randn(x.shape, dtype=torch.float64)
    running = RunningStatistics.fresh(CHANNELS, torch.float64)
    y, after = batch_norm_training(x, gamma_C, beta_C, running, epsilon=1e-3)
    (ours,) = torch.autograd.grad((y * weights).sum(), x)
    (torchs,) = torch.autograd.grad((layer(x) * weights).sum(), x)
    close(ours, torchs)
    assert not after.mean_C.requires_grad


def test_one_value_a_channel_has_no_variance() -> None:
    x, one = torch.zeros(1, CHANNELS), torch.ones(CHANNELS)
    with pytest.raises(ValueError, match="larger batch"):
        batch_norm_training(x, one, one, RunningStatistics.fresh(CHANNELS))
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm1d(CHANNELS)(x)


@pytest.mark.parametrize("nd", [1, 2])
def test_channel_norm_is_layer_norm_of_each_place(nd: int) -> None:
    norm = ChannelNorm(CHANNELS).double()
    affine(norm)
    x = batches(nd)[2]
    y = norm(x)
    for place in ([0] * nd, [5] * nd):
        at = (slice(None), slice(None), *place)
        want = nn.functional.layer_norm(x[at], (CHANNELS,), norm.weight, norm.bias)
        close(y[at], want)
