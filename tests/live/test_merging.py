"""Trades made events as they come, against those of the batch."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from helpers.markets import few
from nexttick.live.merging import Merger
from nexttick.prepare.events import merge_events
from nexttick.prepare.features import EVENT
from nexttick.venues.messages import Trade


@few
@given(
    times=st.lists(st.integers(0, 4), max_size=30),
    sides=st.lists(st.sampled_from([-1, 0, 1]), min_size=30, max_size=30),
    raw_ticks=st.booleans(),
)
def test_merger_makes_the_events_of_merge_events(
    times: list[int], sides: list[int], raw_ticks: bool
) -> None:
    rng = np.random.default_rng(len(times))
    n = len(times)
    trades = [
        Trade(int(t), float(p), float(a), side, -1, 0)
        for t, p, a, side in zip(
            np.cumsum(times), rng.uniform(1, 2, n), rng.uniform(0.1, 3, n), sides, strict=False
        )
    ]
    merger = Merger(raw_ticks)
    told = [merger.take(trade, k) for k, trade in enumerate(trades)] + [merger.end()]
    events = [event for event in told if event is not None]
    schema = {"time": pl.Int64, "price": pl.Float64, "amount": pl.Float64, "side": pl.Int8}
    frame = pl.DataFrame([trade[:4] for trade in trades], schema=schema, orient="row")
    batch = merge_events(frame, raw_ticks=raw_ticks)
    assert [event.values for event in events] == batch.select(EVENT).rows()
    assert [event.trade for event in events] == (batch["count"].cum_sum() - 1).to_list()


def test_a_trade_behind_its_ended_event_is_one_of_its_own_and_counted() -> None:
    merger = Merger()
    assert merger.take(Trade(5, 1.0, 1.0, 1, -1, 0), 0) is None
    assert merger.end() is not None
    assert merger.take(Trade(5, 1.1, 1.0, 1, -1, 0), 1) is None
    event = merger.take(Trade(6, 1.2, 1.0, 1, -1, 0), 2)
    assert event is not None
    assert (event.values, merger.split) == ((5, 1.1, 1.1, 1.1, 1.0, 1, 1), 1)


def test_a_trade_older_than_the_one_before_counts_as_of_its_time() -> None:
    merger = Merger()
    merger.take(Trade(5, 1.0, 1.0, 1, -1, 0), 0)
    assert merger.take(Trade(4, 2.0, 1.0, 1, -1, 0), 1) is None
    event = merger.end()
    assert event is not None
    assert (event.values[:3], merger.stepped_back) == ((5, 1.0, 2.0), 1)
