"""The monitor: it changes nothing, its figures are right, and its verdicts name what is wrong."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers.console import TINY, call, done, log_records, strict_json
from helpers.markets import quick, simulated_ticks, tiny_model
from helpers.toys import one_batch, toy, weights
from nexttick.learn.checkpoint import EpochRecord, Fitting
from nexttick.learn.epochs import DivergenceError, TrainingData, fit, run_epoch, train_step
from nexttick.learn.train import training_data
from nexttick.networks.gradients.gates import by_tick, is_saturated, watch_gates
from nexttick.networks.gradients.monitor import Monitor, layer_weights
from nexttick.networks.gradients.verdicts import COIN, Epoch, verdicts_of
from nexttick.networks.layers import ConvBlock, Residual
from nexttick.networks.layers.normalisation import ChannelNorm
from nexttick.networks.layers.recurrent import CELLS, Recurrent
from nexttick.networks.models import build_model
from nexttick.networks.models.base import State, TickModel
from nexttick.options import ModelOptions, Recipe, TrainOptions
from nexttick.prepare.dataset import prepare_ticks
from nexttick.ticks.writing import write_table

F, H = 4, 2
OPTIONS = TrainOptions(epochs=2, lr=0.01, batch_size=4, segment_length=32, clip_norm=0.3)


class Pure(TickModel):
    """Unrolled cells and a head, burn-in and all."""

    def __init__(self, cell: str):
        super().__init__()
        self.context = 8
        self.stack = Recurrent(F, 5, cell, 2, dropout=0.2)
        self.head = nn.Linear(5, H)

    def forward(self, x_BTF: Tensor) -> Tensor:
        return self.head(self.stack.run(x_BTF)[0][:, self.context - 1 :])

    def initial_state(self, batch: int) -> State:
        return self.stack.initial_state(batch)

    def step(self, x_BF: Tensor, state: State) -> tuple[Tensor, State]:
        h_BC, state = self.stack.step(x_BF, state)
        return self.head(h_BC), state


KINDS = ["cnn-none", "cnn-batch", "cnn-layer", "rnn", *(f"pure-{cell}" for cell in CELLS)]
every_kind = pytest.mark.parametrize("kind", KINDS)


pytestmark = pytest.mark.usefixtures("one_thread")


def network(kind: str, seed: int = 0) -> TickModel:
    torch.manual_seed(seed)
    family, _, which = kind.partition("-")
    if family == "pure":
        return Pure(which)
    return build_model(tiny_model(family, which or "layer", dropout=0.2), F, H)


def fitting_of(model: TickModel, every: int) -> Fitting:
    fitting = Fitting.fresh(model, OPTIONS)
    fitting.monitor = Monitor(model, every)
    return fitting


def hooks(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )


def stepped(model: nn.Module, loss_of: Any, lr: float = 0.1) -> dict[str, Any]:
    """The layers of a report on one step of SGD, looked at."""
    monitor = Monitor(model, every=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    monitor.before_step()
    optimizer.zero_grad()
    loss = loss_of(model)
    loss.backward()
    monitor.after_backward()
    optimizer.step()
    monitor.after_step()
    return monitor.report([loss.item()], [1.0])["layers"]


# It changes nothing


@every_kind
def test_training_is_the_same_with_and_without_a_monitor(kind: str) -> None:
    """To the last bit, at every step looked at: weights, their mean, and the random numbers."""
    after = []
    for every in (0, 1, 3):
        fitting = fitting_of(network(kind), every)
        record = run_epoch(fitting, toy(), OPTIONS)
        random = torch.get_rng_state()
        after.append((record, weights(fitting.model), weights(fitting.average), random))
    for record, model, average, random in after[1:]:
        assert (record.train_loss, record.grad_norm) == (
            after[0][0].train_loss,
            after[0][0].grad_norm,
        )
        assert all(torch.equal(value, after[0][1][name]) for name, value in model.items())
        assert all(torch.equal(value, after[0][2][name]) for name, value in average.items())
        assert torch.equal(random, after[0][3])
    assert after[0][0].health["layers"] == {}
    assert after[1][0].health["looks"] > after[2][0].health["looks"] > 0


@every_kind
def test_making_a_monitor_draws_no_random_number(kind: str) -> None:
    model = network(kind)
    before = torch.get_rng_state()
    Monitor(model)
    assert torch.equal(torch.get_rng_state(), before)


@every_kind
def test_no_hook_stays_on_the_model(kind: str) -> None:
    model = network(kind)
    fitting = fitting_of(model, every=2)
    run_epoch(fitting, toy(), OPTIONS)
    assert hooks(model) == 0
    batch = one_batch()
    batch.x_BTF[0, 12] = math.nan
    fitting.monitor.report([1.0], [1.0])  # so that the next step is looked at
    with pytest.raises(DivergenceError):
        train_step(fitting, batch, 1.0)
    assert hooks(model) > 0
    fitting.monitor.close()
    assert hooks(model) == 0


@every_kind
def test_a_training_that_diverges_leaves_a_model_without_hooks(kind: str) -> None:
    data, model = toy(), network(kind)
    data.x_NF[60] = math.nan
    with pytest.raises(DivergenceError):
        list(fit(model, data, OPTIONS))
    assert hooks(model) == 0


# Its figures


@every_kind
def test_the_norms_of_the_layers_make_up_the_norm_before_clipping(kind: str) -> None:
    fitting = fitting_of(network(kind), every=1)
    loss, norm = train_step(fitting, one_batch(), clip_norm=1e-3)
    layers = fitting.monitor.report([loss], [norm], 1e-3)["layers"]
    norms = [layer["grad_norm"] for layer in layers.values() if "grad_norm" in layer]
    assert len(norms) == len(layer_weights(fitting.model))
    assert math.hypot(*norms) == pytest.approx(norm, rel=1e-3)


@every_kind
def test_an_update_is_told_as_a_share_of_the_weights(kind: str) -> None:
    fitting = fitting_of(network(kind), every=1)
    before = weights(fitting.model)
    loss, norm = train_step(fitting, one_batch(), 1.0)
    layers = fitting.monitor.report([loss], [norm])["layers"]
    names = {id(weight): name for name, weight in fitting.model.named_parameters()}
    for layer, own in layer_weights(fitting.model).items():
        old = torch.cat([before[names[id(weight)]].flatten() for weight in own])
        new = torch.cat([weight.detach().flatten() for weight in own])
        expected = float((new - old).norm() / old.norm())
        assert layers[layer]["update_ratio"] == pytest.approx(expected, rel=1e-3)


def test_layers_are_modules_with_weights_and_stacks_are_told_layer_by_layer() -> None:
    assert list(layer_weights(network("rnn"))) == ["encoder.linear", "LSTM.0", "LSTM.1", "head"]
    assert all(len(layer_weights(network("rnn"))[f"LSTM.{k}"]) == 4 for k in (0, 1))
    frozen = network("cnn-none")
    frozen.requires_grad_(False)
    assert layer_weights(frozen) == {}
    assert list(layer_weights(nn.Linear(2, 2))) == ["Linear"]


@pytest.mark.parametrize("kind", [nn.ReLU, nn.LeakyReLU])
@pytest.mark.parametrize("convolution", [False, True])
def test_a_unit_that_is_never_positive_is_dead(kind: type[nn.Module], convolution: bool) -> None:
    layer = nn.Conv1d(3, 8, 2) if convolution else nn.Linear(3, 8)
    model = nn.Sequential(layer, kind())
    with torch.no_grad():
        layer.bias[:3] = -1e3
        layer.bias[3:] = 1e3
    x = torch.randn(2, 3, 5) if convolution else torch.randn(2, 5, 3)
    layers = stepped(model, lambda net: net(x).square().mean(), lr=1e-9)
    assert layers["1"] == {"dead": 0.375}


class Turned(nn.Module):
    """Ticks first out of a linear layer, channels first out of a norm."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.linear, self.norm, self.relu = nn.Linear(3, 4), norm, nn.ReLU()

    def forward(self, x_BTF: Tensor) -> Tensor:
        return self.relu(self.norm(self.linear(x_BTF).transpose(1, 2)))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, ChannelNorm])
