"""Trying again what may pass: a cut connection, a full queue, a venue that asks to wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TypeVar

import tenacity

ATTEMPTS = 8
MAX_WAIT_S = 60.0
_FIRST_WAIT_S = 0.5

T = TypeVar("T")


class TransientError(RuntimeError):
    """What may pass.

    Args:
        message: what happened, where.
        retry_after_s: how long the venue asks to wait, where it says so.
    """

    def __init__(self, message: str, retry_after_s: float | None = None):
        super().__init__(message)
        self.retry_after_s = retry_after_s


def retrying(call: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """Call until no `TransientError` comes, waiting longer each time, at random, within a minute.

    A venue's own Retry-After is kept to, whatever it says up to `MAX_WAIT_S`.

    Raises:
        TransientError: the last one, after so many attempts.
    """
    for attempt in tenacity.Retrying(
        stop=tenacity.stop_after_attempt(attempts),
        wait=_wait_s,
        retry=tenacity.retry_if_exception_type(TransientError),
        reraise=True,
    ):
        with attempt:
            return call()
    raise AssertionError("tenacity returns or raises")


def retry_after_s(told: str | None) -> float | None:
    """Seconds to wait by a Retry-After, a number or a date (RFC 9110); None where it is neither."""
    text = (told or "").strip()
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


_backing_off = tenacity.wait_random_exponential(multiplier=_FIRST_WAIT_S, max=MAX_WAIT_S)


def _wait_s(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told_s = error.retry_after_s if isinstance(error, TransientError) else None
    return _backing_off(state) if told_s is None else min(told_s, MAX_WAIT_S)
