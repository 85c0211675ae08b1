"""Formulas of convolution against `torch.nn`, over random geometries, and the lecture's example."""

from __future__ import annotations

from functools import partial
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers.markets import few, quick, seeds
from nexttick.networks.layers.block import Chain
from nexttick.networks.layers.convolution import Average, Conv, ConvBlock
from nexttick.networks.layers.shapes import cut, output_length, transposed_length, trim
from nexttick.networks.layers.transposed import TransposedConv

kernels, strides, dilations = st.integers(1, 6), st.integers(1, 4), st.integers(1, 4)
lengths = st.integers(1, 40)
close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# The picture of the lecture: an X of +1 on -1, a diagonal of +1 on -1, and the mean of their
# products over each window. The slide cuts decimals off: 7/9 = 0.777... stands as 0.77.
LECTURE = """
     0.77 -0.11  0.11  0.33  0.55 -0.11  0.33
    -0.11  1.00 -0.11  0.33 -0.11  0.11 -0.11
     0.11 -0.11  1.00 -0.33  0.11 -0.11  0.55
     0.33  0.33 -0.33  0.55 -0.33  0.33  0.33
     0.55 -0.11  0.11 -0.33  1.00 -0.11  0.11
    -0.11  0.11 -0.11  0.33 -0.11  1.00 -0.11
     0.33 -0.11  0.55  0.33  0.11 -0.11  0.77
"""


def an_x(size: int = 9) -> Tensor:
    """+1 on both diagonals, except in the outermost rows and columns; -1 elsewhere."""
    image = torch.full((size, size), -1.0, dtype=torch.float64)
    inside = torch.arange(1, size - 1)
    image[inside, inside] = image[inside, size - 1 - inside] = 1
    return image


def test_the_worked_example_of_the_lecture() -> None:
    conv = Conv(1, 1, 3, nd=2, padding="none", bias=False).double()
    with torch.no_grad():
        conv.layer.weight.copy_((2 * torch.eye(3) - 1) / 9)
        result = conv(an_x()[None, None])[0, 0]
    printed = np.array(LECTURE.split(), dtype=float).reshape(7, 7)
    np.testing.assert_array_equal(
        np.trunc(result.numpy() * 100 + 1e-9 * result.sign().numpy()) / 100, printed
    )
    assert output_length(9, 3) == 7


@quick
@given(lengths, kernels, strides, dilations, st.integers(0, 5))
def test_output_length_is_that_of_torch(
    length: int, kernel: int, stride: int, dilation: int, padding: int
) -> None:
    layer = nn.Conv1d(1, 1, kernel, stride, padding, dilation)
    count = partial(output_length, kernel_size=kernel, stride=stride, dilation=dilation)
    if length + 2 * padding < dilation * (kernel - 1) + 1:
        with pytest.raises(RuntimeError):
            layer(torch.zeros(1, 1, length))
        with pytest.raises(ValueError, match="inputs more"):
            count(length, padded=2 * padding)
        return
    assert layer(torch.zeros(1, 1, length)).shape[2] == count(length, padded=2 * padding)


@quick
@given(lengths, kernels, strides, dilations, st.integers(0, 3))
def test_transposed_length_is_that_of_torch(
    length: int, kernel: int, stride: int, dilation: int, padding: int
) -> None:
    want = transposed_length(length, kernel, stride=stride, dilation=dilation, cropped=2 * padding)
    assume(want > 0)
    layer = nn.ConvTranspose1d(1, 1, kernel, stride, padding, dilation=dilation)
    assert layer(torch.zeros(1, 1, length)).shape[2] == want


