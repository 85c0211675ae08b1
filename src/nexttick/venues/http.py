"""Bytes over HTTP: what may pass is tried again, sizes are bounded, and keys stay unsaid.

Messages show an address without its query and a refusal's body without keys. An exception of the
library below is never the cause of one raised here, for its text holds the query.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import orjson
import requests
import tenacity

from nexttick.ticks.record import TickError
from nexttick.ticks.source import SourceError, TransientError
from nexttick.ticks.writing import explained
from nexttick.venues.retrying import (
    ATTEMPTS,
    Respite,
    may_pass,
    persistence,
    retry_after_s,
    retrying,
    system_words,
)

MAX_BODY_BYTES = 64 << 20  # of what is kept in memory
MAX_FILE_BYTES = 32 << 30  # of what goes to a file
_PIECE_BYTES = 1 << 18
_EXCERPT_BYTES = 2000
_EXCERPT_CHARS = 200  # of a refusal
_CURE = "check the network, or try later: what has come is kept"
_REDIRECTS = "it redirects, and a key is sent to one address only"
_SECRET_NAME = re.compile(r"key|token|secret|sign|auth|pass|credential", re.IGNORECASE)
_FAILURES: tuple[tuple[type[Exception], str], ...] = (
    (requests.Timeout, "no answer in time"),
    (requests.exceptions.ChunkedEncodingError, "the body was cut off"),
    (requests.exceptions.ContentDecodingError, "the body cannot be unpacked"),
    (requests.ConnectionError, "the connection failed"),
)


class NotThereError(SourceError):
    """The address is known to hold nothing: 404 or 410."""


class UnreachableError(SourceError):
    """It failed each time it was tried."""


class Http:
    """A client that may be used from several threads.

    The values of its headers are secret: no message shows them, and no redirection takes them
    elsewhere. `timeout_s` is the longest silence while connecting and between two pieces of a body.
    """

    def __init__(
        self,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        attempts: int = ATTEMPTS,
    ):
        self._session = requests.Session()
        # Not packed: then the length that is announced is the length that must come.
        self._session.headers.update({"Accept-Encoding": "identity", "User-Agent": "nexttick"})
        self._session.headers.update(headers or {})
        self._secrets = tuple((headers or {}).values())
        self._timeout_s, self._attempts = timeout_s, attempts
        self._closed = threading.Event()
        self._received, self._counting = 0, threading.Lock()

    def close(self) -> None:
        """Refuse all that is asked from now on, and stop what is under way at its next piece."""
        self._closed.set()
        self._session.close()

    def received(self) -> int:
        """Bytes that came over the network for all threads since this was last asked."""
        with self._counting:
            received, self._received = self._received, 0
        return received

    def get(
        self,
        url: str,
        what: str,
        params: Mapping[str, str | int] | None = None,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> bytes:
        """Get a body into memory; `what` it is, such as `BTCUSDT 2024-01-05`, is for messages.

        Raises:
            NotThereError: 404 or 410.
            UnreachableError: a connection fails or is cut, there is no answer in time, or one
                comes that may pass (429, 408, 5xx), each time it is tried.
            SourceError: refused, or too long.
        """
        sink = io.BytesIO()
        self._copy(url, what, params, sink, max_bytes)
        return sink.getvalue()

    def download(self, url: str, what: str, path: Path, max_bytes: int = MAX_FILE_BYTES) -> str:
        """Get a body into a file, which is replaced, as `get` does.

        Returns its SHA-256 in hexadecimal; an OSError says which file cannot be written, and why.
        """
        try:
            with path.open("wb") as sink:
                return self._copy(url, what, None, sink, max_bytes)
        except OSError as error:
            raise explained(error, path) from error

    def _copy(
        self,
        url: str,
        what: str,
        params: Mapping[str, str | int] | None,
        sink: IO[bytes],
        max_bytes: int,
    ) -> str:
        request = _Request(url, dict(params or {}), f"{what}: {shown(url)}", max_bytes)
        try:
            return retrying(lambda: self._once(request, sink), self._attempts)
        except TransientError as error:
            times = f"tried {self._attempts} times" if self._attempts > 1 else "tried once"
            message = f"{error}; {times}; {_CURE}"
        raise UnreachableError(message)

    def _once(self, request: _Request, sink: IO[bytes]) -> str:
        """One attempt; returns the SHA-256 of what is in the sink."""
        if self._closed.is_set():
            raise SourceError(f"{request.where}: broken off")
        sink.seek(0)
        sink.truncate()
        digest = hashlib.sha256()
        try:
            with self._session.get(
                request.url,
                params=request.params,
                stream=True,
                timeout=self._timeout_s,
                allow_redirects=not self._secrets,
            ) as response:
                self._check(response, request)
                for piece in self._pieces(response, request):
                    digest.update(piece)
                    sink.write(piece)
                return digest.hexdigest()
        except requests.RequestException as error:
            kind, reason = type(error), system_words(error)
        # Not within the except block, for the error's own text holds the query.
        if reason == "certificate":
            raise SourceError(
                f"{request.where}: its certificate is not valid; check the address, the clock and "
                "the certificates of this machine"
            )
        failure = next((words for known, words in _FAILURES if issubclass(kind, known)), None)
        if failure is None:
            raise SourceError(f"{request.where}: {kind.__name__}; check the address")
        raise TransientError(f"{request.where}: {failure}{reason and f' ({reason})'}")

    def _pieces(self, response: requests.Response, request: _Request) -> Iterator[bytes]:
        length, size = response.headers.get("Content-Length", ""), 0
        announced = int(length) if length.isdigit() else 0
        for piece in response.iter_content(_PIECE_BYTES):
            size += len(piece)
            if max(size, announced) > request.max_bytes:
                raise _too_long(request.where, request.max_bytes)
            if self._closed.is_set():
                raise SourceError(f"{request.where}: broken off")
            with self._counting:
                self._received += len(piece)
            yield piece

    def _check(self, response: requests.Response, request: _Request) -> None:
        status = response.status_code
        if status == requests.codes.ok:
            return
        excerpt = next(response.iter_content(_EXCERPT_BYTES), b"").decode(errors="replace")
        said = _scrubbed(" ".join(excerpt.split()), (*self._secrets, *request.secrets()))
        text = f"{request.where}: status {status}{said and f' ({said[:_EXCERPT_CHARS]})'}"
        if status in (404, 410):
            raise NotThereError(f"{text}; nothing is there: check the name, or try later")
        if may_pass(status):
            raise TransientError(text, retry_after_s(response.headers.get("Retry-After")))
        if response.is_redirect:
            raise SourceError(f"{text}; {_REDIRECTS}")
        raise SourceError(f"{text}; it refuses: check the address and what is asked of it")


class _Request(NamedTuple):
    url: str
    params: dict[str, str | int]
    where: str
    max_bytes: int

    def secrets(self) -> list[str]:
        """Values that must not be shown: of the query's keys, and a password in the address."""
        split = urlsplit(self.url)
        pairs = [*parse_qsl(split.query), *((k, str(v)) for k, v in self.params.items())]
        found = [value for name, value in pairs if _SECRET_NAME.search(name)]
        return [value for value in (*found, split.password) if value]


