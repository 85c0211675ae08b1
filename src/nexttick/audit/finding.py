"""What a check of the audit says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
