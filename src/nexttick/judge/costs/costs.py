"""What pooled predictions are worth: `backtest` with the thresholds of each fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.judge.costs.backtest import backtest, choose_thresholds
from nexttick.judge.costs.spread import Spread, estimate_spread
from nexttick.judge.costs.trading import Market, Thresholds
from nexttick.judge.folds import VALID, Task
from nexttick.judge.pooling import Pooled
from nexttick.options import EvaluateOptions, parse_duration_ns
from nexttick.prepare.labels import Labels
from nexttick.ticks.gaps import segment_starts

_SIDES = Thresholds(0.25, 0.75)  # of signals written as probabilities 0, 1/2 and 1


@dataclass(frozen=True)
class Worth:
    """What is needed to act on predictions.

    Attributes:
        market: all events.
        labels: of all events; when an answer is known ends a position.
        spread: given, or estimated on what lies before the first test part.
        fee_bps: of each execution.
        latency_s: from an event to the execution of the order that answers it.
    """

    market: Market
    labels: Labels
    spread: Spread
    fee_bps: float
    latency_s: float

    @classmethod
    def of(
        cls,
        events: pl.DataFrame,
        labels: Labels,
        max_gap_ns: int,
        first_test: int,
        options: EvaluateOptions,
    ) -> Worth:
        """Estimate what is not given from the past of the first fold.

        Raises:
            ValueError: no spread was given and none can be estimated.
        """
        past = events[:first_test]
        spread = Spread(options.spread_bps or 0.0, "given")
        if options.spread_bps is None:
            spread = estimate_spread(past, segment_starts(past["time"].to_numpy(), max_gap_ns))
        latency_s = (parse_duration_ns(options.latency) or 0) / 1e9
        market = Market.of(events, max_gap_ns, spread.bps)
        return cls(market, labels, spread, options.fee_bps, latency_s)

    def report(self, pooled: Pooled, tasks: Sequence[Task]) -> dict[str, Any]:
        """`backtest` of `metrics.json`: what each network's predictions earn at each horizon."""
        told: dict[str, Any] = {
            "spread_bps": self.spread.bps,
            "spread_source": self.spread.source,
            "fee_bps": self.fee_bps,
            "latency_s": self.latency_s,
        }
        for network in pooled.networks:
            own = [task for task in tasks if task.contestant == network]
            told[network] = {
                horizon: self._report(own, horizon, self.labels.known_at_NH[:, h])
                for h, horizon in enumerate(pooled.horizons)
            }
        return told

    def _report(
        self, tasks: Sequence[Task], horizon: str, known_at_N: NDArray[np.int64]
    ) -> dict[str, Any]:
        """Trades of all test parts in a row, on each fold's own thresholds."""
        first = tasks[0].fold.start + tasks[0].fold.split.test
        n = len(self.market.time_ns)
        p_N = np.full(n, np.nan)
        thresholds = []
        for task in tasks:
            table = task.read()
            past, test = (table.filter(pl.col("part") == part) for part in (VALID, 1 - VALID))
            chosen = self._choose(past, horizon, known_at_N)
            thresholds.append([chosen.lower, chosen.upper])
            p = test[f"p_{horizon}"].to_numpy()
            p_N[test["event"].to_numpy()] = _as_signals(p, chosen)
        market, known_at = _part(self.market, first, n), known_at_N[first:] - first
        worth = backtest(
            market,
            p_N[first:],
            known_at,
            _SIDES,
            latency_s=self.latency_s,
            fee_bps=self.fee_bps,
        )
        told = worth.metrics() | {"thresholds": thresholds}
        return told | {"equity": _equity(worth.trades.table())}

    def _choose(
        self, past: pl.DataFrame, horizon: str, known_at_N: NDArray[np.int64]
    ) -> Thresholds:
        """The thresholds that would have earned most on a fold's validation part."""
        at = past["event"].to_numpy()
        begin, end = int(at[0]), int(at[-1]) + 1
        return choose_thresholds(
            _part(self.market, begin, end),
            past[f"p_{horizon}"].to_numpy(),
            known_at_N[begin:end] - begin,
            latency_s=self.latency_s,
            fee_bps=self.fee_bps,
        )


def _as_signals(p: NDArray[np.floating], thresholds: Thresholds) -> NDArray[np.float64]:
    """Buy as 1, sell as 0, neither as 1/2: what folds with thresholds of their own share."""
    said = np.where(p > thresholds.upper, 1.0, np.where(p < thresholds.lower, 0.0, 0.5))
    return np.where(np.isfinite(p), said, np.nan)


def _part(market: Market, begin: int, end: int) -> Market:
    """The market of the events [begin, end)."""
    inside = market.starts[(market.starts > begin) & (market.starts < end)] - begin
    return Market(
        market.time_ns[begin:end],
        market.log_mid[begin:end],
        np.append(0, inside),
        market.spread_bps,
    )


def _equity(trades: pl.DataFrame, points: int = 400) -> dict[str, list[float]]:
    """Summed net result over time, thinned for a picture."""
    if trades.is_empty():
        return {"time_ns": [], "net_bps": []}
    every = max(1, len(trades) // points)
    summed = trades.select(time_ns="exit_ns", net_bps=pl.col("net_bps").cum_sum())
    return summed.gather_every(every).to_dict(as_series=False)
