"""Trades are put in order: against brute force, and against a venue that loses and repeats."""

from __future__ import annotations

import random
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.markets import quick, seeds
from nexttick.venues.feeds.joining import Order
from nexttick.venues.feeds.order_by_id import Listing, OrderById
from nexttick.venues.feeds.order_by_time import TEXT_ID, OrderByTime
from nexttick.venues.messages import Gap, Health, Message, Trade
from nexttick.venues.retrying import BackOff, RunningMedian, Waits

START_NS = 1_700_000_000 * 10**9
MS = 10**6


def true_trades(draws: random.Random, count: int, *, ids: str = "consecutive") -> list[Trade]:
    """The market's own trades, in its order: times often tie, ids as the venue has them."""
    trades, time_ns, number = [], START_NS, draws.randrange(1000)
    for index in range(count):
        time_ns += draws.choice((0, 1, 5, 300)) * MS
        number += 1 if ids == "consecutive" else draws.randint(1, 9)
        text = TEXT_ID | draws.getrandbits(60)
        name = {"none": -1, "text": text}.get(ids, number)
        amount = 1.0 + index  # so that none looks like another
        trades.append(Trade(time_ns, draws.choice((99.0, 100.0)), amount, 1, name, time_ns))
    return trades


def sent(draws: random.Random, trades: list[Trade], reach: int = 3) -> list[Trade]:
    """What a bad stream makes of trades: some lost, some twice, some a few places late."""
    stream = [t for t in trades if draws.random() > 0.05]
    stream += [t for t in stream if draws.random() < 0.1]
    return sorted(stream, key=lambda t: trades.index(t) + draws.uniform(0, reach))


def chunks(draws: random.Random, stream: list[Trade]) -> list[list[Trade]]:
    parts, start = [], 0
    while start < len(stream):
        stop = start + draws.choice((1, 1, 2, 7))
        parts.append(stream[start:stop])
        start = stop
    return parts


def told(messages: list[Message]) -> list[Trade]:
    return [m for m in messages if isinstance(m, Trade)]


def gaps(messages: list[Message]) -> list[Gap]:
    return [m for m in messages if isinstance(m, Gap)]


def ask(
    draws: random.Random, order: Order, known: list[Trade], now_ns: int, out: list[Message]
) -> None:
    """Answer what the order wants as REST would: all, a page, nothing yet, or never."""
    want = order.wanted(now_ns)
    if want is None:
        return
    if draws.random() < 0.2:
        out += order.give_up("REST is away")
        return
    at = known.index(want.after) + 1 if want.after in known else len(known)
    for start in range(at, len(known), 4):
        page = known[start - 1 : start + 4]
        out += order.fill(Listing(page, page[0].id - 1), now_ns)
    order.all_given()


@quick
@given(seeds)
def test_by_id_every_trade_is_told_once_and_in_order_or_lies_in_a_gap(seed: int) -> None:
    draws = random.Random(seed)
    trades = true_trades(draws, 120)
    health, out = Health(), list[Message]()
    order = OrderById(health, delay_s=0.01, limit=40)
    now_ns, at = START_NS, 0
    stream = sent(draws, trades)
    for part in chunks(draws, stream):
        now_ns += draws.choice((0, 1, 4, 20)) * MS
        if draws.random() < 0.05:
            order.interrupted()
        out += order.take(part, now_ns)
        at = max(at, *(trades.index(t) + 1 for t in part))
        out += order.due(now_ns)
        ask(draws, order, trades[: draws.choice((at, at - 3))], now_ns, out)
    now_ns += 10**9
    while order.wanted(now_ns):
        out += order.give_up("the end")
        now_ns += 10**9
    check_once_in_order_or_gap(trades, out)
    assert health.trades == len(told(out))
    assert health.gaps == len(gaps(out))
    from_stream = health.trades - health.backfilled
    assert len(stream) == from_stream + health.duplicates + health.late


