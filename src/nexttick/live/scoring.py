"""Running scores of a live predictor, over all and over the last outcomes, against its promise.

The last W outcomes are kept and scored by the code of the test (`metrics.score`). Of all outcomes
only sums are kept: log loss, Brier score and bits are exact; AUC and calibration error come from
4,096 bins of equal width, in which the order of rises and non-rises is not known (half counts).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nexttick.live.promises import Promise, score_over
from nexttick.live.records import Outcome
from nexttick.prepare.labels import MISSING
from nexttick.scores.metrics import log_losses
from nexttick.scores.tally import BINS

_FINE = 4096
_HELD = 256  # outcomes that are added up together
_SHOWN = ("n", "base_rate", "log_loss", "bits", "auc", "brier", "ece")


class LiveScores:
    """How good what was said has been; promises come in the predictor's order of horizons."""

    def __init__(self, promises: Mapping[str, Promise]):
        self._running = [_Running(name, promise) for name, promise in promises.items()]

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Take outcomes in; those without an answer or without a prediction do not count."""
        for one in outcomes:
            if one.y != MISSING and not math.isnan(one.p):
                self._running[one.horizon].add(one.y, one.p)

    def add_many(self, horizon: int, y: Sequence[int], p: Sequence[float]) -> None:
        """Take in what a journal holds of the h-th horizon, answers and what was said."""
        self._running[horizon].add_many(np.array(y, np.int8), np.array(p, np.float64))

    def scores(self) -> dict[str, dict[str, dict[str, float]]]:
        """By horizon: `all` and `window`, each with its scores; empty where there is nothing yet.

        Both hold n, base_rate (of what happened), log_loss, bits (over the training part's base
        rate), auc, brier and ece.
        """
        return {
            one.name: {"all": one.over_all(), "window": one.over_window()} for one in self._running
        }

    def warnings(self) -> list[str]:
        """Sentences on what has left its band; a window counts once it is full."""
        return [words for one in self._running for words in one.warnings()]


class _Running:
    """One horizon."""

    def __init__(self, name: str, promise: Promise):
        self.name, self._promise = name, promise
        self._held_y: list[int] = []
        self._held_p: list[float] = []
        self._y, self._p = np.empty(0, np.int8), np.empty(0)  # of the window
        self._n, self._loss, self._base_loss, self._error = 0, 0.0, 0.0, 0.0
        # Its scores when there were `_scored_at` outcomes.
        self._window: dict[str, float] = {}
        self._scored_at = 0
        self._falls_B, self._rises_B, self._p_B = (np.zeros(_FINE) for _ in range(3))

    def add(self, y: int, p: float) -> None:
        # NumPy takes as long for one outcome as for some hundred: they are added up together.
        self._held_y.append(y)
        self._held_p.append(p)
        if len(self._held_y) >= _HELD:
            self._release()

    def add_many(self, y: NDArray[np.int8], p: NDArray[np.float64]) -> None:
        self._n += len(y)
        self._loss += float(log_losses(y, p).sum())
        base = np.full(len(y), self._promise.base_rate)
        self._base_loss += float(log_losses(y, base).sum())
        self._error += float(((p - y) ** 2).sum())
        bins = np.minimum((p * _FINE).astype(np.int64), _FINE - 1)
        self._falls_B += np.bincount(bins, y == 0, _FINE)
        self._rises_B += np.bincount(bins, y == 1, _FINE)
        self._p_B += np.bincount(bins, p, _FINE)
        window = self._promise.window
        self._y = np.concatenate([self._y, y])[-window:]
        self._p = np.concatenate([self._p, p])[-window:]

    def over_all(self) -> dict[str, float]:
        self._release()
        if self._n == 0:
            return {}
        rises = float(self._rises_B.sum())
        values = (
            self._n,
            rises / self._n,
            self._loss / self._n,
            (self._base_loss - self._loss) / self._n / math.log(2),
            self._auc(rises),
            self._error / self._n,
            self._calibration_error(),
        )
        return dict(zip(_SHOWN, values, strict=True))

    def over_window(self) -> dict[str, float]:
        self._release()
        if len(self._y) == 0:
            return {}
        if self._scored_at != self._n:
            scores = score_over(self._y, self._p, self._promise.base_rate)
            self._window = {key: scores[key] for key in _SHOWN}
            self._scored_at = self._n
        return self._window

    def warnings(self) -> list[str]:
        scores, promise = self.over_window(), self._promise
        if not promise.bands or scores.get("n", 0) < promise.window:
            return []
        words, last = [], f"in the last {promise.window:,} events"
        loss, ece = promise.bands["log_loss"], promise.bands["ece"]
        if not loss.low <= scores["log_loss"] <= loss.high:
            words.append(
                f"{last} the log loss at {self.name} is {scores['log_loss']:.4f}; the test "
                f"promised {loss.value:.4f} ({loss.low:.4f} to {loss.high:.4f} over as many)"
            )
        if scores["ece"] > ece.high:
            words.append(
                f"{last} the probabilities at {self.name} are off by {scores['ece']:.4f} (expected "
                f"calibration error); the test promised {ece.value:.4f} ({ece.high:.4f} at most "
                f"over as many)"
            )
        return words

    def _release(self) -> None:
        if self._held_y:
            y, p = np.array(self._held_y, np.int8), np.array(self._held_p, np.float64)
            self._held_y.clear()
            self._held_p.clear()
            self.add_many(y, p)

    def _auc(self, rises: float) -> float:
        pairs = rises * (self._n - rises)
        below_B = np.cumsum(self._falls_B) - self._falls_B / 2
        return float(self._rises_B @ below_B) / pairs if pairs else math.nan

    def _calibration_error(self) -> float:
        """Over bins of equal mass made of the fine ones."""
        count_B = self._falls_B + self._rises_B
        middle_B = np.cumsum(count_B) - count_B / 2
        bins_B = np.minimum((middle_B * BINS / self._n).astype(np.int64), BINS - 1)
        off_K = np.bincount(bins_B, self._p_B - self._rises_B, BINS)
        return float(np.abs(off_K).sum()) / self._n
