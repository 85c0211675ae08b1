"""Cleaning and the outlier rule, on small frames of our own numbers."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexttick.ticks.cleaning import clean
from nexttick.ticks.outliers import (
    CONFIRM,
    FLOOR,
    MEMORY,
    disbelieved_rows,
    new_outlier_state,
    outlier_step,
)
from nexttick.ticks.record import OPTIONAL, SCHEMA, SET_ASIDE_SCHEMA, TickError, year_ns

START = year_ns(2020)
SECOND = 1_000_000_000


def frame_of(price, *, time=None, amount=None, **columns) -> pl.DataFrame:
    n = len(price)
    time = START + SECOND * np.arange(n) if time is None else time
    data = {"time": time, "price": price, "amount": amount or [1.0] * n, **columns}
    schema = {k: v for k, v in (SCHEMA | OPTIONAL).items() if k in data}
    return pl.DataFrame(data, schema=schema, strict=False)


def reasons(table: pl.DataFrame) -> dict[str, int]:
    return dict(table.select("reason", "rows").iter_rows())


def mask_of(price, time=None) -> np.ndarray:
    price = np.asarray(price, float)
    time = START + SECOND * np.arange(len(price)) if time is None else time
    state = new_outlier_state()
    return np.array([outlier_step(state, t, p) for t, p in zip(time, price, strict=True)], bool)


# --- the record


def test_clean_ticks_come_back_unchanged():
    frame = frame_of([100.0, 101.0, 101.0], side=[1, -1, 0], id=[5, 6, 7], truth=[0.5, 0.4, 0.6])
    ticks, set_aside = clean(frame)
    assert ticks.equals(frame)
    assert set_aside.is_empty()
    assert set_aside.schema == SET_ASIDE_SCHEMA


def test_a_lazy_frame_without_sides_gets_unknown_ones():
    ticks, _ = clean(frame_of([1.0, 1.1]).lazy())
    assert ticks["side"].to_list() == [0, 0]
    assert ticks.schema == SCHEMA


def test_all_that_is_wrong_with_the_columns_is_said_at_once():
    bad = pl.DataFrame({"time": [1.5], "price": [2.0], "venue": ["x"]})
    with pytest.raises(TickError, match=r"missing columns \['amount'\].*time is Float64.*venue"):
        clean(bad)


@pytest.mark.parametrize("frame", [frame_of([]), frame_of([-1.0, 0.0])])
def test_no_tick_left_is_an_error(frame):
    with pytest.raises(TickError, match="no tick is left"):
        clean(frame)


# --- rows set aside


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("column", ["price", "amount"])
def test_values_that_are_not_positive_and_finite(column, bad):
    columns = {"price": [100.0] * 4, "amount": [1.0] * 4}
    columns[column][2] = bad
    ticks, set_aside = clean(frame_of(columns["price"], amount=columns["amount"]))
    assert len(ticks) == 3
    row = set_aside.row(0, named=True)
    assert row["reason"] == f"{column} not positive and finite"
    assert (row["kept"], row["rows"], row["first"]) == (False, 1, 2)
    assert row["example"] == str(bad)


def test_many_bad_rows_leave_the_others_in_order():
    price = np.where(np.arange(500) % 3 == 0, -1.0, 100.0 + np.arange(500) / 100)
    ticks, set_aside = clean(frame_of(price.tolist()))
    assert ticks["price"].to_list() == [p for p in price if p > 0]
    assert reasons(set_aside) == {"price not positive and finite": 167}


def test_blanks_are_named_one_by_one():
    frame = frame_of([1.0, None, 1.0, None, 1.0], amount=[1.0, 1.0, None, None, 1.0])
    frame = frame.with_columns(
        pl.when(pl.int_range(5) == 3).then(None).otherwise("time").alias("time")
    )
    ticks, set_aside = clean(frame)
    assert len(ticks) == 2
    assert reasons(set_aside) == {"empty line": 1, "price blank": 1, "amount blank": 1}


def test_times_beyond_the_plausible_range():
    time = [0, START, START + SECOND, 9 * 10**18]
    ticks, set_aside = clean(frame_of([1.0] * 4, time=time))
    assert ticks["time"].to_list() == time[1:3]
    assert set_aside["reason"][0].startswith("time outside 1990-01-01 to ")
    assert set_aside["rows"].to_list() == [2]


# --- blank times


def test_a_blank_time_takes_that_of_the_trade_before_it_by_id():
    time = [START + 3 * SECOND, None, START + SECOND, START]
    ticks, set_aside = clean(frame_of([1.4, 1.3, 1.2, 1.1], time=time, id=[13, 12, 11, 10]))
    assert ticks["price"].to_list() == [1.1, 1.2, 1.3, 1.4]
    assert ticks["time"].to_list() == [START, START + SECOND, START + SECOND, START + 3 * SECOND]
    repair = set_aside.filter(pl.col("reason").str.starts_with("time blank")).row(0, named=True)
    assert (repair["kept"], repair["rows"], repair["first"]) == (True, 1, 1)


@pytest.mark.parametrize(
    ("time", "ids"),
    [
        ([None, START, START + SECOND], [1, 2, 3]),  # none before it
        ([START, START + SECOND, None], [1, 2, 3]),  # none after it
        ([START, None, START + 90 * SECOND], [1, 2, 3]),  # neighbours too far apart
        ([START, None, START + SECOND], [1, None, 3]),  # no id of its own
        ([START, None, START + SECOND], None),  # no ids at all
    ],
)
def test_a_blank_time_without_near_neighbours_is_set_aside(time, ids):
    columns = {} if ids is None else {"id": ids}
    ticks, set_aside = clean(frame_of([1.0, 1.0, 1.0], time=time, **columns))
    assert len(ticks) == 2
    assert "time blank and not known" in set_aside["reason"][0]


# --- order


def test_newest_first_is_turned_round_within_a_time_stamp_too():
    time = [START + SECOND, START + SECOND, START, START]
    ticks, set_aside = clean(frame_of([4.0, 3.9, 3.8, 3.7], time=time))
    assert ticks["price"].to_list() == [3.7, 3.8, 3.9, 4.0]
    assert set_aside.row(0, named=True)["kept"]
    assert reasons(set_aside) == {"newest first: turned round": 4}


def test_a_step_back_is_sorted_and_said():
    time = [START + k * SECOND for k in (0, 2, 1, 3, 4)]
    ticks, set_aside = clean(frame_of([1.0, 1.2, 1.1, 1.3, 1.4], time=time))
    assert ticks["price"].to_list() == [1.0, 1.1, 1.2, 1.3, 1.4]
    assert reasons(set_aside) == {"time steps back: sorted": 1}


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_sort_is_stable(seconds):
    time = [START, *(START + s * SECOND for s in seconds), START + 9 * SECOND]
    order = [float(k + 1) for k in range(len(time))]
    steps = np.sign(np.diff(time))
    ticks, _ = clean(frame_of(order, time=time), outliers=False)
    kept = ticks["price"].to_list()
    newest_first = 10 * (steps > 0).sum() <= (steps < 0).sum()
    sign = -1 if newest_first else 1
    assert kept == [
        p for _, p in sorted(zip(time, order, strict=True), key=lambda r: (r[0], sign * r[1]))
    ]


def test_ids_order_the_rows_of_one_time_stamp():
    ticks, _ = clean(frame_of([1.2, 1.0, 1.1], time=[START] * 3, id=[1000, 998, 999]))
    assert ticks["price"].to_list() == [1.0, 1.1, 1.2]


# --- ids


def test_repeated_ids_count_once():
    time = [START + s * SECOND for s in (0, 1, 1, 2, 3)]
    frame = frame_of([1.0, 1.1, 1.1, 1.2, 1.15], time=time, id=[1, 2, 2, 3, 2])
    ticks, set_aside = clean(frame)
    assert ticks["id"].to_list() == [1, 2, 3]
    assert ticks["price"].to_list() == [1.0, 1.1, 1.2]
    assert reasons(set_aside) == {
        "id repeated": 1,
        "id repeated with another time, price or amount: the first kept": 1,
    }


def test_blank_ids_are_no_repeats():
    ticks, set_aside = clean(frame_of([1.0, 1.0, 1.0], id=[None, None, 4]))
    assert len(ticks) == 3
    assert set_aside.is_empty()


def test_ids_that_are_all_blank_are_no_column():
    assert "id" not in clean(frame_of([1.0, 1.0], id=[None, None]))[0].columns


# --- the outlier rule


def test_a_lone_outlier_is_set_aside_and_named():
    price = [100.0, 100.1, 10_000_000.0, 100.2, 0.01, 100.1]
    ticks, set_aside = clean(frame_of(price))
    assert ticks["price"].to_list() == [100.0, 100.1, 100.2, 100.1]
    row = set_aside.row(0, named=True)
    assert (row["reason"], row["rows"], row["first"]) == ("isolated price outlier", 2, 2)
    assert row["example"] == "10000000.0"


def test_the_switch():
    price = [100.0, 10_000_000.0, 100.0]
    assert clean(frame_of(price), outliers=False)[0]["price"].to_list() == price


def test_moves_up_to_the_floor_are_always_believed():
    price = 100.0 * np.cumprod([1 + FLOOR * 0.999, 1 / (1 + FLOOR * 0.999)] * 20)
    assert mask_of(price).all()


def test_a_level_that_stays_is_believed_after_a_few_ticks():
    mask = mask_of([100.0] * 50 + [160.0] * 20)
    assert mask[:50].all()
    lost = int((~mask).sum())
    assert CONFIRM - 1 <= lost <= 5
    assert mask[50 + lost :].all()


def test_a_farther_level_needs_more_ticks():
    lost = [int((~mask_of([100.0] * 200 + [level] * 60)).sum()) for level in (150.0, 1e3, 1e6)]
    assert lost[0] < lost[1] < lost[2] < 45


def test_outliers_that_do_not_agree_never_make_a_level():
    price = [100.0] * 30 + [1e5, 1.0] * 30 + [100.0] * 5
    mask = mask_of(price)
    assert not mask[30:90].any()
    assert mask[90:].all()


def test_a_bad_first_price_costs_two_good_ones():
    assert mask_of([1e7] + [100.0] * 10).tolist() == [True, False, False] + [True] * 8


def test_a_long_pause_excuses_a_jump():
    time = np.array([START, START + SECOND, START + 48 * 3600 * SECOND])
    assert mask_of([100.0, 100.0, 200.0], time).all()
    assert not mask_of([100.0, 100.0, 200.0])[-1]


def test_a_wild_market_may_jump():
    wild = [100.0, 120.0] * 100
    assert mask_of([*wild, 160.0])[-1]
    assert not mask_of([100.0] * 200 + [160.0])[-1]


def test_rescaling_prices_changes_no_decision():
    rng = np.random.default_rng(3)
    price = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 400)))
    price[[50, 51, 200]] *= 8.0
    np.testing.assert_array_equal(mask_of(price), mask_of(price * 4.0))


prices = st.lists(st.sampled_from([100.0, 101.0, 90.0, 130.0, 500.0, 1e6, 0.5]), min_size=1)


@given(prices, prices)
@settings(max_examples=150, deadline=None)
def test_the_future_changes_no_decision(past, future):
    n = len(past)
    np.testing.assert_array_equal(mask_of(past + future)[:n], mask_of(past))


quiet_and_jumps = st.lists(
    st.tuples(st.integers(1, 3 * MEMORY), st.sampled_from([100.0, 130.0, 500.0, 1e6])),
    min_size=1,
    max_size=8,
)


@given(quiet_and_jumps, st.integers(0, 9), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_looking_near_jumps_alone_decides_as_the_step_does(stretches, seed, n_chunks):
    rng = np.random.default_rng(seed)
    price = np.concatenate([level * rng.uniform(0.9, 1.1, n) for n, level in stretches])
    time = START + SECOND * np.arange(len(price))
    cuts = [cut for cut in np.array_split(np.arange(len(price)), n_chunks) if len(cut)]
    chunks = [pl.DataFrame({"time": time[cut], "price": price[cut]}) for cut in cuts]
    frame = pl.concat(chunks, rechunk=False)
    rows = disbelieved_rows(frame["time"], frame["price"])
    np.testing.assert_array_equal(rows, np.flatnonzero(~mask_of(price)))


def test_jumps_far_apart_decide_as_the_step_does():
    rng = np.random.default_rng(5)
    price = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, 60_000)))
    price[[3, 4095, 4096, 20_000, 20_030, 59_999]] *= 50.0
    price[30_000:30_010] *= 2.0
    price[40_000:] *= 3.0
    time = START + SECOND * np.arange(len(price))
    rows = disbelieved_rows(pl.Series(time), pl.Series(price))
    np.testing.assert_array_equal(rows, np.flatnonzero(~mask_of(price)))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 4), st.integers(1, 9)), min_size=1))
@settings(max_examples=100, deadline=None)
def test_cleaning_is_idempotent(rows):
    # Without the outlier rule, which spends ticks on a new level each time.
    time, price, ids = (list(column) for column in zip(*rows, strict=True))
    frame = frame_of(
        [100.0 + p if p >= 0 else -1.0 for p in price],
        time=[START + t * SECOND for t in time],
        id=ids,
    )
    if max(price) < 0:
        return
    once, _ = clean(frame, outliers=False)
    twice, set_aside = clean(once, outliers=False)
    assert twice.equals(once)
    assert set_aside.is_empty()


def test_no_row_is_lost_without_an_entry():
    rng = np.random.default_rng(1)
    price = np.where(rng.random(300) < 0.1, np.nan, 100 + rng.normal(size=300))
    amount = np.where(rng.random(300) < 0.1, 0.0, 1.0).tolist()
    ids = rng.integers(0, 250, 300).tolist()
    frame = frame_of(price.tolist(), amount=amount, id=ids)
    ticks, set_aside = clean(frame)
    gone = set_aside.filter(~pl.col("kept"))["rows"].sum()
    assert len(ticks) + gone == len(frame)
