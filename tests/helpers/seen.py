"""What baselines see, for the tests of baselines."""

from __future__ import annotations

import numpy as np
import polars as pl

from helpers.markets import GAP_NS, tiny_spec
from nexttick.learn.baselines.base import DIRECTION, Known, Seen, newest_known
from nexttick.prepare.features import compute_features
from nexttick.prepare.labels import Labels
from nexttick.ticks.gaps import segment_starts

NONE = Known.of(np.empty(0, np.int8))


def seen_of(events: pl.DataFrame, labels: Labels, h: int) -> Seen:
    """What baselines see of events, their features unscaled."""
    x_NF = compute_features(events, tiny_spec())
    return Seen(
        x_NF,
        segment_starts(events["time"].to_numpy(), GAP_NS),
        x_NF[:, DIRECTION].astype(np.int8),
        newest_known(labels.y_NH[:, h], labels.known_at_NH[:, h]),
        events["price"].to_numpy(),
        events["amount"].to_numpy(),
    )
