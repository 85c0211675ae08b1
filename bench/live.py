"""Microseconds from an event in to its prediction out: features, network and calibration.

    python -m bench.live [FILE…] [--json] [--events 20000] [--only step zoo]

`step`: the default CNN and LSTM, as `Stepper` computes them, beside ONNX Runtime, eager torch with
its state (engine `torch`) and eager torch on a recomputed window, in turns over the same events.
`zoo`: every architecture. Networks are not trained, which costs the same. Without files, a day of
bitFlyer is taken from NEXTTICK_DATA or a folder shared/data beside the clone, or else a simulated
market. All on one core.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType
from rich.table import Table

from bench import running
from nexttick.learn.predictor.calibration import Temperature
from nexttick.learn.predictor.predictor import Predictor
from nexttick.learn.predictor.stepper import Stepper
from nexttick.networks.models import build_model
from nexttick.networks.models.encoding import fit_encodings
from nexttick.options import ARCHS, ModelOptions, Recipe
from nexttick.prepare.dataset import Scaler, recipe_spec
from nexttick.prepare.events import merge_events
from nexttick.prepare.features import EVENT, compute_features, update

Event = tuple[Any, ...]
Step = Callable[[Event], Any]
WARM = 100  # events before the clock runs
ROUND = 1000  # events in a row before it is another contestant's turn
MAX_GAP_NS = 600_000_000_000
TARGETS = {"median_us": 40.0, "p99_us": 150.0, "ratio": 8.0}


@torch.no_grad()
def fresh(kind: str, arch: str | None, events: Any) -> Predictor:
    """A network that has learned nothing, with scaler and encodings fitted."""
    torch.manual_seed(0)
    options, horizons = ModelOptions(kind, arch), Recipe().labels.horizon
    spec = recipe_spec(Recipe(), MAX_GAP_NS)
    x_NF = compute_features(events, spec)
    scaler = Scaler.fit(x_NF)
    model = build_model(options, len(spec.names), len(horizons))
    fit_encodings(model, scaler(x_NF))
    names = tuple(f"rise@{horizon}" for horizon in horizons)
    model, curves = model.finished().eval(), (Temperature(0.9),) * len(names)
    return Predictor(spec, scaler, options, names, model, calibration=curves)


def eager_step(predictor: Predictor) -> Step:
    """PyTorch with the state carried on."""
    return Stepper(predictor, "torch").step


def eager_window(predictor: Predictor) -> Step:
    """PyTorch over the last `context` ticks, all of them computed again at each."""
    spec, context = predictor.spec, predictor.model.context
    state, constants = spec.initial_state(), spec.constants()
    window: deque[np.ndarray] = deque(maxlen=context)
    x_F = np.empty(len(spec.names), np.float32)

    @torch.inference_mode()
    def step(event: Event) -> Any:
        update(state, event, x_F, constants)
        window.append(predictor.scaler(x_F))
        if len(window) < context:
            return None
        logits_BKH = predictor.model(torch.from_numpy(np.stack(window))[None])
        return predictor.calibrated(torch.sigmoid(logits_BKH)[0].numpy())[0]

    return step


CONTESTANTS: dict[str, Callable[[Predictor], Step]] = {
    "Stepper": lambda predictor: Stepper(predictor).step,
    "ONNX Runtime": lambda predictor: Stepper(predictor, "onnx").step,
    "eager step": eager_step,
    "eager window": eager_window,
}


def spent_us(step: Step, rows: list[Event]) -> list[float]:
    spent = []
    for row in rows:
        start = time.perf_counter_ns()
        step(row)
        spent.append((time.perf_counter_ns() - start) / 1e3)
    return spent


def summary(spent: list[float]) -> dict[str, float]:
    median, p99 = np.quantile(spent, [0.5, 0.99])
    return {"events": len(spent), "median_us": median, "p99_us": p99, "max_us": max(spent)}


def in_turns(steps: dict[str, Step], rows: list[Event]) -> dict[str, dict[str, float]]:
    """Every contestant over all events, a thousand at a time: a busy minute slows all of them."""
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        spent_us(step, rows[:WARM])
    for begin in range(WARM, len(rows), ROUND):
        for name, step in steps.items():
            spent[name] += spent_us(step, rows[begin : begin + ROUND])
    return {name: summary(one) for name, one in spent.items()}


def measure_step(events: Any, rows: list[Event]) -> dict[str, Any]:
    """The default CNN and LSTM, all contestants."""
    results: dict[str, Any] = {}
    for kind in ARCHS:
        predictor = fresh(kind, None, events)
        steps = {name: make(predictor) for name, make in CONTESTANTS.items()}
        by_name: dict[str, Any] = in_turns(steps, rows)
        ours = by_name["Stepper"]
        ours["ratio"] = by_name["eager window"]["median_us"] / ours["median_us"]
        results[kind] = by_name
    return results


def measure_zoo(events: Any, rows: list[Event]) -> dict[str, Any]:
    """Every architecture: the engine that serves it, beside eager torch on fewer events."""
    results = {}
    for kind, archs in ARCHS.items():
        for arch in archs:
            predictor = fresh(kind, arch, events)
            stepper = Stepper(predictor)
            spent_us(stepper.step, rows[:WARM])
            ours = summary(spent_us(stepper.step, rows[WARM:]))
            eager = summary(spent_us(eager_step(predictor), rows[: 3 * WARM])[WARM:])
            ours["eager_median_us"] = eager["median_us"]
            results[f"{kind}-{arch}"] = {"engine": stepper.engine.name, **ours}
    return results


PARTS: dict[str, Callable[[Any, list[Event]], dict[str, Any]]] = {
    "step": measure_step,
    "zoo": measure_zoo,
}


def table_of_steps(results: dict[str, Any]) -> Table:
    times = ("median_us", "p99_us", "max_us")
    return running.table(
        *("network", "computed by", "median, µs", "99th percentile, µs", "worst, µs"),
        rows=(
            (kind, name, *(f"{one[key]:,.1f}" for key in times))
            for kind, by_name in results.items()
            for name, one in by_name.items()
        ),
    )


def verdict(kind: str, ours: dict[str, float]) -> str:
    met = ours["ratio"] >= TARGETS["ratio"] and all(
        ours[key] <= TARGETS[key] for key in ("median_us", "p99_us")
    )
    return (
        f"{kind}: {ours['ratio']:.0f} times faster than eager torch on a recomputed window; "
        f"targets {'met' if met else 'MISSED'}"
    )


def table_of_zoo(results: dict[str, Any]) -> Table:
    times = ("median_us", "p99_us", "eager_median_us")
    return running.table(
        *("network", "engine", "median, µs", "99th percentile, µs", "eager step, µs"),
        rows=(
            (name, one["engine"], *(f"{one[key]:,.1f}" for key in times))
            for name, one in results.items()
        ),
    )


def measure(args: argparse.Namespace) -> running.Result:
    threads = torch.get_num_threads()
    ticks, found = running.ticks_of(args.files, running.BITFLYER_DAY, 2 * args.events + 10 * WARM)
    events = merge_events(found)[: args.events + WARM]
    rows = list(events.select(EVENT).iter_rows())
    with running.one_core():
        torch.set_num_threads(1)
        results = {part: PARTS[part](events, rows) for part in args.only}
        torch.set_num_threads(threads)
    return {"ticks": ticks, "events": len(rows), "targets": TARGETS, **results}


def show(result: running.Result) -> Iterator[RenderableType]:
    yield f"{result['events']:,} events of {result['ticks']}"
    if steps := result.get("step"):
        yield table_of_steps(steps)
        yield from (verdict(kind, by_name["Stepper"]) for kind, by_name in steps.items())
    if zoo := result.get("zoo"):
        yield table_of_zoo(zoo)


def main(words: Sequence[str] | None = None) -> None:
    options = running.parser(__doc__, events=20_000)
    options.add_argument("files", nargs="*")
    options.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    running.run(options, measure, show, words)


if __name__ == "__main__":
    main()
