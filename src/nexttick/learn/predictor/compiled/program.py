"""A program of `machine.run`, and the writer that puts it together row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nexttick.learn.predictor.compiled import machine as m


class NoProgramError(ValueError):
    """A network holds a layer that the machine does not know."""


class Span(NamedTuple):
    """A piece of the machine's memory: where it starts, and its length."""

    at: int
    size: int

    @property
    def piece(self) -> slice:
        """The same as a slice."""
        return slice(self.at, self.at + self.size)


@dataclass(frozen=True)
class Program:
    """What `machine.run` takes: a row a layer, weights, calibrations, and how much memory.

    Unscaled features are put, and the horizons' probabilities found, at the two spans.
    """

    rows: NDArray[np.int64]
    weights: NDArray[np.float32]
    curves: NDArray[np.float64]
    memory_size: int
    features: Span
    probabilities: Span


class Writer:
    """Rows, weights and memory of a program; `known` writes the rows of each class of layers."""

    def __init__(self, known: Mapping[type, Callable[[Writer, Any, Span], Span]]):
        self._known = known
        self.rows: list[list[int]] = []
        self.weights: list[NDArray[np.float32]] = []
        self.size = 0

    def allocate(self, size: int) -> Span:
        """Fresh memory."""
        self.size += size
        return Span(self.size - size, size)

    def layer(self, layer: nn.Module, x: Span) -> Span:
        """The rows of a layer; gives where its output lies."""
        if type(layer) not in self._known:
            raise NoProgramError(f"{type(layer).__name__} is no layer that the machine knows")
        return self._known[type(layer)](self, layer, x)

    def layers(self, layers: Iterable[nn.Module], x: Span) -> Span:
        """The rows of layers one after the other."""
        for layer in layers:
            x = self.layer(layer, x)
        return x

    def row(
        self,
        kind: int,
        x: Span,
        out: int | Span,
        *weights: Tensor | NDArray[Any],
        past: int = 0,
        taps: int = 1,
        dilation: int = 1,
        groups: int = 1,
        at_once: int = 1,
    ) -> Span:
        """One row with its weights; gives where its output lies."""
        y = out if isinstance(out, Span) else self.allocate(out)
        at = sum(len(array) for array in self.weights)
        arrays = (w.detach().cpu().numpy() if isinstance(w, Tensor) else w for w in weights)
        self.weights += [np.ascontiguousarray(array, np.float32).ravel() for array in arrays]
        options = [past, taps, dilation, groups, at_once]
        self.rows.append([kind, x.at, y.at, x.size, y.size, at, *options])
        return y

    def product(
        self,
        x: Span,
        weight_KOI: Tensor,
        bias_O: Tensor | None,
        dilation: int = 1,
        groups: int = 1,
    ) -> Span:
        """A convolution of K taps, or of one a linear layer."""
        K, out, _ = weight_KOI.shape
        bias_O = weight_KOI.new_zeros(out) if bias_O is None else bias_O
        ring = dilation * (K - 1) + 1
        past = self.allocate(2 * ring * x.size).at if K > 1 else x.at
        # Where all that a filter reads lies side by side it is one sum, and the weights lie so too.
        at_once = K if dilation == groups == 1 else 1
        weights = weight_KOI.unflatten(0, (-1, at_once)).transpose(1, 2)
        sizes = {"taps": K, "dilation": dilation, "groups": groups, "at_once": at_once}
        return self.row(m.PRODUCT, x, out, bias_O, weights, past=past, **sizes)

    def linear(self, x: Span, weight_OI: Tensor, bias_O: Tensor | None) -> Span:
        """A linear layer."""
        return self.product(x, weight_OI.unsqueeze(0), bias_O)

    def beside(self, *parts: Span) -> Span:
        """Pieces of memory side by side."""
        places = np.concatenate([np.arange(part.at, part.at + part.size) for part in parts])
        return self.row(m.GATHER, parts[0], len(places), places)

    def add(self, x: Span, y: Span) -> Span:
        """Y becomes the sum."""
        return self.row(m.ADD, x, y)
