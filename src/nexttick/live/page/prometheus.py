"""The boards' numbers for Prometheus, in its text format (version 0.0.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from operator import attrgetter

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from nexttick.live.page.board import Board
from nexttick.live.page.rings import EDGES_NS, S_NS

Value = Callable[[Board], float]

_FEED = {
    "trades": "Trades the feed has handed on.",
    "duplicates": "Trades that came again and were not handed on.",
    "reordered": "Trades that came late and were put in their place.",
    "late": "Trades that came too late and were not handed on.",
    "corrections": "Messages that change or cancel an earlier trade.",
    "unknown": "Messages of a kind that is not known.",
    "malformed": "Messages that could not be read.",
    "reconnects": "Connections made anew.",
    "backfilled": "Trades that REST filled in.",
    "gaps": "Gaps declared.",
    "silences": "Silent connections that the watchdog ended.",
}
_COUNTERS: dict[str, tuple[str, Value]] = {
    "ticks": ("Ticks predicted.", attrgetter("ticks")),
    "resets": ("Resets of the predictor.", attrgetter("resets")),
} | {f"feed_{name}": (words, attrgetter(f"feed.{name}")) for name, words in _FEED.items()}
_GAUGES: dict[str, tuple[str, Value]] = {
    "up": ("Whether the feed is connected and not silent.", attrgetter("up")),
    "feed_connected": ("Whether the feed is connected.", attrgetter("feed.connected")),
    "feed_skew_seconds": ("Arrival less exchange time.", lambda board: board.feed.skew_ms / 1e3),
    "last_tick_age_seconds": ("Since the last tick, or the start.", attrgetter("age_s")),
    "warnings": ("Warnings that hold now.", lambda board: len(board.warnings)),
}


def _skill(name: str, board: Board) -> dict[str, float]:
    return {horizon: getattr(skill, name) for horizon, skill in board.skill.items()}


# What a market has for each horizon or feature: the second label, help, values by that label.
_KEYED: dict[str, tuple[str, str, Callable[[Board], Mapping[str, float]]]] = {
    "probability": (
        "horizon",
        "The last probability of a rise.",
        lambda board: dict(zip(board.horizons, board.last_p(), strict=True)),
    ),
    **{
        f"skill_{name}": ("horizon", words, partial(_skill, name))
        for name, words in (
            ("bits", "Bits gained an event over the base rate, running."),
            ("low", "Lower end of the band for the bits."),
            ("high", "Upper end of the band for the bits."),
            ("log_loss", "Log loss, running, nats."),
            ("events", "Events scored."),
            ("auc", "AUC, running."),
        )
    },
    "drift_psi": (
        "feature",
        "Population stability index against training.",
        attrgetter("drift"),
    ),
    "drift_limit": ("feature", "Index beyond any stretch of training.", attrgetter("drift_limits")),
}


@dataclass(frozen=True)
class Families:
    """All that boards know, one family of metrics after the other, labelled with the market.

    It is asked without a registry, so that no metric of the process joins in.
    """

    boards: Mapping[str, Board]

    def collect(self) -> Iterator[Metric]:
        """Families with their samples, as `prometheus_client.generate_latest` asks for them."""
        for kind, table in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
            for name, (words, value) in table.items():
                family = kind(f"nexttick_{name}", words, labels=["market"])
                for market, board in self.boards.items():
                    family.add_metric([market], value(board))
                yield family
        for name, (label, words, values) in _KEYED.items():
            family = GaugeMetricFamily(f"nexttick_{name}", words, labels=["market", label])
            for market, board in self.boards.items():
                for key, number in values(board).items():
                    family.add_metric([market, key], number)
            yield family
        latency = HistogramMetricFamily(
            "nexttick_latency_seconds",
            "From a tick's arrival to its prediction.",
            labels=["market"],
        )
        edges = [*(f"{edge / S_NS:.12g}" for edge in EDGES_NS), "+Inf"]
        for market, board in self.boards.items():
            buckets = list(zip(edges, accumulate(board.latency.counts), strict=True))
            latency.add_metric([market], buckets, board.latency.sum_ns / S_NS)
        yield latency
