"""Predictions scored against the labels of the events before and after.

*Later labels.* For an honest and calibrated forecaster of a stationary market, p = P(rise | what
is seen), the label of a later event is never easier than its own. What it can say of the next
event, q = E(p of the next event | what is seen now), is a mean of answers that it will give, and
entropy is concave, so

    its loss on the later label >= E H(q) >= E H(p of the next event) = the best loss on its own.

A network that does better on a later label was given answers of the wrong event, sees ticks that
it should not, or stands one row too early in the table: the check fails. A badly trained network
is no such forecaster: one that has learned the trend and not yet the bounce is better about the
next event than about its own. It is known by the right-hand side: to fail, the network must
also do as well on the later label as the best honest baseline does on its own.

*Earlier labels.* The label of the event before is known in part already: at `rise@1` wholly, for
it is the last price change. In a market that goes on in its direction an honest forecast agrees
with the last change more often than with the next one, so a better score on an earlier label
proves nothing. It is reported, and nothing fails.

Several shifts and horizons are looked at, and no market is quite stationary. So the network must
be better on the other label by twice the 95 % interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nexttick.judge.audit.facts import AuditFinding
from nexttick.learn.baselines import Fitted, is_leaky
from nexttick.learn.baselines.base import Seen
from nexttick.learn.predictor.predictor import Predictor
from nexttick.prepare.dataset import Prepared
from nexttick.prepare.labels import MISSING
from nexttick.scores.bootstrap import Estimate
from nexttick.scores.intervals import bits_over
from nexttick.scores.metrics import log_losses

SHIFTS = (-2, -1, 1, 2)
_NAME = "shifted labels"
_SURE = 2.0  # half-widths of a 95 % interval
_FEWEST = 100  # events: fewer say nothing


@dataclass(frozen=True)
class Said:
    """What was said of N events at one horizon, and what came."""

    horizon: str
    y_N: NDArray[np.int8]  # labels; `MISSING` where there is none
    p_N: NDArray[np.floating]  # the network's probabilities; NaN where there is none
    honest: Sequence[NDArray[np.floating]]  # those of each honest baseline


def check_shifted_labels(predictor: Predictor, fitted: Fitted, prepared: Prepared) -> AuditFinding:
    """Score the test part's predictions against labels of events 1 and 2 before and after.

    The best honest one of the fitted baselines is the yardstick.
    """
    p_NH = predictor.score(prepared.x_NF, prepared.starts).p_NH
    rows = np.arange(prepared.split.test, len(p_NH))
    honest = [ones for name, ones in fitted.items() if not is_leaky(name)]
    asked = []
    for h, name in enumerate(predictor.horizons):
        seen = Seen.of(prepared, h)
        said = [ones[h].predict(seen, rows) for ones in honest]
        asked.append(Said(name, prepared.labels.y_NH[rows, h], p_NH[rows, h], said))
    return judge_shifts(asked)


def judge_shifts(asked: Iterable[Said]) -> AuditFinding:
    """The verdict over all horizons and shifts."""
    numbers: dict[str, float] = {}
    later: list[str] = []
    earlier: list[str] = []
    for shift, said in ((shift, said) for said in asked for shift in SHIFTS):
        compared = _compare_shifted(said, shift)
        if compared is None:
            continue
        over_own, over_best = compared
        name = f"{said.horizon} {shift:+d}"
        numbers |= {name: over_own.value, f"{name} margin": over_own.margin}
        if over_own.value > _SURE * over_own.margin and over_best >= 0:
            (later if shift > 0 else earlier).append(name)
    if not numbers:
        return AuditFinding(_NAME, None, "Too few events can be scored.", numbers)
    if later:
        sentence = (
            f"It scores better on the labels of later events ({', '.join(later)}) than on its own: "
            f"features, labels or predictions are out of step."
        )
        return AuditFinding(_NAME, False, sentence, numbers)
    if earlier:
        sentence = (
            f"It scores better on the labels of earlier events ({', '.join(earlier)}) than on its "
            f"own; those are known in part already, so this is no proof of a leak."
        )
        return AuditFinding(_NAME, None, sentence, numbers)
    sentence = "It scores best on the labels that it was asked about."
    return AuditFinding(_NAME, True, sentence, numbers)


def _compare_shifted(said: Said, shift: int) -> tuple[Estimate, float] | None:
    """Bits of the network on the shifted label over itself and the best baseline on its own."""
    rows = np.arange(max(0, -shift), len(said.y_N) - max(shift, 0))
    known = (said.y_N[rows] != MISSING) & (said.y_N[rows + shift] != MISSING)
    rows = rows[known & np.isfinite(said.p_N[rows])]
    if len(rows) < _FEWEST:
        return None
    own, other, p = said.y_N[rows], said.y_N[rows + shift], said.p_N[rows].astype(np.float64)
    best = min(log_losses(own, one[rows]).mean() for one in said.honest)
    # Of each, the probability given to the answer that came; so both are asked about a rise.
    shifted, at_own = (np.where(y == 1, p, 1 - p) for y in (other, own))
    over_best = float(best - log_losses(other, p).mean()) / math.log(2)
    return bits_over(np.ones_like(own), shifted, at_own), over_best
