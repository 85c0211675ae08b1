"""A small client for a venue's REST: patient with what may pass, clear about what won't.

It is aiohttp's and not `requests` in a thread: a question in flight ends at once when the feed is
cancelled, and one thread serves all symbols. ccxt stands on aiohttp too, so it costs nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import orjson
import tenacity

from nexttick.live.waits import Respite
from nexttick.sources.retrying import TransientError, retry_after_s, system_words
from nexttick.sources.source import SourceError

_ATTEMPTS = 4
_ASK_TO_WAIT = (418, 429)
_TOLD = 200  # characters of a refusal


class Rest:
    """Asks one venue, and not before it wants to be asked again: who does is shut out for longer.

    Args:
        url: what all paths begin with.
        headers: sent with every question.
        timeout_s: for each answer.
        first_wait_s: before the second attempt; grows twofold, at random.
        longest_wait_s: between two attempts.

    Attributes:
        respite: in which nothing is asked; made longer where the venue wants to be left alone.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        first_wait_s: float = 0.5,
        longest_wait_s: float = 30.0,
    ):
        self.url, self._headers = url.rstrip("/"), dict(headers or {})
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._longest_wait_s, self.respite = longest_wait_s, Respite(self.url)
        self._backing_off = tenacity.wait_random_exponential(first_wait_s, longest_wait_s)

    async def get(
        self,
        path: str,
        params: Mapping[str, str | int],
        loads: Callable[[bytes], Any] = orjson.loads,
    ) -> Any:
        """Return what a path answers, tried again where an error may pass.

        Raises:
            TransientError: the last of several errors that may pass.
            SourceError: the venue refuses: what, where, in its own words.
        """
        async for attempt in tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=self._wait_s,
            retry=tenacity.retry_if_exception_type(TransientError),
            reraise=True,
        ):
            with attempt:
                return await self._once(path, params, loads)
        raise AssertionError("tenacity returns or raises")

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _once(
        self, path: str, params: Mapping[str, str | int], loads: Callable[[bytes], Any]
    ) -> Any:
        self.respite.check()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers, timeout=self._timeout, trust_env=True
            )
        try:
            async with self._session.get(self.url + path, params=params) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:  # or a bad redirect
            what = system_words(error) or repr(error)
            raise TransientError(f"{self.url}{path}: {what}") from error
        self._check(answer, body)
        try:
            return loads(body)
        except (ValueError, RecursionError) as error:
            raise TransientError(f"{self.url}{path}: its answer is no JSON: {error}") from error

    def _check(self, answer: aiohttp.ClientResponse, body: bytes) -> None:
        if answer.status < 400:
            return
        said = body[:_TOLD].decode(errors="replace")
        what = f"{answer.url}: {answer.status} {answer.reason}: {said}"
        if answer.status in _ASK_TO_WAIT or answer.status >= 500:
            wait_s = retry_after_s(answer.headers.get("Retry-After"))
            self.respite.extend(wait_s or 0.0)
            raise TransientError(what, wait_s)
        raise SourceError(what)

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        told_s = error.retry_after_s if isinstance(error, TransientError) else None
        return self._backing_off(state) if told_s is None else min(told_s, self._longest_wait_s)