def check_once_in_order_or_gap(trades: list[Trade], out: list[Message]) -> None:
    """Neighbours in what was told are neighbours in the market, or a gap stands between them."""
    places = [trades.index(m) if isinstance(m, Trade) else None for m in out]
    assert places
    assert places[0] is not None
    for index, (here, after) in enumerate(pairwise(places)):
        if here is not None and after is not None:
            assert after == here + 1
        elif here is None:
            gap, last, first = out[index], out[index - 1], out[index + 1]
            assert isinstance(last, Trade)
            assert isinstance(first, Trade)
            assert trades.index(first) > trades.index(last)
            assert gap[:4] == (last.time_ns, first.time_ns, last.id, first.id)


@quick
@given(seeds)
def test_by_id_reordered_and_repeated_trades_come_out_sorted(seed: int) -> None:
    draws = random.Random(seed)
    trades = true_trades(draws, 80)
    tail = trades[1:] + [t for t in trades[1:] if draws.random() < 0.2]
    draws.shuffle(tail)
    stream, health = [trades[0], *tail], Health()
    order, out = OrderById(health), list[Message]()
    for part in chunks(draws, stream):
        out += order.take(part, START_NS)
    assert out == trades
    top, late, seen = -1, 0, set[int]()
    for trade in stream:
        late += trade.id < top and trade.id not in seen
        top = max(top, trade.id)
        seen.add(trade.id)
    assert health.reordered == late
    assert health.duplicates == len(stream) - len(trades)
    assert (health.trades, health.gaps, order.wake_ns()) == (len(trades), 0, None)


def a_trade(number: int, time_ns: int | None = None, price: float = 1.0) -> Trade:
    time_ns = START_NS + number * MS if time_ns is None else time_ns
    return Trade(time_ns, price, 1.0, 1, number, time_ns)


def test_a_hole_waits_is_asked_for_and_then_is_a_gap() -> None:
    health = Health()
    order = OrderById(health, delay_s=0.5)
    first, second = a_trade(10), a_trade(13)
    assert order.take([first, second], 0) == [first]
    assert order.wake_ns() == 500 * MS
    assert order.wanted(499 * MS) is None
    assert order.wanted(500 * MS) == (first, second)
    gap = Gap(first.time_ns, second.time_ns, 10, 13, "REST is away")
    assert order.give_up("REST is away") == [gap, second]
    assert order.take([a_trade(11), a_trade(12), a_trade(10), a_trade(9)], 0) == []
    assert (health.late, health.duplicates, health.gaps) == (3, 1, 1)


def test_numbers_that_the_venue_passes_over_are_no_gap() -> None:
    health = Health()
    order = OrderById(health)
    out = order.take([a_trade(1), a_trade(5)], 0)
    out += order.fill(Listing([a_trade(3), a_trade(5), a_trade(6)], after_id=1), 0)
    assert [t.id for t in told(out)] == [1, 3, 5, 6]
    assert (health.gaps, health.backfilled) == (0, 2)


def test_a_listing_that_does_not_reach_back_makes_the_gap_smaller() -> None:
    order = OrderById(Health())
    out = order.take([a_trade(1), a_trade(9)], 0)
    out += order.fill(Listing([a_trade(7), a_trade(8), a_trade(9)], after_id=6), 0)
    out += order.give_up("no more")
    assert [m.id if isinstance(m, Trade) else m[2:4] for m in out] == [1, (1, 7), 7, 8, 9]


def test_what_is_missed_after_a_known_trade_is_asked_for_at_once() -> None:
    order = OrderById(Health(), after=a_trade(4))
    assert order.wanted(0) == (a_trade(4), None)
    assert order.fill(Listing([a_trade(5)], 4), 0) == [a_trade(5)]
    order.all_given()
    assert order.wanted(0) is None
    order.interrupted()
    assert order.wanted(0) == (a_trade(5), None)
    assert order.take([a_trade(6)], 0) == [a_trade(6)]
    with pytest.raises(ValueError, match="with its id"):
        OrderById(Health(), after=a_trade(-1))


