"""Acting on predictions: one position at a time, late, at a price that pays the spread.

1. *A signal.* Above the upper threshold a prediction says "buy" (+1), below the lower one "sell"
   (-1), else nothing (0).
2. *An order* is sent with the event that it answers, arrives `latency` later and is executed at
   the first event then or after: always at a later time stamp than the event that it answers, and
   never beyond a gap. Of several signals that are executed at one event the newest counts.
3. *A position* is opened by a signal when there is none. The order to close it is sent when the
   answer to the prediction is known (`Labels.known_at`: the horizon's end) and is late by the same
   latency. A new signal of the same side moves that end to its own; one of the opposite side
   closes the position and opens the opposite one. A signal whose own end comes with its execution
   opens nothing. Whatever is open at a segment's last event is closed there.
4. *The price* of an execution is the mid behind its event (`spread.log_mids`) plus half the spread
   for a buy, less half for a sale. Trade prices contain the bounce already; were they taken for
   mids, the spread would be paid twice, or not at all, according to who took last. So a round trip
   costs the spread once and the fee twice, and without information about the mid that is exactly
   what is lost on average, however well the bounce is predicted.

Results are basis points (1e-4) of log price. They are an upper bound: no order of ours moves the
market or waits in a queue, every one is filled whole, at the touch, and nobody reacts. The spread
is one number for all times, where real ones widen in a hurry. Closing at a segment's last event
takes a gap for known before it begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numba import njit
from numpy.typing import NDArray

from nexttick.judge.costs.spread import log_mids
from nexttick.scores.bootstrap import Estimate, Resampler
from nexttick.ticks.gaps import segment_starts

REASONS = ("horizon", "opposite", "segment")
_DAY_NS = 86_400_000_000_000


class Thresholds(NamedTuple):
    """Probabilities below which to be short and above which to be long."""

    lower: float
    upper: float

    def signals(self, p_N: NDArray[np.floating]) -> NDArray[np.int8]:
        """What predictions say: +1 buy, -1 sell, 0 nothing, as where there is none (NaN)."""
        if not self.lower <= self.upper:
            raise ValueError(f"thresholds {self}: the lower one must not exceed the upper one")
        return (p_N > self.upper).astype(np.int8) - (p_N < self.lower).astype(np.int8)


@dataclass(frozen=True)
class MidPrices:
    """The mid prices behind N events, at which nobody can trade without paying the spread.

    `starts` are where segments start; the spread is what a round trip costs beside fees.
    """

    time_ns: NDArray[np.int64]
    log_mid: NDArray[np.float64]
    starts: NDArray[np.int64]
    spread_bps: float

    @classmethod
    def of(cls, events: pl.DataFrame, max_gap_ns: int, spread_bps: float) -> MidPrices:
        """Those of some events, from `merge_events`."""
        if not 0 <= spread_bps < math.inf:
            raise ValueError(f"a spread of {spread_bps} bps: give a finite one of 0 or more")
        time_ns = events["time"].to_numpy()
        starts = segment_starts(time_ns, max_gap_ns)
        price, side = events["price"].to_numpy(), events["side"].to_numpy()
        return cls(time_ns, log_mids(price, side, starts, spread_bps), starts, spread_bps)

    def part(self, begin: int, end: int) -> MidPrices:
        """Those of the events [begin, end)."""
        inside = self.starts[(self.starts > begin) & (self.starts < end)] - begin
        starts = np.append(0, inside)
        return MidPrices(self.time_ns[begin:end], self.log_mid[begin:end], starts, self.spread_bps)

    @property
    def days(self) -> float:
        """Time inside segments."""
        stops = np.append(self.starts[1:], len(self.time_ns)) - 1
        return float((self.time_ns[stops] - self.time_ns[self.starts]).sum()) / _DAY_NS


@dataclass(frozen=True)
class Trades:
    """K round trips on a market, in time order; the fee is of each execution, two a round trip.

    `signal` is the event whose prediction opened each, `entry` and `exit` those at which it was
    opened and closed; `side` is +1 long, -1 short, `reason` why it was closed (in `REASONS`).
    """

    market: MidPrices
    fee_bps: float
    signal: NDArray[np.int64]
    entry: NDArray[np.int64]
    exit: NDArray[np.int64]
    side: NDArray[np.int8]
    reason: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.entry)

    @cached_property
    def gross_bps(self) -> NDArray[np.float64]:
        """What the mid moved the right way, before all costs."""
        log_mid = self.market.log_mid
        return 1e4 * self.side * (log_mid[self.exit] - log_mid[self.entry])

    @cached_property
    def net_bps(self) -> NDArray[np.float64]:
        """After the spread and both fees."""
        return self.gross_bps - self.market.spread_bps - 2 * self.fee_bps

    def table(self) -> pl.DataFrame:
        """A row a round trip."""
        time_ns = self.market.time_ns
        reasons = np.array(REASONS)[self.reason]
        return pl.DataFrame(
            {
                "signal": self.signal,
                "entry": self.entry,
                "exit": self.exit,
                "entry_ns": time_ns[self.entry],
                "exit_ns": time_ns[self.exit],
                "side": self.side,
                "gross_bps": self.gross_bps,
                "net_bps": self.net_bps,
                "reason": pl.Series(reasons, dtype=pl.String),
            }
        )

    @cached_property
    def break_even_fee_bps(self) -> Estimate:
        """The fee of an execution at which nothing is left after the spread, with its interval.

        Half of the mean result of a round trip before fees; negative where the spread alone costs
        more than was made. Blocks of consecutive round trips are drawn (see `bootstrap`).
        """
        if len(self) == 0:
            return Estimate(math.nan, math.nan, math.nan)
        half_bps = (self.gross_bps - self.market.spread_bps) / 2
        return Resampler.fit([half_bps]).mean(half_bps)

    def summary(self) -> dict[str, float]:
        """Results in all and of a round trip on average; NaN where there is none."""
        held_ns = self.market.time_ns[self.exit] - self.market.time_ns[self.entry]
        days, events = self.market.days, len(self.market.time_ns)
        # The deepest fall of the sum is one below an earlier height, or below 0.
        sums = np.append(0.0, np.cumsum(self.net_bps))
        return {
            "trades": len(self),
            "trades_per_day": len(self) / days if days else math.nan,
            "trades_per_1000_events": 1000 * len(self) / events,
            "long_share": mean(self.side > 0),
            "gross_bps": mean(self.gross_bps),
            "net_bps": mean(self.net_bps),
            "net_bps_in_all": float(self.net_bps.sum()),
            "hit_rate": mean(self.net_bps > 0),
            "max_drawdown_bps": float((np.maximum.accumulate(sums) - sums).max()),
            "held_s": mean(held_ns / 1e9),
            "held_events": mean(self.exit - self.entry),
            "held_share": float(held_ns.sum()) / (days * _DAY_NS) if days else math.nan,
        }


def trade(
    market: MidPrices,
    signal_N: NDArray[np.int8],
    known_at_N: NDArray[np.int64],
    *,
    latency_s: float,
    fee_bps: float,
) -> Trades:
    """Act on signals by the rules at the top of this module.

    Signals come with each of N events, from `Thresholds.signals` by thresholds of the past only,
    e.g. `choose_thresholds` on the validation part. `known_at_N` are indices of the same events:
    `Labels.known_at_NH[:, h]`, less the first event where only a later part is traded. The fee is
    of each execution, negative for a rebate.
    """
    n = len(market.time_ns)
    if not len(signal_N) == len(known_at_N) == n:
        raise ValueError(
            f"{n} events, {len(signal_N)} signals, {len(known_at_N)} known_at: give one of each"
        )
    if not (0 <= latency_s < 1e9 and math.isfinite(fee_bps)):
        raise ValueError(
            f"latency {latency_s} s, fee {fee_bps} bps: give finite ones, latency >= 0"
        )
    saying = np.flatnonzero(signal_N)
    said = signal_N[saying]
    # Pages that are never written cost nothing, so there is room for a round trip a signal.
    signal, entry, exit_ = np.empty((3, len(saying)), np.int64)
    side, reason = np.empty((2, len(saying)), np.int8)
    bounds = np.append(market.starts, n)
    latency_ns = max(round(latency_s * 1e9), 1)  # nobody acts within a time stamp
    known_at_N, k = np.ascontiguousarray(known_at_N), 0
    # Segment by segment: no position is held over a gap.
    for (start, stop), (a, b) in zip(
        pairwise(bounds), pairwise(np.searchsorted(saying, bounds)), strict=True
    ):
        args = (market.time_ns, saying[a:b], said[a:b], known_at_N, start, stop, latency_ns)
        k = _walk(*args, signal, entry, exit_, side, reason, k)
    return Trades(market, fee_bps, signal[:k], entry[:k], exit_[:k], side[:k], reason[:k])


def mean(values: NDArray[Any]) -> float:
    """The mean; NaN of nothing."""
    return float(values.mean()) if len(values) else math.nan


@njit(cache=True, nogil=True)
def _walk(  # type: ignore[no-untyped-def]
    time_ns, saying, said, known_at, start, stop, latency_ns, signal, entry, exit_, side, reason, k
):
    """Trade one segment; round trip k is the first. Returns how many there are then.

    An order that answers event i is executed at or before event e exactly if
    time[e] >= time[i] + latency, so that few executions need to be looked for.
    """
    last = stop - 1
    at = start  # where the newest signal is executed
    # What is held, and the event that the order to close it answers.
    position, until = 0, 0
    for s in range(len(saying)):
        i = saying[s]
        at = _executed(time_ns, i, max(at, i), stop, latency_ns)
        if at == stop:
            break
        # An order of a newer signal that is executed at the same event takes this one's place.
        newer = saying[s + 1] if s + 1 < len(saying) else stop
        if newer < at and time_ns[newer] + latency_ns <= time_ns[at]:
            continue
        # The order to close may have come before this signal's, so it is looked at first.
        if position != 0 and time_ns[until] + latency_ns <= time_ns[at - 1]:
            exit_[k], reason[k] = _executed(time_ns, until, entry[k], stop, latency_ns), 0
            position, k = 0, k + 1
        known = min(known_at[i], last)
        if position == -said[s]:
            exit_[k], reason[k] = at, 1
            position, k = 0, k + 1
        if position != 0:
            until = known
        elif at < last and time_ns[known] + latency_ns > time_ns[at]:
            signal[k], entry[k], side[k] = i, at, said[s]
            position, until = said[s], known
    if position != 0:
        at = _executed(time_ns, until, entry[k], stop, latency_ns)
        exit_[k], reason[k] = min(at, last), 2 if at == stop else 0
        k += 1
    return k


@njit(cache=True, nogil=True)
def _executed(time_ns, answered, at, stop, latency_ns):  # type: ignore[no-untyped-def]
    """Where the order that answers an event is executed, searched from `at` on; `stop` if never."""
    while at < stop and time_ns[at] < time_ns[answered] + latency_ns:
        at += 1
    return at
