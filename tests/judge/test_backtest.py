"""Curves, thresholds and the record of a backtest, against single trades."""

from __future__ import annotations

import json
import math
from functools import cache

import numpy as np
import polars as pl
import pytest

from helpers.markets import GAP_NS, random_events
from nexttick.judge.costs.backtest import backtest, choose_thresholds, fee_curve, latency_curve
from nexttick.judge.costs.trading import MidPrices, Thresholds, Trades, trade
from nexttick.options import LabelOptions
from nexttick.prepare.events import merge_events
from nexttick.prepare.labels import make_labels
from nexttick.ticks.simulated import SimulatedMarket, simulate

THRESHOLDS = Thresholds(0.1, 0.5)


def known_at(events: pl.DataFrame, horizon: str) -> np.ndarray:
    return make_labels(events, LabelOptions((horizon,)), GAP_NS).known_at_NH[:, 0]


@cache
def simulated() -> tuple[MidPrices, np.ndarray, np.ndarray]:
    """A market with a signal, the true probabilities, and when their answers are known."""
    events = merge_events(simulate(SimulatedMarket(100_000, 7)))
    spread_bps = 0.5 / events["price"].mean() * 1e4  # type: ignore[operator]
    market = MidPrices.of(events, GAP_NS, spread_bps)
    return market, events["truth"].to_numpy(), known_at(events, "10")


def signals() -> tuple[MidPrices, np.ndarray, np.ndarray]:
    """The same market, what the true probabilities say, and when their answers are known."""
    market, p, known = simulated()
    return market, THRESHOLDS.signals(p), known


def traded(fee_bps: float = 0.1, latency_s: float = 0.0) -> Trades:
    return trade(*signals(), latency_s=latency_s, fee_bps=fee_bps)


def test_the_fee_curve_is_what_each_fee_would_have_left() -> None:
    curve = fee_curve(traded(), [0.0, 1.0, 4.0])
    for fee_bps, net_bps, in_all in zip(
        curve["fee_bps"], curve["net_bps"], curve["net_bps_in_all"], strict=True
    ):
        assert net_bps == pytest.approx(traded(fee_bps).net_bps.mean())
        assert in_all == pytest.approx(traded(fee_bps).net_bps.sum())
    assert (curve["net_low_bps"] < curve["net_bps"]).all()
    assert (curve["net_high_bps"] > curve["net_bps"]).all()


def test_the_latency_curve_is_what_each_latency_would_have_left() -> None:
    curve = latency_curve(*signals(), fee_bps=0.1, latencies_s=[0.0, 2.0])
    for row in curve.iter_rows(named=True):
        trades = traded(latency_s=row["latency_s"])
        told = trades.summary()
        for key in ("trades", "gross_bps", "net_bps", "net_bps_in_all"):
            assert row[key] == pytest.approx(told[key]), key
        assert row["break_even_fee_bps"] == pytest.approx(trades.break_even_fee_bps.value)


def test_thresholds_are_those_that_earned_most() -> None:
    market, p, known = simulated()
    chosen = choose_thresholds(market, p, known, latency_s=0.0, fee_bps=0.0)
    nets = {}
    for share in (0.5, 0.25, 0.1, 0.05, 0.025, 0.01, 0.005):
        candidate = Thresholds(*np.quantile(p, [share, 1 - share]).tolist())
        trades = trade(market, candidate.signals(p), known, latency_s=0.0, fee_bps=0.0)
        nets[candidate] = trades.net_bps.sum() if len(trades) >= 30 else -math.inf
    assert nets[chosen] == max(nets.values())
    assert len(set(nets.values())) > 3


def test_thresholds_with_few_round_trips_are_not_trusted() -> None:
    events = random_events(4, 600, gaps=0)
    market, known = MidPrices.of(events, GAP_NS, 0.0), known_at(events, "1")
    p = np.full(len(events), 0.5)
    p[5], p[:40:2] = 0.99, 0.01
    chosen = choose_thresholds(market, p, known, latency_s=0.0, fee_bps=0.0, shares=[0.005, 0.02])
    alone = [
        len(trade(market, Thresholds(*t).signals(p), known, latency_s=0.0, fee_bps=0.0))
        for t in (chosen, np.quantile(p, [0.005, 0.995]), np.quantile(p, [0.02, 0.98]))
    ]
    assert max(alone) < 30
    assert alone[0] == max(alone)


def test_who_predicts_nothing_has_empty_curves() -> None:
    events = random_events(4, 100)
    market, known = MidPrices.of(events, GAP_NS, 1.0), known_at(events, "1")
    p = np.full(len(events), np.nan)
    told = backtest(market, THRESHOLDS.signals(p), known, latency_s=0.0, fee_bps=1.0)
    assert told.by_fee["net_bps_in_all"].to_list() == [0.0] * 6
    assert told.by_latency["trades"].sum() == told.by_latency["net_bps_in_all"].sum() == 0
    assert all(map(math.isnan, told.metrics()["break_even_fee_bps"]))
    with pytest.raises(ValueError, match="no prediction"):
        choose_thresholds(market, p, known, latency_s=0.0, fee_bps=0.0)


def test_signals_are_buy_sell_and_nothing() -> None:
    p = np.array([0.0, 0.1, 0.3, 0.5, 0.51, 1.0, math.nan], np.float32)
    assert Thresholds(0.1, 0.5).signals(p.astype(float)).tolist() == [-1, 0, 0, 0, 1, 1, 0]
    assert Thresholds(0.3, 0.3).signals(np.array([0.3])).tolist() == [0]


def test_a_backtest_is_its_parts_and_json() -> None:
    told = backtest(*signals(), latency_s=0.3, fee_bps=0.1, threads=2)
    assert told.trades.table().equals(traded(latency_s=0.3).table())
    assert told.by_fee.equals(fee_curve(told.trades))
    assert told.by_latency.equals(latency_curve(*signals(), fee_bps=0.1))
    metrics = json.loads(json.dumps(told.metrics(), allow_nan=False))
    assert metrics["break_even_fee_bps"] == list(told.trades.break_even_fee_bps)
    at = metrics["by_latency"]["latency_s"].index(0.3)
    assert metrics["by_latency"]["net_bps"][at] == pytest.approx(metrics["net_bps"])
    assert metrics["trades"] == len(told.trades)