def json_of(body: bytes, what: str) -> Any:
    """A body's JSON; a TickError says whose is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        start = body[:60].decode(errors="replace")
        raise TickError(
            f"{what}: {start!r} starts no JSON ({error.msg}); try again, or check the address"
        ) from error


def shown(url: str) -> str:
    """An address without the parts that may hold a key."""
    split = urlsplit(url)
    return f"{split.scheme}://{split.netloc.rpartition('@')[2]}{split.path}"


def _too_long(where: str, max_bytes: int) -> SourceError:
    return SourceError(
        f"{where}: longer than the {max_bytes:,} bytes that it may have; check the address"
    )


def _scrubbed(said: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        said = said.replace(secret, "***")
    return said


_REST_ATTEMPTS = 4  # the stream goes on meanwhile, and REST is asked again


class Rest:
    """Asks one venue, and not before it wants to be asked again: who does is shut out for longer.

    All paths begin with `url`. `secrets` are more headers, whose values no message shows and no
    redirection takes elsewhere. `timeout_s` is for each answer; waits are as in `persistence`.

    It is aiohttp's and not requests in a thread: a question in flight ends at once when the feed
    is cancelled, and one thread serves all symbols.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        first_wait_s: float = 0.5,
        longest_wait_s: float = 30.0,
        secrets: Mapping[str, str] | None = None,
    ):
        self.url, self._headers = url.rstrip("/"), {**(headers or {}), **(secrets or {})}
        self._secrets = tuple((secrets or {}).values())
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._persistence = persistence(_REST_ATTEMPTS, first_wait_s, longest_wait_s)
        # Made longer where the venue wants to be left alone.
        self.respite = Respite(self.url)

    async def get(
        self,
        path: str,
        params: Mapping[str, str | int],
        loads: Callable[[bytes], Any] = orjson.loads,
    ) -> Any:
        """Return what a path answers, tried again where an error may pass.

        Raises:
            TransientError: the last of several errors that may pass.
            SourceError: the venue refuses: what, where, in its own words; or it answers with more
                than `MAX_BODY_BYTES`.
        """
        return await tenacity.AsyncRetrying(**self._persistence)(self._once, path, params, loads)

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
        where = f"{self.url}{path}"
        try:
            async with self._session.get(
                where, params=params, allow_redirects=not self._secrets
            ) as answer:
                body = bytearray()
                async for piece in answer.content.iter_any():
                    body += piece
                    if max(len(body), answer.content_length or 0) > MAX_BODY_BYTES:
                        raise _too_long(where, MAX_BODY_BYTES)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:  # or a bad redirect
            raise TransientError(f"{where}: {system_words(error) or repr(error)}") from error
        redirected = bool(self._secrets) and 300 <= answer.status < 400
        if redirected or answer.status >= 400:
            said = _scrubbed(body[:_EXCERPT_BYTES].decode(errors="replace"), self._secrets)
            what = f"{answer.url}: {answer.status} {answer.reason}: {said[:_EXCERPT_CHARS]}"
            if redirected:
                raise SourceError(f"{what}; {_REDIRECTS}")
            if not may_pass(answer.status):
                raise SourceError(what)
            wait_s = retry_after_s(answer.headers.get("Retry-After"))
            self.respite.extend(wait_s or 0.0)
            raise TransientError(what, wait_s)
        try:
            return loads(bytes(body))
        except (ValueError, RecursionError) as error:
            raise TransientError(f"{where}: its answer is no JSON: {error}") from error
