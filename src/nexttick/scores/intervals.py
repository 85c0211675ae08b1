"""All scores of all contestants at one horizon, with intervals and paired differences.

Since every score follows from sums over blocks (`tally`), one matrix product resamples all of a
contestant. All contestants share the draws, so that differences between them are paired. Blocks
are as long as the log-loss series of the contestants ask for, and the differences between the
first one's and each other (`bootstrap`).

Chance alone adds to three scores. Reliability and resolution have reverse percentiles for that,
and so have all differences. The calibration error is a sum of absolute deviations: it is off by
no more than the sum of the absolute errors of its bins, whose 95 % quantile over the resamples is
added and taken off. That is exact for a forecaster without a calibration error, and else too wide.

Bins and the share of ties stay those of all events in every resample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nexttick.scores.bootstrap import Estimate, Resampler
from nexttick.scores.metrics import log_losses, scores_of, scores_of_sums
from nexttick.scores.tally import PRODUCT, Array, Losses, Outcomes, tally

_MEANS = 2**13  # longer loss series are averaged to so many: a block holds 20 of them or more
_BIASED = ("reliability", "resolution", "ece")


@dataclass(frozen=True)
class Evaluation:
    """Scores of all contestants at one horizon, by contestant and score, with intervals."""

    scores: dict[str, dict[str, float]]
    resampler: Resampler
    resampled: dict[str, dict[str, NDArray[np.float64]]] = field(repr=False)
    # How far the parts of the calibration error are off in each resample, by contestant.
    ece_errors: dict[str, NDArray[np.float64]] = field(repr=False)

    def intervals(self, name: str) -> dict[str, Estimate]:
        """All scores of a contestant."""
        values = {key: self.scores[name][key] for key in self.resampled[name]}
        estimates = self.resampler.estimates(values, self.resampled[name], _BIASED)
        reliability, ece = estimates["reliability"], estimates["ece"].value
        off = self.resampler.bound(self.ece_errors[name])
        estimates["reliability"] = reliability._replace(low=max(reliability.low, 0.0))
        estimates["ece"] = Estimate(ece, max(ece - off, 0.0), ece + off)
        return estimates

    def differences(self, one: str, other: str) -> dict[str, Estimate]:
        """All scores of one contestant less those of the other, paired by resample."""
        a, b = self.resampled[one], self.resampled[other]
        resampled = {key: a[key] - b[key] for key in a}
        values = {key: self.scores[one][key] - self.scores[other][key] for key in a}
        return self.resampler.estimates(values, resampled, _BIASED)


def evaluate(
    y: NDArray[np.integer],
    p_by: Mapping[str, Array],
    *,
    base: str = "base_rate",
    sign: NDArray[np.integer] | None = None,
    threshold: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
    threads: int = 1,
) -> Evaluation:
    """Score contestants on the same events of one horizon in time order, with intervals.

    The first contestant is the one that is judged. Probabilities are taken in single precision,
    as networks give them; above `threshold` they say "rise". `bits`, `bits_moves` and
    `bits_direction` are gained over the contestant `base`. The sign of the price change, -1, 0 or
    1, adds the scores that tell ties from falls. Threads share the contestants.

    Raises:
        ValueError: there is no event or no base, a p is no probability, or y and sign disagree.
    """
    if base not in p_by:
        raise ValueError(f"no contestant {base!r} to gain bits over: name one of {', '.join(p_by)}")
    outcomes = Outcomes.of(y, sign)
    p_by = {name: np.asarray(p, np.float32) for name, p in p_by.items()}
    groups = _groups(len(y))
    with ThreadPoolExecutor(threads) as pool:  # compiled loops and sorting let go of the GIL
        losses = [*pool.map(lambda p: Losses.of(outcomes, p, groups), p_by.values())]
        means = [one.means() for one in losses]
        series = means + [means[0] - other for other in means[1:]]
        resampler = Resampler.fit(series, bounds=groups, resamples=resamples, seed=seed)
        add_up = partial(tally, outcomes, bounds=resampler.bounds, threshold=threshold)
        tallies = [*pool.map(lambda p, loss: add_up(p, losses=loss), p_by.values(), losses)]
    # A single matrix product resamples all contestants: its threads meet only once.
    sums_BM = [one.sums_BM.astype(np.float32) for one in tallies]
    sums_RM = resampler.weights_RB @ np.concatenate(sums_BM, axis=1)
    ends = np.cumsum([one.shape[1] for one in sums_BM])
    parts = np.split(sums_RM, ends[:-1], axis=1)
    resampled = dict(zip(p_by, map(scores_of_sums, tallies, parts), strict=True))
    errors = {name: scores.pop("ece_error") for name, scores in resampled.items()}
    # The scores themselves come from the same sums in double precision, each block counted once.
    ones = np.ones((1, resampler.blocks))
    whole = {name: scores_of(one, ones) for name, one in zip(p_by, tallies, strict=True)}
    for scores_by in (whole, resampled):
        for scores in scores_by.values():
            scores |= {
                key.replace("log_loss", "bits"): (scores_by[base][key] - loss) / math.log(2)
                for key, loss in scores.items()
                if key.startswith("log_loss")
            }
    values = {
        name: {"n": len(y)} | {key: float(whole[name][key][0]) for key in keys}
        for name, keys in resampled.items()
    }
    return Evaluation(values, resampler, resampled, errors)


def bits_over(y: NDArray[np.integer], p: Array, other: Array) -> Estimate:
    """Bits an event that p knows more than another forecaster of the same events in time order.

    The interval is that of `evaluate`'s differences, for the price of their log losses alone.
    """
    gain_N = (log_losses(y, other) - log_losses(y, p)) / math.log(2)
    bounds = _groups(len(y))
    means = np.add.reduceat(gain_N, bounds[:-1]) / np.diff(bounds)
    return Resampler.fit([means], bounds=bounds).mean(gain_N)


def _groups(n: int) -> NDArray[np.int64]:
    """Bounds of groups of consecutive events whose mean losses choose the blocks."""
    events = math.ceil(n / _MEANS)
    if events > PRODUCT:
        events = -(-events // PRODUCT) * PRODUCT  # fewest logarithms
    return np.append(np.arange(0, n, events), n)
