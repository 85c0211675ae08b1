"""What computes a step of the network: the machine, ONNX Runtime, or PyTorch as it is.

All take a tick's unscaled features and give probabilities that can be said. The machine serves
the layers that `compiled.compiling` has a program for, the default networks in a quarter to a
seventh of ONNX Runtime's time (`docs/live.md`); it has none for transposed convolutions, strides
and encoder-decoders (`fcn`). ONNX Runtime serves the rest, where it is installed; PyTorch serves
everything.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from nexttick.learn.predictor.compiled import machine
from nexttick.learn.predictor.compiled.compiling import Program
from nexttick.learn.predictor.predictor import Predictor
from nexttick.networks.layers.block import State

Arrays = dict[str, NDArray[Any]]
_DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}


class Engine(ABC):
    """One step of one market's network, with its state."""

    name: ClassVar[str]
    x_F: NDArray[np.float32]  # where the caller writes a tick's features before `advance`

    @abstractmethod
    def advance(self) -> NDArray[np.float32]:
        """Take the tick in; probabilities of the H horizons, valid until the next call."""

    @abstractmethod
    def reset(self) -> None:
        """Back to the state before the first tick."""

    @abstractmethod
    def state(self) -> Arrays:
        """The arrays that hold the state now, themselves and no copies."""

    def load(self, arrays: Arrays) -> None:
        """Take over a state, of the names and shapes of `state`."""
        for name, array in self.state().items():
            array[...] = arrays[name]

    @property
    def layout(self) -> bytes:
        """What the state's arrays mean; another layout's cannot be taken over."""
        return self.name.encode()


class Compiled(Engine):
    """The machine of `nexttick.learn.predictor.compiled.machine`."""

    name = "compiled"

    def __init__(self, program: Program):
        self._program = program
        self._arrays = program.rows, program.weights, program.curves
        self._memory = np.zeros(program.memory_size, np.float32)
        self._tick = np.zeros(1, np.int64)
        self.x_F = self._memory[program.features.piece]
        self._p_H = self._memory[program.probabilities.piece]

    def advance(self) -> NDArray[np.float32]:
        """One run of the program."""
        machine.run(*self._arrays, self._memory, self._tick)
        return self._p_H

    def reset(self) -> None:
        """An empty memory."""
        self._memory[:] = 0
        self._tick[:] = 0

    def state(self) -> Arrays:
        """The whole memory: the past that layers need lies between their outputs."""
        return {"memory": self._memory, "tick": self._tick}

    @property
    def layout(self) -> bytes:
        """The program's rows say what lies where."""
        return hashlib.sha256(self._program.rows.tobytes()).digest()


class OnnxRuntime(Engine):
    """A graph of `nexttick.learn.predictor.onnx`, its inputs and outputs bound to arrays once."""

    name = "onnx"

    def __init__(self, graph: bytes):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        inputs, outputs = (
            {one.name: np.zeros(one.shape, _DTYPES[one.type]) for one in ends}
            for ends in (self._session.get_inputs(), self._session.get_outputs())
        )
        # Bound once, arrays are neither copied nor looked up at a tick. A graph may not write what
        # it reads, so the state has two homes: each run reads one and writes the other.
        x_1F, *before = inputs.values()
        p_1H, *after = outputs.values()
        self.x_F, self._p_H = x_1F[0], p_1H[0]
        self._states = before, after
        self._bindings = (
            self._bound(inputs, outputs),
            self._bound(
                dict(zip(inputs, [x_1F, *after], strict=True)),
                dict(zip(outputs, [p_1H, *before], strict=True)),
            ),
        )
        self._turn = 0

    def _bound(self, inputs: Arrays, outputs: Arrays) -> Any:
        from onnxruntime import OrtValue

        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, OrtValue.ortvalue_from_numpy(array))
        return binding

    def advance(self) -> NDArray[np.float32]:
        """One run of the graph, from one set of arrays into the other."""
        self._session.run_with_iobinding(self._bindings[self._turn])
        self._turn = 1 - self._turn
        return self._p_H

    def reset(self) -> None:
        """Zeros: the graph's contract."""
        for part in self._states[self._turn]:
            part[...] = 0

    def state(self) -> Arrays:
        """The arrays that the next tick reads."""
        return {f"state_{i}": part for i, part in enumerate(self._states[self._turn])}


class Eager(Engine):
    """PyTorch, operation by operation: slow, and takes any network."""

    name = "torch"

    def __init__(self, predictor: Predictor):
        self._predictor, self._model = predictor, predictor.model.eval()
        self.x_F = np.zeros(len(predictor.spec.names), np.float32)
        self._state: State = self._model.initial_state(1)

    @torch.inference_mode()
    def advance(self) -> NDArray[np.float32]:
        """One step of the model."""
        x_BF = torch.from_numpy(self._predictor.scaler(self.x_F))[None]
        x_BF = x_BF.to(next(self._model.parameters()).device)
        logits_BH, self._state = self._model.step(x_BF, self._state)
        return self._predictor.calibrated(torch.sigmoid(logits_BH).cpu().numpy())[0]

    def reset(self) -> None:
        """The model's own initial state."""
        self._state = self._model.initial_state(1)

    def state(self) -> Arrays:
        """The model's tensors."""
        parts = (part.detach().cpu().contiguous().numpy() for part in self._state)
        return {f"state_{i}": part for i, part in enumerate(parts)}

    def load(self, arrays: Arrays) -> None:
        """Tensors of their own: those of a first state may share their memory."""
        self._state = tuple(
            torch.from_numpy(arrays[name].copy()).to(part.device)
            for name, part in zip(self.state(), self._state, strict=True)
        )
