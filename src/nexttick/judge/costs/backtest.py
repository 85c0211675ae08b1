"""What predictions are left with after spread, fees and latency, by the rules of `trading`.

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

from nexttick.judge.costs.spread import Spread, estimate_spread
from nexttick.judge.costs.trading import MidPrices, Thresholds, Trades, mean, trade
from nexttick.judge.folds import TEST, VALID, Task
from nexttick.options import EvaluateOptions, parse_duration_ns
from nexttick.prepare.labels import Labels
from nexttick.ticks.gaps import segment_starts

FEES_BPS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
LATENCIES_S = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
SHARES = (0.5, 0.25, 0.1, 0.05, 0.025, 0.01, 0.005)
_ENOUGH = 30  # round trips by which thresholds may be judged
_POINTS = 400  # of a picture's equity


@dataclass(frozen=True)
class Backtest:
    """What the signals of one horizon earned: round trips, `fee_curve` and `latency_curve`."""

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
            **self.trades.summary(),
            "break_even_fee_bps": list(self.trades.break_even_fee_bps),
            "by_fee": self.by_fee.to_dict(as_series=False),
            "by_latency": self.by_latency.to_dict(as_series=False),
        }


def backtest(
    market: MidPrices,
    signal_N: NDArray[np.int8],
    known_at_N: NDArray[np.int64],
    *,
    latency_s: float,
    fee_bps: float,
    threads: int = 1,
) -> Backtest:
    """Trade, and see what other fees and latencies would have left.

    `trade` says what is given, and what is refused; threads share the latencies.
    """
    signals = (market, signal_N, known_at_N)
    trades = trade(*signals, latency_s=latency_s, fee_bps=fee_bps)
    by_latency = latency_curve(*signals, fee_bps=fee_bps, threads=threads)
    return Backtest(latency_s, trades, fee_curve(trades), by_latency)


def fee_curve(trades: Trades, fees_bps: Sequence[float] = FEES_BPS) -> pl.DataFrame:
    """Net result against the fee of an execution: the same round trips, other fees.

    Columns are `fee_bps`; `net_bps` of a round trip with its 95 % interval, `net_low_bps` and
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
    market: MidPrices,
    signal_N: NDArray[np.int8],
    known_at_N: NDArray[np.int64],
    *,
    fee_bps: float,
    latencies_s: Sequence[float] = LATENCIES_S,
    threads: int = 1,
) -> pl.DataFrame:
    """Net result against latency: the same signals, later orders. `trade` says what is given.

    Columns are `latency_s`, `trades`, `gross_bps` and `net_bps` of a round trip, `net_bps_in_all`,
    `break_even_fee_bps`.
    """

    def row(latency_s: float) -> dict[str, float]:
        trades = trade(market, signal_N, known_at_N, latency_s=latency_s, fee_bps=fee_bps)
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
    market: MidPrices,
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
    """
    known = p_N[np.isfinite(p_N)]
    if len(known) == 0:
        raise ValueError("there is no prediction to choose thresholds by: give validation events")

    def earned(thresholds: Thresholds) -> tuple[bool, float]:
        signal_N = thresholds.signals(p_N)
        trades = trade(market, signal_N, known_at_N, latency_s=latency_s, fee_bps=fee_bps)
        enough = len(trades) >= _ENOUGH
        return enough, float(trades.net_bps.sum()) if enough else len(trades)

    lower, upper = np.quantile(known, [np.array(shares), 1 - np.array(shares)])
    return max(map(Thresholds, lower.tolist(), upper.tolist()), key=earned)


@dataclass(frozen=True)
class Costs:
    """What stands between predictions and a profit.

    Market and labels are those of all events; when an answer is known ends a position.
    """

    market: MidPrices
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
    ) -> Costs:
        """Estimate what is not given from the past of the first fold."""
        past = events[:first_test]
        spread = Spread(options.spread_bps or 0.0, "given")
        if options.spread_bps is None:
            spread = estimate_spread(past, segment_starts(past["time"].to_numpy(), max_gap_ns))
        latency_s = (parse_duration_ns(options.latency) or 0) / 1e9
        market = MidPrices.of(events, max_gap_ns, spread.bps)
        return cls(market, labels, spread, options.fee_bps, latency_s)

    def report(self, tasks: Sequence[Task], networks: Sequence[str]) -> dict[str, Any]:
        """`backtest` of `metrics.json`: what each network's predictions earn at each horizon."""
        report: dict[str, Any] = {
            "spread_bps": self.spread.bps,
            "spread_source": self.spread.source,
            "fee_bps": self.fee_bps,
            "latency_s": self.latency_s,
        }
        for network in networks:
            own = [task for task in tasks if task.contestant == network]
            report[network] = {
                horizon: self._report(own, horizon, self.labels.known_at_NH[:, h])
                for h, horizon in enumerate(self.labels.names)
            }
        return report

    def _report(
        self, tasks: Sequence[Task], horizon: str, known_at_N: NDArray[np.int64]
    ) -> dict[str, Any]:
        """Trades of all test parts in a row, on signals by each fold's own thresholds."""
        first, n = tasks[0].fold.start + tasks[0].fold.split.test, len(self.market.time_ns)
        signal_N, thresholds = np.zeros(n, np.int8), []
        for task in tasks:
            table = task.read()
            past, test = (table.filter(pl.col("part") == part) for part in (VALID, TEST))
            begin, end = past["event"][0], past["event"][-1] + 1
            chosen = choose_thresholds(
                self.market.part(begin, end),
                past[f"p_{horizon}"].to_numpy(),
                known_at_N[begin:end] - begin,
                latency_s=self.latency_s,
                fee_bps=self.fee_bps,
            )
            thresholds.append(list(chosen))
            signal_N[test["event"].to_numpy()] = chosen.signals(test[f"p_{horizon}"].to_numpy())
        market = self.market.part(first, n)
        earned = backtest(
            market,
            signal_N[first:],
            known_at_N[first:] - first,
            latency_s=self.latency_s,
            fee_bps=self.fee_bps,
        )
        # Summed net result over time, thinned for a picture.
        trades = earned.trades.table()
        equity = trades.select(time_ns="exit_ns", net_bps=pl.col("net_bps").cum_sum())
        every = max(1, len(trades) // _POINTS)
        return earned.metrics() | {
            "thresholds": thresholds,
            "equity": equity.gather_every(every).to_dict(as_series=False),
        }
