"""Learned group convolution: its stages, its lasso, and the grouped convolution it ends as."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from nexttick.networks.layers.block import Chain
from nexttick.networks.layers.condensenet import (
    CondenseBlock,
    CondensedConv,
    LearnedGroupConv,
    condense_to,
    condensed,
    group_lasso,
    learned_group_convs,
    stage_at,
)
from nexttick.networks.layers.convolution import ConvBlock
from nexttick.networks.models.anatomy import count_parameters, multiply_adds

close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)


def learned(seed: int = 0, nd: int = 1) -> LearnedGroupConv:
    torch.manual_seed(seed)
    return LearnedGroupConv(12, 6, groups=3, factor=4, nd=nd).double()


def ticks(channels: int, nd: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(5, channels, *[7] * nd, generator=generator, dtype=torch.float64)


def test_before_pruning_it_is_the_convolution_of_torch() -> None:
    conv, plain = learned(), nn.Conv1d(12, 6, 1, bias=False).double()
    plain.weight = nn.Parameter(conv.weight_GOI().reshape(6, 12, 1))
    close(conv(ticks(12)), plain(ticks(12)))


def test_each_stage_drops_what_weighs_least_in_each_group() -> None:
    conv = learned()
    weighs_GI = conv.weight_GOI().abs().sum(dim=1)
    for stage in range(1, 4):
        conv.prune()
        assert conv.stage == stage
        assert (conv.kept_GI.sum(dim=1) == 12 - 3 * stage).all()
        for kept_I, weighs_I in zip(conv.kept_GI, weighs_GI, strict=True):
            assert weighs_I[kept_I].min() > weighs_I[~kept_I].max()
        assert (conv.weight_GOI()[~conv.kept_GI.unsqueeze(1).expand(-1, 2, -1)] == 0).all()
    with pytest.raises(ValueError, match="all 3 stages"):
        conv.prune()


def test_what_is_dropped_stays_dropped_while_the_rest_trains() -> None:
    conv = learned()
    conv.prune()
    optimiser = torch.optim.SGD(conv.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    before, kept = conv.weight_GOI().detach().clone(), conv.kept_GI.clone()
    for _ in range(3):
        optimiser.zero_grad()
        (conv(ticks(12)).square().mean() + 0.01 * group_lasso(conv)).backward()
        optimiser.step()
    after = conv.weight_GOI()
    left = kept.unsqueeze(1).expand_as(after)
    assert (after[~left] == 0).all()
    assert (after[left] != before[left]).all()
    conv.prune()
    assert not (conv.kept_GI & ~kept).any()


def test_lasso_is_the_papers_sum_and_has_a_gradient_at_zero() -> None:
    conv = learned()
    conv.prune()
    weight = conv.weight_GOI().detach()
    want = sum(weight[g, :, j].square().sum().sqrt() for g in range(3) for j in range(12))
    close(conv.group_lasso(), want)
    group_lasso(nn.Sequential(conv, nn.ReLU())).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in conv.parameters())
    assert group_lasso(nn.ReLU()) == 0


@pytest.mark.parametrize(
    ("progress", "stage"), [(0, 0), (0.16, 0), (0.17, 1), (0.34, 2), (0.49, 2), (0.5, 3), (1, 3)]
)
def test_stages_fill_the_first_half_of_training(progress: float, stage: int) -> None:
    assert stage_at(progress, factor=4) == stage
    conv = learned()
    condense_to(conv, progress)
    assert conv.stage == stage
    condense_to(conv, 0)  # a schedule never goes back
    assert conv.stage == stage


def test_progress_outside_training_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        stage_at(1.5, 4)


@pytest.mark.parametrize("nd", [1, 2])
def test_condensed_it_is_a_grouped_convolution_with_the_same_output(nd: int) -> None:
    conv = learned(nd=nd)
    with pytest.raises(ValueError, match="prune to the end first"):
        conv.condense()
    condense_to(conv, 1.0)
    small = conv.condense()
    close(small(ticks(12, nd)), conv(ticks(12, nd)))
    assert small.conv.layer.groups == 3
    assert small.conv.layer.in_channels == 9
    assert count_parameters(small) * 4 == count_parameters(conv)
    assert multiply_adds(small, ticks(12, nd)) * 4 == multiply_adds(conv, ticks(12, nd))


@pytest.mark.parametrize("padding", ["causal", "none"])
def test_a_whole_network_condenses_to_the_same_function(padding: str) -> None:
    torch.manual_seed(2)
    net = Chain(
        ConvBlock(3, 8, padding=padding),
        CondenseBlock(8, 4, num_layers=3, padding=padding),
        LearnedGroupConv(20, 4),
    ).double()
    net(ticks(3).repeat(1, 1, 3))  # running statistics leave their start
    for progress in (0.2, 0.4, 0.6):
        condense_to(net, progress)
    small = condensed(net.eval())
    x = ticks(3).repeat(1, 1, 3)
    close(small(x), net(x))
    assert not list(learned_group_convs(small))
    assert len(list(learned_group_convs(net))) == 4
    assert sum(isinstance(module, CondensedConv) for module in small.modules()) == 4
    assert isinstance(small, Chain)
    assert small.receptive_field == net.receptive_field
    assert multiply_adds(small, x) < multiply_adds(net, x)
    assert not any(module.training for module in small.modules())


@pytest.mark.parametrize("nd", [1, 2])
def test_a_layer_shuffles_its_groups_before_it_convolves_them(nd: int) -> None:
    """Against torch: output channel g n + i of the first convolution stands at place i G + g."""
    sizes = {"num_layers": 1, "groups": 2, "factor": 2, "nd": nd}
    layer = CondenseBlock(8, 4, norm="none", padding="symmetric", **sizes)
    learned_conv, grouped_conv = (weight.double() for weight in layer.parameters())
    x = ticks(8, nd)
    convolve = nn.functional.conv1d if nd == 1 else nn.functional.conv2d
    narrow = convolve(x.relu(), learned_conv).relu()
    shuffled = narrow[:, [place // 2 + 8 * (place % 2) for place in range(16)]]
    close(layer.double()(x), torch.cat([x, convolve(shuffled, grouped_conv, None, 1, 1, 1, 2)], 1))


def test_condensed_weights_load_into_a_fresh_layer() -> None:
    conv = learned()
    condense_to(conv, 1.0)
    small, fresh = conv.condense(), CondensedConv(12, 6, 3, 3).double()
    fresh.load_state_dict(small.state_dict())
    assert torch.equal(fresh(ticks(12)), small(ticks(12)))


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="in_channels=10 does not divide by 4"):
        LearnedGroupConv(10, 8)
    with pytest.raises(ValueError, match="out_channels=6 does not divide by 4"):
        LearnedGroupConv(8, 6)
