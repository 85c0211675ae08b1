"""Error signals: exact, equal to the lecture's products, and fading where they must."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers.console import strict_json
from helpers.markets import few, quick, seeds
from nexttick.networks.lab.experiments import VanishingOptions, check
from nexttick.networks.lab.nets import (
    CONVOLUTIONAL,
    RECURRENT,
    ConvNet,
    RecurrentNet,
    open_the_gates,
)
from nexttick.networks.lab.signals import (
    relative,
    signal_through_layers,
    signal_through_ticks,
)
from nexttick.networks.lab.tasks import TASKS, Adding, Copy, MemoryTask
from nexttick.networks.lab.vanishing import run, score, train
from nexttick.networks.layers.recurrent import CELLS, Recurrent

SMALL = VanishingOptions(
    ticks=12, length=10, steps=2, hidden_size=4, depth=4, conv_steps=2, channels=3, delay=8
)
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(task: MemoryTask, count: int, length: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return task.draw(count, length, torch.Generator().manual_seed(seed))


# The lecture's sum


def products_of_jacobians(
    stack: Recurrent, error: Callable[[Tensor], Tensor], x_1TC: Tensor
) -> list[Tensor]:
    """dE_t/ds_k as the lecture writes it: dE_t/ds_t times the Jacobians of all ticks after k.

    A row for each tick k, from the last to the first. The parts of a state lie side by side.
    """
    parts = len(stack.initial_state(1))

    def tick(x_1C: Tensor, s: Tensor) -> Tensor:
        state = tuple(part.unsqueeze(0) for part in s.chunk(parts))
        return torch.cat([part[0] for part in stack.step(x_1C, state)[1]])

    s = torch.cat([part[0] for part in stack.initial_state(1)])
    jacobians = []
    for x_1C in x_1TC.unbind(dim=1):
        jacobians.append(torch.func.jacrev(partial(tick, x_1C))(s).detach())
        s = tick(x_1C, s).detach()
    rows = [torch.func.grad(error)(s).detach()]
    for jacobian in reversed(jacobians[1:]):
        rows.append(rows[-1] @ jacobian)
    return rows


@few
@given(seeds)
@pytest.mark.parametrize("cell", CELLS)
def test_products_of_jacobians_are_what_one_backward_pass_gives(cell: str, seed: int) -> None:
    torch.manual_seed(seed % 2**31)
    kind = {"rnn": "RNN", "lstm": "LSTM, open gates", "gru": "GRU, open gates"}[cell]
    task, net = Adding(), RecurrentNet(kind, Adding(), 5, 9)
    x_1TC, y_1 = drawn(task, 1, 9, seed % 2**31)
    parts = 2 if cell == "lstm" else 1

    def error(s: Tensor) -> Tensor:
        state = tuple(part.unsqueeze(0) for part in s.chunk(parts))
        return task.loss(net.answer(state), y_1)[0]

    rows = products_of_jacobians(net.unrolled(), error, x_1TC.double())
    signal = signal_through_ticks(net, task, x_1TC, y_1)
    assert signal.back == list(range(9))
    for row, norm in zip(rows, signal.norm, strict=True):
        assert norm == pytest.approx(float(row.norm()), rel=1e-10, abs=1e-300)


@pytest.mark.parametrize("cell", CELLS)
def test_the_sum_over_ticks_is_the_gradient_of_the_weights(cell: str) -> None:
    """dE/dW = sum over k of dE/ds_k ds_k/dW, where ds_k/dW holds the state before k fixed."""
    torch.manual_seed(2)
    stack = Recurrent(2, 3, cell).double()
    x_1TC = torch.randn(1, 6, 2, dtype=torch.float64)
    parts = len(stack.initial_state(1))
    weights = dict(stack.named_parameters())

    def error(s: Tensor) -> Tensor:
        return s.chunk(parts)[0].pow(3).sum()

    rows = products_of_jacobians(stack, error, x_1TC)[::-1]
    state, total = (
        stack.initial_state(1),
        {name: torch.zeros_like(w) for name, w in weights.items()},
    )
    for x_1C, row in zip(x_1TC.unbind(dim=1), rows, strict=True):
        after = stack.step(x_1C, state)[1]
        flat = torch.cat([part[0] for part in after])
        direct = torch.autograd.grad(flat @ row.detach(), list(weights.values()))
        total = {name: total[name] + own for name, own in zip(total, direct, strict=True)}
        state = tuple(part.detach() for part in after)
    _, last = stack.run(x_1TC)
    whole = torch.autograd.grad(error(torch.cat([part[0] for part in last])), weights.values())
    for own, expected in zip(total.values(), whole, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-10, atol=1e-12)


def test_one_unit_at_rest_fades_by_its_weight_every_tick() -> None:
    """h = tanh(w h) at h = 0: dh_t/dh_k = w^(t - k)."""
    task, net = Copy(), RecurrentNet("RNN", Copy(), 1, 9)
    with torch.no_grad():
        for weight in net.layer.parameters():
            weight.zero_()
        net.layer.weight_hh_l0.fill_(0.7)
        net.head.weight.copy_(torch.linspace(-1, 1, 8)[:, None])
        net.head.bias.zero_()
    x_BTC, y_B = drawn(task, 3, 20)
    shares = relative({"norm": signal_through_ticks(net, task, x_BTC, y_B).norm})
    w = float(torch.tensor(0.7))
    assert shares == pytest.approx([w**back for back in range(20)], rel=1e-12)


def test_an_lstm_that_forgets_nothing_keeps_its_signal() -> None:
    task, net = Copy(), RecurrentNet("LSTM, torch's start", Copy(), 2, 9)
    with torch.no_grad():
        for weight in net.layer.parameters():
            weight.zero_()
        net.layer.bias_ih_l0[2:4] = 50.0  # the forget gates
    norm = signal_through_ticks(net, task, *drawn(task, 3, 300)).norm
    assert norm[1:] == pytest.approx([norm[1]] * 299, rel=1e-12)


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_the_signal_through_layers_is_the_gradient_of_an_addition_to_them(kind: str) -> None:
    torch.manual_seed(0)
    task, net = Copy(), ConvNet(kind, Copy(), 3, 6)
    x_BTC, y_B = drawn(task, 5, 9)
    signal = signal_through_layers(net, task, x_BTC, y_B)
    exact = net.double()
    for place, (back, norm) in enumerate(zip(signal.back[::-1], signal.norm[::-1], strict=True)):
        h = exact.stem(x_BTC.double().transpose(1, 2))
        for stage in exact.stages[:place]:
            h = stage(h)
        added = torch.zeros_like(h, requires_grad=True)
        after = h + added
        for stage in exact.stages[place:]:
            after = stage(after)
        loss = task.loss(exact.answer(after), y_B).sum()
        (gradient,) = torch.autograd.grad(loss, added)
        expected = gradient.flatten(1).norm(dim=1).median().item()
        assert norm == pytest.approx(expected, rel=1e-9)
        assert back == (len(exact.stages) - place) * exact.span


def test_looking_changes_no_network() -> None:
    net = ConvNet("residual, batch norm", Copy(), 3, 4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    signal_through_layers(net, Copy(), *drawn(Copy(), 4, 9))
    after = net.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert after["head.weight"].dtype == torch.float32


# What fades and what does not


def test_untrained_signals_fade_in_a_simple_rnn_and_not_through_open_gates() -> None:
    left = {}
    for kind in RECURRENT:
        torch.manual_seed(0)
        net = RecurrentNet(kind, Adding(), 16, 200)
        signal = signal_through_ticks(net, Adding(), *drawn(Adding(), 8, 200))
        left[kind] = signal.norm[-1] / signal.norm[0]
    assert left["RNN"] < 1e-20
    assert left["LSTM, torch's start"] < 1e-20
    assert left["LSTM, open gates"] > 0.05
    assert left["GRU, open gates"] > 0.05


def test_untrained_signals_fade_through_plain_layers_and_not_around_them() -> None:
    left = {}
    for kind in CONVOLUTIONAL:
        torch.manual_seed(0)
        signal = signal_through_layers(ConvNet(kind, Copy(), 8, 50), Copy(), *drawn(Copy(), 8, 16))
        assert signal.back[-1] == 50
        left[kind] = signal.norm[-1] / signal.norm[0]
    assert left["plain, torch's start"] < 1e-15
    assert left["residual, batch norm"] > 1
    assert left["plain, batch norm"] > left["residual, batch norm"]


def test_a_net_with_open_gates_learns_to_remember_and_a_simple_rnn_does_not() -> None:
    right = {}
    for kind in ("RNN", "LSTM, open gates"):
        torch.manual_seed(0)
        net = RecurrentNet(kind, Adding(), 16, 60)
        train(net, Adding(), 60, 500, 0.01, seed=0)
        right[kind] = score(net, Adding(), 60, seed=0)["right"]
    assert right["RNN"] < 2 * Adding.chance
    assert right["LSTM, open gates"] > 0.6


# Networks


@pytest.mark.parametrize("kind", RECURRENT)
def test_cells_that_are_followed_are_the_layer_that_is_trained(kind: str) -> None:
    net = RecurrentNet(kind, Copy(), 4, 12)
    x_BTC, _ = drawn(Copy(), 3, 12)
    state = net.unrolled().run(x_BTC.double())[1]
    torch.testing.assert_close(net.answer(state), net(x_BTC).double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", [nn.LSTM, nn.GRU])
def test_open_gates_keep_a_share_that_fits_the_length(mode: type[nn.RNNBase]) -> None:
    layer, length = mode(2, 500), 100
    open_the_gates(layer, length)
    own = {name: weight.detach() for name, weight in layer.named_parameters()}
    bias_G = own["bias_ih_l0"] + own["bias_hh_l0"]
    keep_H = bias_G[500:1000].sigmoid()  # u / (1 + u), u between 1 and length - 1
    assert 0.5 <= keep_H.min() < 0.7
    assert 0.985 < keep_H.max() <= 1 - 1 / length
    others = bias_G[:500] + bias_G[500:1000] if mode is nn.LSTM else bias_G[:500]
    assert torch.equal(others, torch.zeros(500))  # input gates close as forget gates open
    assert torch.equal(bias_G[1000:], torch.zeros_like(bias_G[1000:]))


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_stacks_have_the_depth_that_was_asked_for(kind: str) -> None:
    net = ConvNet(kind, Copy(), 3, 10)
    convolutions = [m for m in net.stages.modules() if isinstance(m, nn.Conv1d)]
    assert len(convolutions) == 10
    assert all(conv.kernel_size == (3,) for conv in convolutions)
    bound = 1 / math.sqrt(3 * 3)  # torch's own start is uniform within it
    within = all((conv.weight.abs() <= bound).all() for conv in convolutions)
    assert within == (kind == "plain, torch's start")


# Tasks


@quick
@given(seeds, st.integers(8, 60))
def test_adding_marks_one_of_the_first_ten_and_one_of_the_first_half(
    seed: int, length: int
) -> None:
    x_BTC, y_B = drawn(Adding(), 50, length, seed)
    number_BT, mark_BT = x_BTC.unbind(dim=2)
    assert torch.equal(mark_BT.sum(dim=1), torch.full((50,), 2.0))
    assert not mark_BT[:, max(10, length // 2) :].any()
    assert mark_BT[:, :10].any(dim=1).all()
    assert number_BT.abs().max() <= 1
    for row in range(50):
        first, second = number_BT[row, mark_BT[row] == 1].tolist()
        assert y_B[row].item() == pytest.approx(0.5 + (first + second) / 4, abs=1e-6)


def test_copying_asks_for_the_first_symbol_at_the_end() -> None:
    x_BTC, y_B = drawn(Copy(), 400, 12)
    assert torch.equal(x_BTC[:, 0, :8].argmax(dim=1), y_B)
    assert torch.equal(x_BTC[:, 0].sum(dim=1), torch.ones(400))
    assert not x_BTC[:, 1:, :8].any()
    assert torch.equal(x_BTC[:, :, 8].nonzero()[:, 1], torch.full((400,), 11))
    assert set(y_B.tolist()) == set(range(8))


def test_right_answers_are_right_and_others_are_not() -> None:
    y_B = torch.tensor([0.5, 0.5, 0.5])
    out_BK = torch.tensor([[0.53], [0.47], [0.55]])
    assert Adding().right(out_BK, y_B).tolist() == [True, True, False]
    assert Copy().right(torch.eye(8)[:3], torch.tensor([0, 1, 3])).tolist() == [True, True, False]


@every_task
def test_the_loss_is_least_for_the_right_answer(task: MemoryTask) -> None:
    _, y_B = drawn(task, 20, 12)
    best = y_B[:, None] if task.outputs == 1 else 20 * torch.eye(8)[y_B]
    wrong = best.flip(1) + 0.3
    assert task.loss(best, y_B).shape == (20,)
    assert task.loss(best, y_B).max() < 1e-6
    assert task.loss(wrong, y_B).sum() > 1


def test_chance_is_what_a_constant_answer_attains() -> None:
    _, y_B = drawn(Adding(), 20_000, 50)
    attained = Adding().right(torch.full((20_000, 1), 0.5), y_B).float().mean().item()
    assert attained == pytest.approx(Adding.chance, abs=0.01)
    _, y_B = drawn(Copy(), 20_000, 8)
    constant = torch.eye(8)[0].expand(20_000, 8)
    assert Copy().right(constant, y_B).float().mean().item() == pytest.approx(0.125, abs=0.01)


# The experiment


def test_the_experiment_tells_every_network_in_plain_json_and_repeats() -> None:
    said: list[str] = []
    random, threads = torch.get_rng_state(), torch.get_num_threads()
    result = run(SMALL, said.append)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_num_threads() == threads
    assert strict_json(json.dumps(result)) == result == run(SMALL, lambda text: None)
    assert len(said) == len(RECURRENT) + len(CONVOLUTIONAL)
    for part, kinds, lengths in (
        ("ticks", RECURRENT, (12, 10)),
        ("layers", CONVOLUTIONAL, (5, 5)),
    ):
        for when, length in zip(("untrained", "trained"), lengths, strict=True):
            assert list(result[part][when]) == list(kinds)
            for kind, signal in result[part][when].items():
                stages = 3 if kind.startswith("residual") else length
                assert len(signal["norm"]) == len(signal["back"]) == stages
        assert all(0 <= one["right"] <= 1 for one in result[part]["trained"].values())


@pytest.mark.parametrize("seed", [0, 1])
def test_seeds_are_told_apart(seed: int) -> None:
    one, other = (
        run(VanishingOptions(**vars(SMALL) | {"seed": which}), lambda text: None)
        for which in (seed, seed + 5)
    )
    for part in ("ticks", "layers"):
        for kind in one[part]["untrained"]:
            assert one[part]["untrained"][kind] != other[part]["untrained"][kind]


def test_options_without_sense_are_refused_all_at_once() -> None:
    with pytest.raises(ValueError, match="--steps 0") as caught:
        check(VanishingOptions(steps=0, ticks=7, depth=9, delay=30, seed=-1))
    for words in ("--ticks 7", "--depth 9 is odd", "too few for --delay 30", "--seed -1"):
        assert words in str(caught.value)
    check(VanishingOptions())
    check(SMALL)
    with pytest.raises(ValueError, match="at least 16"):
        check(VanishingOptions(depth=14))
    check(VanishingOptions(depth=16))


def test_a_signal_that_is_nothing_at_its_source_has_no_shares() -> None:
    assert relative({"norm": [2.0, 1.0, 0.0]}) == [1, 0.5, 0]
    assert all(map(math.isnan, relative({"norm": [0.0, 1.0]})))
