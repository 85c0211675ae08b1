"""What came true of each event, as soon as it is known: the labels, one event in at a time.

The outcomes are exactly those of `labels.make_labels`, and each comes out with the event at which
that says it is known. What is held is what waits: h events, those of the last h seconds, or those
since the last move.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from nexttick.live.records import Outcome, Prediction
from nexttick.options import LabelOptions, parse_duration_ns
from nexttick.prepare.labels import MISSING, ROUNDING

NEVER_NS = np.iinfo(np.int64).max  # as labels have it

Settled = tuple[Prediction, int, float]  # who, when it was known, the price at the horizon


class _Horizon(ABC):
    """Events that wait for one horizon."""

    def __init__(self) -> None:
        self.waiting: deque[Prediction] = deque()

    @abstractmethod
    def settle(self, time_ns: int, price: float) -> Iterable[Settled]:
        """Take out those whose answer an event makes known, in order."""


class OutcomeTracker:
    """Outcomes of a stream of events at H horizons; none goes across a pause beyond the longest."""

    def __init__(self, options: LabelOptions, max_gap_ns: int):
        self._horizons: list[_Horizon] = []
        for text in options.horizon:
            duration_ns = parse_duration_ns(text)
            if duration_ns is not None:
                self._horizons.append(_AfterTime(duration_ns))
            elif text == "move":
                self._horizons.append(_AfterMove())
            else:
                after = _AfterSmooth if options.smooth else _AfterEvents
                self._horizons.append(after(int(text)))
        self._skip_ties, self._max_gap_ns = options.ties == "skip", max_gap_ns
        self._last_ns: int | None = None

    @property
    def pending_H(self) -> tuple[int, ...]:
        """How many events wait at each horizon."""
        return tuple(len(horizon.waiting) for horizon in self._horizons)

    def take(self, said: Prediction) -> list[Outcome]:
        """Take an event in, not older than the last one, with what was said of it.

        Gives what is known by it: outcomes of earlier ones, missing where a pause came between.
        """
        time_ns, price = said.time_ns, said.price
        paused = self._last_ns is not None and time_ns - self._last_ns > self._max_gap_ns
        outcomes = self.cut() if paused else []
        for h, horizon in enumerate(self._horizons):
            # Before the event itself begins to wait: it answers those before it, not itself.
            for who, known_ns, later in horizon.settle(time_ns, price):
                tie = later == who.price
                y = MISSING if tie and self._skip_ties else int(later > who.price)
                outcomes.append(Outcome(who.event, h, y, tie, known_ns, who.p_H[h]))
            horizon.waiting.append(said)
        self._last_ns = time_ns
        return outcomes

    def cut(self) -> list[Outcome]:
        """A gap or a reset: whatever waits has no answer."""
        outcomes = [
            Outcome(who.event, h, MISSING, False, NEVER_NS, who.p_H[h])
            for h, horizon in enumerate(self._horizons)
            for who in horizon.waiting
        ]
        for horizon in self._horizons:
            horizon.waiting.clear()
        return outcomes

    def rebuild(self, waiting: Iterable[Prediction], known_H: Sequence[int]) -> list[Outcome]:
        """Take in again, after a restart, the events from the first that waits on.

        Both are as `Resumed` has them. Gives outcomes that are known by these events and that the
        journal lacks: none where each batch was appended with its outcomes.
        """
        outcomes = [one for said in waiting for one in self.take(said)]
        return [one for one in outcomes if one.event >= known_H[one.horizon]]


class _AfterEvents(_Horizon):
    """The price h events ahead."""

    def __init__(self, h: int):
        super().__init__()
        self._h = h

    def settle(self, time_ns: int, price: float) -> Iterable[Settled]:
        return [(self.waiting.popleft(), time_ns, price)] if len(self.waiting) == self._h else []


class _AfterSmooth(_Horizon):
    """The mean of the next h prices, summed as `labels` sums them."""

    def __init__(self, h: int):
        super().__init__()
        self._price_S, self._total_S = np.zeros(h), np.zeros(h)  # slot of an event: its place % h
        self._oldest = 0

    def settle(self, time_ns: int, price: float) -> Iterable[Settled]:
        h, n = len(self._price_S), len(self.waiting)
        # All that wait at once; each adds its differences in the order in which `labels` does, so
        # that the sums agree to the last bit.
        self._total_S += price - self._price_S
        settled = []
        if n == h:
            who, total = self.waiting.popleft(), float(self._total_S[self._oldest])
            rise = total / h if abs(total) > ROUNDING * h * who.price else 0.0
            settled.append((who, time_ns, who.price + rise))
            self._oldest = (self._oldest + 1) % h
        slot = (self._oldest + len(self.waiting)) % h
        self._price_S[slot], self._total_S[slot] = price, 0.0
        return settled


class _AfterTime(_Horizon):
    """The last price up to and including the horizon's end, known with the first event after."""

    def __init__(self, duration_ns: int):
        super().__init__()
        self._duration_ns = duration_ns

    def settle(self, time_ns: int, price: float) -> Iterator[Settled]:
        waiting = self.waiting
        # The price at the end of a horizon is known only when something later has come.
        last_price = waiting[-1].price if waiting else price
        while waiting and waiting[0].time_ns + self._duration_ns < time_ns:
            who = waiting.popleft()
            yield who, who.time_ns + self._duration_ns, last_price


class _AfterMove(_Horizon):
    """The next price that differs; all that wait have the same one."""

    def settle(self, time_ns: int, price: float) -> Iterator[Settled]:
        if self.waiting and self.waiting[0].price != price:
            while self.waiting:
                yield self.waiting.popleft(), time_ns, price
