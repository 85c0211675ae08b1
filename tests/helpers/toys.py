"""What a network can learn in a moment: labels that two features of two ticks decide."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from helpers.markets import tiny_model
from nexttick.learn.batches import Batch, Runs, gather
from nexttick.learn.epochs import TrainingData
from nexttick.prepare.labels import MISSING

F, H, N = 4, 2, 600


def toy(n: int = N, seed: int = 0) -> TrainingData:
    """Whether the first feature of the tick, or that of the tick before it, is above zero."""
    rng = np.random.default_rng(seed)
    x_NF = rng.normal(size=(n, F)).astype(np.float32)
    y_NH = (np.stack([x_NF[:, 0], np.roll(x_NF[:, 0], 1)], axis=1) > 0).astype(np.int8)
    y_NH[rng.random((n, H)) < 0.1] = MISSING
    valid = n * 3 // 4
    train_y_NH, valid_y_NH = y_NH.copy(), y_NH.copy()
    train_y_NH[valid:], valid_y_NH[:valid] = MISSING, MISSING
    tensors = map(torch.from_numpy, (x_NF, train_y_NH, valid_y_NH))
    half = valid // 2
    return TrainingData(*tensors, train=[(7, half), (half + 7, valid)], valid=[(valid, n)])


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def one_batch() -> Batch:
    data = toy()
    runs = Runs(np.array([7, 50]), np.array([40, 90]))
    return gather(data.x_NF, data.train_y_NH, runs, tiny_model().sequence_length, 32)
