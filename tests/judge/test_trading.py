"""Trades by the stated rules, and what they earn where the truth is known."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.markets import FINITE_TAMPERINGS, GAP_NS, S_NS, quick, random_events, seeds, tampered
from nexttick.judge.costs.trading import REASONS, MidPrices, Thresholds, Trades, trade
from nexttick.options import LabelOptions
from nexttick.prepare.events import merge_events
from nexttick.prepare.labels import make_labels
from nexttick.ticks.simulated import SimulatedMarket, simulate
from nexttick.ticks.simulated_walk import MOVE_SHARE

HORIZONS = ("1", "5", "5s", "move")
THRESHOLDS = Thresholds(0.3, 0.6)


def act(
    market: MidPrices, p: np.ndarray, known: np.ndarray, thresholds: Thresholds, **paid: float
) -> Trades:
    """Trade on predictions by thresholds."""
    return trade(market, thresholds.signals(p), known, **paid)


def known_at(events: pl.DataFrame, horizon: str) -> np.ndarray:
    return make_labels(events, LabelOptions((horizon,)), GAP_NS).known_at_NH[:, 0]


def second_by_second(n: int) -> pl.DataFrame:
    """Random events, one a second."""
    events = random_events(1, 10 * n, gaps=0)[:n]
    return events.with_columns(time=pl.int_range(pl.len()) * S_NS)


def random_p(seed: int, n: int, quiet: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < quiet, np.nan, rng.random(n)).astype(np.float32)


def by_hand(
    market: MidPrices, p: np.ndarray, known: np.ndarray, thresholds: Thresholds, latency_s: float
) -> list[tuple[int, int, int, int, str]]:
    """The rules again, event by event, in the words of the module."""
    time, n = market.time_ns.tolist(), len(p)
    latency = max(round(latency_s * 1e9), 1)
    stops = [*market.starts[1:].tolist(), n]
    trades = []
    for start, stop in zip(market.starts.tolist(), stops, strict=True):
        position = signal = entry = until = 0
        arrived = start
        for now in range(start, stop):
            newest = None
            while time[arrived] + latency <= time[now]:
                if p[arrived] > thresholds.upper or p[arrived] < thresholds.lower:
                    newest = arrived
                arrived += 1
            want = 0 if newest is None else (1 if p[newest] > thresholds.upper else -1)
            last, over = now == stop - 1, False
            if position:
                if want == position:
                    until = known[newest]
                over = until < arrived
                if want == -position or over or last:
                    why = "opposite" if want == -position else "horizon" if over else "segment"
                    trades.append((signal, entry, now, position, why))
                    position = 0
            if not position and want and not last and known[newest] >= arrived:
                position, signal, entry, until = want, newest, now, known[newest]
    return trades


# The rules


@quick
@given(
    seeds,
    st.sampled_from(HORIZONS),
    st.sampled_from([0.0, 0.05, 1.0, 20.0]),
    st.sampled_from([0.0, 0.3, 0.95]),
)
def test_trades_are_those_of_the_rules(
    seed: int, horizon: str, latency_s: float, quiet: float
) -> None:
    events = random_events(seed, 200)
    market, known = MidPrices.of(events, GAP_NS, 3.0), known_at(events, horizon)
    p = random_p(seed, len(events), quiet)
    told = act(market, p, known, THRESHOLDS, latency_s=latency_s, fee_bps=0.0).table()
    rows = told.select("signal", "entry", "exit", "side", "reason").rows()
    assert rows == by_hand(market, p, known, THRESHOLDS, latency_s)


@quick
@given(seeds, st.sampled_from(HORIZONS), st.sampled_from([0.0, 0.5, 5.0]))
def test_nothing_is_done_at_the_event_itself_nor_across_a_gap(
    seed: int, horizon: str, latency_s: float
) -> None:
    events = random_events(seed, 200)
    market, p = MidPrices.of(events, GAP_NS, 3.0), random_p(seed, len(events))
    trades = act(market, p, known_at(events, horizon), THRESHOLDS, latency_s=latency_s, fee_bps=0.0)
    time = market.time_ns
    waited_ns = time[trades.entry] - time[trades.signal]
    assert (waited_ns >= max(latency_s * S_NS, 1)).all()
    assert (trades.exit > trades.entry).all()
    assert (trades.entry[1:] >= trades.exit[:-1]).all()  # one position at a time
    segment = np.searchsorted(market.starts, np.arange(len(p)), side="right")
    assert (segment[trades.signal] == segment[trades.exit]).all()
    said = p[trades.signal]
    assert (np.where(trades.side > 0, said > 0.6, said < 0.3)).all()


def test_a_position_is_held_from_the_next_event_until_its_answer_is_known() -> None:
    events = second_by_second(40)
    p = np.full(len(events), 0.5)
    p[10], p[20] = 0.9, 0.1
    market = MidPrices.of(events, GAP_NS, 3.0)
    held = {}
    for latency_s in (0.0, 1.0, 1.5, 4.0, 4.5):
        trades = act(market, p, known_at(events, "5"), THRESHOLDS, latency_s=latency_s, fee_bps=0.0)
        held[latency_s] = list(zip(trades.entry.tolist(), trades.exit.tolist(), strict=True))
    assert held == {
        0.0: [(11, 16), (21, 26)],
        1.0: [(11, 16), (21, 26)],
        1.5: [(12, 17), (22, 27)],
        4.0: [(14, 19), (24, 29)],
        4.5: [(15, 20), (25, 30)],
    }


def test_a_new_signal_prolongs_or_turns_a_position() -> None:
    events = second_by_second(40)
    p = np.full(len(events), 0.5)
    p[[10, 13]] = 0.9
    p[16] = 0.1
    market = MidPrices.of(events, GAP_NS, 3.0)
    told = act(market, p, known_at(events, "5"), THRESHOLDS, latency_s=0.0, fee_bps=0.0).table()
    assert told.select("signal", "entry", "exit", "side", "reason").rows() == [
        (10, 11, 17, 1, "opposite"),
        (16, 17, 22, -1, "horizon"),
    ]


def test_what_is_open_at_a_gap_is_closed_before_it() -> None:
    later = 1000 * S_NS * (pl.int_range(pl.len()) >= 15)
    events = second_by_second(30).with_columns(pl.col("time") + later)
    p = np.full(len(events), 0.9)
    market = MidPrices.of(events, GAP_NS, 3.0)
    told = act(market, p, known_at(events, "5"), THRESHOLDS, latency_s=0.0, fee_bps=0.0).table()
    assert told["exit"].to_list() == [14, 29]
    assert told["entry"].to_list() == [1, 16]
    assert set(told["reason"]) <= set(REASONS)


@pytest.mark.parametrize("how", FINITE_TAMPERINGS)
def test_the_future_changes_no_trade_that_is_closed(how: str) -> None:
    events = random_events(5, 800, sides="known", gaps=0)
    start, p = 250, random_p(5, len(events))
    other = tampered(events, start, how)
    p_other = p.copy()
    p_other[start:] = 1 - p[start:]

    def closed(events: pl.DataFrame, p: np.ndarray) -> pl.DataFrame:
        market = MidPrices.of(events, 10**18, 3.0)
        known = make_labels(events, LabelOptions(("5",)), 10**18).known_at_NH[:, 0]
        args = (market, p[: len(events)], known, THRESHOLDS)
        return act(*args, latency_s=0.5, fee_bps=1.0).table().filter(pl.col("exit") < start)

    assert len(closed(events, p)) > 20
    assert closed(other, p_other).equals(closed(events, p))


# What is earned, where it is known


@cache
def simulated(signal: float) -> tuple[pl.DataFrame, MidPrices]:
    events = merge_events(simulate(SimulatedMarket(100_000, 7, signal=signal)))
    spread_bps = 0.5 / events["price"].mean() * 1e4  # type: ignore[operator]
    return events, MidPrices.of(events, GAP_NS, spread_bps)


def ignorant(how: str, events: pl.DataFrame) -> np.ndarray:
    """Predictions that know nothing of the mid, though some know the bounce."""
    if how == "random":
        return np.random.default_rng(0).random(len(events))
    if how == "long":
        return np.where(np.arange(len(events)) % 12 == 0, 0.9, 0.5)
    return 0.5 - 0.3 * events["side"].to_numpy()  # a price at the bid will probably rise


@pytest.mark.parametrize("how", ["random", "long", "bounce"])
@pytest.mark.parametrize("horizon", ["1", "10", "move"])
@pytest.mark.parametrize("latency_s", [0.0, 0.7])
def test_who_knows_nothing_of_the_mid_loses_the_spread_and_two_fees(
    how: str, horizon: str, latency_s: float
) -> None:
    events, market = simulated(0.0)
    p, fee_bps = ignorant(how, events), 0.07
    trades = act(
        market, p, known_at(events, horizon), THRESHOLDS, latency_s=latency_s, fee_bps=fee_bps
    )
    lost_bps = market.spread_bps + 2 * fee_bps
    error_bps = trades.gross_bps.std() / math.sqrt(len(trades))
    assert error_bps < lost_bps / 20  # the claim has teeth
    assert trades.net_bps.mean() == pytest.approx(-lost_bps, abs=4 * error_bps)


def test_prices_taken_for_mids_would_reward_who_knows_the_bounce() -> None:
    """What rule 4 is for: at the price of the event itself, the bounce looks like a profit."""
    events, market = simulated(0.0)
    p = ignorant("bounce", events)
    trades = act(market, p, known_at(events, "1"), THRESHOLDS, latency_s=0.0, fee_bps=0.0)
    log_price = np.log(events["price"].to_numpy())
    at_once = log_price[trades.signal + 1] - log_price[trades.signal]
    assert (1e4 * trades.side * at_once).mean() > 0.4 * market.spread_bps
    assert abs(trades.gross_bps.mean()) < 0.02 * market.spread_bps


def test_who_knows_the_truth_earns_before_costs() -> None:
    """On signal 1 the truth and the side at which the last trade was give the flow."""
    events, market = simulated(1.0)
    truth, side = events["truth"].to_numpy(), events["side"].to_numpy()
    # P(rise) = P(buy) · P(rise | buy) + P(sell) · P(rise | sell), by the module's formula.
    up = MOVE_SHARE / 2
    rise_if_buy = np.where(side > 0, up * 1.9, 1 - up * 0.1)
    rise_if_sell = np.where(side > 0, 0.0, up * 0.1)
    p_buy = (truth - rise_if_sell) / (rise_if_buy - rise_if_sell)
    assert p_buy.min() > 0.02
    assert p_buy.max() < 0.98
    trades = act(
        market, p_buy, known_at(events, "1"), Thresholds(0.2, 0.8), latency_s=0.0, fee_bps=0.0
    )
    error_bps = trades.gross_bps.std() / math.sqrt(len(trades))
    assert trades.gross_bps.mean() > 10 * error_bps
    late = act(
        market, p_buy, known_at(events, "1"), Thresholds(0.2, 0.8), latency_s=20.0, fee_bps=0.0
    )
    assert abs(late.gross_bps.mean()) < trades.gross_bps.mean() / 3


# Results


@cache
def some_trades(fee_bps: float = 1.5) -> Trades:
    events = random_events(3, 2000, gaps=3)
    market = MidPrices.of(events, GAP_NS, 8.0)
    args = (market, random_p(3, len(events)), known_at(events, "5"), THRESHOLDS)
    return act(*args, latency_s=0.2, fee_bps=fee_bps)


def test_a_round_trip_costs_the_spread_and_two_fees() -> None:
    trades = some_trades()
    mid = np.exp(trades.market.log_mid)
    half = 8.0 / 2e4
    bought = np.where(trades.side > 0, mid[trades.entry], mid[trades.exit]) * np.exp(half)
    sold = np.where(trades.side > 0, mid[trades.exit], mid[trades.entry]) * np.exp(-half)
    np.testing.assert_allclose(trades.net_bps, 1e4 * np.log(sold / bought) - 3.0, atol=1e-8)


def test_the_summary_counts_what_the_table_holds() -> None:
    trades = some_trades()
    table, told = trades.table(), trades.summary()
    time = trades.market.time_ns
    segments = np.split(time, trades.market.starts[1:])
    days = sum((part[-1] - part[0]) / (86_400 * S_NS) for part in segments)
    held_s = (table["exit_ns"] - table["entry_ns"]).to_numpy() / S_NS
    sums = [0.0, *np.cumsum(table["net_bps"]).tolist()]
    drawdown = max(max(sums[: k + 1]) - sums[k] for k in range(len(sums)))
    assert told == pytest.approx(
        {
            "trades": len(table),
            "trades_per_day": len(table) / days,
            "trades_per_1000_events": len(table) / len(time) * 1000,
            "long_share": (table["side"] == 1).mean(),
            "gross_bps": table["gross_bps"].mean(),
            "net_bps": table["net_bps"].mean(),
            "net_bps_in_all": table["net_bps"].sum(),
            "hit_rate": (table["net_bps"] > 0).mean(),
            "max_drawdown_bps": drawdown,
            "held_s": held_s.mean(),
            "held_events": (table["exit"] - table["entry"]).mean(),
            "held_share": held_s.sum() / (days * 86_400),
        }
    )
    assert 0 < told["held_share"] < 1
    assert table["entry_ns"].to_list() == time[table["entry"]].tolist()


def test_at_the_break_even_fee_nothing_is_left() -> None:
    told = some_trades().break_even_fee_bps
    assert told.low < told.value < told.high
    assert some_trades(told.value).net_bps.mean() == pytest.approx(0, abs=1e-9)
    assert told == some_trades(99.0).break_even_fee_bps


def test_the_break_even_fee_of_who_knows_nothing_covers_minus_half_the_spread() -> None:
    events, market = simulated(0.0)
    known = known_at(events, "10")
    covered = 0
    for seed in range(60):
        part = slice(1500 * seed, 1500 * (seed + 1))
        some = MidPrices.of(events[part], GAP_NS, market.spread_bps)
        p = np.random.default_rng(seed).random(1500)
        trades = act(some, p, known[part] - part.start, THRESHOLDS, latency_s=0.0, fee_bps=0.0)
        told = trades.break_even_fee_bps
        covered += told.low <= -market.spread_bps / 2 <= told.high
    assert 52 <= covered <= 60


def test_who_predicts_nothing_trades_nothing() -> None:
    events = random_events(4, 100)
    market, known = MidPrices.of(events, GAP_NS, 1.0), known_at(events, "1")
    for p in (np.full(len(events), np.nan), np.full(len(events), 0.3)):
        trades = act(market, p, known, Thresholds(0.3, 0.3), latency_s=0.0, fee_bps=1.0)
        assert len(trades) == len(trades.table()) == 0
        told = trades.summary()
        assert told["trades"] == told["net_bps_in_all"] == told["max_drawdown_bps"] == 0
        assert math.isnan(told["hit_rate"])
        assert all(map(math.isnan, trades.break_even_fee_bps))


def test_one_round_trip_has_no_interval() -> None:
    events = random_events(4, 100, gaps=0)
    p = np.full(len(events), np.nan)
    p[5] = 0.9
    trades = act(
        MidPrices.of(events, GAP_NS, 1.0),
        p,
        known_at(events, "5"),
        THRESHOLDS,
        latency_s=0.0,
        fee_bps=0.0,
    )
    told = trades.break_even_fee_bps
    assert told.value == pytest.approx((trades.gross_bps[0] - 1) / 2)
    assert math.isnan(told.low)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": np.zeros(3)}, "3 signals"),
        ({"known": np.zeros(4, np.int64)}, "4 known_at"),
        ({"thresholds": Thresholds(0.6, 0.4)}, "must not exceed"),
        ({"thresholds": Thresholds(math.nan, 0.4)}, "must not exceed"),
        ({"latency_s": -1.0}, "latency -1.0 s"),
        ({"latency_s": math.inf}, "latency inf s"),
        ({"fee_bps": math.nan}, "fee nan bps"),
    ],
    ids=["p", "known_at", "crossed", "nan", "negative", "endless", "fee"],
)
def test_what_cannot_be_traded_is_refused(change: dict[str, object], message: str) -> None:
    events = random_events(4, 100)
    args = {
        "p": random_p(4, len(events)),
        "known": known_at(events, "1"),
        "thresholds": THRESHOLDS,
        "latency_s": 0.0,
        "fee_bps": 0.0,
    }
    with pytest.raises(ValueError, match=message):
        act(MidPrices.of(events, GAP_NS, 1.0), **{**args, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("spread_bps", [-1.0, math.nan, math.inf])
def test_a_spread_that_is_none_is_refused(spread_bps: float) -> None:
    with pytest.raises(ValueError, match=r"spread of .* bps"):
        MidPrices.of(random_events(4, 100), GAP_NS, spread_bps)