def test_channels_are_where_the_layer_before_left_them(norm: type[nn.Module]) -> None:
    model = Turned(norm(4))
    with torch.no_grad():
        model.norm.bias.copy_(torch.tensor([50.0, 50.0, 50.0, -50.0]))
    seen = stepped(model, lambda net: net(torch.randn(2, 6, 3)).sum(), lr=1e-12)
    assert seen["relu"]["dead"] == 0.25


def test_a_unit_that_is_positive_once_lives() -> None:
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU())
    with torch.no_grad():
        model[0].weight.fill_(1)
        model[0].bias.copy_(torch.tensor([0.0, -50.0]))
    x = torch.full((4, 9, 1), -1.0)
    x[3, 7] = 10
    assert stepped(model, lambda net: net(x).sum(), lr=1e-9)["1"]["dead"] == 0.5


def test_one_relu_behind_layers_of_several_widths_counts_the_units_of_all() -> None:
    model = nn.ModuleDict({"a": nn.Linear(1, 3), "b": nn.Linear(3, 5), "relu": nn.ReLU()})
    with torch.no_grad():
        model["a"].bias.copy_(torch.tensor([-1e3, 1e3, 1e3]))
        model["b"].weight.zero_()
        model["b"].bias.copy_(torch.tensor([-1.0, -1.0, -1.0, 1.0, 1.0]))

    def loss(net: nn.ModuleDict) -> Tensor:
        return net["relu"](net["b"](net["relu"](net["a"](torch.ones(2, 1))))).sum()

    assert stepped(model, loss, lr=1e-12)["relu"]["dead"] == 0.5