def test_other_values_under_a_known_number_are_a_correction() -> None:
    health = Health()
    order = OrderById(health)
    order.take([a_trade(1), a_trade(2), a_trade(1, price=2.0), a_trade(2)], 0)
    order.take([a_trade(9), a_trade(9, price=2.0)], 0)
    assert (health.corrections, health.duplicates, health.trades) == (2, 1, 2)


def test_a_venue_that_numbers_anew_is_followed_after_a_gap() -> None:
    order = OrderById(Health())
    out = order.take([a_trade(10**18), a_trade(1, START_NS + 10**18 * MS + 11 * 10**9)], 0)
    assert [type(m).__name__ for m in out] == ["Trade", "Gap", "Trade"]
    assert order.take([a_trade(2)], 0) == [a_trade(2)]


def test_no_more_trades_wait_than_the_limit() -> None:
    health = Health()
    order = OrderById(health, limit=20)
    out = order.take([a_trade(0)], 0)
    for number in range(2, 200):
        out += order.take([a_trade(number)], 0)
    assert health.gaps == 1
    assert [t.id for t in told(out)] == [0, *range(2, 200)]
    far = order.take([a_trade(10**12)], 0) + order.due(10**9)
    assert [type(m).__name__ for m in far] == ["Gap", "Trade"]


def test_times_that_step_back_are_counted() -> None:
    order = OrderById(Health())
    order.take([a_trade(1), a_trade(2, START_NS), a_trade(3)], 0)
    assert order.steps_back == 1


# --- by time


@quick
@given(seeds, st.sampled_from(["numbers", "text", "none"]))
def test_by_time_release_is_that_of_a_list_sorted_again_each_time(seed: int, ids: str) -> None:
    draws = random.Random(seed)
    trades = true_trades(draws, 60, ids=ids)
    stream = sorted(trades, key=lambda t: trades.index(t) + draws.uniform(0, 4))
    delay_ns, now_ns, top = 20 * MS, START_NS, (-1, -1)
    health = Health()
    order = OrderByTime(health, delay_s=0.02)
    waiting, released, last = list[tuple[tuple[int, int], int, int, Trade]](), [], (-1, -1)
    out = list[Message]()
    for count, trade in enumerate(stream):
        now_ns += draws.choice((0, 1, 30)) * MS
        out += order.take([trade], now_ns)
        key = (trade.time_ns, trade.id if ids == "numbers" else 0)
        if key >= last:
            waiting.append((key, count, now_ns, trade))
            top = max(top, key)
        old = [k for k, _, came, _ in waiting if came + delay_ns <= now_ns]
        bound = max([(top[0] - delay_ns, 2**63), *old])
        ready = sorted(entry for entry in waiting if entry[0] <= bound)
        waiting = [entry for entry in waiting if entry[0] > bound]
        released += [entry[3] for entry in ready]
        last = ready[-1][0] if ready else last
        assert out == released
    out += order.due(now_ns + delay_ns)
    assert out == released + [entry[3] for entry in sorted(waiting)]
    assert health.trades + health.late == len(trades)
    assert order.wake_ns() is None


@quick
@given(seeds, st.sampled_from(["numbers", "text", "none"]))
def test_by_time_lost_connections_are_joined_or_declared(seed: int, ids: str) -> None:
    draws = random.Random(seed)
    trades = true_trades(draws, 150, ids=ids)
    health, out = Health(), list[Message]()
    order = OrderByTime(health, delay_s=0.0)
    at, now_ns = 0, START_NS
    for _ in range(60):
        now_ns += MS
        if at and draws.random() < 0.25:  # the connection is lost, and some trades with it
            order.interrupted()
            at += draws.choice((0, 1, 4))
            if draws.random() < 0.3:
                give(draws, order, trades[:at], now_ns, out)
        part = trades[at : at + draws.randint(0, 4)]
        at += len(part)
        if part and ids != "none" and draws.random() < 0.1:
            part = [*part, part[0]]
        out += order.take(part, now_ns)
        if draws.random() < 0.5:
            give(draws, order, trades[: at - draws.choice((0, 0, 2))], now_ns, out)
    out += order.take(trades[at:], now_ns)
    out += order.fill(Listing(trades), now_ns) + order.due(now_ns)
    check_once_in_order_or_gap(trades, out)
    assert told(out)[-1] == trades[-1]
    assert health.gaps == len(gaps(out))


