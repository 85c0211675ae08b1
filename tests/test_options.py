"""The recipe: closed to unknown keys, all mistakes at once, and what a horizon may be."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helpers.markets import quick
from nexttick import options
from nexttick.checks import validate
from nexttick.learn import baselines
from nexttick.learn.predictor import calibration
from nexttick.options import (
    ARCHS,
    EventOptions,
    FeatureOptions,
    LabelOptions,
    ModelOptions,
    ReadOptions,
    Recipe,
    SplitOptions,
    TrainOptions,
    from_values,
    is_horizon,
    nearest,
    parse_duration_ns,
    to_dict,
)

RECIPES = [
    Recipe(),
    Recipe(
        read=ReadOptions(columns="time=t,price=p", time_unit="ms", outliers=False),
        events=EventOptions(raw_ticks=True, max_gap="10m"),
        features=FeatureOptions((1.5, 3.0), ()),
        labels=LabelOptions(("1", "5s", "move"), ties="skip"),
        split=SplitOptions(valid=0.2, test=0.0),
        model=ModelOptions("rnn", num_layers=1, dropout=0.5),
        train=TrainOptions(epochs=3, segment_length=64, device="cuda:1"),
    ),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    validate(recipe)
    assert from_values(json.loads(json.dumps(to_dict(recipe)))).recipe == recipe


def test_what_is_not_said_keeps_its_default() -> None:
    recipe = from_values({"model": {"type": "rnn"}}).recipe
    assert recipe == Recipe(model=ModelOptions("rnn"))


def test_unknown_keys_and_sections_are_all_named_with_the_nearest_known_one() -> None:
    values = {"modle": {}, "train": {"epoch": 3, "lr": 0.1}, "model": {"hidden": 3}}
    with pytest.raises(ValueError, match="modle") as caught:
        from_values(values)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert any("'modle'" in line and "did you mean 'model'?" in line for line in lines)
    assert any("'epoch' in 'train'" in line and "did you mean 'epochs'?" in line for line in lines)
    assert any("'hidden'" in line and "hidden_size" in line for line in lines)


def test_a_word_like_no_other_gets_the_list_and_no_guess() -> None:
    told = nearest("zzzz", ["down", "skip"])
    assert told == "Known: down, skip"


MISTAKES = {
    "--type": Recipe(model=ModelOptions("cnnn")),
    "--norm": Recipe(model=ModelOptions(norm="bach")),
    "--ties": Recipe(labels=LabelOptions(ties="up")),
    "--time-unit": Recipe(read=ReadOptions(time_unit="minutes")),
    "--max-gap": Recipe(events=EventOptions(max_gap="ten minutes")),
    "--num-layers": Recipe(model=ModelOptions(num_layers=0)),
    "--hidden-size": Recipe(model=ModelOptions(hidden_size=0)),
    "--sequence-length": Recipe(model=ModelOptions("rnn", sequence_length=0)),
    "--kernel-size": Recipe(model=ModelOptions(kernel_size=0)),
    "--bins": Recipe(model=ModelOptions(bins=-1)),
    "--dropout": Recipe(model=ModelOptions(dropout=1.0)),
    "--epochs": Recipe(train=TrainOptions(epochs=0)),
    "--patience": Recipe(train=TrainOptions(patience=0)),
    "--lr": Recipe(train=TrainOptions(lr=0.0)),
    "--lr-step": Recipe(train=TrainOptions(lr_step=0)),
    "--lr-gamma": Recipe(train=TrainOptions(lr_gamma=float("nan"))),
    "--clip-norm": Recipe(train=TrainOptions(clip_norm=-1.0)),
    "--average": Recipe(train=TrainOptions(average=1.0)),
    "--weight-decay": Recipe(train=TrainOptions(weight_decay=-0.1)),
    "--batch-size": Recipe(train=TrainOptions(batch_size=0)),
    "--segment-length": Recipe(train=TrainOptions(segment_length=0)),
    "--valid": Recipe(split=SplitOptions(valid=0.0)),
    "--test": Recipe(split=SplitOptions(test=-0.1)),
    "half-lives": Recipe(features=FeatureOptions((0.0,))),
    "--horizon": Recipe(labels=LabelOptions(("soon",))),
    "--smooth": Recipe(labels=LabelOptions(("5s",), smooth=True)),
}


def test_what_options_name_is_what_there_is() -> None:
    """Options know the names by themselves: what bears them is heavy to load."""
    assert tuple(calibration.CALIBRATIONS) == options.CALIBRATIONS
    assert tuple(baselines.BASELINES) == options.BASELINES


@pytest.mark.parametrize("option", MISTAKES)
def test_each_mistake_is_named_by_its_option(option: str) -> None:
    with pytest.raises(ValueError, match=f"^{option} ") as caught:
        validate(MISTAKES[option])
    assert len(str(caught.value).splitlines()) == 1


def test_all_mistakes_are_told_at_once() -> None:
    bad = Recipe(
        labels=LabelOptions(("1", "1", "x"), ties="up"),
        model=ModelOptions("tcn", num_layers=0),
        train=TrainOptions(lr=-1.0, epochs=0),
        split=SplitOptions(valid=0.6, test=0.6),
    )
    with pytest.raises(ValueError, match="--ties") as caught:
        validate(bad)
    told = str(caught.value)
    for word in ("--horizon 'x'", "twice", "--type", "--num-layers", "--lr", "--epochs", "--valid"):
        assert word in told


def test_no_horizon_at_all_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="--horizon needs"):
        validate(Recipe(labels=LabelOptions(())))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelOptions("cnnn"), "did you mean 'cnn'.*MODULE:CLASS"),
        (ModelOptions("cnn", "residul"), "did you mean 'residual'"),
        (ModelOptions("cnn", "gru"), "unknown for cnn: it is one of --type rnn"),
        (ModelOptions("mine:Net", "plain"), "leave it out"),
    ],
)
def test_types_and_architectures_that_do_not_exist(model: ModelOptions, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate(Recipe(model=model))


def test_every_architecture_is_valid_and_so_is_a_network_of_ones_own() -> None:
    for kind, archs in ARCHS.items():
        for arch in archs:
            validate(Recipe(model=ModelOptions(kind, arch)))
    validate(Recipe(model=ModelOptions("mine:Net")))


def test_a_model_is_named_by_what_was_chosen() -> None:
    assert ModelOptions("rnn").name == "rnn"
    assert ModelOptions("cnn", "dense").name == "cnn-dense"
    assert ModelOptions("my.module:Net").name == "my.module.Net"


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("5s", 5_000_000_000),
        ("0.5s", 500_000_000),
        ("250ms", 250_000_000),
        ("2m", 120_000_000_000),
        ("1h", 3_600_000_000_000),
        ("1d", 86_400_000_000_000),
    ],
)
def test_durations_are_read_in_nanoseconds(text: str, ns: int) -> None:
    assert parse_duration_ns(text) == ns
    assert is_horizon(text)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-5s", "5 s", "5S", "1e3s", "0s", "0.0ms", ".5s", "5s ", "5sm"]
)
def test_what_is_no_duration_is_none(text: str) -> None:
    assert parse_duration_ns(text) is None


@pytest.mark.parametrize("text", ["1", "10", "100", "5s", "2m", "move"])
def test_horizons(text: str) -> None:
    assert is_horizon(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "010", "", "moves", "s", "0s", " 1", "1 "])
def test_what_is_no_horizon(text: str) -> None:
    assert not is_horizon(text)


@quick
@example("0.0000001", "ms")
@given(st.decimals(0, 10**6, places=9), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_duration_is_at_least_a_nanosecond_or_none(number: object, unit: str) -> None:
    ns = parse_duration_ns(f"{number}{unit}")
    assert ns is None or ns >= 1
