"""One contract for every model: dense = windowed = step = stream, and nothing sees the future."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from helpers.markets import few, quick, seeds
from nexttick.learn.epochs import masked_loss
from nexttick.networks.layers.normalisation import ChannelNorm
from nexttick.networks.models import MODELS, build_model
from nexttick.networks.models.base import TickModel
from nexttick.networks.models.cnn import WideConv
from nexttick.networks.models.encoding import Encoding, fit_encodings
from nexttick.networks.models.own import Windowed
from nexttick.networks.models.rnn import RNN
from nexttick.options import ARCHS, ModelOptions

F, H, CONTEXT = 16, 3, 9
KEPT = Path(__file__).parents[1] / "kept" / "2026-11" / "weights.json"
ENTRIES = [(kind, arch) for kind, archs in MODELS.items() for arch in archs]
NORMS = ("none", "batch", "layer")


def variants() -> Iterator[ModelOptions]:
    """Every entry of the registry, with and without dropout and encoding; the plain ones more."""
    for kind, arch in ENTRIES:
        options = ModelOptions(
            kind, arch, num_layers=2, hidden_size=8, sequence_length=CONTEXT, kernel_size=3
        )
        yield replace(options, bins=4)
        yield replace(options, bins=0, norm="batch", dropout=0.0 if arch == "fcn" else 0.3)
        if arch in ("plain", "lstm"):
            for norm in NORMS if arch == "plain" else NORMS[:1]:
                yield replace(options, bins=0, norm=norm)


def name_of(options: ModelOptions) -> str:
    return f"{options.arch}-{options.norm}-{options.dropout}-{options.bins}"


def is_finite(options: ModelOptions) -> bool:
    """Whether it remembers no more than its context."""
    return options.type == "cnn"


VARIANTS = [pytest.param(options, id=name_of(options)) for options in variants()]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
every_model = pytest.mark.parametrize("options", VARIANTS)
both_precisions = pytest.mark.parametrize("dtype", TOLERANCE)


pytestmark = pytest.mark.usefixtures("one_thread")


def random_ticks(batch: int, ticks: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(batch * 1000 + ticks)
    return torch.randn(batch, ticks, F, generator=generator, dtype=dtype)


def seasoned(options: ModelOptions, dtype: torch.dtype = torch.float32) -> TickModel:
    """A model as training leaves one: running statistics moved, no weight at its start."""
    torch.manual_seed(1)
    model = build_model(options, F, H).to(dtype)
    fit_encodings(model, random_ticks(1, 200)[0].numpy())
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        model.train()(random_ticks(4, 40, dtype) * 2 + 1)
    return model.eval()


@torch.no_grad()
def stepped(model: TickModel, x_BTF: Tensor) -> Tensor:
    """Logits of every tick, one tick at a time."""
    state, logits = model.initial_state(len(x_BTF)), []
    for x_BF in x_BTF.unbind(1):
        logits_BH, state = model.step(x_BF, state)
        logits.append(logits_BH)
    return torch.stack(logits, dim=1)


def assert_close(a: Tensor, b: Tensor) -> None:
    tolerance = TOLERANCE[a.dtype]
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


class OneWindow(nn.Module):
    """A dense model as a network of one window."""

    def __init__(self, model: TickModel):
        super().__init__()
        self.model = model

    def forward(self, x_BLF: Tensor) -> Tensor:
        return self.model(x_BLF)[:, 0]


# The contract


@every_model
@pytest.mark.parametrize("ticks", [CONTEXT, CONTEXT + 1, 2 * CONTEXT, 41])
def test_there_is_a_prediction_for_each_tick_with_enough_history(
    options: ModelOptions, ticks: int
) -> None:
    model = seasoned(options)
    assert model.context == CONTEXT
    assert model(random_ticks(2, ticks)).shape == (2, ticks - CONTEXT + 1, H)
    assert model.train()(random_ticks(2, ticks)).shape == (2, ticks - CONTEXT + 1, H)


@every_model
@both_precisions
@pytest.mark.parametrize("ticks", [CONTEXT, CONTEXT + 1, 41])
@torch.no_grad()
def test_dense_equals_step(options: ModelOptions, dtype: torch.dtype, ticks: int) -> None:
    model, x_BTF = seasoned(options, dtype), random_ticks(3, ticks, dtype)
    assert_close(stepped(model, x_BTF)[:, CONTEXT - 1 :], model(x_BTF))


@every_model
@both_precisions
@torch.no_grad()
def test_dense_equals_windowed(options: ModelOptions, dtype: torch.dtype) -> None:
    model, x_BTF = seasoned(options, dtype), random_ticks(2, 41, dtype)
    dense = model(x_BTF)
    windowed = Windowed(OneWindow(model), CONTEXT, F).eval()
    # What remembers longer than a window agrees on the first one, which starts both.
    compared = slice(None) if is_finite(options) else slice(1)
    assert_close(windowed(x_BTF)[:, compared], dense[:, compared])
    if not is_finite(options):
        assert not torch.allclose(windowed(x_BTF)[:, 1:], dense[:, 1:], atol=1e-4)


@every_model
@both_precisions
@few
@given(st.integers(1, 60), st.integers(1, 70))
@torch.no_grad()
def test_stream_equals_step_whatever_the_chunk(
    options: ModelOptions, dtype: torch.dtype, ticks: int, chunk: int
) -> None:
    model, x_BTF = seasoned(options, dtype), random_ticks(1, ticks, dtype)
    pieces = list(model.stream(x_BTF[0], chunk))
    streamed = torch.cat(pieces) if pieces else torch.empty(0, H, dtype=dtype)
    assert_close(streamed, stepped(model, x_BTF)[0, CONTEXT - 1 :])
    assert all(len(piece) <= chunk for piece in pieces)


@every_model
@pytest.mark.parametrize("tampered", [float("nan"), 1e30, -1.0])
@torch.no_grad()
def test_the_future_moves_no_prediction(options: ModelOptions, tampered: float) -> None:
    model, x_BTF = seasoned(options), random_ticks(2, 41)
    before = model(x_BTF)
    for tick in (CONTEXT, 20, 40):
        other = x_BTF.clone()
        other[:, tick:] = tampered
        after, first = model(other), tick - CONTEXT + 1  # the first prediction that may move
        assert torch.equal(after[:, :first], before[:, :first])
        assert not torch.equal(after[:, first], before[:, first])


@every_model
@torch.no_grad()
def test_segments_of_a_batch_do_not_touch_each_other(options: ModelOptions) -> None:
    model, x_BTF = seasoned(options), random_ticks(3, 30)
    other = x_BTF.clone()
    other[1] = float("nan")
    assert_close(model(other)[::2], model(x_BTF)[::2])
    assert_close(model(x_BTF[1:2]), model(x_BTF)[1:2])


@every_model
def test_every_weight_gets_a_gradient(options: ModelOptions) -> None:
    model = seasoned(options).train()
    logits = model(random_ticks(4, 30))
    masked_loss(logits, (torch.rand_like(logits) < 0.5).float()).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


@every_model
def test_seeds_repeat(options: ModelOptions) -> None:
    def weights(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [weight.detach() for weight in build_model(options, F, H).parameters()]

    assert all(map(torch.equal, weights(3), weights(3)))
    assert not all(map(torch.equal, weights(3), weights(4)))


@every_model
@torch.no_grad()
def test_save_and_load_give_the_same_numbers(options: ModelOptions, tmp_path: Path) -> None:
    model, x_BTF = seasoned(options), random_ticks(2, 30)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    again = build_model(options, F, H).eval()
    assert not torch.equal(again(x_BTF), model(x_BTF))
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(again(x_BTF), model(x_BTF))


@every_model
@torch.no_grad()
def test_dropout_acts_in_training_only(options: ModelOptions) -> None:
    model, x_BTF = seasoned(options), random_ticks(2, 30)
    assert torch.equal(model(x_BTF), model(x_BTF))
    model.train()
    drops = options.dropout > 0
    assert torch.equal(model(x_BTF), model(x_BTF)) != drops


@every_model
@torch.no_grad()
def test_a_step_leaves_the_state_it_was_given_as_it_was(options: ModelOptions) -> None:
    model, x_BTF = seasoned(options), random_ticks(2, 3)
    state = model.initial_state(2)
    _, state = model.step(x_BTF[:, 0], state)
    kept = [part.clone() for part in state]
    first, _ = model.step(x_BTF[:, 1], state)
    assert all(map(torch.equal, kept, state))
    assert torch.equal(model.step(x_BTF[:, 1], state)[0], first)


@pytest.mark.parametrize(("kind", "arch"), ENTRIES)
@pytest.mark.parametrize("layers", [1, 3])
@torch.no_grad()
def test_one_horizon_and_the_shortest_window(kind: str, arch: str, layers: int) -> None:
    least = 5 if arch == "deeplab" else 1  # its pyramid and its field look back by two ticks each
    options = ModelOptions(kind, arch, layers, 4, sequence_length=least, kernel_size=1)
    model = build_model(options, F, 1).eval()
    x_BTF = random_ticks(2, 9)
    assert model(x_BTF).shape == (2, 10 - least, 1)
    assert_close(stepped(model, x_BTF)[:, least - 1 :], model(x_BTF))


@every_model
@torch.no_grad()
def test_what_leaves_training_gives_the_same_numbers(options: ModelOptions) -> None:
    model, x_BTF = seasoned(options), random_ticks(2, 30)
    model.begin_epoch(1.0)
    assert model.stage == model.stages
    expected, finished = model(x_BTF), model.finished()
    assert_close(finished(x_BTF), expected)
    assert_close(stepped(finished, x_BTF)[:, CONTEXT - 1 :], expected)
    assert finished.stage == model.stages


def test_the_registry_is_what_the_options_offer() -> None:
    assert {kind: tuple(archs) for kind, archs in MODELS.items()} == ARCHS


def names_and_shapes(kind: str, arch: str, norm: str) -> dict[str, list[int]]:
    """What the weights of a predictor are called on disk."""
    options = ModelOptions(kind, arch, 2, 8, CONTEXT, bins=2, kernel_size=3, norm=norm)
    model = build_model(options, F, H).finished()
    return {name: list(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize(("kind", "arch"), ENTRIES)
def test_weights_are_called_as_in_predictors_of_before(kind: str, arch: str, norm: str) -> None:
    kept = json.loads(KEPT.read_text())
    assert names_and_shapes(kind, arch, norm) == kept[f"{kind}-{arch}-{norm}"]


# cnn


LEAST = {"residual": 9, "dilated": 7, "deeplab": 9}  # what two layers of kernel 3 see, else 5


@pytest.mark.parametrize("length", [5, 6, 9, 30])
@pytest.mark.parametrize(
    ("arch", "norm"),
    [("plain", "none"), ("plain", "batch"), *((arch, "layer") for arch in MODELS["cnn"])],
)
def test_a_cnn_sees_exactly_sequence_length_ticks(length: int, arch: str, norm: str) -> None:
    options = ModelOptions("cnn", arch, 2, 8, length, kernel_size=3, norm=norm)
    if length < LEAST.get(arch, 5):
        with pytest.raises(ValueError, match=f"give at least {LEAST[arch]}"):
            build_model(options, F, H)
        return
    model = seasoned(options)
    for ticks in (length, length + 3, 3 * length):  # short and long runs take different ways
        x_BTF = random_ticks(1, ticks).requires_grad_()
        (grad_BTF,) = torch.autograd.grad(model(x_BTF)[0, -1].sum(), x_BTF)
        seen = grad_BTF[0].abs().sum(dim=1) > 0
        if arch == "fcn":  # the adapter shows it that many; how far it looks, its strides say
            assert not seen[: ticks - length].any()
            assert seen[-1]
        else:
            assert seen.tolist() == [False] * (ticks - length) + [True] * length


@quick
@given(seeds, st.integers(1, 20), st.integers(0, 60), st.booleans())
def test_the_wide_convolution_equals_that_of_torch(
    seed: int, lags: int, more: int, bias: bool
) -> None:
    torch.manual_seed(seed)
    wide = WideConv(4, 3, lags, bias=bias).double()
    plain = nn.Conv1d(4, 3, lags, bias=bias).double()
    plain.load_state_dict(wide.state_dict())
    x_BCT = torch.randn(2, 4, lags + more, dtype=torch.float64, requires_grad=True)
    y, expected = wide(x_BCT), plain(x_BCT)
    torch.testing.assert_close(y, expected)
    inputs = [(x_BCT, *conv.parameters()) for conv in (wide, plain)]
    direction = torch.randn_like(y)
    grads = [
        torch.autograd.grad((out * direction).sum(), leaves)
        for out, leaves in zip((y, expected), inputs, strict=True)
    ]
    torch.testing.assert_close(grads[0], grads[1])


def test_the_channel_norm_is_the_layer_norm_of_each_tick() -> None:
    x_BCT = random_ticks(2, 7).transpose(1, 2)
    mean = x_BCT.mean(dim=1, keepdim=True)
    variance = x_BCT.var(dim=1, keepdim=True, correction=0)
    expected = (x_BCT - mean) / torch.sqrt(variance + 1e-5)
    torch.testing.assert_close(ChannelNorm(F)(x_BCT), expected)


# rnn


def truncating(context: int) -> RNN:
    torch.manual_seed(1)
    return RNN(ModelOptions("rnn", "lstm", 2, 8, context), F, H)


def test_truncation_changes_no_number() -> None:
    model, x_BTF = truncating(4), random_ticks(2, 23)
    assert_close(model.train()(x_BTF), model.eval()(x_BTF))


def test_gradients_stop_after_sequence_length_ticks_and_the_state_goes_on() -> None:
    model, x_BTF = truncating(4).train(), random_ticks(1, 12).requires_grad_()
    (grad_BTF,) = torch.autograd.grad(model(x_BTF)[0, -1].sum(), x_BTF)
    assert (grad_BTF[0].abs().sum(dim=1) > 0).tolist() == [False] * 8 + [True] * 4
    other = x_BTF.detach().clone()
    other[0, 0] += 1
    assert not torch.equal(model(other)[0, -1], model(x_BTF)[0, -1])


# The encoding of features


@quick
@given(seeds, st.integers(1, 6))
def test_bins_fill_as_in_the_paper(seed: int, bins: int) -> None:
    """Equation 1 of Gorishniy et al. 2022, bin by bin, within the range of the training rows."""
    x_NF = np.random.default_rng(seed).normal(size=(50, 2)).astype(np.float32)
    encoding = Encoding(2, bins, 4)
    encoding.fit(x_NF)
    encoding.linear = nn.Identity()  # type: ignore[assignment]
    encoded = encoding(torch.from_numpy(x_NF))
    assert torch.equal(encoded[:, :2], torch.from_numpy(x_NF))
    for f in range(2):
        edges = np.quantile(x_NF[:, f], np.linspace(0, 1, bins + 1))
        for q in range(bins):
            filled = np.clip((x_NF[:, f] - edges[q]) / (edges[q + 1] - edges[q]), 0, 1)
            assert encoded[:, 2 + f * bins + q].numpy() == pytest.approx(filled, abs=1e-3)


def test_what_lies_beyond_the_training_rows_fills_all_bins_or_none() -> None:
    encoding = Encoding(1, 3, 4)
    encoding.fit(np.linspace(0, 1, 100, dtype=np.float32)[:, None])
    encoding.linear = nn.Identity()  # type: ignore[assignment]
    encoded = encoding(torch.tensor([[-5.0], [7.0]]))
    assert encoded.tolist() == [[-5, 0, 0, 0], [7, 1, 1, 1]]


def test_a_constant_feature_is_encoded_in_finite_numbers() -> None:
    x_NF = np.zeros((20, 2), np.float32)
    encoding = Encoding(2, 3, 4)
    encoding.fit(x_NF)
    assert torch.isfinite(encoding(torch.from_numpy(x_NF))).all()


# The adapter


def test_any_network_of_a_window_becomes_a_model() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4 * F, 6), nn.Tanh(), nn.Linear(6, H))
    model, x_BTF = Windowed(network, 4, F), random_ticks(2, 11)
    logits = model(x_BTF)
    assert logits.shape == (2, 8, H)
    for k in range(8):
        assert_close(logits[:, k], network(x_BTF[:, k : k + 4]))
    assert_close(stepped(model, x_BTF)[:, 3:], logits)
    streamed = torch.cat(list(model.stream(x_BTF[0], 3)))
    assert_close(streamed, logits[0])


class Flat(nn.Module):
    """A user's network: one linear layer over the window."""

    def __init__(self, options: ModelOptions, num_features: int, num_horizons: int):
        super().__init__()
        self.linear = nn.Linear(options.sequence_length * num_features, num_horizons)

    def forward(self, x_BLF: Tensor) -> Tensor:
        return self.linear(x_BLF.flatten(1))