@quick
@given(lengths, kernels, strides, dilations, st.sampled_from(["causal", "symmetric", "none"]))
def test_conv_announces_its_length(
    length: int, kernel: int, stride: int, dilation: int, padding: str
) -> None:
    reach = dilation * (kernel - 1)
    assume(padding != "none" or length > reach)
    assume(padding != "symmetric" or reach % 2 == 0)
    conv = Conv(2, 3, kernel, stride=stride, dilation=dilation, padding=padding)
    y = conv(torch.zeros(1, 2, length))
    assert y.shape[2] == conv.output_length(length)
    if padding != "none":
        assert y.shape[2] == -(-length // stride)


@quick
@given(st.lists(st.tuples(kernels, strides, dilations), min_size=1, max_size=4), seeds)
def test_receptive_field_of_a_chain_is_the_formula_and_what_gradients_see(
    layers: list[tuple[int, int, int]], seed: int
) -> None:
    torch.manual_seed(seed)
    chain = Chain(
        *(Conv(1, 1, k, stride=s, dilation=d, padding="none") for k, s, d in layers)
    ).double()
    before = [prod(s for _, s, _ in layers[:place]) for place in range(len(layers))]
    field = 1 + sum(d * (k - 1) * b for (k, _, d), b in zip(layers, before, strict=True))
    assert chain.receptive_field == field
    assume(field < 600)
    assert chain.stride == prod(s for _, s, _ in layers)
    assert chain.output_length(field) == 1
    x = torch.randn(1, 1, field, dtype=torch.float64, requires_grad=True)
    chain(x).sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0, 0] != 0
    assert x.grad[0, 0, -1] != 0


@pytest.mark.parametrize("nd", [1, 2])
def test_symmetric_and_bare_convolution_are_those_of_torch(nd: int) -> None:
    x = random(2, 4, *[12] * nd)
    kind = nn.Conv1d if nd == 1 else nn.Conv2d
    for padding, zeros in (("symmetric", 2), ("none", 0)):
        ours = Conv(4, 6, 3, stride=2, dilation=2, groups=2, nd=nd, padding=padding).double()
        torchs = kind(4, 6, 3, 2, zeros, 2, 2).double()
        torchs.load_state_dict(ours.layer.state_dict())
        close(ours(x), torchs(x))


def test_causal_convolution_is_the_sum_it_stands_for() -> None:
    conv = Conv(3, 2, 4, dilation=2).double()
    x, weight, bias = random(2, 3, 15), conv.layer.weight, conv.layer.bias
    assert bias is not None
    for t in range(15):
        want = bias.expand(2, 2).clone()
        for lag in range(4):
            if t >= 2 * lag:
                want = want + x[:, :, t - 2 * lag] @ weight[:, :, 3 - lag].T
        close(conv(x)[:, :, t], want)


def with_zeros(weight: Tensor, dilation: int) -> Tensor:
    """The kernel with dilation - 1 zeros between its weights."""
    kernel = weight.shape[2]
    wide = weight.new_zeros(*weight.shape[:2], dilation * (kernel - 1) + 1)
    wide[:, :, ::dilation] = weight
    return wide


@quick
@given(kernels, dilations, strides, seeds)
def test_dilation_is_a_kernel_with_holes(k: int, dilation: int, stride: int, seed: int) -> None:
    x = random(2, 3, 40, seed=seed)
    thin = Conv(3, 2, k, dilation=dilation, stride=stride, bias=False).double()
    wide = Conv(3, 2, dilation * (k - 1) + 1, stride=stride, bias=False).double()
    wide.layer.weight = nn.Parameter(with_zeros(thin.layer.weight.detach(), dilation))
    close(thin(x), wide(x))


@quick
@given(kernels, strides, st.sampled_from([1, 2]), seeds)
def test_transposed_convolution_is_the_adjoint(
    kernel: int, stride: int, nd: int, seed: int
) -> None:
    assume(kernel >= stride)
    up = TransposedConv(3, 2, kernel, stride=stride, bias=False, nd=nd, padding="none").double()
    down = Conv(2, 3, kernel, stride=stride, bias=False, nd=nd, padding="none").double()
    down.layer.weight = up.layer.weight
    y = random(1, 3, *[5] * nd, seed=seed)
    x = random(1, 2, *[up.output_length(5)] * nd, seed=seed + 1)
    close((down(x) * y).sum(), (x * up(y)).sum())
    assert up(y).shape[2:] == x.shape[2:]


