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
from typing import Any, TypeVar

from nexttick.ticks.record import TickError
from nexttick.ticks.source import SourceError, TransientError
from nexttick.venues.retrying import (
    ATTEMPTS,
    MAX_WAIT_S,
    may_pass,
    retry_after_s,
    retrying,
    system_words,
)

TIMEOUT_S = 30.0
_SHOWN = 300  # letters of a venue's message

T = TypeVar("T")


class Connection:
    """One synchronous ccxt object, from now on of this connection alone, and what came through it.

    Each of its requests is tried again by itself, also where one call of ccxt makes many. Its rate
    limit and time-out are kept as they are.
    """

    def __init__(self, exchange: Any):
        self.exchange = exchange
        # ccxt would write request headers, a key among them, to its own logger.
        exchange.logger = logging.Logger("silent", logging.CRITICAL + 1)
        # Of no use here, and private on some venues.
        exchange.has["fetchCurrencies"] = False
        # requests would take ccxt's headers along to wherever it is sent.
        if exchange.apiKey:
            exchange.session.max_redirects = 0
        self._responses: list[Any] = []
        self._what = ""
        exchange.session.hooks["response"] = [lambda heard, **_: self._responses.append(heard)]
        exchange.fetch2 = self._retried

    def market(self, symbol: str) -> dict[str, Any]:
        """What ccxt knows of a market; a SourceError where the venue doesn't know the symbol."""
        known = self.ask("its markets", self.exchange.load_markets, dict)
        if symbol in known:
            return known[symbol]
        names = {"".join(filter(str.isalnum, name)).upper(): name for name in known}
        same = names.get("".join(filter(str.isalnum, symbol)).upper())
        near = [same] if same else difflib.get_close_matches(symbol.upper(), known, n=3)
        raise SourceError(
            f"{self.exchange.id} does not know the symbol {symbol}; "
            + (f"did you mean {', '.join(near)}?" if near else f"it has {len(known)} others")
        )

    def ask(self, what: str, call: Callable[[], Any], shape: type[T]) -> T:
        """Call ccxt, each of whose requests is made again and again while errors pass.

        `what` is asked for stands in messages. A SourceError where the venue refuses or errors do
        not pass, a TickError where the answer is of another shape: list or dict.
        """
        import ccxt

        self._what, problem = what, None
        try:
            answer = call()
        except ccxt.BaseError as error:  # of ccxt's own, no request failed
            problem = self._refusal(error, None)
        # Not within the except block, so that nothing unscrubbed hangs on it.
        if problem:
            raise problem
        if isinstance(answer, shape):
            return answer
        raise TickError(
            f"{self._where()}: a JSON {shape.__name__} was expected, "
            f"{self._scrubbed(str(answer))!r} came; the venue's form has changed, see whether a "
            "newer nexttick or ccxt knows it"
        )

    @staticmethod
    def now_ns() -> int:
        """The time here, ns since 1970, UTC."""
        return time.time_ns()

    def received(self) -> int:
        """Bytes that came over the network, as they were compressed, since this was last asked."""
        total = sum(response.raw.tell() for response in self._responses)
        self._responses.clear()
        return total

    def _retried(self, *args: Any, **kwargs: Any) -> Any:
        """In place of ccxt's `fetch2`, which makes one request within the rate limit."""
        try:
            return retrying(lambda: self._once(*args, **kwargs))
        except TransientError as error:
            said = f"{error}; tried {ATTEMPTS} times: see whether the venue is up, then fetch again"
        raise SourceError(said)

    def _once(self, *args: Any, **kwargs: Any) -> Any:
        import ccxt

        before = len(self._responses)
        try:
            answer = type(self.exchange).fetch2(self.exchange, *args, **kwargs)
        except ccxt.BaseError as error:
            problem = self._problem(error, self._responses[before:])
        else:
            if not isinstance(answer, str):
                return answer
            shown = self._scrubbed(answer)  # a page of a proxy on the way
            problem = TransientError(f"{self._where()} failed: no JSON came but {shown!r}")
        raise problem

    def _problem(self, error: Exception, responses: list[Any]) -> Exception:
        import ccxt

        status = responses[-1].status_code if responses else None
        refused = status is not None and status >= 400 and not may_pass(status)
        if refused or not isinstance(error, ccxt.OperationFailed):
            return self._refusal(error, status)
        wait_s = retry_after_s(responses[-1].headers.get("Retry-After")) if responses else None
        said = self._failed(error)
        if wait_s is not None and wait_s > MAX_WAIT_S:
            return SourceError(f"{said}; it asks to wait for {wait_s:.0f} s: fetch again then")
        return TransientError(said, wait_s)

    def _refusal(self, error: Exception, status: int | None) -> SourceError:
        import ccxt

        cure = "see whether venue, symbol and span are right"
        if isinstance(error, ccxt.AuthenticationError):
            cure = "give a valid key in NEXTTICK_<VENUE>_KEY and NEXTTICK_<VENUE>_SECRET, or none"
        elif status in (403, 451) or isinstance(error, ccxt.RestrictedLocation):
            cure = "the venue serves no one from this place; take its archive or another venue"
        return SourceError(f"{self._failed(error)}; trying again will not help: {cure}")

    def _failed(self, error: Exception) -> str:
        # Of the connection below, which ccxt leaves out.
        words = system_words(error)
        said = f"{self._where()} failed: {type(error).__name__}: {self._scrubbed(str(error))}"
        return f"{said} ({words})" if words else said

    def _where(self) -> str:
        return f"{self.exchange.id}: asking for {self._what}"

    def _scrubbed(self, text: str) -> str:
        for secret in (self.exchange.apiKey, self.exchange.secret, self.exchange.password):
            text = text.replace(secret, "***") if secret else text
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def ccxt_exchange(venue: str, options: dict[str, Any] | None = None) -> Any:
    """A ccxt object with a time-out, and with key and secret from the environment where there are.

    `NEXTTICK_<VENUE>_KEY` and `_SECRET` are the variables. A ValueError where ccxt has no such
    venue.
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
