"""The boards' numbers in Prometheus' text format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import attrgetter

from nexttick.live.page.board import Board
from nexttick.live.page.rings import EDGES_NS, S_NS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]
Sample = tuple[Labels, float]
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


def exposition(boards: Mapping[str, Board]) -> str:
    """All boards, one family of metrics after the other, each sample labelled with its market."""
    return "\n".join(
        [*_counters(boards), *_gauges(boards), *_scores(boards), *_latency(boards), ""]
    )


def _counters(boards: Mapping[str, Board]) -> Iterable[str]:
    yield from _family(
        "ticks_total", "counter", "Ticks predicted.", _each(boards, lambda b: b.ticks)
    )
    yield from _family(
        "resets_total", "counter", "Resets of the predictor.", _each(boards, lambda b: b.resets)
    )
    for name, told in _FEED.items():
        samples = _each(boards, attrgetter(f"feed.{name}"))
        yield from _family(f"feed_{name}_total", "counter", told, samples)


def _gauges(boards: Mapping[str, Board]) -> Iterable[str]:
    gauges: tuple[tuple[str, str, Value], ...] = (
        ("up", "Whether the feed is connected and not silent.", lambda b: b.up),
        ("feed_connected", "Whether the feed is connected.", lambda b: b.feed.connected),
        ("feed_skew_seconds", "Arrival less exchange time.", lambda b: b.feed.skew_ms / 1e3),
        ("last_tick_age_seconds", "Since the last tick, or the start.", lambda b: b.age_s),
        ("warnings", "Warnings that hold now.", lambda b: len(b.warnings)),
    )
    for name, told, value in gauges:
        yield from _family(name, "gauge", told, _each(boards, value))


def _scores(boards: Mapping[str, Board]) -> Iterable[str]:
    said = [
        ({"market": market, "horizon": horizon}, p)
        for market, board in boards.items()
        for horizon, p in zip(board.horizons, board.last_p(), strict=True)
    ]
    yield from _family("probability", "gauge", "The last probability of a rise.", said)
    for name, told in (
        ("bits", "Bits gained an event over the base rate, running."),
        ("low", "Lower end of the band for the bits."),
        ("high", "Upper end of the band for the bits."),
        ("log_loss", "Log loss, running, nats."),
        ("events", "Events scored."),
        ("auc", "AUC, running."),
    ):
        samples = [
            ({"market": market, "horizon": horizon}, getattr(skill, name))
            for market, board in boards.items()
            for horizon, skill in board.skill.items()
        ]
        yield from _family(f"skill_{name}", "gauge", told, samples)
    yield from _by_feature(boards)


def _by_feature(boards: Mapping[str, Board]) -> Iterator[str]:
    drift = [
        ({"market": market, "feature": feature}, psi)
        for market, board in boards.items()
        for feature, psi in board.drift.items()
    ]
    limits = [
        ({"market": market, "feature": feature}, limit)
        for market, board in boards.items()
        for feature, limit in board.drift_limits.items()
    ]
    yield from _family("drift_psi", "gauge", "Population stability index against training.", drift)
    yield from _family("drift_limit", "gauge", "Index beyond any stretch of training.", limits)


def _latency(boards: Mapping[str, Board]) -> Iterable[str]:
    name = "nexttick_latency_seconds"
    yield f"# HELP {name} From a tick's arrival to its prediction."
    yield f"# TYPE {name} histogram"
    for market, board in boards.items():
        edges = [*(_number(edge / S_NS) for edge in EDGES_NS), "+Inf"]
        cumulated = list(accumulate(board.latency.counts))
        for edge, count in zip(edges, cumulated, strict=True):
            yield f"{name}_bucket{_labels({'market': market, 'le': edge})} {count}"
        yield f"{name}_sum{_labels({'market': market})} {_number(board.latency.sum_ns / S_NS)}"
        yield f"{name}_count{_labels({'market': market})} {cumulated[-1]}"


def _each(boards: Mapping[str, Board], value: Value) -> list[Sample]:
    return [({"market": market}, value(board)) for market, board in boards.items()]


def _family(name: str, kind: str, told: str, samples: Sequence[Sample]) -> Iterable[str]:
    yield f"# HELP nexttick_{name} {told}"
    yield f"# TYPE nexttick_{name} {kind}"
    for labels, value in samples:
        yield f"nexttick_{name}{_labels(labels)} {_number(value)}"


def _labels(labels: Labels) -> str:
    told = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{told}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