def test_a_unit_by_itself_may_be_rectified() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    assert 0 <= stepped(model, lambda net: net(torch.ones(2)).sum())["1"]["dead"] <= 1


def test_residual_blocks_end_in_a_relu_of_their_own() -> None:
    model = nn.Sequential(ConvBlock(2, 4, norm="none"), Residual(4, 4, norm="none"))
    with torch.no_grad():
        for module in model[1].path.modules():
            if isinstance(module, nn.Conv1d):
                module.weight.zero_()
                module.bias.zero_()
        model[0].path.layers[0].layer.weight.zero_()
        model[0].path.layers[0].layer.bias.copy_(torch.tensor([1.0, 1.0, 1.0, -1e3]))
    x = torch.randn(2, 2, 6)
    assert stepped(model, lambda net: net(x).sum(), lr=1e-12)["1"]["dead"] == 0.25


@quick
@given(st.floats(-12, 12))
def test_saturated_is_a_slope_below_a_tenth_of_the_steepest(value: float) -> None:
    for squash, steepest, tanh in ((torch.tanh, 1.0, True), (torch.sigmoid, 0.25, False)):
        x = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(squash(x), x)
        assert bool(is_saturated(squash(x.detach()), tanh=tanh)) == (slope.item() < steepest / 10)


def test_modules_that_squash_are_looked_at_too() -> None:
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 2), nn.Sigmoid())
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.copy_(torch.tensor([0.0, 1.0, 2.0, -9.0]))
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([3.0, 4.0]))
    layers = stepped(model, lambda net: net(torch.ones(3, 1)).sum(), lr=1e-9)
    assert (layers["1"]["saturated"], layers["3"]["saturated"]) == (0.5, 0.5)


