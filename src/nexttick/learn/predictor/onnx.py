"""One step of a predictor as an ONNX graph: features and state in, probabilities and state out.

Scaling, network, sigmoid and calibration are inside; `docs/export.md` is its contract.
"""

from __future__ import annotations

import json
import logging
import warnings
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nexttick.learn.predictor.backends import OnnxRuntime
from nexttick.learn.predictor.calibration import Calibration, Platt, Temperature
from nexttick.learn.predictor.predictor import Predictor
from nexttick.networks.layers.block import State
from nexttick.prepare.events import merge_events
from nexttick.prepare.features import compute_features
from nexttick.scores.tally import EPS
from nexttick.ticks.simulated import SimulatedMarket, simulate
from nexttick.ticks.writing import check_path, write_whole

FEATURES, PROBABILITIES = "features", "p_rise"
OPSET = 20
FORMAT = 1


class NoGraphError(ValueError):
    """A network has no ONNX form, or the libraries that draw it are not installed."""


def graph_of(predictor: Predictor) -> bytes:
    """The graph as the bytes of an ONNX file; whether it is right is for others to check."""
    try:
        import onnx
        import onnxruntime  # noqa: F401 - who draws a graph runs it too
        import onnxscript  # noqa: F401 - torch needs it
    except ImportError as error:
        raise NoGraphError(
            f"ONNX is not installed ({error}): pip install 'nexttick[onnx]'"
        ) from error
    try:
        step = _Step(predictor).eval()
    except (TypeError, RuntimeError) as error:
        raise NoGraphError(f"the network cannot be copied ({error})") from error
    state = tuple(torch.zeros_like(part) for part in step.start)
    model = _exported(step, (torch.zeros(1, len(predictor.spec.names)), *state))
    # The exporter notes lines of source code, with this machine's paths.
    for node in [*model.graph.node, *(n for f in model.functions for n in f.node)]:
        del node.metadata_props[:]
        node.doc_string = ""
    for part in (*model.graph.input, *model.graph.output, *model.graph.value_info, model.graph):
        del part.metadata_props[:]
    spec, scaler = predictor.spec, predictor.scaler
    description = {  # values that are no text as JSON
        "format": str(FORMAT),
        "fingerprint": predictor.fingerprint(),
        "feature_names": json.dumps(spec.names),
        "scaler": json.dumps({"mean": scaler.mean.tolist(), "scale": scaler.scale.tolist()}),
        "half_lives_events": json.dumps(spec.half_lives_events),
        "half_lives_s": json.dumps(spec.half_lives_s),
        "max_gap_ns": str(spec.max_gap_ns),
        "context": str(predictor.model.context),
        "horizons": json.dumps(predictor.horizons),
        "raw_ticks": json.dumps(predictor.raw_ticks),
        "model": predictor.model_options.name,
        "state_shapes": json.dumps([list(part.shape) for part in state]),
    }
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, description)
    model.producer_name, model.producer_version = "nexttick", version("nexttick")
    return model.SerializeToString()


