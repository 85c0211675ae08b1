"""Training: it learns, repeats, resumes, stops in time, and keeps the best weights."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers.markets import quick, seeds, tiny_model
from helpers.toys import F, H, one_batch, toy, weights
from nexttick.learn import epochs as training
from nexttick.learn.batches import Runs, cut_runs, gather
from nexttick.learn.checkpoint import EpochRecord, Fitting
from nexttick.learn.epochs import (
    DivergenceError,
    Step,
    TrainingData,
    evaluate_loss,
    fit,
    masked_loss,
    pick_device,
    run_epoch,
    train_step,
    update_average,
)
from nexttick.networks.models import build_model
from nexttick.networks.models.base import TickModel
from nexttick.options import ModelOptions, TrainOptions
from nexttick.prepare.labels import MISSING

OPTIONS = TrainOptions(
    epochs=5, patience=9, lr=0.01, lr_step=2, batch_size=4, segment_length=32, average=0.9
)
TIMING = ("ticks_per_s", "seconds")
MODEL_KINDS = [
    pytest.param(tiny_model("cnn", norm, 0.2), id=f"cnn-{norm}")
    for norm in ("none", "batch", "layer")
] + [
    pytest.param(tiny_model("rnn", dropout=0.2), id="rnn"),
    pytest.param(replace(tiny_model("cnn"), arch="condense", hidden_size=8), id="condense"),
]
every_kind = pytest.mark.parametrize("options", MODEL_KINDS)


pytestmark = pytest.mark.usefixtures("one_thread")


def network(options: ModelOptions | None = None, seed: int = 0) -> TickModel:
    torch.manual_seed(seed)
    return build_model(options or tiny_model(), F, H)


def assert_equal_weights(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def timeless(records: list[EpochRecord]) -> list[dict]:
    return [{k: v for k, v in asdict(one).items() if k not in TIMING} for one in records]


def scripted(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> list[dict[str, Tensor]]:
    """Let validation say these losses, and return what it will have judged."""
    judged: list[dict[str, Tensor]] = []

    def evaluate(model: TickModel, data: TrainingData) -> float:
        judged.append(weights(model))
        return losses[len(judged) - 1]

    monkeypatch.setattr(training, "evaluate_loss", evaluate)
    return judged


# Learning


@every_kind
def test_the_loss_falls_on_what_can_be_learned(options: ModelOptions) -> None:
    model, data = network(replace(options, dropout=0.0, hidden_size=16)), toy(2000)
    records = list(fit(model, data, replace(OPTIONS, epochs=6, lr=0.02)))
    assert records[-1].train_loss < records[0].train_loss
    assert evaluate_loss(model, data) < 0.4  # a coin's is 0.69


def test_noise_is_not_learned() -> None:
    data = toy(2000)
    noise = torch.randn(data.x_NF.shape, generator=torch.Generator().manual_seed(1))
    model = network()
    list(fit(model, replace(data, x_NF=noise), replace(OPTIONS, epochs=2)))
    assert evaluate_loss(model, replace(data, x_NF=noise)) > 0.65


@every_kind
def test_the_same_seed_gives_the_same_weights(options: ModelOptions) -> None:
    runs = []
    for seed in (1, 1, 2):
        model = network(options)
        records = list(fit(model, toy(), replace(OPTIONS, epochs=2, seed=seed)))
        runs.append((timeless(records), weights(model)))
    assert runs[0][0] == runs[1][0] != runs[2][0]
    assert_equal_weights(runs[0][1], runs[1][1])
    assert any(not torch.equal(a, runs[2][1][name]) for name, a in runs[0][1].items())


def test_the_learning_rate_is_cut_as_told() -> None:
    records = list(fit(network(), toy(), replace(OPTIONS, lr_step=2, lr_gamma=0.1)))
    assert [record.lr for record in records] == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4])
    assert [record.epoch for record in records] == [1, 2, 3, 4, 5]


def test_each_step_is_told() -> None:
    steps: list[Step] = []
    records = list(fit(network(), toy(), replace(OPTIONS, epochs=1), on_step=steps.append))
    ticks = [step.ticks for step in steps]
    assert sum(ticks) >= sum(b - a for a, b in toy().train)
    expected = np.average([step.loss for step in steps], weights=ticks)
    assert records[0].train_loss == pytest.approx(expected)
    assert records[0].grad_norm == pytest.approx(np.mean([step.grad_norm for step in steps]))


def test_each_epoch_cuts_and_orders_its_runs_anew() -> None:
    losses: list[list[float]] = [[]]
    options = replace(OPTIONS, epochs=2, batch_size=1, lr=1e-12)  # what differs is what is seen
    for _ in fit(network(), toy(), options, on_step=lambda step: losses[-1].append(step.loss)):
        losses.append([])
    assert len(losses[0]) > 5
    common = set(np.round(losses[0], 6)) & set(np.round(losses[1], 6))
    assert len(common) <= len(toy().train)  # the start of each range is a run in every epoch


# The loss


@quick
@given(seeds, st.floats(0, 0.95))
def test_the_loss_is_the_cross_entropy_of_the_known_labels(seed: int, missing: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, 7, H, generator=generator, dtype=torch.float64)
    y_BKH = (torch.rand(logits.shape, generator=generator) < 0.5).double()
    y_BKH[torch.rand(logits.shape, generator=generator) < missing] = MISSING
    known = y_BKH != MISSING
    if not known.any():
        return
    expected = nn.BCEWithLogitsLoss()(logits[known], y_BKH[known])
    torch.testing.assert_close(masked_loss(logits, y_BKH), expected)


def test_missing_labels_get_no_gradient() -> None:
    logits = torch.randn(2, 5, H, requires_grad=True)
    y_BKH = torch.ones_like(logits).detach()
    y_BKH[0, 2:], y_BKH[1, :, 1] = MISSING, MISSING
    masked_loss(logits, y_BKH).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad == 0, y_BKH == MISSING)


def test_no_label_at_all_is_no_loss_and_no_gradient() -> None:
    logits = torch.randn(2, 5, H, requires_grad=True)
    loss = masked_loss(logits, torch.full_like(logits, MISSING))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_the_validation_loss_is_the_mean_over_all_known_labels() -> None:
    data, model = toy(), network().eval()
    for length in (1, 7, 1024):  # however it is cut
        rows = [row for a, b in data.valid for row in range(a, b)]
        with torch.inference_mode():
            logits = torch.stack(
                [model(data.x_NF[row - model.context + 1 : row + 1][None])[0, 0] for row in rows]
            )
            expected = masked_loss(logits, data.valid_y_NH[rows].float()).item()
        assert evaluate_loss(model, data, length) == pytest.approx(expected, rel=1e-5)


@every_kind
def test_ticks_behind_the_end_of_a_part_do_not_touch_a_step(options: ModelOptions) -> None:
    """The surplus of a run that is cut short is masked: not even batch norm sees what follows."""
    data, context, length = toy(), tiny_model().sequence_length, 32
    stop = 100
    runs = cut_runs([(context - 1, stop)], length)
    assert (runs.last - runs.first).min() < length - 1
    after = []
    for tamper in (False, True):
        x_NF, y_NH = data.x_NF.clone(), data.train_y_NH.clone()
        if tamper:
            x_NF[stop:], y_NH[stop:] = float("nan"), 1
        fitting = Fitting.fresh(network(options), OPTIONS)
        torch.manual_seed(1)
        loss, _ = train_step(fitting, gather(x_NF, y_NH, runs, context, length), 1.0)
        after.append((loss, weights(fitting.model)))
    assert after[0][0] == after[1][0]
    assert_equal_weights(after[0][1], after[1][1])


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_a_masked_surplus_adds_nothing_to_a_step(norm: str) -> None:
    data, model = toy(), network(tiny_model(norm=norm)).double()
    losses = []
    for length in (20, 32):  # 12 predictions more than the run may make
        runs = Runs(np.array([50]), np.array([69]))
        batch = gather(data.x_NF.double(), data.train_y_NH, runs, model.context, length)
        loss = masked_loss(model(batch.x_BTF), batch.y_BKH.double())
        losses.append((loss, torch.autograd.grad(loss, list(model.parameters()))))
    torch.testing.assert_close(losses[0], losses[1])


# Steps


def grad_norm(model: nn.Module) -> float:
    norms = [weight.grad.norm() for weight in model.parameters() if weight.grad is not None]
    return float(torch.stack(norms).norm())


def test_gradients_are_clipped_and_the_norm_before_is_told() -> None:
    free, clipped = (Fitting.fresh(network(), OPTIONS) for _ in "ab")
    _, norm = train_step(free, one_batch(), 1e9)
    assert grad_norm(free.model) == pytest.approx(norm)
    _, same = train_step(clipped, one_batch(), norm / 10)
    assert same == pytest.approx(norm)
    assert grad_norm(clipped.model) == pytest.approx(norm / 10, rel=1e-3)


@pytest.mark.parametrize(("clip_norm", "share"), [(1e-6, 1.0), (1e6, 0.0)])
def test_the_share_of_clipped_steps_is_told(clip_norm: float, share: float) -> None:
    options = replace(OPTIONS, epochs=1, clip_norm=clip_norm)
    (record,) = fit(network(), toy(), options)
    assert record.clipped == share


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@every_kind
def test_a_loss_that_is_not_finite_touches_no_weight(options: ModelOptions, value: float) -> None:
    fitting = Fitting.fresh(network(options), OPTIONS)
    train_step(fitting, one_batch(), 1.0)
    before = [weight.detach().clone() for weight in fitting.model.parameters()]
    batch = one_batch()
    batch.x_BTF[0, 12] = value
    with pytest.raises(DivergenceError, match="--lr") as caught:
        train_step(fitting, batch, 1.0)
    assert "epoch 1" in str(caught.value)
    assert "0.01" in str(caught.value)
    assert all(map(torch.equal, before, fitting.model.parameters()))


@every_kind
def test_a_training_that_diverges_ends_with_its_best_weights(
    options: ModelOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = scripted(monkeypatch, [0.5, 0.6])
    data, model = toy(), network(options)
    training = fit(model, data, OPTIONS)
    assert [next(training).epoch, next(training).epoch] == [1, 2]
    data.x_NF[60] = float("nan")
    with pytest.raises(DivergenceError, match="epoch 3"):
        next(training)
    # A pruned network is another one: its loss does not compete with that of the one before.
    assert_equal_weights(weights(model), judged[1 if model.stages else 0])


# The running mean of the weights


def test_without_averaging_the_last_weights_are_judged() -> None:
    fitting = Fitting.fresh(network(tiny_model(norm="batch")), OPTIONS)
    for _ in range(3):
        train_step(fitting, one_batch(), 1.0)
        update_average(fitting, 0.0)
        assert_equal_weights(weights(fitting.average), weights(fitting.model))


def test_the_average_is_a_running_mean_that_starts_fast() -> None:
    fitting = Fitting.fresh(network(), OPTIONS)
    expected = weights(fitting.model)
    for step in range(1, 13):
        train_step(fitting, one_batch(), 1.0)
        update_average(fitting, 0.5)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in fitting.model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    for name, value in fitting.average.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert not torch.equal(next(fitting.average.parameters()), next(fitting.model.parameters()))


def test_averaging_does_not_change_the_steps() -> None:
    models = []
    for average in (0.0, 0.99):
        options = replace(OPTIONS, average=average)
        fitting = Fitting.fresh(network(), options)
        run_epoch(fitting, toy(), options)
        models.append(weights(fitting.model))
    assert_equal_weights(*models)


# The best epoch


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_the_best_epochs_weights_are_kept(average: float, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = scripted(monkeypatch, [0.6, 0.5, 0.7, 0.5, 0.8])
    model = network()
    records = list(fit(model, toy(), replace(OPTIONS, average=average)))
    assert [record.best for record in records] == [True, True, False, False, False]
    assert_equal_weights(weights(model), judged[1])
    assert not torch.equal(judged[1]["head.weight"], judged[4]["head.weight"])
    assert not model.training


@pytest.mark.parametrize(
    ("losses", "epochs"),
    [
        ([0.5, 0.6, 0.7, 0.4], 3),
        ([0.5, 0.6, 0.4, 0.5, 0.3], 5),
        ([0.5, 0.5, 0.5, 0.1], 3),
        ([0.5, 0.4, 0.3, 0.2, 0.1], 5),
    ],
)
def test_training_stops_when_patience_ends(
    losses: list[float], epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, losses)
    records = list(fit(network(), toy(), replace(OPTIONS, patience=2)))
    assert [record.valid_loss for record in records] == losses[:epochs]


def test_closed_early_a_training_leaves_its_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = scripted(monkeypatch, [0.5, 0.6, 0.7])
    model = network()
    training = fit(model, toy(), OPTIONS)
    for _ in range(3):
        next(training)
    training.close()  # type: ignore[attr-defined]
    assert_equal_weights(weights(model), judged[0])
    assert not model.training


class Killed(BaseException):
    """As abrupt as Ctrl-C."""


def kill_after(steps: int) -> training.OnStep:
    seen: list[Step] = []

    def on_step(step: Step) -> None:
        seen.append(step)
        if len(seen) == steps:
            raise Killed

    return on_step


def test_interrupted_in_an_epoch_a_training_leaves_its_best_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged = scripted(monkeypatch, [0.5, 0.6, 0.7])
    model = network()
    with pytest.raises(Killed):
        list(fit(model, toy(), OPTIONS, on_step=kill_after(9)))
    assert 1 <= len(judged) < OPTIONS.epochs
    assert_equal_weights(weights(model), judged[0])


# A network that changes while it trains

CONDENSE = replace(tiny_model("cnn"), arch="condense", hidden_size=8)


def test_a_condensing_network_is_pruned_in_stages_in_the_first_half() -> None:
    records = list(fit(network(CONDENSE), toy(), replace(OPTIONS, epochs=9)))
    assert [record.stage for record in records] == [0, 0, 1, 2, 2, 3, 3, 3, 3]


def test_the_best_epoch_is_one_of_the_network_as_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(CONDENSE)
    judged = scripted(monkeypatch, [0.1, 0.2, 0.9, 0.7, 0.8])
    records = list(fit(model, toy(), OPTIONS))
    assert [record.stage for record in records] == [0, 1, 2, 3, 3]
    assert [record.best for record in records] == [True, True, True, True, False]
    assert_equal_weights(weights(model), judged[3])
    assert model.stage == model.stages == 3


def test_patience_waits_until_the_network_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.1 + 0.01 * epoch for epoch in range(20)])
    records = list(fit(network(CONDENSE), toy(), replace(OPTIONS, epochs=20, patience=2)))
    assert [record.stage for record in records][-3:] == [3, 3, 3]


def test_the_penalty_joins_the_gradient_and_not_the_loss_that_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = []
    for strength in (0.0, 100.0):
        monkeypatch.setattr("nexttick.networks.models.cnn._LASSO", strength)
        told.append(step_on(network(CONDENSE)))
    assert told[0].loss == told[1].loss
    assert told[1].grad_norm > told[0].grad_norm + 1


def step_on(model: TickModel) -> Step:
    data, runs = toy(), cut_runs(toy().train, 32)
    batch = gather(data.x_NF, data.train_y_NH, runs, model.context, 32)
    loss, norm = train_step(Fitting.fresh(model, OPTIONS), batch, OPTIONS.clip_norm)
    return Step(0, loss, norm)


# Going on


def uninterrupted(options: ModelOptions) -> tuple[list[dict], dict[str, Tensor]]:
    model = network(options)
    records = list(fit(model, toy(), OPTIONS))
    return timeless(records), weights(model)


@every_kind
def test_a_resumed_training_ends_as_one_that_was_never_stopped(
    options: ModelOptions, tmp_path: Path
) -> None:
    records, expected = uninterrupted(options)
    for epochs in range(1, OPTIONS.epochs):
        checkpoint = tmp_path / f"{epochs}.safetensors"
        stopped = fit(network(options), toy(), OPTIONS, checkpoint)
        list(islice(stopped, epochs))
        stopped.close()
        model = network(options, seed=99)  # whatever a new process starts with
        resumed = list(fit(model, toy(), OPTIONS, checkpoint))
        assert timeless(resumed) == records
        assert_equal_weights(weights(model), expected)


@pytest.mark.parametrize("steps", [2, 7, 15])
@every_kind
def test_a_training_killed_in_an_epoch_repeats_that_epoch(
    options: ModelOptions, steps: int, tmp_path: Path
) -> None:
    records, expected = uninterrupted(options)
    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Killed):
        list(fit(network(options), toy(), OPTIONS, checkpoint, kill_after(steps)))
    # Killed before its first epoch ended, a training begins anew, as the same one.
    model = network(options, seed=99 if checkpoint.exists() else 0)
    assert timeless(list(fit(model, toy(), OPTIONS, checkpoint))) == records
    assert_equal_weights(weights(model), expected)


def test_a_finished_training_is_only_told_again(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    model, again = network(), network(seed=99)
    records = list(fit(model, toy(), OPTIONS, checkpoint))
    before = checkpoint.read_bytes()
    steps: list[Step] = []
    assert list(fit(again, toy(), OPTIONS, checkpoint, steps.append)) == records
    assert_equal_weights(weights(again), weights(model))
    assert steps == []
    assert checkpoint.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]


def test_patience_counts_the_epochs_of_an_earlier_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    scripted(monkeypatch, [0.5, 0.6, 0.7])
    options = replace(OPTIONS, patience=2)
    list(fit(network(), toy(), replace(options, epochs=2), checkpoint))
    scripted(monkeypatch, [0.7, 0.1])
    assert len(list(fit(network(), toy(), options, checkpoint))) == 3


def test_validation_leaves_the_training_as_it_was() -> None:
    """Judging draws no random number and changes no weight, running statistics included."""
    model, data = network(tiny_model(norm="batch", dropout=0.5)), toy()
    before, state = copy.deepcopy(weights(model)), torch.get_rng_state()
    evaluate_loss(model, data)
    assert_equal_weights(weights(model), before)
    assert torch.equal(torch.get_rng_state(), state)


# Devices


def test_devices_are_taken_by_their_name_and_unknown_ones_refused() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ValueError, match=r"--device 'gpu'.*try auto or cpu"):
        pick_device("gpu")
