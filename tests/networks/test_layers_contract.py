"""Every block of the registry: its length, what it sees, the past only, gradients, seeds, files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nexttick.networks.layers import BLOCKS
from nexttick.networks.layers.block import Block
from nexttick.networks.layers.crf import DenseCRF
from nexttick.networks.layers.recurrent import CELLS, Recurrent

IN, SIZE, BATCH = 8, 4, 24  # enough examples that no place is behind a dead ReLU in all
LENGTH = {1: 40, 2: 22}  # longer than every receptive field; images shorter, for time
Case = tuple[str, int, str, str]


def cases() -> Iterator[Case]:
    for name, kind in BLOCKS.items():
        cells = CELLS if kind is Recurrent else [""]
        for nd, padding, cell in product(kind.nds, kind.paddings, cells):
            if (nd, padding) != (2, "causal"):
                yield name, nd, padding, cell


CASES = list(cases())
every_block = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
in_time = pytest.mark.parametrize(
    "case",
    [case for case in CASES if case[1] == 1 and case[2] != "symmetric"],
    ids=lambda case: "-".join(map(str, case)),
)


pytestmark = pytest.mark.usefixtures("one_thread")


def build(case: Case, seed: int = 0) -> Block:
    name, nd, padding, cell = case
    kind = BLOCKS[name]
    options: dict[str, object] = {"cell": cell} if cell else {}
    if len(kind.nds) > 1:
        options["nd"] = nd
    if len(kind.paddings) > 1:
        options["padding"] = padding
    torch.manual_seed(seed)
    return kind(IN, SIZE, **options).double()


def ticks(nd: int, length: int | None = None, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH, IN) + (length or LENGTH[nd],) * nd
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def seasoned(case: Case, seed: int = 0) -> Block:
    """A block whose running statistics and affine weights have left their start."""
    block = build(case, seed)
    with torch.no_grad():
        block(ticks(block.nd, seed=seed + 7))
        for name, weight in block.named_parameters():
            if weight.dim() == 1 and "log_" not in name:
                weight.add_(0.1 * torch.randn_like(weight))
    return block.eval()


def steps_of(x: Tensor) -> tuple[Tensor, ...]:
    """Steps in time and price for a random field, which looks at more than its logits."""
    return x[:, 0].abs(), x[:, 1]


@every_block
def test_lengths_and_channels_are_those_announced(case: Case) -> None:
    block = build(case).eval()
    for length in range(LENGTH[block.nd] - 3, LENGTH[block.nd] + 1):
        want = (BATCH, block.out_channels, *[block.output_length(length)] * block.nd)
        assert block(ticks(block.nd, length)).shape == want
        assert want[-1] == pytest.approx(length / block.stride, abs=block.receptive_field)


@pytest.mark.parametrize("case", [case for case in CASES if case[2] != "none"], ids=str)
def test_a_padded_block_takes_a_single_tick(case: Case) -> None:
    block = build(case).eval()
    length = 1 if block.nd == 1 else 2
    assert block(ticks(block.nd, length)).shape[2] == block.output_length(length)


def seen_by(block: Block, x: Tensor, output: int) -> tuple[int, int]:
    """First and last place of x that has a gradient from an output, along its last axis."""
    x = x.clone().requires_grad_()
    y = block(x)[(..., *[output] * block.nd)]
    # Random weights: the values of a normalised output sum to a constant, which has no gradient.
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=y.dtype)
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    places = gradient.abs().flatten(0, -2).sum(0).nonzero().flatten()
    return int(places[0]), int(places[-1])


@every_block
def test_receptive_field_is_the_one_that_gradients_measure(case: Case) -> None:
    block = seasoned(case)
    x = ticks(block.nd)
    length = x.shape[-1]
    outputs = block.output_length(length)
    for output in range(0, outputs, 1 if block.nd == 1 else 3):
        first, last = block.span(output, output)
        seen = seen_by(block, x, output)
        if 0 <= first <= last < length:
            assert seen == (first, last)
        else:  # part of it is padding, and dilated kernels have holes at its edge
            assert first <= seen[0] <= seen[1] <= last
        assert last - first + 1 <= block.receptive_field


@in_time
def test_the_future_changes_no_earlier_output(case: Case) -> None:
    block, x = seasoned(case), ticks(1)
    delay = int(block.receptive_field) - 1 if case[2] == "none" and block.stride == 1 else 0
    now = 25
    other = x.clone()
    other[..., now + 1 :] = 1e3 * ticks(1, seed=5)[..., now + 1 :]
    before = [o for o in range(block.output_length(40)) if o * block.stride + delay <= now]
    if case[2] == "none":
        before = [o for o in before if block.span(o, o)[1] <= now]
    with torch.no_grad():
        y, y_other = block(x), block(other)
    assert torch.equal(y[..., before], y_other[..., before])
    assert not torch.equal(y, y_other)
    assert len(before) * block.stride >= now - delay - 3


def by_ticks(block: Block, x: Tensor) -> Tensor:
    """Outputs of every tick, one tick at a time."""
    state, outputs = block.initial_state(len(x)), []
    for x_BC in x.unbind(2):
        y_BC, state = block.step(x_BC, state)
        assert len(state) == block.parts
        outputs.append(y_BC)
    return torch.stack(outputs, dim=2)


@in_time
@torch.no_grad()
def test_tick_by_tick_the_numbers_are_the_same(case: Case) -> None:
    block, x = seasoned(case), ticks(1)
    if block.stride != 1 or block.period != 1:
        with pytest.raises(ValueError, match="window by window"):
            block.step(x[..., 0], block.initial_state(BATCH))
        return
    y = block(x)
    torch.testing.assert_close(by_ticks(block, x)[..., -y.shape[2] :], y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if case[2] == "symmetric"], ids=str)
def test_what_looks_ahead_has_no_tick_by_tick_form(case: Case) -> None:
    block = build(case)
    if block.receptive_field > 1:  # alone, a tick has nothing ahead
        with pytest.raises(ValueError, match="window by window"):
            block.step(ticks(1)[..., 0], block.initial_state(BATCH))


@in_time
def test_a_longer_segment_begins_as_a_shorter_one(case: Case) -> None:
    block, x = seasoned(case), ticks(1)
    short = block(x[..., :28])
    whole = block(x)[..., : short.shape[-1]]
    if case[0] == "transposed" and case[2] == "none":  # its end still waits for the next input
        short, whole = short[..., :-4], whole[..., :-4]
    torch.testing.assert_close(short, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("nd", [1, 2])
@pytest.mark.parametrize("name", [name for name in BLOCKS if len(BLOCKS[name].paddings) == 3])
def test_no_padding_is_padding_without_what_touched_it(name: str, nd: int) -> None:
    bare = seasoned((name, nd, "none", ""))
    if bare.stride != 1:
        return
    padded = seasoned((name, nd, "causal" if nd == 1 else "symmetric", ""))
    padded.load_state_dict(bare.state_dict())
    lost = int(bare.receptive_field) - 1
    x = ticks(nd)
    inner = padded(x)
    for axis in range(2, 2 + nd):
        inner = inner.narrow(axis, lost if nd == 1 else lost // 2, inner.shape[axis] - lost)
    torch.testing.assert_close(bare(x), inner, rtol=0, atol=1e-12)


@every_block
def test_gradients_reach_every_weight(case: Case) -> None:
    block, x = build(case).train(), ticks(case[1]).requires_grad_()
    y = block(x, *steps_of(x)) if isinstance(block, DenseCRF) else block(x)
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    for name, weight in block.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert (weight.grad != 0).all(), name


@every_block
def test_seeds_repeat_and_differ(case: Case) -> None:
    one, same, other = build(case), build(case), build(case, seed=1)
    weights = [dict(block.state_dict()) for block in (one, same, other)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    random = [name for name, weight in one.named_parameters() if weight.dim() > 1]
    assert not any(
        torch.equal(weights[0][key], weights[2][key]) for key in random if "ups" not in key
    )


@every_block
def test_a_file_of_weights_gives_the_same_numbers(case: Case, tmp_path: Path) -> None:
    block, other = seasoned(case), build(case, seed=1).eval()
    save_file(block.state_dict(), tmp_path / "weights")
    other.load_state_dict(load_file(tmp_path / "weights"))
    x = ticks(block.nd)
    assert torch.equal(block(x), other(x))


@pytest.mark.parametrize("name", BLOCKS)
def test_impossible_arguments_are_refused(name: str) -> None:
    kind = BLOCKS[name]
    for wrong in ((0, SIZE), (IN, 0)):
        with pytest.raises(ValueError, match="from 1 up"):
            kind(*wrong)
    with pytest.raises(ValueError, match="nd=3"):
        kind(IN, SIZE, nd=3)
    if len(kind.paddings) > 1:
        with pytest.raises(ValueError, match="symmetric"):
            kind(IN, SIZE, padding="reflect")
        if 2 in kind.nds:
            with pytest.raises(ValueError, match="no past"):
                kind(IN, SIZE, nd=2, padding="causal")
