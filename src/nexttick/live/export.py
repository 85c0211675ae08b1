"""A predictor's step as an ONNX file, for use elsewhere: checked, then written whole.

`graph.py` makes the graph, `docs/export.md` is its contract.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nexttick.events import merge_events, segment_starts
from nexttick.features import compute_features
from nexttick.live.engines import OnnxRuntime
from nexttick.live.graph import NoGraphError, graph_of
from nexttick.predictor import Predictor
from nexttick.sources.simulated import SimulatedMarket, simulate
from nexttick.writing import check_path, write_whole

TOLERANCE = 1e-5  # of a probability: the order of float32 sums differs
_MORE = 200  # ticks compared behind the first that has a prediction


def export(predictor: Predictor, path: Path) -> None:
    """Write `path`, an ONNX file of one step.

    Raises:
        ValueError: another ending; or what `checked_graph` raises.
        OSError: it cannot be written; no part of it is left.
    """
    check_path(path, (".onnx",))
    graph = checked_graph(predictor)
    write_whole(path, lambda file: file.write(graph))


def checked_graph(predictor: Predictor) -> bytes:
    """The bytes of the file, after ONNX's checker and ONNX Runtime have found them right.

    Raises:
        NoGraphError: the network has no ONNX form, or one of other numbers, or the extra
            `nexttick[onnx]` is not installed.
    """
    graph = graph_of(predictor)
    import onnx

    try:
        onnx.checker.check_model(graph, full_check=True)
        worst = _worst_difference(predictor, OnnxRuntime(graph))
    except (onnx.checker.ValidationError, RuntimeError) as error:
        raise NoGraphError(f"the ONNX form of {_name(predictor)} does not run: {error}") from error
    if not worst <= TOLERANCE:
        raise NoGraphError(
            f"the ONNX form of {_name(predictor)} says probabilities {worst:.1e} away from its "
            f"own on simulated ticks, more than {TOLERANCE:.0e}: its step may hang on values of "
            "tensors, which a graph keeps as they were when it was drawn"
        )
    return graph


def _name(predictor: Predictor) -> str:
    return predictor.model_options.name


def _worst_difference(predictor: Predictor, engine: OnnxRuntime) -> float:
    """The largest one between the predictor and a graph, over a run of simulated ticks."""
    context = predictor.model.context
    ticks = simulate(SimulatedMarket(context + _MORE, seed=0))
    events = merge_events(ticks, raw_ticks=True)
    x_NF = compute_features(events, predictor.spec)
    starts = segment_starts(events["time"].to_numpy(), 2**62)  # one segment, whatever the pauses
    p_NH = predictor.score(predictor.scaler(x_NF), starts)
    said_NH = np.empty_like(p_NH)
    for i, x_F in enumerate(x_NF):
        engine.x_F[:] = x_F
        said_NH[i] = engine.advance()
    return float(np.abs(said_NH - p_NH)[context - 1 :].max())
