"""Predictions scored against the labels of the events before and after.

*Later labels.* For an honest and calibrated forecaster of a stationary market, p = P(rise | what
is seen), the label of a later event is never easier than its own. What it says of the next event,
q = E(p of the next event | what is seen now), is a mean of answers it will give, and entropy is
concave, so

    loss of p against the later label >= E H(q) >= E H(p of the next event) = own loss.

A model that surely scores better on a later label, and knows something of it, was given answers
of the wrong event, or sees ticks that it should not: the check fails.

*Earlier labels.* The label of the event before is known in part already: at `rise@1` wholly, for
it is the last price change. In a market that goes on in its direction an honest forecast agrees
with the last change more often than with the next one, so a better score on an earlier label
proves nothing. It is told, and nothing fails.

A market that is not stationary, or a model that is badly calibrated, may break the inequality by
a little, and several shifts and horizons are looked at. So a difference must be twice as large as
its 95 % interval.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nexttick.audit.finding import Finding
from nexttick.job import Prepared
from nexttick.labels import MISSING
from nexttick.metrics import Comparison, compare
from nexttick.predictor import Predictor

SHIFTS = (-2, -1, 1, 2)
_SURE = 2.0  # half-widths of a 95 % interval
_FEWEST = 100  # events: fewer say nothing


def check_shifted_labels(predictor: Predictor, prepared: Prepared) -> Finding:
    """Score the test part's predictions against labels of events 1 and 2 before and after."""
    p_NH = predictor.score(prepared.x_NF, prepared.starts)
    numbers: dict[str, float] = {}
    better: dict[int, list[str]] = {shift: [] for shift in SHIFTS}
    for h, name in enumerate(predictor.horizons):
        for shift in SHIFTS:
            told = _shifted(prepared.labels.y_NH[:, h], p_NH[:, h], shift, prepared.split.test)
            if told is None:
                continue
            over_own, over_rate = told
            numbers[f"{name} {shift:+d}"] = over_own.bits
            numbers[f"{name} {shift:+d} margin"] = over_own.margin
            if _surely(over_own) and _surely(over_rate):
                better[shift].append(name)
    return _told(better, numbers)


def _shifted(
    y_N: NDArray[np.int8], p_N: NDArray[np.float32], shift: int, begin: int
) -> tuple[Comparison, Comparison] | None:
    """How much better p does on the shifted label than on its own, and than the base rate does."""
    rows = np.arange(max(begin, -shift), len(y_N) - max(shift, 0))
    own, other = y_N[rows], y_N[rows + shift]
    known = (own != MISSING) & (other != MISSING) & np.isfinite(p_N[rows])
    if known.sum() < _FEWEST:
        return None
    own, other, p = own[known], other[known], p_N[rows][known].astype(np.float64)
    # What was given to the answer that came; `compare` then takes two answers for two models.
    given_own, given_other = np.where(own == 1, p, 1 - p), np.where(other == 1, p, 1 - p)
    over_own = compare("own label", np.ones_like(own), given_other, given_own)
    rate = np.full(len(p), other.mean())
    return over_own, compare("base rate", other, p, rate)


def _surely(comparison: Comparison) -> bool:
    return comparison.bits > _SURE * comparison.margin


def _told(better: dict[int, list[str]], numbers: dict[str, float]) -> Finding:
    name = "shifted labels"
    later = [f"{one} {shift:+d}" for shift in SHIFTS if shift > 0 for one in better[shift]]
    earlier = [f"{one} {shift:+d}" for shift in SHIFTS if shift < 0 for one in better[shift]]
    if not numbers:
        return Finding(name, None, "Too few events can be scored.", numbers)
    if later:
        sentence = (
            f"It scores better on the labels of later events ({', '.join(later)}) than on its own: "
            f"features or labels are out of step."
        )
        return Finding(name, False, sentence, numbers)
    if earlier:
        sentence = (
            f"It scores better on the labels of earlier events ({', '.join(earlier)}) than on its "
            f"own; those are known in part already, so this is no proof of a leak."
        )
        return Finding(name, None, sentence, numbers)
    return Finding(name, True, "It scores best on the labels that it was asked about.", numbers)
