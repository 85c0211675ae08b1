"""The audit: can these scores be believed?

Each check tries to catch one way in which a score on ticks goes wrong, from ticks and predictor
alone, and says what it found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from nexttick.judge.audit.answers import check_labels
from nexttick.judge.audit.facts import AuditFinding, facts
from nexttick.judge.audit.fitted import check_fitted
from nexttick.judge.audit.placebo import check_placebo
from nexttick.judge.audit.shifted import check_shifted_labels
from nexttick.judge.audit.tampering import check_features, check_predictions
from nexttick.learn.baselines import Fitted, fit_on_training
from nexttick.learn.predictor.predictor import Predictor
from nexttick.options import Recipe
from nexttick.prepare.dataset import Prepared
from nexttick.ticks.record import fingerprint


@dataclass(frozen=True)
class AuditOptions:
    """How thorough an audit is."""

    seed: int = 0  # of the cuts, the samples and the placebo
    cuts: int = 3  # behind which ticks are tampered with
    labels: int = 2000  # events of each horizon whose labels are counted anew
    placebo_events: int = 100_000  # that it is made from, at the most
    placebo_epochs: int = 4  # that are trained on it, at the most


def audit(
    predictor: Predictor,
    prepared: Prepared,
    ticks: pl.DataFrame,
    recipe: Recipe,
    *,
    fitted: Fitted | None = None,
    set_aside: pl.DataFrame | None = None,
    options: AuditOptions = AuditOptions(),
) -> list[AuditFinding]:
    """Make every check of a predictor and the ticks that it was trained or tested on.

    Without `fitted`, the baselines of the test, the cheap ones are fitted on the training part.
    `set_aside` is the table that came with the ticks; it adds a fact. Other ticks or horizons than
    those of `prepared` are a `ValueError`.
    """
    if fingerprint(ticks) != prepared.data_hash:
        raise ValueError("audit: these are not the ticks that were prepared")
    if predictor.horizons != prepared.labels.names:
        raise ValueError(
            f"audit: the predictor speaks of {', '.join(predictor.horizons)}, the labels are "
            f"{', '.join(prepared.labels.names)}"
        )
    if fitted is None and prepared.split.valid == 0:
        raise ValueError("audit: nothing was fitted on these ticks, so give the baselines too")
    rng = np.random.default_rng(options.seed)
    return [
        check_features(prepared, ticks, recipe.events.raw_ticks, rng, options.cuts),
        check_predictions(predictor, prepared, ticks, rng, options.cuts),
        check_labels(prepared, recipe.labels, rng, options.labels),
        check_fitted(predictor, prepared),
        check_shifted_labels(predictor, fitted or fit_on_training(prepared), prepared),
        check_placebo(
            prepared,
            ticks,
            recipe,
            events=options.placebo_events,
            epochs=options.placebo_epochs,
            seed=options.seed,
        ),
        *facts(prepared, ticks, set_aside),
    ]


def passed(findings: Iterable[AuditFinding]) -> bool:
    """Whether no check failed."""
    return all(finding.passed is not False for finding in findings)
