"""The way to one exchange: a ccxt object, tried again where an error passes, its bytes counted.

ccxt keeps the rate limit, knows symbols and turns a venue's errors into classes. Which of them
pass is decided here: its `OperationFailed` family does (timeouts, cut connections, 429, 5xx),
less the refusals that it counts among them (400, 403, 404, 451, ...).
"""

from __future__ import annotations

import difflib
import logging
import os
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from nexttick.sources.retrying import ATTEMPTS, MAX_WAIT_S, TransientError, retrying
from nexttick.sources.source import SourceError
from nexttick.ticks import TickError

TIMEOUT_S = 30.0
_PASSING_REFUSALS = (408, 418, 425, 429)  # other 4xx answers will be the same next time
_SHOWN = 300  # letters of a venue's message

T = TypeVar("T")


class Connection:
    """One ccxt object and what came through it.

    Args:
        exchange: a synchronous ccxt object; its rate limit and time-out are kept as they are.

    Attributes:
        exchange: the same.
    """

    def __init__(self, exchange: Any):
        self.exchange = exchange
        # ccxt would write request headers, a key among them, to its own logger.
        exchange.logger = logging.Logger("silent", logging.CRITICAL + 1)
        exchange.has["fetchCurrencies"] = False  # of no use here, and private on some venues
        self._responses: list[Any] = []
        exchange.session.hooks["response"].append(self._heard)

    def market(self, symbol: str) -> dict[str, Any]:
        """What ccxt knows of a market.

        Raises:
            SourceError: the venue does not know the symbol, or cannot be reached.
        """
        known = self.ask("its markets", self.exchange.load_markets, dict)
        if symbol in known:
            return known[symbol]
        near = _nearest(symbol, known)
        raise SourceError(
            f"{self.exchange.id} does not know the symbol {symbol}; "
            + (f"did you mean {', '.join(near)}?" if near else f"it has {len(known)} others")
        )

    def ask(self, what: str, call: Callable[[], T], shape: type = list) -> T:
        """Call ccxt, again and again while errors pass.

        Args:
            what: is asked for, for messages.
            call: makes one or more requests through `exchange`.
            shape: what the answer must be: a list or a dict.

        Raises:
            SourceError: the venue refuses, or errors do not pass.
            TickError: the answer is of another shape.
        """
        try:
            return retrying(lambda: self._once(what, call, shape))
        except TransientError as error:
            told = f"{error}; tried {ATTEMPTS} times: see whether the venue is up, then fetch again"
        # Not within the except block, so that nothing unscrubbed hangs on it.
        raise SourceError(told)

    @staticmethod
    def now_ns() -> int:
        """The time here, ns since 1970, UTC."""
        return time.time_ns()

    def received(self) -> int:
        """Bytes that came over the network, as they were compressed, since this was last asked."""
        total = sum(response.raw.tell() for response in self._responses)
        self._responses.clear()
        return total

    def _heard(self, response: Any, *args: object, **kwargs: object) -> None:
        self._responses.append(response)

    def _once(self, what: str, call: Callable[[], T], shape: type) -> T:
        import ccxt

        before = len(self._responses)
        try:
            answer = call()
        except ccxt.BaseError as error:
            problem = self._problem(what, error, self._responses[before:])
        else:
            if isinstance(answer, shape):
                return answer
            problem = self._strange(what, answer, shape)
        raise problem

    def _problem(self, what: str, error: Exception, responses: list[Any]) -> Exception:
        import ccxt

        told = f"{self._where(what)} failed: {type(error).__name__}: {self._scrubbed(str(error))}"
        status = responses[-1].status_code if responses else None
        refused = status is not None and 400 <= status < 500 and status not in _PASSING_REFUSALS
        if refused or not isinstance(error, ccxt.OperationFailed):
            return SourceError(f"{told}; trying again will not help: {_cure(status, error)}")
        told_s = responses[-1].headers.get("Retry-After", "") if responses else ""
        wait_s = _retry_after_s(told_s, self.now_ns())
        if wait_s is not None and wait_s > MAX_WAIT_S:
            return SourceError(f"{told}; it asks to wait for {wait_s:.0f} s: fetch again then")
        return TransientError(told, wait_s)

    def _strange(self, what: str, answer: object, shape: type) -> Exception:
        shown = self._scrubbed(str(answer))
        if isinstance(answer, str):  # no JSON: a page of a proxy on the way
            return TransientError(f"{self._where(what)} failed: no JSON came but {shown!r}")
        return TickError(
            f"{self._where(what)}: a JSON {shape.__name__} was expected, {shown!r} came; the "
            "venue's form has changed, see whether a newer nexttick or ccxt knows it"
        )

    def _where(self, what: str) -> str:
        return f"{self.exchange.id}: asking for {what}"

    def _scrubbed(self, text: str) -> str:
        for secret in (self.exchange.apiKey, self.exchange.secret, self.exchange.password):
            text = text.replace(secret, "***") if secret else text
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def ccxt_exchange(venue: str, options: dict[str, Any] | None = None) -> Any:
    """A ccxt object with a time-out, and with key and secret from the environment where there are.

    Args:
        venue: ccxt's name of it; `NEXTTICK_<VENUE>_KEY` and `_SECRET` are the variables.
        options: ccxt's own, for this venue.

    Raises:
        ValueError: ccxt has no such venue.
    """
    import ccxt

    if venue not in ccxt.exchanges:
        near = difflib.get_close_matches(venue.lower(), ccxt.exchanges, n=3, cutoff=0.6)
        cure = f"did you mean {', '.join(near)}?" if near else "see ccxt.exchanges for all names"
        raise ValueError(f"ccxt knows no venue {venue!r}; {cure}")
    config = {"timeout": int(TIMEOUT_S * 1000), "enableRateLimit": True, "options": options or {}}
    for name, variable in (("apiKey", "KEY"), ("secret", "SECRET")):
        value = os.environ.get(f"NEXTTICK_{venue.upper()}_{variable}")
        if value:
            config[name] = value
    return getattr(ccxt, venue)(config)


def _nearest(symbol: str, known: dict[str, Any]) -> list[str]:
    by_letters = {_letters(name): name for name in known}
    same = by_letters.get(_letters(symbol))
    near = difflib.get_close_matches(symbol.upper(), known, n=3, cutoff=0.6)
    return [same] if same else near


def _letters(symbol: str) -> str:
    return "".join(filter(str.isalnum, symbol)).upper()


def _retry_after_s(told: str, now_ns: int) -> float | None:
    """Retry-After, which is a number of seconds or a date (RFC 9110)."""
    if told.isdecimal():
        return float(told)
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - now_ns / 1e9)
    except ValueError:
        return None


def _cure(status: int | None, error: Exception) -> str:
    import ccxt

    if isinstance(error, ccxt.AuthenticationError):
        return "give a valid key in NEXTTICK_<VENUE>_KEY and NEXTTICK_<VENUE>_SECRET, or none"
    if status in (403, 451) or isinstance(error, ccxt.RestrictedLocation):
        return "the venue serves no one from this place; take its archive or another venue"
    return "see whether venue, symbol and span are right"
