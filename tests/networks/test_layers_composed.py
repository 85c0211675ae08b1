"""Residual, dense, separable, pyramid and encoder-decoder against their equations in `torch.nn`."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nexttick.networks.layers import BLOCKS
from nexttick.networks.layers.block import Block, Chain
from nexttick.networks.layers.convolution import Conv, ConvBlock, Separable
from nexttick.networks.layers.densenet import DenseBlock, Transition
from nexttick.networks.layers.dilated import AtrousPyramid
from nexttick.networks.layers.recurrent import Recurrent
from nexttick.networks.layers.residual import Bottleneck, Residual
from nexttick.networks.layers.transposed import EncoderDecoder, TransposedConv
from nexttick.networks.models.anatomy import calls_of, count_parameters, multiply_adds, products_of

close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)


def random(channels: int, nd: int = 1, length: int = 17) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.randn(3, channels, *[length] * nd, generator=generator, dtype=torch.float64)


def layers(nd: int) -> tuple[type[nn.Conv1d] | type[nn.Conv2d], type[nn.Module]]:
    return (nn.Conv1d, nn.BatchNorm1d) if nd == 1 else (nn.Conv2d, nn.BatchNorm2d)


def with_weights_of(block: nn.Module, net: nn.Module) -> nn.Module:
    """`net` in float64 with the block's weights, which come in the same order."""
    for ours, theirs in zip(block.state_dict().values(), net.state_dict().values(), strict=True):
        assert ours.shape == theirs.shape
    names = net.state_dict().keys()
    net.load_state_dict(dict(zip(names, block.state_dict().values(), strict=True)))
    return net.double()