def brute_gates(layer: nn.RNNBase, k: int, x_TC: Tensor, h_TC: Tensor) -> dict[str, Tensor]:
    """The gates of layer k as torch's documentation writes them, given all of its states."""
    own = {name: weight.detach() for name, weight in layer.named_parameters()}
    w_x, w_h = own[f"weight_ih_l{k}"], own[f"weight_hh_l{k}"]
    b_x, b_h = own[f"bias_ih_l{k}"], own[f"bias_hh_l{k}"]
    past_TC = torch.cat([torch.zeros_like(h_TC[:1]), h_TC[:-1]])
    from_x, from_h = x_TC @ w_x.T + b_x, past_TC @ w_h.T + b_h
    if layer.mode == "LSTM":
        i, f, g, o = (from_x + from_h).chunk(4, dim=1)
        gates = {"input": i.sigmoid(), "forget": f.sigmoid(), "output": o.sigmoid()}
        return gates | {"candidate": g.tanh()}
    if layer.mode == "GRU":
        r_x, z_x, n_x = from_x.chunk(3, dim=1)
        r_h, z_h, n_h = from_h.chunk(3, dim=1)
        r = (r_x + r_h).sigmoid()
        return {"reset": r, "update": (z_x + z_h).sigmoid(), "candidate": (n_x + r * n_h).tanh()}
    return {"candidate": (from_x + from_h).tanh()}