class Newest(TickModel):
    """A user's dense model: what the newest tick says."""

    def __init__(self, options: ModelOptions, num_features: int, num_horizons: int):
        super().__init__()
        self.context = 1
        self.linear = nn.Linear(num_features, num_horizons)

    def forward(self, x_BTF: Tensor) -> Tensor:
        return self.linear(x_BTF)

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        return ()

    def step(self, x_BF: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.linear(x_BF), state


def test_a_network_of_the_users_own_is_found_by_its_name() -> None:
    windowed = build_model(ModelOptions(f"{__name__}:Flat", sequence_length=4), F, H)
    assert isinstance(windowed, Windowed)
    x_BTF = random_ticks(2, 11)
    assert_close(stepped(windowed, x_BTF)[:, 3:], windowed(x_BTF))
    dense = build_model(ModelOptions(f"{__name__}:Newest"), F, H)
    assert type(dense) is Newest


class OneAnswer(Flat):
    """A user's network that gives one answer where several are asked for."""

    def forward(self, x_BLF: Tensor) -> Tensor:
        return super().forward(x_BLF)[:, :1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{__name__}:OneAnswer", r"give \(2, 1\); logits of shape \(2, 3\) are asked for"),
        ("nowhere_at_all:Net", "'nowhere_at_all' cannot be imported"),
        (":Net", "'' cannot be imported"),
        ("math:Net", "math has no subclass of torch.nn.Module called 'Net'"),
        ("math:pi", "math has no subclass of torch.nn.Module called 'pi'"),
    ],
)
def test_what_is_no_network_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(ModelOptions(name), F, H)


def test_every_model_of_the_dict_is_built_by_its_name() -> None:
    for kind, arch in ENTRIES:
        built = type(build_model(ModelOptions(kind, arch), F, H))
        assert built is (Windowed if arch == "fcn" else MODELS[kind][arch])
