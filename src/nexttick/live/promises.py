"""What the test of a run promised, and between which bounds a stretch of live events keeps it.

The test's own events say how much a score of W events varies: stretches of W are drawn from the
test part, each made of blocks of consecutive events (Künsch 1989), so that the likeness of
neighbours is in it. A block is W events long, or a 20th of the test part where that is less. The
band of a score goes three standard deviations to either side, widened by √(1 + W/n) because the
test part's n events are a sample themselves, and at least as far as the stretches drawn.

What is not promised: a market that varies more from week to week than within the test part leaves
the band, and the warning is right to say so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.learn import run_folder
from nexttick.learn.baselines import Fitted
from nexttick.learn.predictor.predictor import Predictor
from nexttick.live.journal.schema import Identity
from nexttick.prepare.labels import MISSING, make_labels
from nexttick.scores.metrics import log_losses, score

WINDOW = 2000  # events in a stretch

_DRAWN = 400
_BLOCKS = 20  # at least as many in the test part
_SIGMAS = 3.0
_MEANS = ("log_loss", "bits", "brier")  # over events: the test's own value is what to expect
_BANDED = (*_MEANS, "auc", "ece")


@dataclass(frozen=True)
class Band:
    """A score that was promised, and between what a stretch of W events may have it."""

    # The test's; of the calibration error and the AUC the mean of stretches as long, since chance
    # adds to the one, and the other mixes stretches.
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Promise:
    """What was promised of one horizon."""

    base_rate: float  # share of rises in the training part, over which bits are gained
    window: int = WINDOW  # W, the events of a stretch
    # By score: log_loss, bits, brier, auc, ece; none where the run was never tested.
    bands: Mapping[str, Band] = field(default_factory=dict)

    @classmethod
    def of(
        cls, y: NDArray[np.integer], p: NDArray[np.floating], base_rate: float, window: int = WINDOW
    ) -> Promise:
        """From a test's answers and probabilities, one event at least, in time order."""
        n, bands = len(y), {}
        whole = score_over(y, p, base_rate)
        # Stretches of blocks of neighbours; the last block is cut where it goes beyond the window.
        block = max(1, min(window, n // _BLOCKS))
        rng = np.random.default_rng(0)
        starts = rng.integers(0, n - block + 1, (_DRAWN, -(-window // block)))
        rows_DW = (starts[:, :, None] + np.arange(block)).reshape(_DRAWN, -1)[:, :window]
        drawn = [score_over(y[rows], p[rows], base_rate) for rows in rows_DW]
        for key in _BANDED:
            values = np.array([one[key] for one in drawn])
            # A stretch without a rise, or with nothing else, has no AUC.
            values = values[np.isfinite(values)]
            if len(values) > _DRAWN // 2:
                center = whole[key] if key in _MEANS else float(values.mean())
                margin = _SIGMAS * float(values.std(ddof=1)) * math.sqrt(1 + window / n)
                low, high = center - margin, center + margin
                bands[key] = Band(
                    center, min(low, float(values.min())), max(high, float(values.max()))
                )
        return cls(base_rate, window, bands)


def score_over(
    y: NDArray[np.integer], p: NDArray[np.floating], base_rate: float
) -> dict[str, float]:
    """All scores, bits those over a base rate."""
    return score(y, p, float(log_losses(y, np.full(len(y), base_rate)).mean()))


def read_promises(
    run: Path, predictor: Predictor, fitted: Fitted, window: int = WINDOW
) -> dict[str, Promise]:
    """What the test of a run promised, by horizon, with the base rates of its training.

    Raises:
        ValueError: the files of the test are damaged, or do not belong to each other.
    """
    rates = dict(zip(predictor.horizons, base_rates(fitted), strict=True))
    if not (run / "metrics.json").exists():  # trained only
        return {name: Promise(rate, window) for name, rate in rates.items()}
    tested = run_folder.read_metrics(run)["test"]
    try:
        table = pl.read_parquet(run / "predictions.parquet")
        options = run_folder.read_config(run).recipe.labels
        labels = make_labels(table, options, predictor.spec.max_gap_ns)
        answers, fitting = {}, True
        for h, name in enumerate(predictor.horizons):
            y, p = labels.y_NH[:, h], table[f"p_{name}"]
            known = (y != MISSING) & p.is_not_null().to_numpy()
            y, p = answers[name] = y[known], p.to_numpy()[known]
            log_loss = tested[name]["log_loss"]
            fitting &= tested[name]["n"] == len(y) and math.isclose(
                log_loss, log_losses(y, p).mean(), rel_tol=1e-4
            )
    except (OSError, KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise ValueError(
            f"{run}: what its test left is missing or damaged ({type(error).__name__}: {error}): "
            f"run it again"
        ) from error
    if not fitting:
        raise ValueError(
            f"{run / 'predictions.parquet'} and metrics.json are not of the same test: run it again"
        )
    return {name: Promise.of(*answers[name], rate, window) for name, rate in rates.items()}


def base_rates(fitted: Fitted) -> tuple[float, ...]:
    """Share of rises in the training part at each horizon."""
    return tuple(float(one.rate) for one in fitted["base_rate"])  # type: ignore[attr-defined]


def identify(run: Path, predictor: Predictor, fitted: Fitted, source: str, symbol: str) -> Identity:
    """Whose a journal is that this run's predictor keeps of a market."""
    labels = run_folder.read_config(run).recipe.labels
    return Identity(
        predictor.fingerprint(),
        source,
        symbol,
        predictor.horizons,
        labels.ties,
        labels.smooth,
        predictor.spec.max_gap_ns,
        predictor.raw_ticks,
        base_rates(fitted),
        str(run),
    )
