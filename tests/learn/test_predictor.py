"""The predictor: predict = step, saved = loaded, and whatever does not fit is refused."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nexttick
from helpers.markets import (
    FINITE_TAMPERINGS,
    GAP_NS,
    SIDES,
    few,
    random_events,
    random_ticks,
    seeds,
    tampered,
    tiny_model,
    tiny_spec,
)
from nexttick.learn.predictor import predictor as module
from nexttick.learn.predictor.predictor import Predictor
from nexttick.learn.predictor.stepper import Stepper
from nexttick.networks.models import MODELS, build_model
from nexttick.networks.models.encoding import fit_encodings
from nexttick.options import ModelOptions
from nexttick.prepare.dataset import Scaler
from nexttick.prepare.events import merge_events
from nexttick.prepare.features import EVENT, compute_features
from nexttick.ticks.gaps import segment_starts

HORIZONS = ("rise@1", "rise@5s")
COLUMNS = ["p_rise@1", "p_rise@5s"]
every_kind = pytest.mark.parametrize("kind", MODELS)


pytestmark = pytest.mark.usefixtures("one_thread")


@torch.no_grad()
def fresh(kind: str = "cnn", *, raw_ticks: bool = False) -> Predictor:
    """A network that has learned nothing, whose logits are spread as a standard normal."""
    options, spec = tiny_model(kind, norm="batch"), tiny_spec()
    torch.manual_seed(1)
    model = build_model(options, len(spec.names), len(HORIZONS)).eval()
    x_NF = compute_features(random_events(1, 400), spec)
    scaler = Scaler.fit(x_NF)
    fit_encodings(model, scaler(x_NF))
    logits = torch.cat(list(model.stream(torch.from_numpy(scaler(x_NF)), len(x_NF))))
    mean, spread = logits.mean(dim=0), logits.std(dim=0)
    weight, bias = model.head.parameters()  # type: ignore[union-attr]
    weight.div_(spread.reshape(-1, *[1] * (weight.dim() - 1)))
    bias.sub_(mean).div_(spread)
    provenance = {"data_hash": "abc", "epochs": 3}
    return Predictor(spec, scaler, options, HORIZONS, model, raw_ticks, provenance)


def stepped(predictor: Predictor, events: pl.DataFrame) -> list[list[float] | None]:
    stepper = Stepper(predictor, "torch")
    answers = [stepper.step(event) for event in events.select(EVENT).iter_rows()]
    return [None if answer is None else answer.tolist() for answer in answers]


# Predicting


@every_kind
@few
@given(seeds, st.sampled_from(SIDES), st.booleans())
def test_predict_equals_step_across_gaps(kind: str, seed: int, sides: str, raw_ticks: bool) -> None:
    predictor = fresh(kind, raw_ticks=raw_ticks)
    ticks = random_ticks(seed, sides=sides, gaps=3)
    events = merge_events(ticks, raw_ticks=raw_ticks)
    table = predictor.predict(ticks)
    assert table.columns == ["time", "price", *COLUMNS]
    assert table.select("time", "price").equals(events.select("time", "price"))
    for row, step in zip(table.select(COLUMNS).rows(), stepped(predictor, events), strict=True):
        assert (None in row) == (step is None)
        if step is not None:
            assert row == pytest.approx(step, abs=1e-5)


@every_kind
def test_without_enough_history_in_the_segment_there_is_null(kind: str) -> None:
    predictor, ticks = fresh(kind), random_ticks(3, gaps=3)
    table = predictor.predict(ticks)
    starts = segment_starts(table["time"].to_numpy(), GAP_NS)
    age = np.arange(len(table)) - np.repeat(starts, np.diff([*starts, len(table)]))
    enough = age + 1 >= predictor.model.context
    assert 0 < enough.sum() < len(table)
    for name in COLUMNS:
        assert table[name].is_not_null().to_list() == enough.tolist()
        assert table[name].drop_nulls().is_between(0, 1).all()
        assert table[name].std() > 0.01  # type: ignore[operator]


@every_kind
@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_long_histories_are_scored_in_pieces_that_do_not_show(
    kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, ticks = fresh(kind), random_ticks(4)
    whole = predictor.predict(ticks).select(COLUMNS).to_numpy()
    monkeypatch.setattr(module, "_CHUNK", chunk)
    pieces = predictor.predict(ticks).select(COLUMNS).to_numpy()
    np.testing.assert_allclose(pieces, whole, atol=1e-6)


@every_kind
@pytest.mark.parametrize("how", FINITE_TAMPERINGS)
@few
@given(seeds, st.integers(20, 60))
def test_the_future_of_the_ticks_moves_no_prediction(
    kind: str, how: str, seed: int, start: int
) -> None:
    predictor, ticks = fresh(kind), random_ticks(seed, gaps=1)
    while start < len(ticks) - 1 and ticks["time"][start] == ticks["time"][start - 1]:
        start += 1  # an event is over when its time stamp is
    other = tampered(ticks, start, how, seed)
    known = len(merge_events(ticks[:start]))
    before, after = predictor.predict(ticks), predictor.predict(other)
    for name in COLUMNS:
        past, same = (table[name][:known].fill_null(-1) for table in (before, after))
        np.testing.assert_allclose(same, past, atol=1e-6)
        if how == "noise":  # a scaled market, say, may rightly be the same from a gap on
            assert not before[name][known:].equals(after[name][known:])


@every_kind
def test_ticks_of_no_length_and_of_less_than_a_window(kind: str) -> None:
    predictor, ticks = fresh(kind), random_ticks(1, gaps=0)
    assert len(predictor.predict(ticks[:0])) == 0
    few_events = predictor.predict(ticks[:5])
    assert few_events["p_rise@1"].is_null().all()


def test_the_scaler_centres_and_scales_and_spares_what_is_constant() -> None:
    rng = np.random.default_rng(1)
    x_NF = (rng.normal(size=(500, 3)) * [1, 50, 0] + [0, 1000, 7]).astype(np.float32)
    scaled = Scaler.fit(x_NF)(x_NF)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(axis=0), [1, 1, 0], atol=1e-3)
    np.testing.assert_array_equal(Scaler.fit(x_NF)(x_NF[4]), scaled[4])


# Saving and loading


@every_kind
def test_a_loaded_predictor_gives_the_same_numbers(kind: str, tmp_path: Path) -> None:
    predictor, ticks = fresh(kind, raw_ticks=True), random_ticks(5)
    predictor.save(tmp_path / "predictor")
    again = Predictor.load(tmp_path / "predictor")
    assert again.predict(ticks).equals(predictor.predict(ticks))
    events = merge_events(ticks, raw_ticks=True)
    assert stepped(again, events) == stepped(predictor, events)
    for name in ("spec", "model_options", "horizons", "raw_ticks", "provenance"):
        assert getattr(again, name) == getattr(predictor, name)
    assert again.training_shares is None
    assert not again.model.training


def test_a_predictor_is_weights_and_readable_json_and_nothing_else(tmp_path: Path) -> None:
    fresh().save(tmp_path / "predictor")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictor"]
    files = sorted(path.name for path in (tmp_path / "predictor").iterdir())
    assert files == ["predictor.json", "weights.safetensors"]
    told = json.loads((tmp_path / "predictor" / "predictor.json").read_text())
    assert told["features"]["names"] == list(tiny_spec().names)
    assert told["nexttick"] == nexttick.__version__
    assert told["provenance"] == {"data_hash": "abc", "epochs": 3}


def test_saving_again_replaces_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "predictor"
    fresh("cnn").save(folder)
    (folder / "left_over").touch()
    fresh("rnn").save(folder)
    assert Predictor.load(folder).model_options.type == "rnn"
    assert not (folder / "left_over").exists()


Edit = Callable[[dict[str, Any]], object]


def edited(folder: Path, edit: Edit) -> Path:
    fresh().save(folder)
    path = folder / "predictor.json"
    told = json.loads(path.read_text())
    edit(told)
    path.write_text(json.dumps(told))
    return folder


EDITS: dict[str, tuple[Edit, str]] = {
    "other format": (lambda told: told.update(format=99), "format 99, this version reads 3"),
    "no format": (lambda told: told.pop("format"), "format None"),
    "other features": (
        lambda told: told["features"]["names"].reverse(),
        "features are not those of nexttick",
    ),
    "fewer half-lives": (
        lambda told: told["features"]["half_lives_events"].pop(),
        "features are not those of nexttick",
    ),
    "other weights": (
        lambda told: told.update(weights_sha256="0" * 64),
        "not the weights that predictor.json names",
    ),
    "unknown model": (lambda told: told["model"].update(type="cnnn"), "did you mean 'cnn'"),
    "other width": (lambda told: told["model"].update(hidden_size=7), "predictor"),
    "unknown option": (lambda told: told["model"].update(heads=2), "predictor"),
    "more horizons": (lambda told: told["horizons"].append("rise@10"), "predictor"),
    "short scaler": (lambda told: told["scaler"]["mean"].pop(), "predictor"),
    "no training shares": (lambda told: told.pop("training_shares"), "predictor"),
    "other training shares": (
        lambda told: told.update(
            training_shares={
                "edges": [[]],
                "shares": [[1.0]],
                "rows": 1,
                "window": 1,
                "limit": [0.0],
            }
        ),
        "its training shares are not of",
    ),
    "nothing of the features": (lambda told: told.pop("features"), "predictor"),
    "nothing of the scaler": (lambda told: told.pop("scaler"), "predictor"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_does_not_fit_is_refused_with_the_reason(edit: str, tmp_path: Path) -> None:
    change, reason = EDITS[edit]
    with pytest.raises(ValueError, match=reason):
        Predictor.load(edited(tmp_path / "predictor", change))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    fresh().save(tmp_path / "predictor")
    weights = tmp_path / "predictor" / "weights.safetensors"
    bytes_ = bytearray(weights.read_bytes())
    bytes_[-1] ^= 1
    weights.write_bytes(bytes_)
    with pytest.raises(ValueError, match=r"weights\.safetensors.*not the weights"):
        Predictor.load(tmp_path / "predictor")


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("weights.safetensors", "missing"), ("predictor.json", "holds no predictor")],
)
def test_a_missing_file_is_refused(missing: str, reason: str, tmp_path: Path) -> None:
    fresh().save(tmp_path / "predictor")
    (tmp_path / "predictor" / missing).unlink()
    with pytest.raises(ValueError, match=reason):
        Predictor.load(tmp_path / "predictor")


@pytest.mark.parametrize("text", ['{"format": 1,', "[]", "", "1"])
def test_a_description_that_is_no_description_is_refused(text: str, tmp_path: Path) -> None:
    fresh().save(tmp_path / "predictor")
    (tmp_path / "predictor" / "predictor.json").write_text(text)
    with pytest.raises(ValueError, match=r"predictor\.json"):
        Predictor.load(tmp_path / "predictor")


# No pickle

UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve"}
UNSAFE_CALLS = {"torch.load", "torch.save", "joblib.load", "pd.read_pickle", "pandas.read_pickle"}


def unsafe(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module] * (node.module.split(".")[0] in UNSAFE_MODULES)
            called = {f"{node.module}.{name.name}" for name in node.names}
            found += called & UNSAFE_CALLS
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in UNSAFE_CALLS:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found.append("allow_pickle")
    return found


def test_no_module_can_load_a_pickle() -> None:
    modules = list(Path(nexttick.__file__).parent.rglob("*.py"))
    assert len(modules) > 20
    found = {path.name: unsafe(ast.parse(path.read_text())) for path in modules}
    assert {name: calls for name, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "np.load('x', allow_pickle=True)",
    ],
)
def test_the_search_for_pickles_finds_them(code: str) -> None:
    assert unsafe(ast.parse(code))


def test_options_of_the_model_are_kept_as_they_were(tmp_path: Path) -> None:
    predictor = fresh()
    predictor.save(tmp_path / "predictor")
    told = json.loads((tmp_path / "predictor" / "predictor.json").read_text())
    assert ModelOptions(**told["model"]) == predictor.model_options
