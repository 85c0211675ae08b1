"""The board: what it keeps, what a page is told, and what it counts."""

import math

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.fake_live import BASE_RATES, HORIZONS, S_NS, Clock
from helpers.markets import quick, seeds
from nexttick.live.page.board import POINTS_AN_UPDATE, Board, Cursor, Skill
from nexttick.live.page.rings import (
    EDGES_NS,
    MINUTE_S,
    LatencyHistogram,
    Ring,
    quantile_ns,
)
from nexttick.venues.messages import Health

SLOT_NS = 100
P_H = (0.3, 0.5, 0.25)


def a_board(clock: Clock | None = None, name: str = "A/B") -> Board:
    return Board(name, HORIZONS, BASE_RATES, clock=clock or Clock(0))


def told(board: Board, cursor: Cursor | None = None) -> tuple[dict, Cursor]:
    message, cursor = board.since(cursor)
    return orjson.loads(message), cursor


def walk(seed: int, n: int) -> list[tuple[int, float, bool]]:
    """Pauses, values, and whether something is missing before each."""
    rng = np.random.default_rng(seed)
    pauses = rng.integers(0, 2 * SLOT_NS, n)
    return list(zip(pauses.tolist(), rng.normal(size=n).tolist(), (rng.random(n) < 0.1).tolist(),
                    strict=True))  # fmt: skip


def slots_by_hand(steps: list[tuple[int, float, bool]]) -> list[dict]:
    slots: list[dict] = []
    now, closes = 0, -1
    for pause, value, broken in steps:
        now += pause
        if not slots or broken or now >= closes:
            slots.append({"low": value, "high": value, "broken": broken})
            closes = now + SLOT_NS
        slot = slots[-1]
        slot |= {"time": now, "value": value, "rest": np.float32(-value)}
        slot |= {"low": min(slot["low"], value), "high": max(slot["high"], value)}
    return slots


def fill(ring: Ring, steps: list[tuple[int, float, bool]]) -> None:
    now = 0
    for pause, value, broken in steps:
        now += pause
        if broken:
            ring.break_off()
        ring.put(now, now, value, value, value, (-value,))


@quick
@given(seeds, st.integers(1, 60), st.integers(2, 30))
def test_a_ring_holds_the_last_slots(seed, n, capacity):
    steps = walk(seed, n)
    ring = Ring(capacity, SLOT_NS, 1)
    fill(ring, steps)
    expected = slots_by_hand(steps)
    points = ring.since(0, capacity)
    assert ring.opened == len(expected)
    for name, column in zip(
        ("time", "value", "low", "high", "rest", "broken"),
        (*points[:4], points.rest_NR[:, 0], points.broken_N), strict=True,
    ):  # fmt: skip
        assert column.tolist() == [slot[name] for slot in expected[-capacity:]]
    assert ring.holds(len(expected) - capacity)
    assert not ring.holds(len(expected) - capacity - 1)


@quick
@given(seeds, st.integers(2, 80), st.integers(1, 12))
def test_merged_points_keep_extremes_ends_and_breaks(seed, n, limit):
    ring = Ring(200, SLOT_NS, 1)
    fill(ring, walk(seed, n))
    all_of_it, merged = ring.since(0, 200), ring.since(0, limit)
    assert len(merged.time_N) == min(limit, len(all_of_it.time_N))
    assert (np.diff(merged.time_N) >= 0).all()
    assert merged.low_N.min() == all_of_it.low_N.min()
    assert merged.high_N.max() == all_of_it.high_N.max()
    assert (merged.value_N[-1], merged.time_N[-1]) == (all_of_it.value_N[-1], all_of_it.time_N[-1])
    assert np.isin(merged.value_N, all_of_it.value_N).all()
    assert merged.broken_N.any() == all_of_it.broken_N.any()


