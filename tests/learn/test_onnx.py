"""`nexttick export`: the file says what the predictor says, tells its contract, or is not there.

Networks of one's own are put through the same graphs in test_step.py.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from helpers.console import TINY, call, done, refused
from helpers.markets import random_events, simulated_ticks
from helpers.stepping import CURVES, ENTRIES, predicted, seasoned
from nexttick.learn.predictor import onnx as graph_module
from nexttick.learn.predictor import onnx as module
from nexttick.learn.predictor.onnx import NoGraphError, checked_graph, export
from nexttick.learn.predictor.predictor import Predictor
from nexttick.learn.run_folder import load_trained
from nexttick.options import ModelOptions
from nexttick.prepare.features import FeatureSpec, compute_features
from nexttick.ticks.gaps import segment_starts
from nexttick.ticks.reading.read import read_ticks
from nexttick.ticks.writing import write_table

SMALL = ModelOptions("rnn", hidden_size=6, sequence_length=8, bins=2)

pytestmark = pytest.mark.usefixtures("one_thread")


def options_of(kind: str, arch: str) -> ModelOptions:
    return ModelOptions(
        kind, arch, num_layers=1, hidden_size=4, sequence_length=12, kernel_size=3, bins=2
    )


@cache
def small_graph() -> bytes:
    """Drawing a graph takes a second, so the tests share this one."""
    return checked_graph(seasoned(SMALL, "lines"))


class Elsewhere:
    """A reader that knows nothing but the file and its contract."""

    def __init__(self, graph: bytes):
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.told = self.session.get_modelmeta().custom_metadata_map
        self.names = [output.name for output in self.session.get_outputs()]
        self.shapes = json.loads(self.told["state_shapes"])
        self.spec = FeatureSpec(
            int(self.told["max_gap_ns"]),
            tuple(json.loads(self.told["half_lives_events"])),
            tuple(json.loads(self.told["half_lives_s"])),
        )

    def probabilities(self, x_NF: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Those of all events; NaN where the contract says that they are not valid."""
        said_NH = np.full((len(x_NF), len(json.loads(self.told["horizons"]))), np.nan, np.float32)
        begun = 0
        for i, x_F in enumerate(x_NF):
            if i in starts:
                state = [np.zeros(shape, np.float32) for shape in self.shapes]
                begun = i
            inputs = {f"state_{k}": part for k, part in enumerate(state)}
            p_1H, *state = self.session.run(self.names, {"features": x_F[None], **inputs})
            if i - begun + 1 >= int(self.told["context"]):
                said_NH[i] = p_1H[0]
        return said_NH


def assert_says_the_same(graph: bytes, predictor: Predictor, seed: int = 3) -> None:
    events = random_events(seed, 120, gaps=2)
    reader = Elsewhere(graph)
    starts = segment_starts(events["time"].to_numpy(), reader.spec.max_gap_ns)
    p_NH = predicted(predictor, events)
    said_NH = reader.probabilities(compute_features(events, reader.spec), starts)
    np.testing.assert_allclose(said_NH, p_NH, rtol=0, atol=1e-5)
    assert np.nanstd(p_NH, axis=0).min() > 1e-3


@pytest.mark.parametrize(("kind", "arch"), ENTRIES)
def test_every_entry_of_the_zoo_says_elsewhere_what_it_says_here(
    kind: str, arch: str, tmp_path: Path
) -> None:
    predictor = seasoned(options_of(kind, arch))
    export(predictor, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert_says_the_same((tmp_path / "model.onnx").read_bytes(), predictor)


@pytest.mark.parametrize("curve", [pytest.param(c, id=f"{n}-{i}") for n, cs in CURVES.items()
                                   for i, c in enumerate(cs)])  # fmt: skip
def test_curves_are_those_of_the_calibrations(curve) -> None:  # type: ignore[no-untyped-def]
    p = np.random.default_rng(1).random(500).astype(np.float32)
    p[:6] = 0, 1, 0.5, 1e-8, 0.45, 0.2
    said = graph_module._Curve(curve)(torch.from_numpy(p)).numpy()
    np.testing.assert_allclose(said, curve(p).astype(np.float32), rtol=1e-6, atol=1e-7)


def test_the_contract_is_in_the_file() -> None:
    predictor = seasoned(SMALL, "lines")
    model = onnx.load_from_string(small_graph())
    told = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(told["feature_names"]) == list(predictor.spec.names)
    assert json.loads(told["scaler"])["mean"] == predictor.scaler.mean.tolist()
    assert json.loads(told["horizons"]) == list(predictor.horizons)
    assert told["fingerprint"] == predictor.fingerprint()
    assert (told["context"], told["raw_ticks"], told["format"]) == ("8", "false", "1")
    assert told["max_gap_ns"] == str(predictor.spec.max_gap_ns)
    inputs = [one.name for one in model.graph.input]
    assert inputs == ["features", "state_0", "state_1"]
    assert [one.name for one in model.graph.output] == ["p_rise", "next_state_0", "next_state_1"]
    (opset,) = [one.version for one in model.opset_import if one.domain == ""]
    assert opset == graph_module.OPSET
    assert_says_the_same(model.SerializeToString(), predictor)


def test_nothing_of_this_machine_is_in_the_file() -> None:
    for told in (str(Path(module.__file__).parents[2]), "site-packages", "forward(self"):
        assert told.encode() not in small_graph()


def test_a_graph_of_other_numbers_is_refused_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = small_graph()
    monkeypatch.setattr(module, "graph_of", lambda predictor: other)
    with pytest.raises(NoGraphError, match="away from its own on simulated ticks"):
        export(seasoned(SMALL, "points"), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_graph_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "graph_of", lambda predictor: b"")
    with pytest.raises(NoGraphError, match="does not run"):
        checked_graph(seasoned(SMALL))


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(simulated_ticks(700), "ticks.csv")
    done("train", "ticks.csv", *TINY, "--out", "run")
    assert "from 8 events on" in done("export", "run", "-o", "model.onnx").out
    predictor, _ = load_trained(Path("run"))
    reader = Elsewhere(Path("model.onnx").read_bytes())
    events = module.merge_events(read_ticks(["ticks.csv"])[0])
    starts = segment_starts(events["time"].to_numpy(), reader.spec.max_gap_ns)
    said_NH = reader.probabilities(compute_features(events, reader.spec), starts)
    np.testing.assert_allclose(said_NH, predicted(predictor, events), atol=1e-5)
    assert "ends in .onnx" in refused("export", "run", "-o", "model.pt")
    assert "no such folder" in refused("export", "run", "-o", "nowhere/model.onnx")
    assert "is no run folder" in refused("export", "nowhere", "-o", "model.onnx")
    assert call("export", "run", "-o", ".").code == 2
