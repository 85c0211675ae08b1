"""A web server on 127.0.0.1 whose answers go wrong on a schedule."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    `status` answers with that code (and headers); `cut` sends half of the body under the full
    Content-Length and closes; `drop` closes without an answer; `slow` waits first.
    """

    kind: str
    status: int = 500
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.05


OK = Fault("none")
BUSY = Fault("status", 429, (("Retry-After", "0"),))
BROKEN = Fault("status", 503)
CUT, DROP, SLOW = Fault("cut"), Fault("drop"), Fault("slow")


class ServerThread:
    """Serves on 127.0.0.1 from a thread of its own; a context manager.

    Attributes:
        port: to listen on, 0 for a free one; then the one that was found.
    """

    port: int = 0

    def routes(self) -> Iterable[web.RouteDef]:
        """What answers where."""
        raise NotImplementedError

    async def work(self) -> None:
        """What goes on while it serves; cancelled at the end."""

    def left_open(self) -> Iterable[asyncio.Transport]:
        """Connections that nobody will close."""
        return ()

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True)
        self._thread.start()
        assert started.wait(120), "the local server did not start"
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(120)
        assert not self._thread.is_alive(), "the local server did not stop"

    async def _run(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.add_routes(self.routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self.port = runner.addresses[0][1]
        working = asyncio.create_task(self.work())
        started.set()
        await self._stop.wait()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        for transport in self.left_open():
            transport.abort()
        await runner.cleanup()


@dataclass
class LocalServer(ServerThread):
    """Serves `handler`.

    Attributes:
        handler: answers every request.
        faults: what happens to one request after the other; none when they are used up.
        requests: paths with queries, in the order in which they came.
    """

    handler: Handler
    faults: Iterable[Fault] = ()
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left: Iterator[Fault] = iter(self.faults)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set_faults(self, faults: Iterable[Fault]) -> None:
        """Begin another schedule."""
        self._left = iter(faults)

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.route("*", "/{path:.*}", self._answer)]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path_qs)
        fault = next(self._left, OK)
        if fault.kind == "status":
            return web.Response(status=fault.status, headers=dict(fault.headers), text="faulty")
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        if fault.kind == "drop":
            _close(request)
        response = await self.handler(request)
        return await _cut(request, response) if fault.kind == "cut" else response


async def _cut(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    assert isinstance(response, web.Response)
    body = response.body
    assert isinstance(body, bytes)
    half = web.StreamResponse(status=response.status, headers=response.headers)
    half.content_length = len(body)
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    _close(request)
    return half


def _close(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.close()