@quick
@given(seeds)
def test_updates_one_after_the_other_make_up_the_whole(seed):
    rng = np.random.default_rng(seed)
    clock = Clock(0)
    board, cursor = a_board(clock), None
    page: list[tuple[float, ...]] = []
    for i in range(int(rng.integers(1, 200))):
        clock.now_ns += int(rng.integers(0, S_NS // 8))
        board.predicted(i * S_NS, float(rng.normal()), rng.random(3).astype(np.float32), 10_000)
        if rng.random() < 0.2:
            board.gap(i * S_NS, (i + 1) * S_NS, "cut")
        if rng.random() < 0.3:
            update, cursor = told(board, cursor)
            page = [] if update["whole"] else page
            fine = update["fine"]
            if fine["time"]:  # the last point was open still
                page = page[:-1]
            page += zip(fine["time"], fine["value"], fine["low"], fine["high"], *fine["rest"],
                        strict=True)  # fmt: skip
    update, cursor = told(board, cursor)
    page = page[:-1] if not update["whole"] else []
    fine = update["fine"]
    page += zip(fine["time"], fine["value"], fine["low"], fine["high"], *fine["rest"], strict=True)
    whole = told(board)[0]["fine"]
    assert page == list(zip(whole["time"], whole["value"], whole["low"], whole["high"],
                            *whole["rest"], strict=True))  # fmt: skip


def test_a_burst_is_one_point_however_long():
    clock = Clock(5 * S_NS)
    board = a_board(clock)
    board.predicted(0, 100.0, P_H, 1_000)
    _, cursor = told(board)
    for i in range(20_000):
        board.predicted(i, 100.0 + i % 7, P_H, 1_000)
    fine = told(board, cursor)[0]["fine"]
    assert (fine["value"], fine["low"], fine["high"]) == ([100.0 + 19_999 % 7], [100.0], [106.0])
    assert told(board)[0]["state"]["ticks"] == 20_001


def test_a_page_that_was_long_away_is_given_all_and_never_too_much():
    clock = Clock(0)
    board = a_board(clock)
    board.predicted(0, 100.0, P_H, 1_000)
    _, cursor = told(board)
    for i in range(10_000):
        clock.now_ns += S_NS
        board.predicted(i * S_NS, 100.0, P_H, 1_000)
        board.scored({"rise@1": Skill(0.1, 0.0, 0.2, 0.6, i)})
    message, _ = board.since(cursor)
    update = orjson.loads(message)
    assert update["whole"]
    lengths = [len(told["time"]) for told in (update["fine"], update["coarse"], update["skill"][0])]
    assert lengths == [POINTS_AN_UPDATE] * 3
    assert len(message) < 150_000
    assert update["skill"][1]["time"] == []


def test_the_hours_are_made_of_what_the_minutes_were():
    clock = Clock(0)
    board = a_board(clock)
    for i in range(600):  # a tick in each slot of a minute
        clock.now_ns = i * S_NS // 10
        if i == 250:
            board.gap(249, 250, "cut")
        board.predicted(clock.now_ns, float(i), P_H, 1_000)
    coarse = told(board)[0]["coarse"]
    # The last closed point has been merged; the tenth second begins with the next.
    assert coarse["value"] == [99.0, 199.0, 249.0, 349.0, 449.0, 549.0, 598.0]
    assert coarse["low"] == [0.0, 100.0, 200.0, 250.0, 350.0, 450.0, 550.0]
    assert coarse["high"] == coarse["value"]
    assert coarse["broken"] == [3]


def test_what_was_told_is_shown():
    clock = Clock(0)
    board = a_board(clock, name="BTC/USDT")
    assert told(board)[0]["state"]["price"] is None
    health = Health(connected=True, duplicates=3)
    board.health(health)
    board.predicted(1_500_000_000, 64_000.5, (math.nan, 0.5, 0.25), 40_000)
    board.scored({"rise@10": Skill(0.125, 0.1, 0.2, 0.5, 7)})
    board.drifted({"log_return": 0.3}, {"log_return": 0.25})
    board.warn(["drifted"])
    board.gap(S_NS, 2 * S_NS, "cut")
    board.reset(2 * S_NS, "after a gap")
    health.reconnects = 2  # kept up to date by the feed
    message, cursor = told(board)
    state = message["state"]
    assert message["market"] == "BTC/USDT"
    assert message["horizons"] == list(HORIZONS)
    assert (state["time"], state["price"], state["p"]) == (1.5, 64_000.5, [None, 0.5, 0.25])
    assert (state["feed"]["duplicates"], state["feed"]["reconnects"]) == (3, 2)
    assert state["skill"]["rise@10"] == {
        "bits": 0.125, "low": 0.1, "high": 0.2, "log_loss": 0.5, "events": 7, "auc": None,
    }  # fmt: skip
    assert message["skill"][1]["value"] == [0.125]
    assert state["drift_limits"] == {"log_return": 0.25}
    assert (state["drift"], state["warnings"], state["resets"]) == (
        {"log_return": 0.3}, ["drifted"], 1,
    )  # fmt: skip
    assert message["events"] == [
        {"kind": "gap", "since": 1.0, "until": 2.0, "reason": "cut"},
        {"kind": "reset", "since": 2.0, "until": 2.0, "reason": "after a gap"},
    ]
    later, _ = told(board, cursor)
    assert "events" not in later
    assert not later["whole"]


def test_a_board_is_up_while_connected_and_not_silent():
    clock = Clock(0)
    board = Board("A", ["rise@1"], stale_after_s=5, clock=clock)
    assert not board.up
    board.health(Health(connected=True))
    board.predicted(0, 1.0, [0.5], 1)
    clock.now_ns = 5 * S_NS
    assert board.up
    clock.now_ns += 1
    assert not board.up


@pytest.mark.parametrize(
    ("horizons", "rates"), [([], None), (["rise@1"], [0.1, 0.2])], ids=["none", "too many"]
)
def test_horizons_and_base_rates_have_to_agree(horizons, rates):
    with pytest.raises(ValueError, match="give at least one horizon, and one base rate for each"):
        Board("A", horizons, rates)


def test_latencies_are_counted_as_numpy_counts_them():
    rng = np.random.default_rng(1)
    ns = np.exp(rng.normal(10.5, 2.5, 5_000)).astype(np.int64)
    ns[:3] = EDGES_NS[0], EDGES_NS[-1], EDGES_NS[-1] + 1  # a bin holds its upper edge
    histogram = LatencyHistogram()
    for latency_ns in ns.tolist():
        histogram.add(latency_ns)
    edges = np.array([-1, *EDGES_NS, np.iinfo(np.int64).max - 1]) + 1
    np.testing.assert_array_equal(histogram.counts, np.histogram(ns, edges)[0])
    assert histogram.sum_ns == ns.sum()
    for share in (0.1, 0.5, 0.99):
        found, exact = quantile_ns(histogram.last_minute(), share), np.quantile(ns, share)
        assert abs(math.log10(found / exact)) < 0.2  # the width of a bin
    assert math.isnan(quantile_ns(np.zeros(len(EDGES_NS) + 1, int), 0.5))


def test_only_the_last_minute_of_latencies_is_shown():
    histogram = LatencyHistogram()
    histogram.add(5_000)
    for second in range(MINUTE_S - 1):
        histogram.turn(1)
        histogram.add(50_000 + second)
    assert histogram.last_minute().sum() == MINUTE_S
    histogram.turn(1)
    histogram.turn(1)
    assert histogram.last_minute().sum() == MINUTE_S - 1  # the first second is past it
    histogram.turn(10**6)
    assert histogram.last_minute().sum() == 0
    assert sum(histogram.counts) == MINUTE_S


def test_ticks_a_second_are_those_of_whole_seconds():
    clock = Clock(0)
    board = a_board(clock)
    counts = [7, 0, 3, 12, 5, 5]
    for second, count in enumerate(counts):
        for i in range(count):
            clock.now_ns = second * S_NS + i
            board.predicted(clock.now_ns, 1.0, P_H, 1)
    clock.now_ns = len(counts) * S_NS
    state = told(board)[0]["state"]
    assert state["rates"] == counts
    assert state["rate"] == np.mean(counts[-5:])
    clock.now_ns += 3 * S_NS
    assert told(board)[0]["state"]["rates"] == [*counts, 0, 0, 0]
    clock.now_ns += 1_000 * S_NS
    assert told(board)[0]["state"]["rates"] == [0] * MINUTE_S


def test_the_rate_is_none_before_a_second_has_ended():
    assert LatencyHistogram().per_second() == 0