def give(
    draws: random.Random, order: OrderByTime, known: list[Trade], now_ns: int, out: list[Message]
) -> None:
    """Answer as a REST that gives the last few trades, or is away."""
    if order.wanted(now_ns) is None:
        return
    if draws.random() < 0.1:
        out += order.give_up("REST is away")
    else:
        out += order.fill(Listing(known[-draws.choice((3, 30)) :]), now_ns)
        order.all_given()


def test_by_time_a_trade_sent_twice_since_proves_no_join() -> None:
    trades = true_trades(random.Random(1), 9, ids="numbers")
    order = OrderByTime(Health(), delay_s=0.0)
    out = order.take(trades[:3], START_NS)
    order.interrupted()
    out += order.take([trades[6], trades[7], trades[6]], START_NS)
    assert out == trades[:3]
    out += order.fill(Listing(trades[:8]), START_NS)
    assert out == trades[:8]


def test_by_time_a_snapshot_that_holds_the_anchor_joins_without_rest() -> None:
    trades = true_trades(random.Random(1), 9, ids="numbers")
    order = OrderByTime(Health(), after=trades[4], delay_s=0.0)
    assert order.wanted(0) == (trades[4], None)
    assert order.take(trades[2:5], START_NS) == []  # known by nothing but `after`
    assert order.wanted(0) is None
    assert order.take(trades[4:7], START_NS) == trades[5:7]


@pytest.mark.parametrize("number", [TEXT_ID + 7, -1])
def test_by_time_what_came_with_the_last_known_trade_does_not_come_again(number: int) -> None:
    """Ids that order nothing, or none: a snapshot brings the newest trades after a restart."""
    earlier, after, beside, later = (
        Trade(START_NS + k * 10**6, 100.0, amount, 1, number if number < 0 else number + n, 0)
        for n, (k, amount) in enumerate([(0, 1.0), (1, 1.0), (1, 2.0), (2, 1.0)])
    )
    order = OrderByTime(Health(), after, delay_s=0.0)
    assert order.take([earlier, beside, after], START_NS) == []
    assert order.give_up("REST is away") == []
    assert order.take([later], START_NS) == [later]


def test_by_time_memory_is_bounded() -> None:
    health = Health()
    order = OrderByTime(health, delay_s=0.0, limit=50)
    trades = true_trades(random.Random(2), 400, ids="numbers")
    out = order.take(trades[:10], START_NS)
    order.interrupted()
    for trade in trades[20:]:
        out += order.take([trade], START_NS)
    assert health.gaps == 1
    assert told(out) == trades[:10] + trades[20:]


# --- waiting and clocks


@quick
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(1, 20))
def test_running_median_is_the_median_of_the_last(values: list[float], length: int) -> None:
    median = RunningMedian(length)
    for index, value in enumerate(values):
        window = values[max(0, index + 1 - length) : index + 1]
        assert median.add(value) == pytest.approx(statistics.median(window), rel=1e-12, abs=1e-9)


def test_back_off_doubles_to_its_bound_and_begins_anew_after_a_steady_life() -> None:
    back_off = BackOff(Waits(first_s=1.0, longest_s=8.0, steady_s=60.0), random.Random(0))
    waits = [back_off.next_s(0.0) for _ in range(40)]
    bounds = [1.0, 2.0, 4.0] + [8.0] * 37
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    assert len(set(waits)) == 40
    assert back_off.next_s(59.0) > 4.0 - 1e-9
    assert back_off.next_s(60.0) <= 1.0


def test_waits_are_above_zero() -> None:
    with pytest.raises(ValueError, match="silence_s=0"):
        Waits(silence_s=0)
