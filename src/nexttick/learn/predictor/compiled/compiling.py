"""A network as a program of `machine.run`: each of its layers becomes one or a few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nexttick.learn.predictor.calibration import Platt, Temperature
from nexttick.learn.predictor.compiled import machine as m
from nexttick.learn.predictor.predictor import Predictor
from nexttick.networks.layers.block import Chain
from nexttick.networks.layers.condensenet import CondenseBlock, CondensedConv, LearnedGroupConv
from nexttick.networks.layers.convolution import Average, Conv, ConvBlock, Separable
from nexttick.networks.layers.densenet import Beside, DenseBlock, Transition
from nexttick.networks.layers.dilated import AtrousPyramid
from nexttick.networks.layers.normalisation import ChannelNorm
from nexttick.networks.layers.recurrent import CELLS, Cell, GRUCell, Recurrent, RNNCell
from nexttick.networks.layers.residual import Bottleneck, Residual
from nexttick.networks.models.cnn import CNN, CondenseCNN, WideConv
from nexttick.networks.models.deeplab import PAUSE, RETURN, DeepLab
from nexttick.networks.models.encoding import Encoding
from nexttick.networks.models.rnn import RNN, PureRNN

_LARGEST = 2**24  # places in the memory are told as float32, among the weights


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
    """Rows, weights and memory of a program while it is being written."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        self.weights: list[NDArray[np.float32]] = []
        self.size = 0

    def allocate(self, size: int) -> Span:
        """Fresh memory."""
        self.size += size
        return Span(self.size - size, size)

    def layer(self, layer: nn.Module, x: Span) -> Span:
        """The rows of a layer; gives where its output lies."""
        # By exact class: a subclass may compute something else.
        if type(layer) not in _LAYERS:
            raise NoProgramError(f"{type(layer).__name__} is no layer that the machine knows")
        return _LAYERS[type(layer)](self, layer, x)

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
        sizes = [x.size, y.size, at, past, taps, dilation, groups, at_once]
        self.rows.append([kind, x.at, y.at, *sizes])
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


def compile_predictor(predictor: Predictor) -> Program:
    """The program of a predictor: scaling, network, sigmoid and calibration."""
    write = Writer()
    x = write.allocate(len(predictor.spec.names))
    gain, bias = np.ones(x.size), np.zeros(x.size)
    scaler = predictor.scaler
    scaled = write.row(m.AFFINE, x, x.size, scaler.mean, scaler.scale, gain, bias)
    with torch.no_grad():
        logits = write.layer(predictor.model, scaled)
    p = write.row(m.SAY, logits, logits.size)
    if write.size > _LARGEST:
        raise NoProgramError(f"the network remembers more than {_LARGEST:,} numbers")
    # Kind, length and numbers of each horizon's curve.
    curves: list[float] = []
    for one in predictor.calibration or [None] * p.size:
        if one is None:
            curves += [m.AS_IT_IS, 0]
        elif isinstance(one, Temperature | Platt):
            curves += [m.LINE, 2, one.slope, one.bias]
        else:
            curves += [m.POINTS, 2 * len(one.x), *one.x, *one.y]
    rows, weights = np.array(write.rows, np.int64), np.concatenate(write.weights)
    return Program(rows, weights, np.array(curves, np.float64), write.size, x, p)


# Layers of each tick by itself


def _encoding(write: Writer, layer: Encoding, x: Span) -> Span:
    filled = x.size * (1 + layer.low_FQ.shape[1])
    filled_x = write.row(m.FILL, x, filled, layer.low_FQ, layer.per_width_FQ)
    return write.layer(layer.linear, filled_x)


def _batch_norm(write: Writer, layer: nn.BatchNorm1d, x: Span) -> Span:
    if layer.running_mean is None or layer.running_var is None:
        raise NoProgramError("BatchNorm1d without running statistics")
    scale = torch.sqrt(layer.running_var + layer.eps)
    gain, bias = _gain_and_bias(layer, x.size)
    return write.row(m.AFFINE, x, x.size, layer.running_mean, scale, gain, bias)


def _channel_norm(write: Writer, layer: ChannelNorm, x: Span) -> Span:
    return write.row(m.CENTRE, x, x.size, np.array([layer.eps]), *_gain_and_bias(layer, x.size))


def _gain_and_bias(layer: nn.Module, size: int) -> tuple[Tensor, Tensor]:
    gain, bias = layer.weight, layer.bias
    return (
        gain if isinstance(gain, Tensor) else torch.ones(size),
        bias if isinstance(bias, Tensor) else torch.zeros(size),
    )


def _leak(write: Writer, slope: float, x: Span) -> Span:
    return write.row(m.LEAK, x, x.size, np.array([slope]))


def _shuffle(write: Writer, layer: nn.ChannelShuffle, x: Span) -> Span:
    places = np.arange(x.at, x.at + x.size).reshape(layer.groups, -1).T
    return write.row(m.GATHER, x, x.size, places)


# Blocks


def _conv(write: Writer, block: Conv, x: Span) -> Span:
    layer = block.layer
    if block.nd != 1 or block.stride != 1 or block.margins[1]:
        raise NoProgramError("a convolution with strides, over images or over later ticks")
    dilation, groups = int(layer.dilation[0]), layer.groups
    weight_KOI = layer.weight.permute(2, 0, 1)
    return write.product(x, weight_KOI, layer.bias, dilation=dilation, groups=groups)


