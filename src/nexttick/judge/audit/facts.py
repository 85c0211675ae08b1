"""What of the ticks makes scores look better or worse than they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from nexttick.prepare.dataset import Prepared


@dataclass(frozen=True)
class AuditFinding:
    """The outcome of one check, in plain words and with what was measured.

    `passed` is None where it says something that is neither good nor bad, or could not be made.
    """

    name: str
    passed: bool | None
    sentence: str
    numbers: Mapping[str, float]


def facts(
    prepared: Prepared, ticks: pl.DataFrame, set_aside: pl.DataFrame | None
) -> list[AuditFinding]:
    """Ties, ticks a time stamp, gaps, and rows set aside where that table is given."""
    labels, price = prepared.labels, prepared.events["price"].to_numpy()
    ties = {"next": float((price[1:] == price[:-1]).mean()) if len(price) > 1 else 0.0}
    stamps, events = ticks["time"].n_unique(), len(prepared.events)
    gaps, longest_s = len(prepared.starts) - 1, prepared.spec.max_gap_ns / 1e9
    found: list[tuple[str, str, dict[str, float]]] = [
        (
            "ties",
            f"{ties['next']:.1%} of the events have the price of the one before.",
            ties | dict(zip(labels.names, labels.tie_NH.mean(axis=0).tolist(), strict=True)),
        ),
        (
            "ticks a time stamp",
            f"{len(ticks) / stamps:.2f} ticks share a time stamp on average; "
            f"{len(ticks):,} ticks are {events:,} events.",
            {"ticks": len(ticks), "stamps": stamps, "events": events},
        ),
        (
            "gaps",
            f"{gaps} pauses of more than {longest_s:g} s cut the events; nothing crosses them.",
            {"gaps": gaps, "max_gap_s": longest_s},
        ),
    ]
    if set_aside is not None:
        away = set_aside.filter(~pl.col("kept"))
        rows, reasons = int(away["rows"].sum()), away["reason"].n_unique()
        sentence = f"{rows:,} rows were set aside, for {reasons} reasons."
        found.append(("rows set aside", sentence, {"rows": rows, "reasons": reasons}))
    return [AuditFinding(name, None, sentence, numbers) for name, sentence, numbers in found]
