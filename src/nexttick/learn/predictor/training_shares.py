"""How the features lay in training, so that it can be told when a live market has left it.

Each feature is cut into bins at its deciles in training, and the population stability index
(Siddiqi 2006) compares shares a of a window with shares e of training:

    PSI = Σ (a - e) ln(a / e)

By custom less than 0.1 is *stable*, up to 0.25 *moderate*, beyond *large*. Two things blur it.

*Chance.* Without drift PSI is near (B - 1)(1/N + 1/M) for B bins, N events in the window and M in
training, if events are independent (Yurdakul & Naranjo 2020). Half a count is added to each bin
of a window, so that an empty one has a finite logarithm.

*Memory.* Neighbouring events are alike, and a feature that remembers for minutes never visits all
of its training range in a window of minutes: its PSI is large in training itself. So a limit is
kept for each feature from windows of the training part: their mean PSI (that of chance at least)
times the largest ratio to it that any feature had in any of them. Of W windows looked at, the next
one of the same market is then beyond some limit about once in W times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

BINS = 10
WINDOW = 5000  # events, or a 20th of the training part where that is less
LARGE = 0.25

_SMALLEST = 0.25 / BINS  # share of a bin; a smaller one is noise
_SAMPLE = 100_000  # rows of training that decide the edges
_WINDOWS = 200  # of training that decide the limits


@dataclass(frozen=True)
class TrainingShares:
    """Bins of F features, fitted on the training part.

    Edges rise; bin k holds edges[k - 1] <= x < edges[k]. A value that many events share has a bin
    of its own; a feature with one value has no edge.
    """

    edges: tuple[NDArray[np.float32], ...]  # of each feature
    shares: tuple[NDArray[np.float64], ...]  # of the training part in each bin
    rows: int  # M, events of the training part that were counted
    window: int  # N, events of the windows that the limits are of
    limit_F: NDArray[np.float64]  # PSI that no window of training exceeded

    @classmethod
    def fit(cls, x_NF: NDArray[np.float32]) -> TrainingShares:
        """From the features of the training part, as they are before scaling, in time order."""
        if len(x_NF) == 0:
            raise ValueError(
                "there is no event to take training shares from: give the training part"
            )
        sample = x_NF[:: max(1, len(x_NF) // _SAMPLE)]
        edges = tuple(_edges(np.sort(column)) for column in sample.T)
        shares = tuple(
            np.bincount(np.searchsorted(one, column, "right"), minlength=len(one) + 1) / len(column)
            for one, column in zip(edges, sample.T, strict=True)
        )
        window = max(1, min(WINDOW, len(x_NF) // 20))
        plain = cls(edges, shares, len(sample), window, np.zeros(len(edges)))
        psi_WF = plain.psi_of_windows(x_NF)
        usual_F = np.maximum(psi_WF.mean(axis=0), plain.chance_F)
        ratio_WF = np.divide(psi_WF, usual_F, out=np.zeros_like(psi_WF), where=usual_F > 0)
        limit_F = usual_F * ratio_WF.max(initial=0.0)
        return cls(edges, shares, len(sample), window, limit_F)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "edges": [one.tolist() for one in self.edges],
            "shares": [one.tolist() for one in self.shares],
            "rows": self.rows,
            "window": self.window,
            "limit": self.limit_F.tolist(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingShares:
        """What `to_json` gave."""
        edges = tuple(np.array(one, np.float32) for one in values["edges"])
        shares = tuple(np.array(one, np.float64) for one in values["shares"])
        limit_F = np.array(values["limit"], np.float64)
        fitting = [len(one) + 1 for one in edges] == [len(one) for one in shares]
        if not fitting or len(limit_F) != len(edges):
            raise ValueError("its training shares are damaged: edges, shares and limits do not fit")
        return cls(edges, shares, values["rows"], values["window"], limit_F)

    @property
    def chance_F(self) -> NDArray[np.float64]:
        """What PSI a window of independent events without drift has on average."""
        bins_F = np.array([len(shares) for shares in self.shares])
        return (bins_F - 1) * (1 / self.window + 1 / self.rows)

    def padded(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Edges of shape (F, Q), infinite where a feature has fewer, and shares (F, Q + 1)."""
        most = max((len(one) for one in self.edges), default=0)
        edges_FQ = np.full((len(self.edges), most), np.inf, np.float32)
        shares_FB = np.zeros((len(self.edges), most + 1))
        for f, (edges, shares) in enumerate(zip(self.edges, self.shares, strict=True)):
            edges_FQ[f, : len(edges)] = edges
            shares_FB[f, : len(shares)] = shares
        return edges_FQ, shares_FB

    def psi_of_windows(self, x_NF: NDArray[np.float32]) -> NDArray[np.float64]:
        """PSI of windows spread evenly over a history, half of each shared, of shape (W, F)."""
        edges_FQ, shares_FB = self.padded()
        last = len(x_NF) - self.window
        starts = np.linspace(0, last, max(1, min(_WINDOWS, 2 * last // self.window + 1)))
        psi_WF = np.empty((len(starts), x_NF.shape[1]))
        for psi_F, start in zip(psi_WF, starts.astype(np.int64), strict=True):
            counts_FB = np.zeros(shares_FB.shape, np.int64)
            _count_rows(x_NF[start : start + self.window], edges_FQ, counts_FB)
            psi_F[:] = psi(counts_FB, shares_FB)
        return psi_WF


def psi(counts_FB: NDArray[np.integer], shares_FB: NDArray[np.float64]) -> NDArray[np.float64]:
    """Population stability index of each feature; a share is 0 where it has no such bin."""
    is_bin = shares_FB > 0
    a = (counts_FB + 0.5) * is_bin
    a /= a.sum(axis=1, keepdims=True)
    a, e = np.where(is_bin, a, 1.0), np.where(is_bin, shares_FB, 1.0)
    psi_F: NDArray[np.float64] = ((a - e) * np.log(a / e)).sum(axis=1)
    return psi_F


@njit(cache=True, nogil=True)
def find_bins(x_F, edges_FQ, bins_F):  # type: ignore[no-untyped-def]
    """Which bin each feature of an event is in: how many edges it reaches."""
    for f in range(len(x_F)):
        k = np.int64(0)
        for edge in edges_FQ[f]:
            k += np.int64(edge <= x_F[f])
        bins_F[f] = k


@njit(cache=True, nogil=True)
def _count_rows(x_NF, edges_FQ, counts_FB):  # type: ignore[no-untyped-def]
    """Add the bins of many events to counts."""
    bins_F = np.empty(x_NF.shape[1], np.uint8)
    for i in range(len(x_NF)):
        find_bins(x_NF[i], edges_FQ, bins_F)
        for f in range(len(bins_F)):
            counts_FB[f, bins_F[f]] += 1


def _edges(sorted_N: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner edges of one feature: deciles, and both ends of each value that fills a bin alone."""

    def share(low: Any, high: Any) -> float:
        """Of low <= x < high."""
        first, last = np.searchsorted(sorted_N, np.array([low, high], np.float32), side="left")
        return float(last - first) / len(sorted_N)

    inner = sorted_N[np.arange(1, BINS) * len(sorted_N) // BINS]
    above = np.float32(np.inf)
    ends = {value: np.nextafter(value, above) for value in np.unique(inner)}
    after = [end for value, end in ends.items() if share(value, end) >= 1 / BINS]
    kept: list[np.float32] = []
    for edge in np.unique(np.concatenate([inner, np.array(after, np.float32)])):
        # A bin below this edge, and all that is above it, must be large enough to count in.
        lower = kept[-1] if kept else -above
        if min(share(lower, edge), share(edge, above)) >= _SMALLEST:
            kept.append(edge)
    return np.array(kept, np.float32)
