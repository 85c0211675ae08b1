"""What a page shows of one market: written tick by tick, read by any number of pages.

Writing costs about a microsecond and never waits. Reading gives what is new since a cursor, a few
hundred points at most, so that neither the rate of ticks nor a slow page can pile anything up.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from nexttick.live.page.rings import EDGES_NS, S_NS, LatencyHistogram, Ring, quantile_ns
from nexttick.venues.messages import Health

POINTS_AN_UPDATE = 500  # of each series, at most
EVENTS_KEPT = 50

_FINE_SLOT_NS, _FINE_POINTS = S_NS // 10, 3_000  # five minutes, or more where ticks are rare
_COARSE_SLOT_NS, _COARSE_POINTS = 10 * S_NS, 2_160  # six hours
_SKILL_SLOT_NS, _SKILL_POINTS = 5 * S_NS, 4_320  # six hours


class Skill(NamedTuple):
    """How good the predictions of one horizon have been so far."""

    bits: float  # gained an event over the base rate, running
    low: float  # lower end of the band in which the test lets one expect them
    high: float
    log_loss: float  # running, nats
    events: int  # scored
    auc: float = float("nan")  # running; NaN where it is not known


class Cursor(NamedTuple):
    """How far a page has read: numbers of the first points and events that it lacks."""

    fine: int
    coarse: int
    skill_H: tuple[int, ...]
    events: int


class Board:
    """All that is known of one market while it is followed.

    It belongs to one thread: the loop's that writes and serves it. At the base rates, H shares of
    rises in training, the colours of probabilities change: a half each where they are not known.
    Without a tick for longer than `stale_after_s` the market counts as silent. The clock gives ns
    that never go back.
    """

    def __init__(
        self,
        name: str,
        horizons: Sequence[str],
        base_rates: Sequence[float] | None = None,
        stale_after_s: float = 60.0,
        clock: Callable[[], int] = time.monotonic_ns,
    ):
        self.base_rates = [0.5] * len(horizons) if base_rates is None else list(base_rates)
        if not horizons or len(self.base_rates) != len(horizons):
            raise ValueError(
                f"board {name}: {len(horizons)} horizons and {len(self.base_rates)} base rates; "
                "give at least one horizon, and one base rate for each or none at all"
            )
        self.name, self.horizons = name, tuple(horizons)
        self.stale_after_s = stale_after_s
        self.latency = LatencyHistogram()
        self.resets = 0
        self.skill: dict[str, Skill] = {}  # by horizon
        self.drift: dict[str, float] = {}  # population stability index by feature
        self.drift_limits: dict[str, float] = {}  # beyond which it has left training
        self.warnings: list[str] = []  # that hold now
        self.feed = Health()
        self._clock = clock
        self._fine = Ring(_FINE_POINTS, _FINE_SLOT_NS, len(horizons))
        self._coarse = Ring(_COARSE_POINTS, _COARSE_SLOT_NS, len(horizons))
        self._skill_rings = [Ring(_SKILL_POINTS, _SKILL_SLOT_NS) for _ in horizons]
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._beginning = Cursor(0, 0, (0,) * len(horizons), -1)
        self._happened = self._revision = 0
        self._last_ns = clock()
        self._second_ends_ns = self._last_ns + S_NS

    def predicted(
        self,
        time_ns: int,
        price: float,
        p_H: Sequence[float] | NDArray[np.floating],
        latency_ns: int,
    ) -> None:
        """A tick came at an exchange's time (ns since 1970), and this was said of it.

        `p_H` is NaN where nothing was; the latency is from the tick's arrival to the prediction.
        """
        now_ns = self._last_ns = self._clock()
        if now_ns >= self._second_ends_ns:
            self._turn(now_ns)
        self.latency.add(latency_ns)
        if self._fine.put(now_ns, time_ns, price, price, price, p_H):
            self._coarsen(now_ns)

    def scored(self, skill: Mapping[str, Skill]) -> None:
        """Running scores by horizon; once a second is often enough."""
        now_ns, time_N = self._clock(), self._fine.last().time_N
        self.skill |= skill
        for horizon, ring in zip(self.horizons, self._skill_rings, strict=True):
            if horizon in skill and len(time_N):
                bits, low, high, *_ = skill[horizon]
                ring.put(now_ns, int(time_N[0]), bits, low, high, ())
        self._revision += 1

    def drifted(self, drift: Mapping[str, float], limits: Mapping[str, float]) -> None:
        """Population stability index of each feature against training, and its limit."""
        self.drift, self.drift_limits = dict(drift), dict(limits)
        self._revision += 1

    def gap(self, since_ns: int, until_ns: int, reason: str) -> None:
        """Trades between two times are missing and could not be had."""
        self._fine.break_off()
        self._happen("gap", since_ns, until_ns, reason)

    def reset(self, time_ns: int, reason: str) -> None:
        """The predictor forgot all and begins anew."""
        self.resets += 1
        self._happen("reset", time_ns, time_ns, reason)

    def health(self, health: Health) -> None:
        """The feed's own counts; kept as they are, and read whenever a page asks."""
        self.feed = health
        self._revision += 1

    def warn(self, warnings: Sequence[str]) -> None:
        """The sentences that hold now, in place of those before."""
        self.warnings = list(warnings)
        self._revision += 1

    @property
    def ticks(self) -> int:
        """Ticks since the beginning."""
        return self.latency.total

    @property
    def changes(self) -> int:
        """Grows with everything that is written."""
        return self.latency.total + self._revision

    @property
    def age_s(self) -> float:
        """Seconds since the last tick, or since the beginning where there was none."""
        return (self._clock() - self._last_ns) / S_NS

    @property
    def up(self) -> bool:
        """Whether the feed is connected and not silent."""
        return self.feed.connected and self.age_s <= self.stale_after_s

    def last_p(self) -> list[float]:
        """The last probabilities by horizon; NaN where there is none."""
        p_1H = self._fine.last().rest_NR
        return [float(p) for p in p_1H[0]] if len(p_1H) else [float("nan")] * len(self.horizons)

    def since(self, cursor: Cursor | None) -> tuple[bytes, Cursor]:
        """What is new as JSON, and where to read on.

        The last point of a series is still open and comes again with the next update. A page that
        has been away for longer than a ring lasts is given all of it.
        """
        held = cursor is not None and (
            self._fine.holds(cursor.fine) and self._coarse.holds(cursor.coarse)
        )
        at = cursor if cursor is not None and held else self._beginning
        message = {
            "whole": not held,
            "market": self.name,
            "horizons": self.horizons,
            "base_rates": self.base_rates,
            "fine": self._fine.since(at.fine, POINTS_AN_UPDATE).drawn(),
            "coarse": self._coarse.since(at.coarse, POINTS_AN_UPDATE).drawn(),
            "skill": [
                ring.since(number, POINTS_AN_UPDATE).drawn()
                for ring, number in zip(self._skill_rings, at.skill_H, strict=True)
            ],
            "state": self._state(),
        }
        if at.events != self._happened:
            message["events"] = list(self._events)
        skill_H = tuple(ring.open_number for ring in self._skill_rings)
        end = Cursor(self._fine.open_number, self._coarse.open_number, skill_H, self._happened)
        return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY), end

    def _state(self) -> dict[str, Any]:
        now_ns = self._clock()
        if now_ns >= self._second_ends_ns:
            self._turn(now_ns)
        last = self._fine.last()
        counts = self.latency.last_minute()
        return {
            "time": last.time_N[-1] / S_NS if len(last.time_N) else None,
            "price": last.value_N[-1] if len(last.time_N) else None,
            "p": self.last_p(),
            "ticks": self.ticks,
            "rate": self.latency.per_second(),
            "rates": self.latency.each_second(),
            "age_s": self.age_s,
            "stale_after_s": self.stale_after_s,
            "resets": self.resets,
            "feed": dataclasses.asdict(self.feed),
            "latency": {
                "edges_us": [edge / 1e3 for edge in EDGES_NS],
                "counts": counts,
                "p50_us": quantile_ns(counts, 0.5) / 1e3,
                "p99_us": quantile_ns(counts, 0.99) / 1e3,
            },
            "skill": {horizon: skill._asdict() for horizon, skill in self.skill.items()},
            "drift": self.drift,
            "drift_limits": self.drift_limits,
            "warnings": self.warnings,
        }

    def _turn(self, now_ns: int) -> None:
        seconds = (now_ns - self._second_ends_ns) // S_NS + 1
        self.latency.turn(seconds)
        self._second_ends_ns += seconds * S_NS

    def _coarsen(self, now_ns: int) -> None:
        """Merge the last closed fine point into the coarse series: never more than ten a second."""
        fine = self._fine.since(self._fine.opened - 2, 2)
        if len(fine.time_N) == 2:
            time_ns, value, low, high, rest_R, broken = (column[0] for column in fine)
            if broken:
                self._coarse.break_off()
            self._coarse.put(now_ns, int(time_ns), value, low, high, rest_R)

    def _happen(self, kind: str, since_ns: int, until_ns: int, reason: str) -> None:
        times = {"since": since_ns / S_NS, "until": until_ns / S_NS}
        self._events.append({"kind": kind, **times, "reason": reason})
        self._happened += 1
        self._revision += 1
