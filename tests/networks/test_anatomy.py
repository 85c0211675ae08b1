"""What `describe` says of a network is what the network is, for every entry of the registry."""

from __future__ import annotations

import pytest
import torch

from helpers.console import done, refused, strict_json
from nexttick.networks.models import MODELS, build_model
from nexttick.networks.models.anatomy import describe_model
from nexttick.options import ModelOptions

F, H = 16, 3
ENTRIES = [(kind, arch) for kind, archs in MODELS.items() for arch in archs]


@pytest.mark.parametrize(("kind", "arch"), ENTRIES)
def test_layers_add_up_and_the_last_one_sees_the_context(kind: str, arch: str) -> None:
    model = build_model(ModelOptions(kind, arch, 2, 8, 20, kernel_size=3), F, H).finished()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers = describe_model(model.train(), F)
    assert sum(layer.parameters for layer in layers) == sum(w.numel() for w in model.parameters())
    sees = [layer.receptive_field for layer in layers if layer.name.split(".")[-1] != "newest"]
    if kind == "rnn":
        assert sees[0] == 1
        assert set(sees[-1:]) == {None}
    elif arch != "fcn":
        assert max(s for s in sees if s is not None) == model.context == 20
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_numbers_of_a_plain_network_by_hand() -> None:
    options = ModelOptions("cnn", "plain", 2, 8, 20, bins=0, kernel_size=3, norm="none")
    layers = describe_model(build_model(options, F, H), F)
    report = [
        (one.channels, one.parameters, one.multiply_adds, one.receptive_field) for one in layers
    ]
    assert report == [
        (8, 8 * F * 3 + 8, 8 * F * 3, 3),
        (8, 8 * 8 * 3 + 8, 8 * 8 * 3, 5),
        (H, H * 8 * 16 + H, H * 8 * 16, 20),
        (H, H * F + H, H * F, 1),
    ]


def test_numbers_of_an_lstm_and_of_its_cells_are_the_same() -> None:
    library, cells = (
        describe_model(build_model(ModelOptions("rnn", arch, 2, 8, 20), F, H), F)
        for arch in ("lstm", "pure")
    )
    for total in ("parameters", "multiply_adds"):
        ours, theirs = (sum(getattr(one, total) for one in some) for some in (cells, library))
        assert ours == theirs


def test_the_command_tells_all_layers(tmp_path) -> None:
    report = strict_json(done("describe", "separable", "--hidden_size", 32, "--json").out)
    assert report["model"]["type"], report["model"]["arch"] == ("cnn", "separable")
    assert report["parameters"] == sum(layer["parameters"] for layer in report["layers"])
    said = done("describe", "cnn-separable", "--hidden-size", 32).out
    assert f"{report['parameters']:,}" in said
    assert "Against regular convolutions" in said
    assert "window is computed by itself" in done("describe", "fcn").out
    assert "all before" in done("describe", "gru").out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("densse",), "did you mean 'dense'"),
        (("cnn", "--arch", "gru"), "--type rnn"),
        (("cnn", "--sequence-length", "4"), "give at least 9"),
        (("condense", "--hidden-size", "6"), "divides by 4"),
        (("nowhere_at_all:Net",), "cannot be imported"),
    ],
)
def test_what_cannot_be_described_is_said(args: tuple[str, ...], message: str) -> None:
    assert message in refused("describe", *args)
