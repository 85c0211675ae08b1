"""Events against a slow reference, and where segments start."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.markets import GAP_NS, S_NS, SIDES, quick, random_ticks, seeds, simulated_ticks
from nexttick.prepare.events import merge_events
from nexttick.ticks.gaps import (
    GAP_FACTOR,
    MIN_GAP_NS,
    segment_ends,
    segment_starts,
    usual_max_gap_ns,
)


def merged_slowly(ticks: pl.DataFrame) -> pl.DataFrame:
    groups: list[list[dict]] = []
    for tick in ticks.iter_rows(named=True):
        if groups and all(groups[-1][-1][key] == tick[key] for key in ("time", "side")):
            groups[-1].append(tick)
        else:
            groups.append([tick])
    rows = []
    for group in groups:
        amount = sum(tick["amount"] for tick in group)
        rows.append(
            {
                "time": group[0]["time"],
                "first": group[0]["price"],
                "price": group[-1]["price"],
                "vwap": sum(tick["price"] * tick["amount"] for tick in group) / amount,
                "amount": amount,
                "side": group[0]["side"],
                "count": len(group),
            }
        )
    return pl.DataFrame(rows, schema_overrides={"side": pl.Int8})


@quick
@given(seeds, st.sampled_from(SIDES))
def test_events_equal_a_slow_reference(seed: int, sides: str) -> None:
    ticks = random_ticks(seed, sides=sides)
    events, expected = merge_events(ticks), merged_slowly(ticks)
    assert events.schema == expected.schema
    assert 10 < len(events) < len(ticks)
    exact = ["time", "first", "price", "side", "count"]
    assert events.select(exact).equals(expected.select(exact))
    for name in ("vwap", "amount"):
        np.testing.assert_allclose(events[name], expected[name], rtol=1e-13)


@quick
@given(seeds)
def test_raw_ticks_stay_apart(seed: int) -> None:
    ticks = random_ticks(seed)
    events = merge_events(ticks, raw_ticks=True)
    assert events.select("time", "price", "amount", "side").equals(ticks)
    assert (events["count"] == 1).all()
    assert events["first"].equals(ticks["price"])
    assert events["vwap"].equals(ticks["price"])


def test_the_vwap_of_one_tick_is_its_price_to_the_last_bit() -> None:
    n = 1000
    rng = np.random.default_rng(1)
    ticks = pl.DataFrame(
        {
            "time": np.arange(n) * S_NS,
            "price": rng.uniform(1, 2, n),
            "amount": rng.uniform(0.1, 0.3, n),
            "side": np.ones(n, np.int8),
        }
    )
    rounded = ticks["price"] * ticks["amount"] / ticks["amount"]
    assert not rounded.equals(ticks["price"])  # so that the next line says something
    assert merge_events(ticks)["vwap"].equals(ticks["price"])


def test_another_side_at_one_time_stamp_is_another_event() -> None:
    ticks = pl.DataFrame(
        {
            "time": [1, 1, 1, 1, 1, 2],
            "price": [10.0, 11.0, 9.0, 9.0, 12.0, 12.0],
            "amount": [1.0, 3.0, 1.0, 1.0, 2.0, 2.0],
            "side": pl.Series([1, 1, -1, -1, 1, 1], dtype=pl.Int8),
        }
    )
    events = merge_events(ticks)
    assert events.rows() == [
        (1, 10.0, 11.0, 10.75, 4.0, 1, 2),
        (1, 9.0, 9.0, 9.0, 2.0, -1, 2),
        (1, 12.0, 12.0, 12.0, 2.0, 1, 1),
        (2, 12.0, 12.0, 12.0, 2.0, 1, 1),
    ]


def test_the_truth_of_an_event_is_that_of_its_last_tick() -> None:
    ticks = simulated_ticks(50).with_columns(time=pl.col("id") // 2, side=pl.lit(1, pl.Int8))
    events = merge_events(ticks)
    assert events["truth"].equals(ticks["truth"].gather_every(2, 1))
    assert "truth" not in merge_events(ticks.drop("truth")).columns


def test_no_ticks_are_no_events() -> None:
    none = random_ticks(0)[:0]
    events = merge_events(none)
    assert len(events) == 0
    assert events.schema == merge_events(random_ticks(0)).schema
    assert len(segment_starts(events["time"].to_numpy(), GAP_NS)) == 0


@quick
@given(seeds, st.integers(0, 5))
def test_a_segment_starts_after_each_pause_beyond_the_gap(seed: int, gaps: int) -> None:
    time = random_ticks(seed, gaps=gaps)["time"].to_numpy()
    starts = segment_starts(time, GAP_NS)
    expected = [i for i in range(len(time)) if i == 0 or time[i] - time[i - 1] > GAP_NS]
    assert starts.tolist() == expected
    ends = segment_ends(starts, len(time), np.arange(len(time)))
    for i, end in enumerate(ends):
        later = [start for start in expected if start > i]
        assert end == (later[0] if later else len(time))


def test_a_pause_of_exactly_the_gap_ends_nothing() -> None:
    time = np.cumsum([5, GAP_NS, GAP_NS + 1, GAP_NS - 1])
    assert segment_starts(time, GAP_NS).tolist() == [0, 2]


@pytest.mark.parametrize(("pause_s", "gap_s"), [(1, 60), (2, 60), (3, 90), (20, 600)])
def test_the_usual_gap_is_thirty_times_the_pause_and_a_minute_at_least(
    pause_s: int, gap_s: int
) -> None:
    assert usual_max_gap_ns(np.arange(100) * pause_s * S_NS) == gap_s * S_NS


def test_a_rare_outage_does_not_pass_for_usual() -> None:
    rng = np.random.default_rng(2)
    pauses = rng.integers(8 * S_NS, 12 * S_NS, 20_000)
    quiet = np.sort(pauses)
    pauses[[500, 7000]] = 3600 * S_NS
    time = np.cumsum(pauses)
    gap = usual_max_gap_ns(time)
    assert GAP_FACTOR * quiet[int(0.98 * len(quiet))] <= gap <= GAP_FACTOR * quiet[-1]
    assert segment_starts(time, gap).tolist() == [0, 500, 7000]


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_events_to_know_the_usual_pause(n: int) -> None:
    assert usual_max_gap_ns(np.arange(n)) == MIN_GAP_NS