@pytest.mark.parametrize("nd", [1, 2])
@pytest.mark.parametrize(("c_out", "stride"), [(4, 1), (6, 1), (4, 2), (6, 2)])
@pytest.mark.parametrize("kind", [Residual, Bottleneck])
def test_residual_blocks_are_the_papers(
    kind: type[Residual] | type[Bottleneck], c_out: int, stride: int, nd: int
) -> None:
    conv, norm = layers(nd)
    block = kind(4, c_out, stride=stride, nd=nd, padding="symmetric").double()
    narrow = max(1, c_out // 4)
    path = {
        Residual: lambda: (
            *(conv(4, c_out, 3, stride, 1, bias=False), norm(c_out), nn.ReLU()),
            *(conv(c_out, c_out, 3, 1, 1, bias=False), norm(c_out)),
        ),
        Bottleneck: lambda: (
            *(conv(4, narrow, 1, bias=False), norm(narrow), nn.ReLU()),
            *(conv(narrow, narrow, 3, stride, 1, bias=False), norm(narrow), nn.ReLU()),
            *(conv(narrow, c_out, 1, bias=False), norm(c_out)),
        ),
    }[kind]()
    projects = stride > 1 or c_out != 4
    around = [conv(4, c_out, 1, stride, bias=False), norm(c_out)] if projects else [nn.Identity()]
    net = nn.ModuleList([nn.Sequential(*path), nn.Sequential(*around)])
    with_weights_of(block, net)
    x = random(4, nd)
    for mode in (True, False):
        net.train(mode)
        close(block.train(mode)(x), torch.relu(net[0](x) + net[1](x)))


@pytest.mark.parametrize("padding", ["causal", "symmetric", "none"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_residual_with_a_silent_path_is_its_shortcut(padding: str, stride: int) -> None:
    """The shortcut takes the tick that the output speaks of, whatever the padding."""
    block = Residual(2, 2, 3, stride=stride, dilation=2, norm="none", padding=padding).double()
    with torch.no_grad():
        for weight in block.path.parameters():
            weight.zero_()
        if stride > 1:
            projection = next(m for m in block.shortcut.modules() if isinstance(m, nn.Conv1d))
            projection.weight.copy_(torch.eye(2).unsqueeze(2))
            assert projection.bias is not None
            projection.bias.zero_()
    x = random(2, length=30).abs()
    start = int(block.receptive_field) - 1 if padding == "none" else 0
    close(block(x), x[:, :, start::stride])


@pytest.mark.parametrize("nd", [1, 2])
def test_dense_block_and_transition_are_the_papers(nd: int) -> None:
    conv, norm = layers(nd)
    pool = nn.AvgPool1d(2) if nd == 1 else nn.AvgPool2d(2)

    def dense(c_in: int) -> nn.Module:
        first = (norm(c_in), nn.ReLU(), conv(c_in, 8, 1, bias=False))
        return nn.Sequential(*first, norm(8), nn.ReLU(), conv(8, 2, 3, 1, 1, bias=False))

    block = DenseBlock(4, 2, 3, nd=nd, padding="symmetric").double()
    net = nn.ModuleList([dense(4), dense(6), dense(8)])
    with_weights_of(block, net)
    x = random(4, nd, length=16)
    features = [x]
    for layer in net:
        features.append(layer(torch.cat(features, dim=1)))
    y = block(x)
    close(y, torch.cat(features, dim=1))
    close(y[:, :4], x)
    shrink = Transition(10, 5, nd=nd, padding="none").double()
    squeeze = nn.Sequential(norm(10), nn.ReLU(), conv(10, 5, 1, bias=False), pool)
    with_weights_of(shrink, squeeze)
    close(shrink(y), squeeze(y))


def test_transition_without_a_pool_keeps_every_tick() -> None:
    assert Transition(4, 2, pool=1)(torch.zeros(1, 4, 9)).shape == (1, 2, 9)


@pytest.mark.parametrize("nd", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_separable_is_depthwise_then_pointwise(nd: int, stride: int) -> None:
    conv, norm = layers(nd)
    block = Separable(4, 6, 3, stride=stride, nd=nd, padding="symmetric").double()
    net = nn.Sequential(
        *(conv(4, 4, 3, stride, 1, groups=4, bias=False), norm(4), nn.ReLU()),
        *(conv(4, 6, 1, bias=False), norm(6), nn.ReLU()),
    )
    with_weights_of(block, net)
    x = random(4, nd)
    for mode in (True, False):
        close(block.train(mode)(x), net.train(mode)(x))


@pytest.mark.parametrize("nd", [1, 2])
def test_separable_costs_the_papers_share_of_the_regular_one(nd: int) -> None:
    x = torch.zeros(2, 32, *[10] * nd)
    separable = Separable(32, 64, 3, nd=nd, padding="symmetric", norm="batch")
    regular = Conv(32, 64, 3, nd=nd, padding="symmetric", bias=False)
    share = 1 / 64 + 1 / 3**nd
    assert multiply_adds(separable, x) / multiply_adds(regular, x) == pytest.approx(share)
    weights = sum(p.numel() for p in separable.parameters() if p.dim() > 1)
    assert weights / count_parameters(regular) == pytest.approx(share)
    assert multiply_adds(regular, x) == 2 * 10**nd * 64 * 32 * 3**nd


def test_costs_are_counted_layer_by_layer() -> None:
    net = Chain(ConvBlock(4, 8), TransposedConv(8, 2, 4, stride=2), Recurrent(2, 3)).train()
    calls = calls_of(net, lambda: net(torch.zeros(1, 4, 10)))
    by_kind = {type(call.layer): call for call in calls}
    conv, transposed = by_kind[nn.Conv1d], by_kind[nn.ConvTranspose1d]
    assert products_of(*conv[1:]) == 10 * 8 * 4 * 3
    assert products_of(*transposed[1:]) == 10 * 8 * 2 * 4
    assert count_parameters(transposed.layer) == 8 * 2 * 4 + 2
    assert conv.y.shape == (1, 8, 10)
    assert net.training
    x = torch.zeros(2, 7, 5)
    cells, library = Recurrent(5, 6, "gru", 2), nn.GRU(5, 6, 2, batch_first=True)
    want = 2 * 7 * (18 * 5 + 18 * 6 + 18 * 6 + 18 * 6)
    assert multiply_adds(cells, x.transpose(1, 2)) == multiply_adds(library, x) == want


@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "crf"])
def test_costs_are_those_that_torch_counts(name: str) -> None:
    """Not of a random field, whose products with the tick itself, which are zero, torch counts."""
    for nd in BLOCKS[name].nds:
        options = {"nd": 2} if nd == 2 else {}
        if nd == 2 and len(BLOCKS[name].paddings) > 1:
            options["padding"] = "symmetric"
        block = BLOCKS[name](8, 4, **options).eval()
        x = torch.zeros(2, 8, *[12] * nd)
        with FlopCounterMode(display=False) as counter:
            block(x)
        assert 2 * multiply_adds(block, x) == counter.get_total_flops()


@pytest.mark.parametrize("nd", [1, 2])
def test_pyramid_is_the_sum_of_its_branches(nd: int) -> None:
    conv, norm = layers(nd)
    pyramid = AtrousPyramid(3, 2, (1, 3), width=5, nd=nd, padding="symmetric").double()
    net = nn.ModuleList(
        nn.Sequential(
            *(conv(3, 5, 3, 1, rate, rate, bias=False), norm(5), nn.ReLU()), conv(5, 2, 1)
        )
        for rate in (1, 3)
    )
    with_weights_of(pyramid, net)
    close(pyramid(random(3, nd)), net[0](random(3, nd)) + net[1](random(3, nd)))
    with pytest.raises(ValueError, match="rates"):
        AtrousPyramid(3, 2, ())


@pytest.mark.parametrize("nd", [1, 2])
def test_encoder_decoder_adds_scores_of_all_resolutions(nd: int) -> None:
    net = EncoderDecoder(3, 2, 4, depth=2, nd=nd, padding="symmetric").double()
    x = random(3, nd, length=13)  # no multiple of the stride
    fine = net.stem(x)
    middle = net.downs[0](fine)
    coarse = net.downs[1](middle)
    assert [level.shape[2] for level in (fine, middle, coarse)] == [13, 7, 4]
    up = net.ups[1](net.scores[2](coarse))[(..., *[slice(7)] * nd)] + net.scores[1](middle)
    up = net.ups[0](up)[(..., *[slice(13)] * nd)] + net.scores[0](fine)
    close(net(x), up)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("stride", [2, 3])
def test_encoder_decoder_of_any_depth_labels_every_tick_from_its_past(
    depth: int, stride: int
) -> None:
    net = EncoderDecoder(2, 2, depth=depth, stride=stride, norm="layer").double()
    assert net.period == stride**depth
    x = random(2, length=30)
    y = net(x)
    assert y.shape == (3, 2, 30)
    for now in (0, 7, 20):
        other = torch.cat([x[..., : now + 1], -x[..., now + 1 :]], dim=2)
        assert torch.equal(net(other)[..., : now + 1], y[..., : now + 1])
    for output in range(30):
        assert net.span(output, output)[1] <= output


def test_the_lectures_example_of_an_encoder_decoders_field() -> None:
    net = EncoderDecoder(1, 1, depth=1)
    sizes = [last - first + 1 for first, last in (net.span(o, o) for o in range(10, 14))]
    assert sizes == [7, 8, 7, 8]
    with pytest.raises(ValueError, match="loses ticks"):
        EncoderDecoder(1, 1, padding="none")


def variants() -> list[Block]:
    torch.manual_seed(0)
    return [
        Residual(4, 6, 5, dilation=3),
        Residual(4, 4, 2, stride=3, norm="layer"),
        Bottleneck(4, 8, 4, dilation=2, reduction=2),
        Separable(4, 4, 4, stride=2, dilation=2),
        DenseBlock(4, 2, 2, kernel_size=4, norm="layer"),
        AtrousPyramid(4, 2, (5, 1), 2),
        TransposedConv(4, 2, 5, stride=3),
        ConvBlock(4, 4, 4, stride=2, dilation=3, norm="none"),
    ]


@pytest.mark.parametrize("place", range(len(variants())))
def test_causal_blocks_stay_causal_with_strides_and_dilations(place: int) -> None:
    block, x = variants()[place].double().eval(), random(4, length=40)
    for now in (0, 13, 39):
        other = torch.cat([x[..., : now + 1], 50 * x[..., now + 1 :]], dim=2)
        known = [o for o in range(block.output_length(40)) if o * block.stride <= now]
        assert torch.equal(block(other)[..., known], block(x)[..., known])
    last = block.output_length(40) - 1
    seen = x.clone().requires_grad_()
    weights = torch.linspace(1, 2, block.out_channels, dtype=torch.float64)
    (block(seen)[..., last] @ weights).sum().backward()
    assert seen.grad is not None
    places = seen.grad.abs().sum((0, 1)).nonzero().flatten()
    assert (int(places[0]), int(places[-1])) == block.span(last, last)
