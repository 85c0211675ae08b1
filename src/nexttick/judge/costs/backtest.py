"""What predictions were worth after spread, fees and latency, by the rules of `trading`.

All results are of round trips on events that lie after those that chose the thresholds. They are
an upper bound: `trading` says what is left out, market impact before all.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.judge.costs.trading import (
    Market,
    Thresholds,
    Trades,
    execute,
    find_signals,
    mean,
    trade,
)

FEES_BPS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
LATENCIES_S = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
SHARES = (0.5, 0.25, 0.1, 0.05, 0.025, 0.01, 0.005)
_ENOUGH = 30  # round trips by which thresholds may be judged


@dataclass(frozen=True)
class Backtest:
    """What the predictions of one horizon were worth.

    Attributes:
        thresholds: that were acted on.
        latency_s: from an event to the execution of the order that answers it.
        trades: the round trips.
        by_fee: from `fee_curve`.
        by_latency: from `latency_curve`.
    """

    thresholds: Thresholds
    latency_s: float
    trades: Trades
    by_fee: pl.DataFrame
    by_latency: pl.DataFrame

    def metrics(self) -> dict[str, Any]:
        """Plain values for `metrics.json`; NaN where there was no round trip."""
        return {
            "spread_bps": self.trades.market.spread_bps,
            "fee_bps": self.trades.fee_bps,
            "latency_s": self.latency_s,
            "thresholds": list(self.thresholds),
            **self.trades.summary(),
            "break_even_fee_bps": list(self.trades.break_even_fee_bps),
            "by_fee": self.by_fee.to_dict(as_series=False),
            "by_latency": self.by_latency.to_dict(as_series=False),
        }


def backtest(
    market: Market,
    p_N: NDArray[np.floating],
    known_at_N: NDArray[np.int64],
    thresholds: Thresholds,
    *,
    latency_s: float,
    fee_bps: float,
    threads: int = 1,
) -> Backtest:
    """Trade, and see what other fees and latencies would have left.

    Args:
        market: see `trade`, as all others.
        p_N: probability of a rise with each event.
        known_at_N: when each answer is known.
        thresholds: from the past only.
        latency_s: from an event to the execution of the order that answers it.
        fee_bps: of each execution.
        threads: that share the latencies.

    Raises:
        ValueError: as `trade`.
    """
    predicted = (market, p_N, known_at_N, thresholds)
    trades = trade(*predicted, latency_s=latency_s, fee_bps=fee_bps)
    by_latency = latency_curve(*predicted, fee_bps=fee_bps, threads=threads)
    return Backtest(thresholds, latency_s, trades, fee_curve(trades), by_latency)


def fee_curve(trades: Trades, fees_bps: Sequence[float] = FEES_BPS) -> pl.DataFrame:
    """Net result against fee: the same round trips, other fees.

    Args:
        trades: from `trade`.
        fees_bps: of each execution.

    Returns:
        `fee_bps`; `net_bps` of a round trip with its 95 % interval, `net_low_bps` and
        `net_high_bps`; `net_bps_in_all`.
    """
    fees = np.array(fees_bps, np.float64)
    before_fees = 2 * np.array(trades.break_even_fee_bps)
    value, low, high = before_fees[:, None] - 2 * fees
    return pl.DataFrame(
        {
            "fee_bps": fees,
            "net_bps": value,
            "net_low_bps": low,
            "net_high_bps": high,
            "net_bps_in_all": value * len(trades) if len(trades) else 0.0 * fees,
        }
    )


def latency_curve(
    market: Market,
    p_N: NDArray[np.floating],
    known_at_N: NDArray[np.int64],
    thresholds: Thresholds,
    *,
    fee_bps: float,
    latencies_s: Sequence[float] = LATENCIES_S,
    threads: int = 1,
) -> pl.DataFrame:
    """Net result against latency: the same signals, later orders.

    Args:
        market: see `trade`, as the others.
        p_N: probability of a rise with each event.
        known_at_N: when each answer is known.
        thresholds: from the past only.
        fee_bps: of each execution.
        latencies_s: from an event to the execution of the order that answers it.
        threads: that share the latencies.

    Returns:
        `latency_s`, `trades`, `gross_bps` and `net_bps` of a round trip, `net_bps_in_all`,
        `break_even_fee_bps`.
    """
    signals = find_signals(market, p_N, known_at_N, thresholds)

    def row(latency_s: float) -> dict[str, float]:
        trades = execute(market, signals, known_at_N, latency_s, fee_bps)
        gross_bps = mean(trades.gross_bps)
        net_bps = gross_bps - market.spread_bps - 2 * fee_bps
        return {
            "latency_s": float(latency_s),
            "trades": len(trades),
            "gross_bps": gross_bps,
            "net_bps": net_bps,
            "net_bps_in_all": net_bps * len(trades) if len(trades) else 0.0,
            "break_even_fee_bps": (gross_bps - market.spread_bps) / 2,
        }

    with ThreadPoolExecutor(threads) as pool:  # the compiled loop lets go of the GIL
        return pl.DataFrame([*pool.map(row, latencies_s)])


def choose_thresholds(
    market: Market,
    p_N: NDArray[np.floating],
    known_at_N: NDArray[np.int64],
    *,
    latency_s: float,
    fee_bps: float,
    shares: Sequence[float] = SHARES,
) -> Thresholds:
    """The thresholds that would have earned most on these events, which must lie in the past.

    Candidates leave the same share of predictions below the lower and above the upper threshold.
    Of those with at least 30 round trips the one of the highest net result in all is taken, even
    if it loses; where there is none, the one with the most round trips.

    Raises:
        ValueError: there is no prediction.
    """
    known = p_N[np.isfinite(p_N)]
    if len(known) == 0:
        raise ValueError("there is no prediction to choose thresholds by: give validation events")

    def worth(thresholds: Thresholds) -> tuple[bool, float]:
        trades = trade(market, p_N, known_at_N, thresholds, latency_s=latency_s, fee_bps=fee_bps)
        enough = len(trades) >= _ENOUGH
        return enough, float(trades.net_bps.sum()) if enough else len(trades)

    lower, upper = np.quantile(known, [np.array(shares), 1 - np.array(shares)])
    return max(map(Thresholds, lower.tolist(), upper.tolist()), key=worth)
