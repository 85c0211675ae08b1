"""Trying again what may pass: a cut connection, a full queue, a venue that asks to wait."""

from __future__ import annotations

import random
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, TypeVar

import tenacity

from nexttick.ticks.source import TransientError

ATTEMPTS = 8
MAX_WAIT_S = 60.0
FIRST_WAIT_S = 0.5

T = TypeVar("T")


def persistence(
    attempts: int, first_s: float | None = None, longest_s: float = MAX_WAIT_S
) -> dict[str, Any]:
    """Arguments of tenacity: to try again what may pass, waiting longer each time, at random.

    The first wait is at most `first_s` long, and the bound doubles with each further one. A venue's
    own Retry-After is kept to instead. No wait is longer than `longest_s`.
    """
    backing_off = tenacity.wait_random_exponential(first_s or FIRST_WAIT_S, longest_s)

    def wait_s(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after_s if isinstance(error, TransientError) else None
        return backing_off(state) if asked_s is None else min(asked_s, longest_s)

    return {
        "stop": tenacity.stop_after_attempt(attempts),
        "wait": wait_s,
        "retry": tenacity.retry_if_exception_type(TransientError),
        "reraise": True,
    }


def retrying(call: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """Call until no `TransientError` comes, or raise the last one; see `persistence`."""
    return tenacity.Retrying(**persistence(attempts))(call)


def may_pass(status: int) -> bool:
    """Whether an answer of that HTTP status may be another one the next time."""
    return status in (408, 418, 425, 429) or status >= 500


def retry_after_s(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After, a number or a date (RFC 9110); None where it is neither."""
    text = (header or "").strip()
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return float(text)
    try:
        when = parsedate_to_datetime(text)
        zoned = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, zoned.timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def system_words(error: BaseException) -> str:
    """The system's own words on a failure, or `certificate`; never the address."""
    inner: BaseException | None = error
    while inner is not None:
        if "CERTIFICATE_VERIFY_FAILED" in str(inner):
            return "certificate"
        if isinstance(inner, OSError) and inner.strerror and inner.errno:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return ""


@dataclass(frozen=True)
class Waits:
    """How long a feed waits, all in seconds."""

    silence_s: float = 60.0  # without any message until the connection is made anew
    delay_s: float = 0.5  # for a trade that may only be late
    patience_s: float = 20.0  # for REST to give more of what is missing, before a gap is declared
    retry_s: float = 0.5  # between two questions to REST
    first_s: float = 0.5  # before the second attempt to connect; doubles with each further one
    longest_s: float = 30.0  # between two attempts to connect, at most
    steady_s: float = 60.0  # a connection that lived so long begins again with `first_s`
    open_s: float = 10.0  # for a connection to open, and for an answer of REST
    ping_s: float = 20.0  # between two pings, and for the answer to each

    def __post_init__(self) -> None:
        wrong = [f"{name}={value!r}" for name, value in vars(self).items() if not value > 0]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: give seconds above 0")


class BackOff:
    """Waits that double from `first_s` to `longest_s`, each drawn from its upper half.

    The draw keeps many clients of a venue that comes back from returning in step.
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
    """When a venue may be asked again; all of one name share it, as they share its limit."""

    # Of the class: a ban counts for an address, whichever market asked. On the monotonic clock.
    _until_s: ClassVar[dict[str, float]] = {}

    def __init__(self, name: str):
        self._name = name

    def extend(self, for_s: float) -> None:
        """Ask nothing for so long; a respite that lasts longer stays."""
        until_s = time.monotonic() + for_s
        self._until_s[self._name] = max(self._until_s.get(self._name, 0.0), until_s)

    def check(self) -> None:
        """Raise a `TransientError` where the venue may not be asked: for how long."""
        wait_s = self._until_s.get(self._name, 0.0) - time.monotonic()
        if wait_s > 0:
            raise TransientError(f"{self._name}: it asks to wait for {wait_s:.0f} s more", wait_s)


class RunningMedian:
    """The median of the last values, so many as its length."""

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
        count = len(self._sorted)
        return 0.5 * (self._sorted[(count - 1) // 2] + self._sorted[count // 2])