@pytest.mark.parametrize("mode", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("fused", [True, False])
def test_gates_are_those_of_the_equations(mode: str, fused: bool) -> None:
    """Two layers at 17 ticks, fused or as cells, against torch's own states and formulas."""
    torch.manual_seed(3)
    layer = getattr(nn, mode)(3, 6, 2, batch_first=True)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.mul_(3)  # so that some are saturated and some are not
    stack = Recurrent(3, 6, mode.lower(), 2).load_torch(layer)
    x_BTC = torch.randn(4, 17, 3)
    model = nn.ModuleDict({"stack": layer if fused else stack})
    seen = stepped(model, lambda net: (layer(x_BTC) if fused else stack.run(x_BTC))[0].sum(), 1e-12)
    below = getattr(nn, mode)(3, 6, batch_first=True)
    below.load_state_dict({k: v for k, v in layer.state_dict().items() if k.endswith("l0")})
    h_0, h_1 = below(x_BTC)[0][0].detach(), layer(x_BTC)[0][0].detach()
    for k, (x, h) in enumerate(((x_BTC[0], h_0), (h_0, h_1))):
        gates = brute_gates(layer, k, x, h)
        measures = seen[f"stack.{k}" if fused else f"stack.cells.{k}"]
        slopes = {
            name: 1 - g**2 if name == "candidate" else 4 * g * (1 - g) for name, g in gates.items()
        }
        for name, slope in slopes.items():
            share = (slope < 0.1).double().mean().item()
            assert measures[f"saturated_{name}"] == pytest.approx(share, abs=1e-4)
        together = (torch.cat(list(slopes.values()), dim=1) < 0.1).double()
        assert 0 < measures["saturated"] < 1
        assert measures["saturated"] == pytest.approx(together.mean().item(), abs=1e-4)
        back = {"0": 16, "1": 15, "2": 14, "4": 12, "8": 8, "16": 0}
        assert measures["saturated_by_tick"].keys() == back.keys()
        for ticks, row in back.items():
            expected = together[row].mean().item()
            assert measures["saturated_by_tick"][ticks] == pytest.approx(expected, abs=1e-4)


def test_a_gru_that_resets_before_its_matrix_tells_its_two_gates() -> None:
    stack = Recurrent(2, 3, "gru", reset="before")
    seen = stepped(stack, lambda net: net.run(torch.randn(2, 5, 2))[0].sum())
    assert {"saturated_reset", "saturated_update"} <= seen["cells.0"].keys()
    assert "saturated_candidate" not in seen["cells.0"]


@pytest.mark.parametrize("mode", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("named", [True, False])
def test_a_state_that_is_carried_in_counts(mode: str, named: bool) -> None:
    torch.manual_seed(5)
    layer = getattr(nn, mode)(3, 6, batch_first=True)
    x_BTC = torch.randn(2, 4, 3)
    far = torch.full((1, 2, 6), 40.0)
    state = (far, far) if mode == "LSTM" else far
    call = {"input": x_BTC, "hx": state}

    def loss(net: nn.Module) -> Tensor:
        return (net(**call) if named else net(x_BTC, state))[0].sum()

    seen = stepped(layer, loss, lr=1e-12)[f"{mode}.0"]
    fresh = stepped(layer, lambda net: net(x_BTC)[0].sum(), lr=1e-12)[f"{mode}.0"]
    assert seen["saturated_by_tick"]["3"] > 0.5 > fresh["saturated_by_tick"]["3"]


@pytest.mark.parametrize("fused", [True, False])
def test_the_error_signal_by_tick_is_the_gradient_of_what_goes_in(fused: bool) -> None:
    torch.manual_seed(1)
    scale, layer, head = nn.Linear(2, 3), nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 1)
    stack = Recurrent(3, 4, "lstm").load_torch(layer)
    model = nn.ModuleDict({"scale": scale, "stack": layer if fused else stack, "head": head})
    x_BTC = torch.randn(5, 6, 2)

    def error(inputs: Tensor) -> Tensor:
        h_BTC, _ = layer(inputs) if fused else stack.run(inputs)
        return head(h_BTC[:, -1]).mean()

    seen = stepped(model, lambda net: error(scale(x_BTC)), lr=1e-12)
    inputs = scale(x_BTC).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(error(inputs), inputs)
    expected = gradient.norm(dim=2).mean(dim=0).flip(0)
    seen = seen["stack.0" if fused else "stack.cells.0"]["error_by_tick"]
    assert list(seen) == ["0", "1", "2", "4", "5"]
    for ticks, value in seen.items():
        assert value == pytest.approx(expected[int(ticks)].item(), rel=1e-3)


def test_the_error_signal_is_that_of_the_burn_in() -> None:
    """The first of the stretches that truncation makes; its newest tick alone has a loss."""
    model = network("rnn")
    fitting = fitting_of(model, every=1)
    train_step(fitting, one_batch(), 1.0)
    seen = fitting.monitor.report([1.0], [1.0])["layers"]["LSTM.0"]["error_by_tick"]
    assert list(seen) == ["0", "1", "2", "4", "7"]
    assert seen["0"] > seen["7"] > 0


def test_ticks_are_told_at_powers_of_two_and_at_the_oldest() -> None:
    assert by_tick(torch.arange(6.0)) == {"0": 5, "1": 4, "2": 3, "4": 1, "5": 0}
    assert by_tick(torch.tensor([7.0])) == {"0": 7}
    assert list(by_tick(torch.zeros(33))) == ["0", "1", "2", "4", "8", "16", "32"]


def test_layers_whose_gates_are_not_known_are_left_alone() -> None:
    strange = [
        nn.RNN(2, 3, nonlinearity="relu"),
        nn.LSTM(2, 3, bidirectional=True),
        nn.LSTM(2, 3, proj_size=2),
        nn.GRU(2, 3, bias=False),
    ]
    for layer in strange:
        assert watch_gates(layer) == []
    seen = stepped(nn.LSTM(2, 3), lambda net: net(torch.randn(7, 2))[0].sum())  # no batch
    assert seen.keys() == {"LSTM.0"}
    assert "saturated" not in seen["LSTM.0"]
    seen = stepped(nn.LSTM(2, 3), lambda net: net(torch.randn(7, 4, 2))[0].sum())  # ticks first
    assert len(seen["LSTM.0"]["saturated_by_tick"]) == 5  # of 7 ticks: 0, 1, 2, 4, 6


# Looks and reports


def test_every_nth_step_is_looked_at_and_each_epoch_begins_anew() -> None:
    fitting = fitting_of(network("cnn-none"), every=3)
    monitor = fitting.monitor
    for steps, looks in ((1, 1), (3, 1), (4, 2), (7, 3)):
        for _ in range(steps):
            train_step(fitting, one_batch(), 1.0)
        assert monitor.report([1.0] * steps, [1.0] * steps)["looks"] == looks


def test_a_step_that_was_cut_short_is_forgotten() -> None:
    model = nn.Linear(2, 1)
    monitor = Monitor(model, every=1)
    monitor.before_step()
    monitor.before_step()
    model(torch.ones(1, 2)).sum().backward()
    monitor.after_backward()
    monitor.after_step()
    assert monitor.report([1.0], [1.0])["looks"] == 1


def test_a_report_tells_medians_over_its_looks_in_plain_json() -> None:
    model = nn.Linear(1, 1, bias=False)
    monitor = Monitor(model, every=1)
    for gradient in (3.0, 1.0, 100.0):
        monitor.before_step()
        model.weight.grad = torch.full((1, 1), gradient)
        monitor.after_backward()
        monitor.after_step()
    report = monitor.report([0.5] * 3, [1.0] * 3)
    assert report["layers"] == {"Linear": {"grad_norm": 3.0, "update_ratio": 0.0}}
    assert report.keys() == {"verdict", "words", "looks", "layers"}


def test_what_is_not_finite_has_no_figure() -> None:
    model = nn.Linear(1, 1, bias=False)
    monitor = Monitor(model, every=1)
    monitor.before_step()
    model.weight.grad = torch.full((1, 1), math.inf)
    monitor.after_backward()
    monitor.after_step()
    report = monitor.report([math.nan], [math.inf])
    assert report["layers"]["Linear"]["grad_norm"] is None
    assert report["verdict"] == "exploding"


def test_nothing_can_be_said_of_no_step() -> None:
    with pytest.raises(ValueError, match="no step"):
        Monitor(nn.Linear(1, 1)).report([], [])


# Verdicts

CALM = np.full(40, 0.6), np.full(40, 0.5)


def judged(
    losses: Any = CALM[0],
    norms: Any = CALM[1],
    clip_norm: float = 1.0,
    looks: int = 9,
    **layers: Any,
) -> dict[str, str]:
    return verdicts_of(Epoch(np.asarray(losses), np.asarray(norms), clip_norm, layers, looks))


def test_a_calm_epoch_has_no_verdict() -> None:
    assert judged() == {}
    fine = {"grad_norm": 0.1, "update_ratio": 1e-3, "saturated": 0.5, "dead": 0.3}
    assert judged(a=fine, b=fine | {"grad_norm": 0.01}) == {}


def test_most_steps_clipped_is_no_explosion_where_the_norm_falls() -> None:
    """A CNN that learns well begins like this."""
    assert judged(norms=np.linspace(4, 0.6, 40)) == {}


def test_a_norm_that_grows_under_the_clip_explodes() -> None:
    norms = np.concatenate([np.full(30, 0.4), np.full(20, 7.0)])
    words = judged(norms=norms)["exploding"]
    assert words == (
        "the gradient explodes: 40 % of steps clipped, the gradient's norm up to 7; "
        "lower --lr or --clip-norm"
    )
    assert judged(norms=norms, clip_norm=10.0) == {}


@pytest.mark.parametrize("loss", [4.1 * COIN, 3e7, math.inf, math.nan])
def test_a_loss_far_above_a_coins_explodes(loss: float) -> None:
    words = judged(losses=np.full(40, loss))["exploding"]
    assert words.startswith("the loss explodes")
    assert "no step clipped" in words
    assert "lower --lr" in words
    assert judged(losses=np.full(40, 3.9 * COIN)) == {}


def test_a_huge_norm_explodes_whatever_clips_it() -> None:
    assert "exploding" in judged(norms=np.full(40, 101.0), clip_norm=math.inf)
    assert judged(norms=np.full(40, 99.0), clip_norm=math.inf) == {}


@pytest.mark.parametrize(
    ("measures", "name", "says"),
    [
        ({"grad_norm": 9e-6}, "vanishing", ("that of b is 9e-05 of that of a", "--num-layers")),
        ({"grad_norm": 0.0}, "vanishing", ("that of b is 0 of that of a",)),
        ({"saturated": 0.96}, "saturated", ("96 % of the gates of b are", "--lr", "--bins 0")),
        ({"dead": 0.81}, "dead", ("81 % of the units of b are", "--lr", "--norm batch")),
        ({"update_ratio": 0.21}, "too fast", ("weights of b by 21 %", "lower --lr")),
    ],
)
def test_each_verdict_names_the_layer_and_a_cure(
    measures: dict[str, float], name: str, says: tuple[str, ...]
) -> None:
    usual = {"grad_norm": 0.1, "update_ratio": 1e-3, "saturated": 0.1, "dead": 0.1}
    verdicts = judged(a=usual, b=usual | measures, c=usual)
    assert verdicts.keys() == {name}
    assert all(part in verdicts[name] for part in says)


@pytest.mark.parametrize(
    "measures", [{"grad_norm": 1.1e-5}, {"saturated": 0.95}, {"dead": 0.8}, {"update_ratio": 0.2}]
)
def test_the_limits_themselves_are_healthy(measures: dict[str, float]) -> None:
    usual = {"grad_norm": 0.1, "update_ratio": 1e-3, "saturated": 0.1, "dead": 0.1}
    assert judged(a=usual, b=usual | measures) == {}


def test_other_layers_beyond_the_limit_are_counted() -> None:
    layers = {name: {"dead": share} for name, share in (("a", 0.85), ("b", 0.95), ("c", 0.9))}
    assert "95 % of the units of b (and many of 2 other layers)" in judged(**layers)["dead"]


def test_weights_that_stand_still_are_frozen_unless_something_graver_is_why() -> None:
    still = {"a": {"update_ratio": 1e-6}, "b": {"update_ratio": 9e-6}, "c": {"update_ratio": 0.1}}
    verdicts = judged(**still)
    assert verdicts.keys() == {"frozen"}
    assert "9e-06" in verdicts["frozen"]
    assert "raise --lr" in verdicts["frozen"]
    assert judged(**still, d={"saturated": 1.0}).keys() == {"saturated"}


def test_two_looks_are_too_few_to_say_that_steps_are_too_large() -> None:
    layers = {"a": {"update_ratio": 0.5}}
    assert judged(looks=2, **layers) == {}
    assert judged(looks=3, **layers).keys() == {"too fast"}


def test_figures_that_are_missing_are_no_verdict() -> None:
    assert judged(a={"grad_norm": None, "update_ratio": None, "dead": None}) == {}


# In every training


def test_each_epoch_keeps_its_health_in_plain_json() -> None:
    records = list(fit(network("rnn"), toy(), OPTIONS))
    for record in records:
        assert record.health["verdict"] == "healthy"
        assert strict_json(json.dumps(asdict(record)))["health"] == record.health
    assert {"grad_norm", "update_ratio", "saturated"} <= records[0].health["layers"][
        "LSTM.0"
    ].keys()


def test_a_checkpoint_keeps_the_health_of_its_epochs(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    records = list(fit(network("rnn"), toy(), OPTIONS, checkpoint))
    fitting = Fitting.fresh(network("rnn"), OPTIONS)
    fitting.load(checkpoint)
    assert fitting.records == records


def test_records_from_before_there_was_health_are_read() -> None:
    values = asdict(next(iter(fit(network("cnn-none"), toy(), OPTIONS))))
    del values["health"]
    assert EpochRecord(**values).health == {}


def market(n: int) -> TrainingData:
    prepared = prepare_ticks(simulated_ticks(n), Recipe())
    return training_data(prepared, build_model(ModelOptions(), 48, 2), torch.device("cpu"))


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
def test_what_goes_wrong_in_a_real_training_is_named(kind: str) -> None:
    data = market(3000)
    verdicts = {}
    for lr in (1e-8, 4e-3, 4.0):
        torch.manual_seed(0)
        model = build_model(ModelOptions(type=kind, hidden_size=16), 48, 2)
        (record,) = fit(model, data, TrainOptions(epochs=1, lr=lr, segment_length=32))
        verdicts[lr] = record.health["verdict"]
    assert verdicts[1e-8] == "frozen"
    assert verdicts[4e-3] == "healthy"
    assert verdicts[4.0].startswith("exploding")


def test_an_epochs_line_says_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    write_table(simulated_ticks(1500), tmp_path / "ticks.parquet")
    out = ("--out", tmp_path / "run", "--overwrite")
    healthy = done("train", *TINY, tmp_path / "ticks.parquet", *out)
    assert [one["health"]["verdict"] for one in log_records(tmp_path / "run")] == ["healthy"] * 2
    assert "--lr" not in healthy.out
    said = call("train", *TINY, "--lr", "4", tmp_path / "ticks.parquet", *out)
    assert said.code == 0
    assert "the loss explodes" in said.out
    assert "lower --lr or --clip-norm" in said.out
    quiet = call("train", *TINY, "--lr", "4", tmp_path / "ticks.parquet", *out, "--quiet")
    assert "explodes" not in quiet.out


# The lecture's program of 2018


class LectureCNN(nn.Sequential):
    """Four times convolution, batch norm and LeakyReLU, then one linear layer over all ticks."""

    def __init__(self, length: int):
        blocks = [
            ConvBlock(2 if k == 0 else 64, 64, 5, norm="batch", padding="symmetric")
            for k in range(4)
        ]
        super().__init__(*blocks, nn.Flatten(), nn.Linear(64 * length, 1))


def test_the_lectures_defaults_are_caught_in_their_first_epoch() -> None:
    """SGD, learning rate 4, weight decay 0.1, batches of 64: its loss explodes, by name."""
    length, rng = 32, np.random.default_rng(0)
    table = simulated_ticks(4000)
    x_NF = table.select("price", "amount").to_numpy()
    x_NF = (x_NF - x_NF.mean(axis=0)) / x_NF.std(axis=0)
    price = table["price"].to_numpy()
    starts = rng.permutation(int(0.8 * len(price)) - length - 1)
    rise = torch.from_numpy(price[length + 1 :] > price[length:-1]).float()
    windows = torch.from_numpy(x_NF).float().unfold(0, length, 1)  # (N - 31, F, L)
    torch.manual_seed(0)
    model = LectureCNN(length)
    positive = rise[starts].mean()
    criterion = nn.BCEWithLogitsLoss(pos_weight=(1 - positive) / positive)
    optimizer = torch.optim.SGD(model.parameters(), lr=4, weight_decay=0.1)
    monitor, losses, norms = Monitor(model), [], []
    for chosen in torch.from_numpy(starts).split(64):
        monitor.before_step()
        optimizer.zero_grad()
        loss = criterion(model(windows[chosen])[:, 0], rise[chosen])
        loss.backward()
        monitor.after_backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), math.inf).item())
        optimizer.step()
        monitor.after_step()
        losses.append(loss.item())
    health = monitor.report(losses, norms)
    assert losses[0] < 2 * COIN
    assert np.mean(losses) > 1e3
    assert "exploding" in health["verdict"]
    assert health["words"][0].startswith("the loss explodes")
    assert "--lr" in health["words"][0]
