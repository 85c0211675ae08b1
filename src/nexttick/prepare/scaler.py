"""The affine step between features and a network, fitted on training rows only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nexttick.prepare.on_disk import Empty
from nexttick.ticks.gaps import pieces

_ROWS = 1 << 17  # features scaled in one call


@dataclass(frozen=True)
class Scaler:
    """Affine scaling of the features, fitted on training rows only: (x - mean) / scale."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def fit(cls, x_NF: NDArray[np.float32]) -> Scaler:
        """Mean and standard deviation of each feature; a constant feature is only centred."""
        rows = [slice(*piece) for piece in pieces(len(x_NF), _ROWS)]
        mean = sum(x_NF[one].sum(axis=0, dtype=np.float64) for one in rows) / len(x_NF)
        square = sum(((x_NF[one] - mean) ** 2).sum(axis=0) for one in rows) / len(x_NF)
        scale = np.sqrt(square)
        scale[scale < 1e-6] = 1.0
        return cls(mean.astype(np.float32), scale.astype(np.float32))

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale rows or one row of features."""
        return (x - self.mean) / self.scale

    def scaled(self, x_NF: NDArray[np.float32], empty: Empty) -> NDArray[np.float32]:
        """Scale many rows into an array that `empty` makes."""
        out_NF = empty(x_NF.shape, np.float32)
        for rows in pieces(len(x_NF), _ROWS):
            out_NF[slice(*rows)] = self(x_NF[slice(*rows)])
        return out_NF
