"""Labels computed again by plain, slow code that shares nothing with `nexttick.prepare.labels`.

It walks from an event into the future, one event at a time, until the answer is known.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nexttick.judge.audit.facts import AuditFinding
from nexttick.options import LabelOptions, parse_duration_ns
from nexttick.prepare.dataset import Prepared
from nexttick.prepare.labels import MISSING

_STEPS = 500_000  # of the walk, for each horizon; they bound the time that long horizons take
_NEAR = 32  # events before the end of a segment, where labels go missing
_ROUNDING = 1e-12  # of a price: smaller mean changes are none


# A label, the event and the time at which it is known, and whether the price is the same.
PlainLabel = tuple[int, int, int, bool]


def check_labels(
    prepared: Prepared, options: LabelOptions, rng: np.random.Generator, sample: int
) -> AuditFinding:
    """Labels of randomly chosen events, half of them near a segment's end, must be the same."""
    rows, labels = _sample(prepared, rng, sample), prepared.labels
    max_gap_ns = prepared.spec.max_gap_ns
    time, price = (prepared.events[name].to_numpy() for name in ("time", "price"))
    given = (labels.y_NH, labels.known_at_NH, labels.known_ns_NH, labels.tie_NH)
    wrong: list[tuple[str, int]] = []
    checked = 0
    for h, horizon in enumerate(options.horizon):
        steps = 0
        for i in rows:
            answer, walked = plain_answer(time, price, i, horizon, options, max_gap_ns)
            if answer != tuple(column[i, h] for column in given):
                wrong.append((labels.names[h], i))
            checked += 1
            steps += walked
            if steps > _STEPS:
                break
    sentence = f"{checked:,} labels and when they are known are right, counted anew."
    if wrong:
        name, i = wrong[0]
        sentence = (
            f"{len(wrong):,} of {checked:,} labels, or when they are known, are wrong: the first "
            f"is {name} of event {i}."
        )
    numbers = {"labels": checked, "wrong": len(wrong)}
    return AuditFinding("labels counted anew", not wrong, sentence, numbers)


def plain_answer(
    time: NDArray[np.int64],
    price: NDArray[np.float64],
    i: int,
    horizon: str,
    options: LabelOptions,
    max_gap_ns: int,
) -> tuple[PlainLabel, int]:
    """The label of event i of all, and the number of steps that it took to find it."""
    now, duration_ns, j = price[i], parse_duration_ns(horizon), i
    while True:
        j += 1
        if j == len(time) or time[j] - time[j - 1] > max_gap_ns:
            return (MISSING, len(time), np.iinfo(np.int64).max, False), j - i
        if duration_ns is not None:
            if time[j] > time[i] + duration_ns:
                rise, known_ns = price[j - 1] - now, int(time[i]) + duration_ns
                break
        elif horizon == "move":
            if price[j] != now:
                rise, known_ns = price[j] - now, int(time[j])
                break
        elif j == i + int(horizon):
            rise = price[j] - now
            if options.smooth:
                rise = math.fsum(later - now for later in price[i + 1 : j + 1].tolist()) / (j - i)
                rise = rise if abs(rise) > _ROUNDING * now else 0.0
            known_ns = int(time[j])
            break
    y = MISSING if rise == 0 and options.ties == "skip" else int(rise > 0)
    return (y, j, known_ns, bool(rise == 0)), j - i


def _sample(prepared: Prepared, rng: np.random.Generator, count: int) -> list[int]:
    """Indices of events in random order."""
    n = len(prepared.events)
    ends = np.append(prepared.starts[1:], n)
    near = rng.choice(ends, count // 2) - rng.integers(1, _NEAR, count // 2)
    anywhere = rng.integers(0, n, count - count // 2)
    rows = np.unique(np.concatenate([np.maximum(near, 0), anywhere]))
    return rng.permutation(rows).tolist()