@quick
@given(kernels, strides, st.sampled_from(["causal", "symmetric"]), lengths)
def test_padded_transposed_convolution_crops_that_of_torch(
    kernel: int, stride: int, padding: str, length: int
) -> None:
    assume(kernel >= stride)
    assume(padding == "causal" or (kernel - stride) % 2 == 0)
    up = TransposedConv(2, 3, kernel, stride=stride, padding=padding).double()
    crop = (kernel - stride) // 2 if padding == "symmetric" else 0
    torchs = nn.ConvTranspose1d(2, 3, kernel, stride, crop).double()
    torchs.load_state_dict(up.layer.state_dict())
    x = random(1, 2, length)
    close(up(x), torchs(x)[:, :, : length * stride])
    assert up(x).shape[2] == up.output_length(length) == length * stride


def test_interpolation_draws_straight_lines() -> None:
    ramp = torch.arange(8.0, dtype=torch.float64).expand(1, 2, 8)
    with torch.no_grad():
        up = TransposedConv(2, 2, stride=2, bias=False, padding="symmetric").double()
        fine = up.interpolate()(ramp)[0, 1, 2:-2]
        close(fine.diff(), torch.full((11,), 0.5, dtype=torch.float64))
        image = TransposedConv(1, 1, stride=3, bias=False, nd=2, padding="symmetric").double()
        plane = image.interpolate()(ramp[:, :1, :, None].expand(1, 1, 8, 8))[0, 0, 3:-3, 3:-3]
    close(plane.diff(dim=0), torch.full((17, 18), 1 / 3, dtype=torch.float64))
    close(plane.diff(dim=1), torch.zeros(18, 17, dtype=torch.float64))


@few
@given(st.integers(1, 5), st.integers(5, 20))
def test_averages_are_means_of_whole_windows(size: int, length: int) -> None:
    x = random(1, 1, length)
    causal, bare = Average(1, size)(x), Average(1, size, padding="none")(x)
    for i in range(bare.shape[2]):
        close(bare[0, 0, i], x[0, 0, i * size : (i + 1) * size].mean())
    for i in range(causal.shape[2]):
        window = x[0, 0, max(0, (i - 1) * size + 1) : i * size + 1]
        close(causal[0, 0, i], window.sum() / size)
    rest = Average(1, size, padding="symmetric")(x)[0, 0, -1]
    close(rest, x[0, 0, (length - 1) // size * size :].mean())


def test_conv_block_is_convolution_norm_and_leaky_relu() -> None:
    block = ConvBlock(3, 4, 3, padding="symmetric", stride=2, dilation=2).double()
    plain = nn.Sequential(
        nn.Conv1d(3, 4, 3, 2, 2, 2, bias=False), nn.BatchNorm1d(4), nn.LeakyReLU()
    ).double()
    conv = plain[0]
    assert isinstance(conv, nn.Conv1d)
    conv.weight = nn.Parameter(next(block.parameters()).detach().clone())
    for mode in (True, False):
        close(block.train(mode)(random(4, 3, 20)), plain.train(mode)(random(4, 3, 20)))


def test_trim_takes_the_latest_of_ticks_and_the_middle_of_images() -> None:
    x = torch.arange(36.0).view(1, 1, 6, 6)
    assert trim(x[0], 2, nd=1)[0, 0].tolist() == [2, 3, 4, 5]
    assert trim(x, 2, nd=2)[0, 0].tolist() == x[0, 0, 1:5, 1:5].tolist()
    assert cut(x, 1, 0, nd=2).shape == (1, 1, 5, 5)


def test_chains_refuse_what_they_cannot_see_through() -> None:
    with pytest.raises(ValueError, match="MaxPool1d"):
        Chain(Conv(2, 2), nn.MaxPool1d(2))
    with pytest.raises(ValueError, match="no block"):
        Chain(nn.ReLU())
    with pytest.raises(ValueError, match="same nd"):
        Chain(Conv(2, 2), Conv(2, 2, nd=2, padding="none"))


def test_conv_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"kernel_size=0, stride=-1, dilation=0"):
        Conv(2, 2, 0, stride=-1, dilation=0)
    with pytest.raises(ValueError, match="does not divide"):
        Conv(3, 4, groups=2)
    with pytest.raises(ValueError, match="no half"):
        Conv(2, 2, 4, padding="symmetric")
    with pytest.raises(ValueError, match="holes"):
        TransposedConv(2, 2, 2, stride=3)
    with pytest.raises(ValueError, match="norm='group'"):
        ConvBlock(2, 2, norm="group")
