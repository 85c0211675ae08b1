"""Piecewise-linear encoding: each feature as how far it has filled each of its bins.

Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep Learning"
(arXiv:2203.05556): with edges at quantiles of the training rows, a network bends its answer along
one feature as easily as a tree does. Deviations: the feature itself is kept beside its bins, and
one linear layer brings all to the network's width.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_MIN_WIDTH = 1e-3  # of a bin, in standard deviations: features with few values repeat quantiles


class Encoding(nn.Module):
    """Features of one tick to `width` channels; nothing is shared along time.

    Shapes: (..., F) to (..., width). Before `fit`, every edge is 0 and bins are empty or full.
    """

    low_FQ: Tensor
    per_width_FQ: Tensor

    def __init__(self, num_features: int, bins: int, width: int):
        super().__init__()
        self.register_buffer("low_FQ", torch.zeros(num_features, bins))
        self.register_buffer("per_width_FQ", torch.ones(num_features, bins))
        self.linear = nn.Linear(num_features * (bins + 1), width)

    def fit(self, x_NF: NDArray[np.float32]) -> None:
        """Put the edges at quantiles of the training rows."""
        bins = self.low_FQ.shape[1]
        edges_QF = np.quantile(x_NF, np.linspace(0, 1, bins + 1), axis=0)
        width_QF = np.maximum(np.diff(edges_QF, axis=0), _MIN_WIDTH)
        self.low_FQ.copy_(torch.from_numpy(edges_QF[:-1].T))
        self.per_width_FQ.copy_(torch.from_numpy(1 / width_QF.T))

    def forward(self, x: Tensor) -> Tensor:
        """Fill the bins, from 0 (below) to 1 (above), and mix them."""
        filled = ((x.unsqueeze(-1) - self.low_FQ) * self.per_width_FQ).clamp(0, 1)
        return self.linear(torch.cat([x, filled.flatten(-2)], dim=-1))


def encoder(num_features: int, bins: int, width: int) -> tuple[nn.Module, int]:
    """The first layer of a network and its channels; without bins the features as they are."""
    if bins == 0:
        return nn.Identity(), num_features
    return Encoding(num_features, bins, width), width


def fit_encodings(model: nn.Module, x_NF: NDArray[np.float32]) -> None:
    """Fit every encoding of a model on scaled training rows, or on an even sample of many."""
    sample = x_NF[:: max(1, len(x_NF) // 100_000)]
    for module in model.modules():
        if isinstance(module, Encoding):
            module.fit(sample)
