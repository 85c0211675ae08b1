"""The page of a live run: served from the live run's own loop, to this machine or for a token."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

import orjson
import uvicorn
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from nexttick.live.page.access import Guard, check_binding, is_loopback
from nexttick.live.page.board import Board
from nexttick.live.page.prometheus import Families

PORT = 8765

_STATIC = Path(__file__).parent / "static"
_UPDATE_S = 0.2  # five updates a second at most
_HEARTBEAT_S = 1.0  # a page that hears nothing for a few of them says that it is stale
_SEND_S = 20.0  # a page that has not taken an update for so long is given up, and
_DEAD_MS = 30_000  # its connection dropped by the system, with what it never took
_SEND_BUFFER = 131_072  # bytes that wait in the system for a slow page, at most
_CLOSE_S = 2  # for pages to be told that the server goes
_NO_SUCH_MARKET = 4404


async def _index(request: Request) -> Response:
    return FileResponse(_STATIC / "index.html", media_type="text/html; charset=utf-8")


async def _healthz(request: Request) -> Response:
    boards: dict[str, Board] = request.app.state.boards
    up = all(board.up for board in boards.values())
    markets = {
        name: {
            "up": board.up,
            "connected": board.feed.connected,
            "ticks": board.ticks,
            "last_tick_age_s": board.age_s if board.ticks else None,
            "stale_after_s": board.stale_after_s,
        }
        for name, board in boards.items()
    }
    answer = orjson.dumps({"up": up, "markets": markets})
    return Response(answer, 200 if up else 503, media_type="application/json")


async def _metrics(request: Request) -> Response:
    text = generate_latest(Families(request.app.state.boards))
    return Response(text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


async def _updates(websocket: WebSocket) -> None:
    """One page: updated until it goes, or takes nothing any more."""
    await websocket.accept()
    boards: dict[str, Board] = websocket.app.state.boards
    market = websocket.query_params.get("market", next(iter(boards)))
    if market not in boards:
        await websocket.close(_NO_SUCH_MARKET, "no such market")
        return

    async def send(message: bytes) -> None:
        await asyncio.wait_for(websocket.send_text(message.decode()), _SEND_S)

    async def update() -> None:
        loop, board, cursor = asyncio.get_running_loop(), boards[market], None
        with contextlib.suppress(WebSocketDisconnect, TimeoutError):
            await send(orjson.dumps({"markets": list(boards), "version": version("nexttick")}))
            while True:
                # Made only when the socket has taken the last one: for a slow page there are
                # fewer, and none is kept for it.
                message, cursor = board.since(cursor)
                changes, due_s = board.changes, loop.time() + _HEARTBEAT_S
                await send(message)
                await asyncio.sleep(_UPDATE_S)
                while board.changes == changes and loop.time() < due_s:
                    await asyncio.sleep(_UPDATE_S)

    async def leave() -> None:
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await websocket.receive_text()

    updating = asyncio.create_task(update(), name=f"updating {market}")
    leaving = asyncio.create_task(leave())
    try:
        done, _ = await asyncio.wait({updating, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (updating, leaving):
            task.cancel()
        await asyncio.gather(updating, leaving, return_exceptions=True)
    for task in done:
        _ = task.result()


_ROUTES = [
    Route("/", _index),
    Route("/healthz", _healthz),
    Route("/metrics", _metrics),
    WebSocketRoute("/ws", _updates),
    Mount("/static", StaticFiles(directory=_STATIC)),
]


def build_app(boards: Mapping[str, Board], token: str | None = None) -> Starlette:
    """The page, its updates, `/healthz` and `/metrics` for markets by their name in the selector.

    Without a token it answers this machine alone. No board is a ValueError, and so is a token that
    `check_binding` refuses.
    """
    if not boards:
        raise ValueError("there is no market to show; give build_app one board at least")
    check_binding("127.0.0.1", token)
    app = Starlette(routes=_ROUTES, middleware=[Middleware(Guard, token=token)])
    app.state.boards, app.state.token = dict(boards), token
    return app


async def serve(
    app: Starlette,
    host: str = "127.0.0.1",
    port: int = PORT,
    say: Callable[[str], object] | None = None,
) -> None:
    """Serve until cancelled, and then tell the pages, close and free the port.

    Signals are left to the caller. Port 0 is any that is free; `say` is told, once, where the page
    is, and standard error where it isn't given.

    Raises:
        ValueError: an address that others can reach, and no token.
        OSError: the port is taken, or the address is not this machine's.
    """
    check_binding(host, app.state.token)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            cure = "something else listens there; choose another port with --port"
        else:
            cure = f"{error.strerror}; choose an address of this machine and a port above 1023"
        raise OSError(error.errno, f"the page can't be served on {host}:{port}: {cure}") from error
    # Accepted connections inherit both; the second is Linux's own.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_MS)
    name = f"[{host.strip('[]')}]" if ":" in host else host
    seen = "seen from this machine only" if is_loopback(host) else "seen from other machines"
    asked = "" if app.state.token is None else "; open it once with ?token= and your token"
    where = f"http://{name}:{listening.getsockname()[1]}/"
    say = say or partial(print, file=sys.stderr, flush=True)
    say(f"nexttick's page is at {where} ({seen}{asked})")
    server = _Server(app)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        # Shielded: cancelled by uvicorn's way, it still tells its pages and closes their sockets.
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
    finally:
        listening.close()


class _Server(uvicorn.Server):
    """Takes no signals: the live run has its own way to end."""

    def __init__(self, app: Starlette):
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            log_level="warning",  # below that, tokens would be written
            access_log=False,
            server_header=False,
            # It would cost the live run's loop more than it saves.
            ws_per_message_deflate=False,
            ws_max_size=1_024,  # pages have nothing to say
            timeout_graceful_shutdown=_CLOSE_S,
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
