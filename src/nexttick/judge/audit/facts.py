"""What of the ticks makes scores look better or worse than they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from nexttick.prepare.dataset import Prepared


def facts(prepared: Prepared, ticks: pl.DataFrame, set_aside: pl.DataFrame | None) -> list[Finding]:
    """Ties, ticks a time stamp, gaps, and rows set aside where that table is given."""
    told = [_ties(prepared), _ticks_a_stamp(prepared, ticks), _gaps(prepared)]
    return told if set_aside is None else [*told, _set_aside(set_aside)]


def _ties(prepared: Prepared) -> Finding:
    labels, price = prepared.labels, prepared.events["price"].to_numpy()
    share = float((price[1:] == price[:-1]).mean()) if len(price) > 1 else 0.0
    at = dict(zip(labels.names, labels.tie_NH.mean(axis=0).tolist(), strict=True))
    return Finding(
        "ties",
        None,
        f"{share:.1%} of the events have the price of the one before.",
        {"next": share, **at},
    )


def _ticks_a_stamp(prepared: Prepared, ticks: pl.DataFrame) -> Finding:
    stamps, events = ticks["time"].n_unique(), len(prepared.events)
    numbers = {"ticks": len(ticks), "stamps": stamps, "events": events}
    sentence = (
        f"{len(ticks) / stamps:.2f} ticks share a time stamp on average; "
        f"{len(ticks):,} ticks are {events:,} events."
    )
    return Finding("ticks a time stamp", None, sentence, numbers)


def _gaps(prepared: Prepared) -> Finding:
    gaps, longest_s = len(prepared.starts) - 1, prepared.spec.max_gap_ns / 1e9
    sentence = f"{gaps} pauses of more than {longest_s:g} s cut the events; nothing crosses them."
    return Finding("gaps", None, sentence, {"gaps": gaps, "max_gap_s": longest_s})


def _set_aside(set_aside: pl.DataFrame) -> Finding:
    away = set_aside.filter(~pl.col("kept"))
    rows, reasons = int(away["rows"].sum()), away["reason"].n_unique()
    sentence = f"{rows:,} rows were set aside, for {reasons} reasons."
    return Finding("rows set aside", None, sentence, {"rows": rows, "reasons": reasons})


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        name: of the check.
        passed: whether it passed; None where it tells something, or could not be made.
        sentence: what was found, in plain words.
        numbers: what was measured.
    """

    name: str
    passed: bool | None
    sentence: str
    numbers: Mapping[str, float]
