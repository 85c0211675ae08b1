"""How long a feed waits for what, and how a wait grows."""

from __future__ import annotations

import random
import time
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

from nexttick.sources.retrying import TransientError


@dataclass(frozen=True)
class Waits:
    """How long a feed waits, all in seconds.

    Attributes:
        silence_s: without any message until the connection is made anew.
        delay_s: for a trade that may only be late.
        patience_s: for REST to give more of what is missing, before a gap is declared.
        retry_s: between two questions to REST.
        first_s: before the second attempt to connect; doubles with each further one.
        longest_s: between two attempts to connect, at most.
        steady_s: a connection that lived so long begins again with `first_s`.
        open_s: for a connection to open, and for an answer of REST.
        ping_s: between two pings, and for the answer to each.
    """

    silence_s: float = 60.0
    delay_s: float = 0.5
    patience_s: float = 20.0
    retry_s: float = 0.5
    first_s: float = 0.5
    longest_s: float = 30.0
    steady_s: float = 60.0
    open_s: float = 10.0
    ping_s: float = 20.0

    def __post_init__(self) -> None:
        wrong = [f"{name}={value!r}" for name, value in vars(self).items() if not value > 0]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: give seconds above 0")


class BackOff:
    """Waits that double from `first_s` to `longest_s`, each drawn from its upper half.

    The draw keeps many clients of a venue that comes back from returning in step.

    Args:
        waits: the bounds, and after how long a life they begin anew.
        draws: where the draws come from.
    """

    def __init__(self, waits: Waits, draws: random.Random | None = None):
        self._waits, self._draws = waits, draws or random.Random()
        self._bound_s = waits.first_s

    def next_s(self, lived_s: float) -> float:
        """Return how long to wait now that a connection has ended that lived so long."""
        if lived_s >= self._waits.steady_s:
            self._bound_s = self._waits.first_s
        bound_s = min(self._bound_s, self._waits.longest_s)
        self._bound_s = 2.0 * bound_s
        return bound_s * self._draws.uniform(0.5, 1.0)


class Respite:
    """When a venue may be asked again; all of one name share it, as they share the venue's limit.

    Args:
        name: of the venue, or its address.
    """

    _until_s: ClassVar[dict[str, float]] = {}  # on the monotonic clock

    def __init__(self, name: str):
        self._name = name

    def extend(self, for_s: float) -> None:
        """Ask nothing for so long; a respite that lasts longer stays."""
        until_s = time.monotonic() + for_s
        self._until_s[self._name] = max(self._until_s.get(self._name, 0.0), until_s)

    def check(self) -> None:
        """Go on where the venue may be asked.

        Raises:
            TransientError: it may not, and for how long.
        """
        wait_s = self._until_s.get(self._name, 0.0) - time.monotonic()
        if wait_s > 0:
            raise TransientError(f"{self._name}: it asks to wait for {wait_s:.0f} s more", wait_s)


class RunningMedian:
    """The median of the last values.

    Args:
        length: how many.
    """

    def __init__(self, length: int = 301):
        self._values: deque[float] = deque()
        self._sorted: list[float] = []
        self._length = length

    def add(self, value: float) -> float:
        """Take a value in and return the median."""
        if len(self._values) == self._length:
            del self._sorted[bisect_left(self._sorted, self._values.popleft())]
        self._values.append(value)
        insort(self._sorted, value)
        middle = len(self._sorted) // 2
        if len(self._sorted) % 2:
            return self._sorted[middle]
        return 0.5 * (self._sorted[middle - 1] + self._sorted[middle])