def _exported(step: _Step, inputs: State) -> Any:
    """The graph as the exporter draws it, without what it says of itself and of torch."""
    parts = range(len(inputs) - 1)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "The tensor attributes? .* assigned during export")
            program = torch.onnx.export(
                step,
                inputs,
                input_names=[FEATURES, *(f"state_{i}" for i in parts)],
                output_names=[PROBABILITIES, *(f"next_state_{i}" for i in parts)],
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise NoGraphError(
            f"{type(step.model).__name__} has no ONNX form ({reason}): write its step in "
            "operations that torch.onnx.export knows"
        ) from error
    finally:
        logger.setLevel(level)
    assert program is not None
    return program.model_proto


class _Step(nn.Module):
    """Unscaled features (1, F) and state to probabilities (1, H) and state.

    The state that goes in and out is the model's less its initial one, so that zeros start it,
    whatever a network of one's own starts from.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, predictor: Predictor):
        super().__init__()
        self.model = deepcopy(predictor.model).cpu()
        self.register_buffer("mean", torch.from_numpy(predictor.scaler.mean))
        self.register_buffer("scale", torch.from_numpy(predictor.scaler.scale))
        self.curves = nn.ModuleList(_Curve(one) for one in predictor.calibration)
        self.start = self.model.initial_state(1)
        self.starts_elsewhere = any(bool(part.any()) for part in self.start)

    def forward(self, features: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        state = self._shifted(state, 1)
        logits_BH, state = self.model.step((features - self.mean) / self.scale, state)
        p_BH = torch.sigmoid(logits_BH)
        if self.curves:
            columns = [curve(p_BH[:, h]) for h, curve in enumerate(self.curves)]
            p_BH = torch.stack(columns, dim=1)
        return p_BH, *self._shifted(state, -1)

    def _shifted(self, state: State, sign: int) -> State:
        if not self.starts_elsewhere:
            return state
        return tuple(part + sign * first for part, first in zip(state, self.start, strict=True))


class _Curve(nn.Module):
    """A calibration of `nexttick.learn.predictor.calibration` in torch, in float64 as there."""

    x: Tensor
    y: Tensor

    def __init__(self, one: Calibration):
        super().__init__()
        self.line = None
        if isinstance(one, Temperature | Platt):
            self.line = one.slope, one.bias
        else:
            self.register_buffer("x", torch.tensor(one.x, dtype=torch.float64))
            self.register_buffer("y", torch.tensor(one.y, dtype=torch.float64))

    def forward(self, p_B: Tensor) -> Tensor:
        p = p_B.double()
        if self.line is None:
            # A curve through points is the sum of what each of its pieces has risen so far.
            share = ((p[:, None] - self.x[:-1]) / self.x.diff()).clamp(0, 1)
            said = self.y[0] + (share * self.y.diff()).sum(dim=1)
        else:
            slope, bias = self.line
            p = p.clamp(EPS, 1 - EPS)
            said = torch.sigmoid(slope * (p.log() - (1 - p).log()) + bias)
        return said.clamp(EPS, 1 - EPS).float()


TOLERANCE = 1e-5  # of a probability: the order of float32 sums differs
_MORE = 200  # ticks compared behind the first that has a prediction


def export(predictor: Predictor, path: Path) -> None:
    """Write `path`, an ONNX file of one step, whole or not at all."""
    check_path(path, (".onnx",))
    graph = checked_graph(predictor)
    write_whole(path, lambda file: file.write(graph))


def checked_graph(predictor: Predictor) -> bytes:
    """The bytes of the file, after ONNX's checker and ONNX Runtime have found them right.

    A network, one of one's own say, that has no ONNX form, or one of other numbers, is a
    `NoGraphError`, and so is that the extra `nexttick[onnx]` is not installed.
    """
    graph = graph_of(predictor)
    import onnx

    # Compared over simulated ticks, as one segment whatever the pauses.
    name, context = predictor.model_options.name, predictor.model.context
    events = merge_events(simulate(SimulatedMarket(context + _MORE, seed=0)), raw_ticks=True)
    x_NF = compute_features(events, predictor.spec)
    try:
        p_NH = predictor.score(predictor.scaler(x_NF), np.zeros(1, np.int64)).p_NH
        said_NH = np.empty_like(p_NH)
        onnx.checker.check_model(graph, full_check=True)
        engine = OnnxRuntime(graph)
        for i, x_F in enumerate(x_NF):
            engine.x_F[:] = x_F
            said_NH[i] = engine.advance()
    except (onnx.checker.ValidationError, RuntimeError) as error:
        raise NoGraphError(f"the ONNX form of {name} does not run: {error}") from error
    worst = float(np.abs(said_NH - p_NH)[context - 1 :].max())
    if not worst <= TOLERANCE:
        raise NoGraphError(
            f"the ONNX form of {name} says probabilities {worst:.1e} away from its "
            f"own on simulated ticks, more than {TOLERANCE:.0e}: its step may hang on values of "
            "tensors, which a graph keeps as they were when it was drawn"
        )
    return graph
