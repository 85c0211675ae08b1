"""One event in, one prediction out: what `Predictor.predict` says, event by event.

Features come from the same compiled code as in training, the network from the fastest engine that
knows all its layers (`backends.py`). Nothing is compiled or loaded at an event: all of it happens
when a stepper is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as arrays_from_bytes
from safetensors.numpy import save as arrays_to_bytes

from nexttick.learn.predictor.backends import Arrays, Compiled, Eager, Engine, OnnxRuntime
from nexttick.learn.predictor.compiled.compiling import NoProgramError, compile_predictor
from nexttick.learn.predictor.onnx import NoGraphError, checked_graph
from nexttick.learn.predictor.predictor import Predictor
from nexttick.options import nearest
from nexttick.prepare.features import update

_EVENT = (0, 1.0, 1.0, 1.0, 1.0, 0, 1)  # of the types that `step` hands on


class Stepper:
    """A predictor, with its weights as they are now, that follows one market.

    The engine is `compiled`, `onnx` or `torch`, by default the fastest that takes the network. One
    that was asked for and does not take it, or is not installed, is a `ValueError`.
    """

    engine: Engine
    why: str  # why the engine is no faster one; empty for the fastest
    seen: int  # events since the start, the last gap or the last reset
    last_ns: int  # time of the last one of them

    def __init__(self, predictor: Predictor, engine: str | None = None):
        if engine is not None and engine not in ENGINES:
            raise ValueError(f"engine {engine!r} is unknown: {nearest(engine, ENGINES)}")
        *faster, slowest = ENGINES.values() if engine is None else [ENGINES[engine]]
        self.why = ""
        for make in faster:
            try:
                self.engine = make(predictor)
                break
            except (NoProgramError, NoGraphError) as error:
                self.why += f"; {error}" if self.why else str(error)
        else:
            self.engine = slowest(predictor)
        self.fingerprint = predictor.fingerprint()
        self._context = predictor.model.context
        self._max_gap_ns = predictor.spec.max_gap_ns
        self._constants = predictor.spec.constants()
        self._features = predictor.spec.initial_state()
        self.seen = self.last_ns = 0
        # This loads the compiled code, or compiles it.
        self.step(_EVENT)
        self.reset()

    def step(self, event: tuple[Any, ...]) -> NDArray[np.float32] | None:
        """Take one event in, the values named in `features.EVENT`; a new array of H probabilities.

        None while there is less history than the context, from the start, the last gap or the
        last reset on.
        """
        time_ns, first, price, vwap, amount, side, count = event
        if self.seen and time_ns - self.last_ns > self._max_gap_ns:
            self.engine.reset()  # the features find the gap themselves
            self.seen = 0
        # Of other types than these, numba would compile another version, here and now.
        typed = (
            *(int(time_ns), float(first), float(price), float(vwap), float(amount)),
            *(int(side), int(count)),
        )
        update(self._features, typed, self.engine.x_F, self._constants)
        p_H = self.engine.advance()
        self.seen, self.last_ns = self.seen + 1, typed[0]
        return p_H.copy() if self.seen >= self._context else None

    def reset(self) -> None:
        """Forget all: what comes next has nothing to do with what came before."""
        self._features[:] = 0
        self.engine.reset()
        self.seen = self.last_ns = 0

    def snapshot(self, beside: Arrays | None = None) -> bytes:
        """All that is remembered, as safetensors, and what others want to be kept `beside` it."""
        others = {f"beside.{name}": array for name, array in (beside or {}).items()}
        return arrays_to_bytes({**self._marks(), **self._remembered(), **others})

    def restore(self, snapshot: bytes) -> Arrays:
        """Go on exactly where a snapshot was taken; gives what was kept beside it.

        One that is damaged, or of another predictor, engine or version, is a `ValueError`.
        """
        try:
            arrays = arrays_from_bytes(snapshot)
        except SafetensorError as error:
            raise ValueError(f"the snapshot is damaged ({error}): start without it") from error
        for name, mark in self._marks().items():
            if name not in arrays or not np.array_equal(arrays[name], mark):
                other = "predictor" if name == "predictor" else "engine or version of nexttick"
                raise ValueError(f"the snapshot is of another {other}: start without it")
        for name, array in self._remembered().items():
            given = arrays.get(name)
            if given is None or (given.shape, given.dtype) != (array.shape, array.dtype):
                raise ValueError(f"the snapshot is damaged ({name}): start without it")
        self._features[:] = arrays["features"]
        self.seen, self.last_ns = arrays["counts"].tolist()
        self.engine.load({name: arrays[f"engine.{name}"] for name in self.engine.state()})
        return {
            name.removeprefix("beside."): array
            for name, array in arrays.items()
            if name.startswith("beside.")
        }

    def _marks(self) -> Arrays:
        return {
            "predictor": np.frombuffer(bytes.fromhex(self.fingerprint), np.uint8),
            "layout": np.frombuffer(self.engine.layout, np.uint8),
        }

    def _remembered(self) -> Arrays:
        engine = {f"engine.{name}": array for name, array in self.engine.state().items()}
        counts = np.array([self.seen, self.last_ns], np.int64)
        return {"features": self._features, "counts": counts, **engine}


ENGINES: dict[str, Callable[[Predictor], Engine]] = {
    "compiled": lambda predictor: Compiled(compile_predictor(predictor)),
    "onnx": lambda predictor: OnnxRuntime(checked_graph(predictor)),
    "torch": Eager,
}
"""What makes each engine, the fastest first; the last one takes every network."""
