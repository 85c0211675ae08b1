"""Saturated gates of recurrent layers, and the error signal tick by tick.

A gate is saturated where the slope of its sigmoid or tanh has fallen below a tenth of its largest:
hardly any gradient passes there. The fused layers of torch hide their gates, so these are computed
again by the cells of `nexttick.networks.layers`, from the layer's own weights and inputs, for one
segment.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nexttick.networks.layers.block import short_name
from nexttick.networks.layers.recurrent import Cell, GRUCell, LSTMCell, Recurrent, RNNCell

MOST_TICKS = 128  # that gates are computed for; the cells run tick by tick
_STEEP = math.sqrt(0.9)  # where |tanh| is larger, its slope 1 - tanh^2 is below a tenth
_CELLS = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn"}


def is_saturated(out: Tensor, *, tanh: bool) -> Tensor:
    """Where the slope of tanh or of sigmoid is below a tenth of its largest, by what it gave."""
    return (out if tanh else 2 * out - 1).abs() > _STEEP


class GateWatch(ABC):
    """What a look at a recurrent layer, or a stack of them, measures.

    Of each layer: `saturated`, the share of all gates' values; the same of each gate by its name
    (`saturated_forget`, ...); and `saturated_by_tick`, at 0, 1, 2, 4, ... ticks before the newest
    of a stretch and at its oldest. Of the lowest layer of a stack also `error_by_tick`: the norm of
    dE/dx_t, mean over segments, in the first stretch of the step. In a network that is trained with
    a burn-in, only the newest tick of that stretch carries a loss, and so this is the error signal
    on its way back.
    """

    _looks_back: bool  # until the first stretch has been seen
    _errors: list[Tensor]

    @abstractmethod
    def attach(self) -> list[RemovableHandle]:
        """Forget what was seen, and put hooks on the layer."""

    @abstractmethod
    def measure(self) -> dict[str, dict[str, Any]]:
        """What was seen since `attach`, by layer."""

    def _see_error(self, x_BTC: Tensor) -> None:
        """Ask for the gradient of the first input, where it has one."""
        if self._looks_back and x_BTC.requires_grad and x_BTC.dim() == 3:
            x_BTC.register_hook(lambda grad: self._errors.append(grad.norm(dim=2).mean(dim=0)))
        self._looks_back = False

    def _error(self) -> dict[str, Any]:
        return {"error_by_tick": by_tick(self._errors[-1])} if self._errors else {}


class CellWatch(GateWatch):
    """Looks at a cell of `nexttick.networks.layers`, which runs tick by tick."""

    def __init__(self, name: str, cell: Cell):
        self._name, self._cell = name, cell

    def attach(self) -> list[RemovableHandle]:
        """Hooks on the maps of input and state."""
        self._looks_back, self._errors = True, []
        self._inputs: list[Tensor] = []
        self._hiddens: list[Tensor] = []
        return [
            self._cell.from_input.register_forward_hook(self._see_input),
            self._cell.from_hidden.register_forward_hook(self._see_hidden),
        ]

    @torch.no_grad()
    def measure(self) -> dict[str, dict[str, Any]]:
        """The gates at the newest ticks of the first segment."""
        if not self._hiddens:
            return {}
        input_TG, hidden_TG = torch.cat(self._inputs), torch.cat(self._hiddens)
        # Till the next look, memory belongs to the training.
        self._inputs, self._hiddens = [], []
        ticks = min(len(input_TG), len(hidden_TG), MOST_TICKS)
        gates = self._cell.gate_values(input_TG[-ticks:], hidden_TG[-ticks:])
        saturated = {
            name: is_saturated(out_TG, tanh=name == "candidate").float()
            for name, out_TG in gates.items()
        }
        all_TG = torch.cat(list(saturated.values()), dim=-1)
        measures: dict[str, Any] = {"saturated": all_TG.mean().item()}
        measures |= {f"saturated_{name}": gate.mean().item() for name, gate in saturated.items()}
        measures["saturated_by_tick"] = by_tick(all_TG.mean(dim=1))
        return {self._name: measures | self._error()}

    def _see_input(self, _: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        self._see_error(args[0])
        self._inputs.append(out.detach()[0].reshape(-1, out.shape[-1]))

    def _see_hidden(self, _: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        self._hiddens.append(out.detach()[:1])


class TorchWatch(GateWatch):
    """Looks at a stack of `torch.nn.RNN`, `LSTM` or `GRU`.

    Of the stretches of a step, which truncated back-propagation makes many, it takes the latest of
    the longest. Dropout between layers is left out. The layers are `name.0`, `name.1`, ...
    """

    def __init__(self, name: str, layer: nn.RNNBase):
        self._layer = layer
        with torch.random.fork_rng(devices=[]):  # its first weights are of no account
            sizes = (layer.input_size, layer.hidden_size, _CELLS[layer.mode], layer.num_layers)
            self._cells = Recurrent(*sizes)
        cells = [cell for cell in self._cells.cells if isinstance(cell, Cell)]
        self._watches = [CellWatch(f"{name}.{k}", cell) for k, cell in enumerate(cells)]

    def attach(self) -> list[RemovableHandle]:
        """A hook on what goes in."""
        self._looks_back, self._errors = True, []
        self._stretch: tuple[Tensor, Any] | None = None
        return [self._layer.register_forward_pre_hook(self._see, with_kwargs=True)]

    @torch.no_grad()
    def measure(self) -> dict[str, dict[str, Any]]:
        """Run the cells over the stretch."""
        if self._stretch is None:
            return {}
        (x_1TC, state), self._stretch = self._stretch, None
        # As the cells take it: all parts of a layer side by side.
        if state is not None:
            parts, layers = (state,) if isinstance(state, Tensor) else state, self._layer.num_layers
            state = tuple(p.detach()[k, :1].float() for k in range(layers) for p in parts)
        self._cells.to(x_1TC.device).load_torch(self._layer)
        handles = [handle for watch in self._watches for handle in watch.attach()]
        self._cells.run(x_1TC[:, :MOST_TICKS].float(), state)
        measured: dict[str, dict[str, Any]] = {}
        for watch in self._watches:
            measured |= watch.measure()
        for handle in handles:
            handle.remove()
        # The lowest layer is the one that sees the stack's own input.
        next(iter(measured.values())).update(self._error())
        return measured

    def _see(self, _: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        x = args[0] if args else named.get("input")
        state = args[1] if len(args) > 1 else named.get("hx")
        if not isinstance(x, Tensor) or x.dim() != 3:  # packed, or a single segment
            return
        x_BTC = x if self._layer.batch_first else x.transpose(0, 1)
        self._see_error(x_BTC)
        if self._stretch is None or x_BTC.shape[1] >= self._stretch[0].shape[1]:
            self._stretch = x_BTC.detach()[:1], state


def by_tick(values_T: Tensor) -> dict[str, float]:
    """Values at 0, 1, 2, 4, ... ticks before the newest and at the oldest, by ticks back."""
    oldest = len(values_T) - 1
    back = sorted({0, *(2**k for k in range(oldest.bit_length())), oldest})
    return dict(zip(map(str, back), values_T.flip(0)[back].tolist(), strict=True))


def watch_gates(model: nn.Module) -> list[GateWatch]:
    """A watch for every recurrent layer that goes forward in time and has biases."""
    watches: list[GateWatch] = []
    for path, module in model.named_modules():
        name = short_name(path) or type(module).__name__
        if isinstance(module, RNNCell | LSTMCell | GRUCell):
            watches.append(CellWatch(name, module))
        elif isinstance(module, nn.RNNBase):
            known = module.mode in _CELLS and module.bias
            if known and not module.bidirectional and module.proj_size == 0:
                watches.append(TorchWatch(name, module))
    return watches
