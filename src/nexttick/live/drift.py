"""How far the features of the last events have left those of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nexttick.learn.predictor.training_shares import LARGE, TrainingShares, find_bins, psi

_NAMED = 5  # features in one warning


class Drift:
    """Population stability index (PSI) of each feature over the last events.

    It is made of the predictor's `training_shares` and its `spec.names`; others are a ValueError.
    """

    def __init__(self, shares: TrainingShares, names: tuple[str, ...]):
        if len(names) != len(shares.edges):
            raise ValueError(
                f"{len(names)} names, {len(shares.edges)} features in the training shares: give "
                f"the predictor's own, spec.names and training_shares"
            )
        self.taken = 0  # events since the beginning
        self._shares, self._names = shares, names
        # Beyond its limit a feature has left training.
        limit_F = np.maximum(LARGE + shares.chance_F, shares.limit_F)
        self.limits = dict(zip(names, map(float, limit_F), strict=True))
        self._edges_FQ, self._shares_FB = shares.padded()
        self._counts_FB = np.zeros(self._shares_FB.shape, np.int64)
        self._bins_WF = np.zeros((shares.window, len(names)), np.uint8)
        # Loads the compiled code now, and not at the first event; the counts are those of a copy.
        x_F = np.zeros(len(names), np.float32)
        _slide(x_F, self._edges_FQ, self._counts_FB.copy(), self._bins_WF.copy(), 0)

    def take(self, x_F: NDArray[np.float32]) -> None:
        """Take in the features of an event, before scaling."""
        _slide(x_F, self._edges_FQ, self._counts_FB, self._bins_WF, self.taken)
        self.taken += 1

    def state(self) -> dict[str, NDArray[Any]]:
        """The window; `load` goes on from there exactly."""
        return {"bins": self._bins_WF, "taken": np.array([self.taken], np.int64)}

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a window; one of other shares is a ValueError."""
        bins_WF, taken = state["bins"], int(state["taken"][0])
        window, bins = len(self._bins_WF), self._shares_FB.shape[1]
        if bins_WF.shape != self._bins_WF.shape or bins_WF.max(initial=0) >= bins:
            raise ValueError(f"a window of {bins_WF.shape} where {self._bins_WF.shape} is needed")
        # Counts follow from the bins; not kept beside them, they cannot be of another window.
        self._bins_WF[:], self.taken = bins_WF, taken
        for counts_B, bins_W in zip(self._counts_FB, bins_WF[: min(taken, window)].T, strict=True):
            counts_B[:] = np.bincount(bins_W, minlength=bins)

    def psi(self) -> dict[str, float]:
        """PSI by feature; empty until the window is full."""
        if self.taken < self._shares.window:
            return {}
        psi_F = psi(self._counts_FB, self._shares_FB)
        return dict(zip(self._names, map(float, psi_F), strict=True))

    def left(self) -> dict[str, float]:
        """Ratio of PSI to its limit of the features that have left training, the largest first.

        A feature has where its PSI is large, chance taken off, and beyond all of training's own
        windows.
        """
        ratios = {name: value / self.limits[name] for name, value in self.psi().items()}
        largest_first = sorted(ratios.items(), key=lambda one: -one[1])
        return {name: ratio for name, ratio in largest_first if ratio > 1}

    def warnings(self) -> list[str]:
        """One sentence that names the features which have left training; none where none has."""
        index, left = self.psi(), list(self.left())
        if not left:
            return []
        named = [
            f"{name} {index[name]:.2f} (there {self.limits[name]:.2f} at most)" for name in left
        ]
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        return [
            f"in the last {self._shares.window:,} events {len(left)} of {len(index)} features "
            f"lie otherwise than in any stretch of training as long; population stability index: "
            f"{', '.join(named[:_NAMED])}{more}"
        ]


@njit(cache=True, nogil=True)
def _slide(x_F, edges_FQ, counts_FB, bins_WF, taken):  # type: ignore[no-untyped-def]
    """Put an event in the place of the one that leaves the window."""
    bins_F = bins_WF[taken % len(bins_WF)]
    if taken >= len(bins_WF):
        for f in range(len(bins_F)):
            counts_FB[f, bins_F[f]] -= 1
    find_bins(x_F, edges_FQ, bins_F)
    for f in range(len(bins_F)):
        counts_FB[f, bins_F[f]] += 1