def _average(write: Writer, block: Average, x: Span) -> Span:
    if block.size > 1:
        raise NoProgramError("an average of several ticks")
    return x


def _condensed(write: Writer, block: CondensedConv, x: Span) -> Span:
    gathered = write.row(m.GATHER, x, len(block.index), block.index + x.at)
    return write.layer(block.conv, gathered)


def _residual(write: Writer, block: Residual | Bottleneck, x: Span) -> Span:
    y = write.add(write.layer(block.shortcut, x), write.layer(block.path, x))
    return _leak(write, 0.0, y)


def _pyramid(write: Writer, block: AtrousPyramid, x: Span) -> Span:
    first, *others = (write.layer(branch, x) for branch in block.branches)
    for other in others:
        write.add(other, first)
    return first


# Recurrent layers


def _cell(write: Writer, kind: type, x: Span, weights: Iterable[Tensor], size: int) -> Span:
    """One cell of torch's weights: of the input, of the state, and their biases."""
    from_x_GI, from_h_GH, bias_x_G, bias_h_G = weights
    h = write.allocate(size)
    said_x, said_h = write.linear(x, from_x_GI, bias_x_G), write.linear(h, from_h_GH, bias_h_G)
    if kind is GRUCell:
        return write.row(m.GRU, write.beside(said_x, said_h), h)
    gates = write.add(said_h, said_x)
    if kind is RNNCell:
        return write.row(m.TANH, gates, h)
    return write.row(m.LSTM, gates, h, past=write.allocate(size).at)


def _torch_layers(write: Writer, layers: nn.RNNBase, x: Span) -> Span:
    kind = CELLS.get(layers.mode.lower().removesuffix("_tanh"))
    if kind is None or layers.bidirectional or layers.proj_size or not layers.bias:
        raise NoProgramError(f"{layers} has what the machine's cells have not")
    for weights in layers.all_weights:
        x = _cell(write, kind, x, weights, layers.hidden_size)
    return x


def _own_cells(write: Writer, block: Recurrent, x: Span) -> Span:
    for cell in block.cells:
        assert isinstance(cell, Cell)
        if isinstance(cell, GRUCell) and cell.reset != "after":
            raise NoProgramError("a GRU whose reset gate weighs the state before its matrix")
        maps = cell.from_input, cell.from_hidden
        weights = [*(one.weight for one in maps), *(one.bias for one in maps)]
        x = _cell(write, type(cell), x, weights, cell.hidden_size)
    return x


# Whole networks


def _cnn(write: Writer, model: CNN, x: Span) -> Span:
    encoded = write.layer(model.encoder, x)
    body = write.layer(model.body, encoded)
    return write.add(write.layer(model.newest, encoded), write.layer(model.head, body))


def _deeplab(write: Writer, model: DeepLab, x: Span) -> Span:
    logits, field = _cnn(write, model, x), model.field
    near = torch.exp(-2 * field.log_scales) / 2
    features = np.array([PAUSE, RETURN])
    past = write.allocate(field.before * (3 + field.steps * logits.size)).at
    sizes = {"past": past, "taps": field.before, "dilation": field.steps}
    return write.row(m.FIELD, x, logits, features, near, torch.exp(field.log_weights), **sizes)


_LAYERS: dict[type, Callable[[Writer, Any, Span], Span]] = {
    **dict.fromkeys((nn.Identity, nn.Dropout), lambda write, layer, x: x),
    Chain: lambda write, block, x: write.layers(block.layers, x),
    nn.Sequential: lambda write, layers, x: write.layers(layers, x),
    **dict.fromkeys(
        (ConvBlock, Separable, DenseBlock, CondenseBlock, Transition),
        lambda write, block, x: write.layer(block.path, x),
    ),
    **dict.fromkeys((Residual, Bottleneck), _residual),
    **dict.fromkeys((nn.LSTM, nn.GRU, nn.RNN), _torch_layers),
    **dict.fromkeys((CNN, CondenseCNN), _cnn),
    **dict.fromkeys(
        (RNN, PureRNN),
        lambda write, model, x: write.layers((model.encoder, model.layers, model.head), x),
    ),
    nn.Sigmoid: lambda write, layer, x: write.row(m.SIGMOID, x, x.size),
    nn.Tanh: lambda write, layer, x: write.row(m.TANH, x, x.size),
    nn.Linear: lambda write, layer, x: write.linear(x, layer.weight, layer.bias),
    nn.BatchNorm1d: _batch_norm,
    nn.LeakyReLU: lambda write, layer, x: _leak(write, layer.negative_slope, x),
    nn.ReLU: lambda write, layer, x: _leak(write, 0.0, x),
    nn.ChannelShuffle: _shuffle,
    ChannelNorm: _channel_norm,
    Encoding: _encoding,
    Conv: _conv,
    WideConv: lambda write, layer, x: write.product(x, layer.weight.permute(2, 0, 1), layer.bias),
    Average: _average,
    CondensedConv: _condensed,
    LearnedGroupConv: lambda write, block, x: write.layer(block.conv, x),
    Beside: lambda write, block, x: write.beside(x, write.layer(block.path, x)),
    AtrousPyramid: _pyramid,
    Recurrent: _own_cells,
    DeepLab: _deeplab,
}
