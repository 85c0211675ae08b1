"""The page's server: who may see it, what it says, and what a slow page costs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import re
import signal
import socket
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest

from helpers.fake_live import BASE_RATES, HORIZONS, S_NS, Clock, served
from nexttick.live.page import app
from nexttick.live.page.app import build_app, check_binding, serve
from nexttick.live.page.board import POINTS_AN_UPDATE, Board, Skill
from nexttick.live.page.rings import EDGES_NS
from nexttick.venues.messages import Health

TOKEN = "correct-horse-battery"
P_H = (0.3, 0.5, 0.25)
ROUTES = ("/", "/healthz", "/metrics", "/static/page.js")


def a_board(name: str = "BTC/USDT", clock: Clock | None = None) -> Board:
    board = Board(name, HORIZONS, BASE_RATES, clock=clock or Clock())
    board.health(Health(connected=True))
    board.predicted(S_NS, 64_000.5, P_H, 40_000)
    return board


@contextlib.asynccontextmanager
async def client(
    boards: dict[str, Board] | None = None, token: str | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that keeps no cookies of its own accord, and a server for it."""
    async with served(boards or {"BTC/USDT": a_board()}, token) as port:
        jar = aiohttp.DummyCookieJar()
        base = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession(base, cookie_jar=jar) as session:
            yield session


async def status(session: aiohttp.ClientSession, path: str, **headers: str) -> int:
    async with session.get(path, headers=headers) as answer:
        return answer.status


async def upgrade(session: aiohttp.ClientSession, path: str = "/ws", **headers: str) -> int:
    """Status of a websocket's handshake; 101 where it is let in."""
    try:
        async with session.ws_connect(path, headers=headers):
            return 101
    except aiohttp.WSServerHandshakeError as error:
        return error.status


# --- binding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]"])
def test_this_machine_needs_no_token(host):
    check_binding(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.com", "", "127.0.0.1.x"])
def test_others_need_a_token(host):
    with pytest.raises(ValueError, match=r"bind it to 127\.0\.0\.1, or ask for a token; make one"):
        check_binding(host, None)
    check_binding(host, TOKEN)


@pytest.mark.parametrize("token", ["", "short", "a b" * 10, "ü" * 20, "x" * 20 + "\n"])
def test_a_token_has_to_be_long_and_plain(token):
    with pytest.raises(ValueError, match="16 or more letters"):
        check_binding("127.0.0.1", token)
    with pytest.raises(ValueError, match="16 or more letters"):
        build_app({"A": a_board()}, token)


def test_there_has_to_be_a_market():
    with pytest.raises(ValueError, match="give build_app one board at least"):
        build_app({})


def test_another_address_is_refused_before_it_is_bound():
    async def run() -> None:
        with pytest.raises(ValueError, match="ask for a token"):
            await serve(build_app({"A": a_board()}), "0.0.0.0", 0, say=pytest.fail)

    asyncio.run(run())


def test_a_taken_port_is_told():
    async def run() -> None:
        async with served({"A": a_board()}) as port:
            with pytest.raises(OSError, match="choose another port with --port") as caught:
                await serve(build_app({"A": a_board()}), port=port, say=pytest.fail)
        assert caught.value.errno == errno.EADDRINUSE

    asyncio.run(run())


@pytest.mark.parametrize(
    ("token", "told"),
    [
        (None, "(seen from this machine only)"),
        (TOKEN, "(seen from this machine only; open it once with ?token= and your token)"),
    ],
    ids=["open", "token"],
)
def test_it_says_where_it_is_and_never_the_token(token, told):
    async def run() -> str:
        said: list[str] = []
        task = asyncio.create_task(
            serve(build_app({"A": a_board()}, token), port=0, say=said.append)
        )
        while not said:
            await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return said[0]

    sentence = asyncio.run(run())
    assert re.fullmatch(
        rf"nexttick's page is at http://127\.0\.0\.1:\d+/ {re.escape(told)}", sentence
    )
    assert TOKEN not in sentence


# --- who may see it ----------------------------------------------------------------------------


def test_without_a_token_only_this_machines_names_are_answered():
    async def run() -> None:
        async with client() as session:
            for host in ("localhost", "127.0.0.1:9999", "[::1]:80", "LOCALHOST:1"):
                assert await status(session, "/", Host=host) == 200
                assert await upgrade(session, Host=host) == 101
            for host in ("evil.example", "127.0.0.1.evil.example", "evil@127.0.0.1", "a/127.0.0.1"):
                for path in ROUTES:
                    assert await status(session, path, Host=host) == 403
                assert await upgrade(session, Host=host) == 403

    asyncio.run(run())


def test_a_websocket_comes_from_a_page_of_the_same_host_and_port():
    async def run() -> None:
        async with client() as session:
            port = session._base_url.port  # type: ignore[union-attr]
            assert await upgrade(session) == 101
            assert await upgrade(session, Origin=f"http://127.0.0.1:{port}") == 101
            for origin in ("http://evil.example", f"http://localhost:{port}", "null", "",
                           "http://127.0.0.1", f"http://127.0.0.1:{port + 1}"):  # fmt: skip
                assert await upgrade(session, Origin=origin) == 403

    asyncio.run(run())


def test_with_a_token_nothing_is_seen_without_it():
    async def run() -> None:
        async with client(token=TOKEN) as session:
            for wrong in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN},
                          {"Authorization": f"Basic {TOKEN}"}, {"Cookie": f"token={TOKEN}"},
                          {"Authorization": "Bearer \xfc"}, {"Cookie": "=;\"[,"}):  # fmt: skip
                for path in ROUTES:
                    assert await status(session, path, **wrong) == 401
                assert await upgrade(session, **wrong) == 403
            assert await status(session, f"/?token={TOKEN}x") == 401
            right = {"Authorization": f"Bearer {TOKEN}"}
            assert [await status(session, path, **right) for path in ROUTES] == [200] * 4
            assert await upgrade(session, **right) == 101
            assert await status(session, "/", Host="name.example", **right) == 200

    asyncio.run(run())


def test_the_token_in_the_address_buys_a_cookie_that_does_not_hold_it():
    async def run() -> None:
        async with client(token=TOKEN) as session:
            async with session.get(f"/?token={TOKEN}") as answer:
                assert answer.status == 200
                (cookie,) = answer.headers.getall("Set-Cookie")
            assert TOKEN not in cookie
            assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict")
            pair = cookie.partition(";")[0]
            assert [await status(session, path, Cookie=pair) for path in ROUTES] == [200] * 4
            assert await upgrade(session, Cookie=pair) == 101
            assert await upgrade(session, Cookie=pair, Origin="http://evil.example") == 403
            assert await status(session, "/", Cookie=pair + "0") == 401
            assert (
                await status(session, "/", Authorization=f"Bearer {pair.partition('=')[2]}") == 401
            )
            async with session.get(
                f"/?token={TOKEN}", headers={"X-Forwarded-Proto": "https"}
            ) as answer:
                assert answer.headers["Set-Cookie"].endswith("; Secure")
        async with client(token=TOKEN + "2") as session:
            assert await status(session, "/", Cookie=pair) == 401

    asyncio.run(run())


# --- what is served ----------------------------------------------------------------------------


def test_the_page_needs_nothing_from_elsewhere_and_runs_no_script_of_its_text():
    async def run() -> None:
        async with client() as session:
            async with session.get("/") as answer:
                html = await answer.text()
                policy = answer.headers["Content-Security-Policy"]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert "script-src 'self';" in policy
            assert policy.startswith("default-src 'none'")
            assert "unsafe" not in policy
            assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=|https?://", html)
            paths = re.findall(r'(?:src|href)="([^"]+)"', html)
            imported = ["/static/charts.js", "/static/series.js", "/static/uPlot-1.6.32/LICENSE"]
            for path in [*paths, *imported]:
                assert path.startswith("/static/")
                assert await status(session, path) == 200
            for path in ("/static/../page.py", "/static/%2e%2e/page.py", "/nothing"):
                assert await status(session, path) == 404

    asyncio.run(run())


def test_healthz_is_503_while_any_market_is_down():
    async def run() -> None:
        clock = Clock(10 * S_NS)
        boards = {"BTC/USDT": a_board(clock=clock), "ETH/USDT": a_board("ETH/USDT", clock)}
        clock.now_ns += 2 * S_NS
        async with client(boards) as session:
            async with session.get("/healthz") as answer:
                assert answer.status == 200
                assert await answer.json() == {
                    "up": True,
                    "markets": {
                        name: {"up": True, "connected": True, "ticks": 1, "last_tick_age_s": 2.0,
                               "stale_after_s": 60.0}
                        for name in boards
                    },
                }  # fmt: skip
            boards["ETH/USDT"].feed.connected = False
            async with session.get("/healthz") as answer:
                assert answer.status == 503
                told = await answer.json()
                assert (told["up"], told["markets"]["BTC/USDT"]["up"]) == (False, True)
            boards["ETH/USDT"].feed.connected = True
            clock.now_ns += 59 * S_NS
            assert await status(session, "/healthz") == 503

    asyncio.run(run())


# --- metrics -----------------------------------------------------------------------------------

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
SAMPLE = re.compile(rf"({NAME})\{{(.*)\}} (NaN|[+-]Inf|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
ESCAPES = {r"\"": '"', r"\\": "\\", r"\n": "\n"}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse_labels(text: str) -> frozenset[tuple[str, str]]:
    labels, at = [], 0
    while at < len(text):
        match = LABEL.match(text, at)
        assert match, f"no label at {text[at:]!r}"
        value = re.sub(r"\\.", lambda found: ESCAPES[found[0]], match[2])
        labels.append((match[1], value))
        at = match.end()
    assert len(dict(labels)) == len(labels), f"a label twice: {text}"
    return frozenset(labels)


def parse_metrics(text: str) -> tuple[Samples, dict[str, str]]:
    """Samples and the types of families, by the rules of the text format."""
    assert text.endswith("\n")
    samples: Samples = {}
    types: dict[str, str] = {}
    family = ""
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            family = re.fullmatch(rf"# HELP ({NAME}) \S.*", line)[1]  # type: ignore[index]
            assert family not in types, f"{family} is not in one piece"
        elif line.startswith("# TYPE "):
            match = re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|histogram)", line)
            assert match, line
            assert match[1] == family
            types[family] = match[2]
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            suffixes = ("_bucket", "_sum", "_count") if types[family] == "histogram" else ("",)
            assert match[1] in [family + suffix for suffix in suffixes]
            key = (match[1], parse_labels(match[2]))
            assert key not in samples, f"twice: {line}"
            samples[key] = float(match[3].replace("Inf", "inf"))
    assert all(name.endswith("_total") for name, kind in types.items() if kind == "counter")
    return samples, types


def test_metrics_say_what_the_boards_know():
    odd = 'B\\T"C\n/U,S=D}T é'
    board, other = a_board(odd), a_board("ETH/USDT")
    for latency_ns in (500, 1_000, 1_001, 3 * 10**6, 11 * S_NS):
        board.predicted(S_NS, 1.5, (math.nan, 0.5, 0.25), latency_ns)
    board.health(Health(connected=True, trades=6, duplicates=2, skew_ms=-12.5))
    board.scored({"rise@1": Skill(-0.001, -math.inf, 0.02, 0.69, 5)})
    board.drifted({"log_return@10": 0.25}, {"log_return@10": 0.5})
    board.reset(S_NS, "gap")

    async def run() -> str:
        boards = {odd: board, "ETH/USDT": other}
        async with client(boards) as session, session.get("/metrics") as answer:
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            return await answer.text()

    samples, types = parse_metrics(asyncio.run(run()))

    def value(name: str, **labels: str) -> float:
        return samples[f"nexttick_{name}", frozenset({"market": odd, **labels}.items())]

    assert all(name.startswith("nexttick_") for name in types)  # none of the process
    assert types["nexttick_ticks_total"] == "counter"
    assert (value("ticks_total"), value("feed_duplicates_total")) == (6, 2)
    assert (value("up"), value("feed_skew_seconds"), value("resets_total")) == (1, -0.0125, 1)
    assert math.isnan(value("probability", horizon="rise@1"))
    assert value("probability", horizon="rise@5s") == 0.25
    assert value("skill_bits", horizon="rise@1") == -0.001
    assert value("skill_low", horizon="rise@1") == -math.inf
    assert value("drift_psi", feature="log_return@10") == 0.25
    assert value("drift_limit", feature="log_return@10") == 0.5
    buckets = {
        dict(labels)["le"]: n for (name, labels), n in samples.items()
        if name == "nexttick_latency_seconds_bucket" and dict(labels)["market"] == odd
    }  # fmt: skip
    assert [float(le) for le in buckets][:-1] == [edge / S_NS for edge in EDGES_NS]
    assert buckets == {
        le: sum(ns <= float(le) * S_NS for ns in (40_000, 500, 1_000, 1_001, 3 * 10**6, 11 * S_NS))
        for le in buckets
    }
    assert value("latency_seconds_count") == buckets["+Inf"] == 6
    assert value("latency_seconds_sum") == pytest.approx(11.003042501)
    assert samples["nexttick_ticks_total", frozenset({("market", "ETH/USDT")})] == 1


# --- updates -----------------------------------------------------------------------------------


async def hear(websocket: aiohttp.ClientWebSocketResponse) -> dict:
    return orjson.loads(await asyncio.wait_for(websocket.receive_str(), 60))


def test_a_page_is_told_the_markets_then_all_then_what_is_new():
    async def run() -> None:
        boards = {"BTC/USDT": a_board(), "ETH/USDT": a_board("ETH/USDT")}
        async with client(boards) as session, session.ws_connect("/ws?market=ETH/USDT") as ws:
            assert (await hear(ws))["markets"] == ["BTC/USDT", "ETH/USDT"]
            first = await hear(ws)
            assert (first["whole"], first["market"]) == (True, "ETH/USDT")
            boards["ETH/USDT"].predicted(2 * S_NS, 3_000.0, P_H, 1)
            second = await hear(ws)
            while second["state"]["price"] != 3_000.0:  # made before the tick came
                second = await hear(ws)
            assert second["whole"] is False
            # Nothing new: heard all the same, so that a page knows that it is not stale.
            assert (await hear(ws))["state"]["price"] == 3_000.0

    asyncio.run(run())


def test_an_unknown_market_is_told_so():
    async def run() -> None:
        async with client() as session, session.ws_connect("/ws?market=DOGE/USDT") as ws:
            message = await asyncio.wait_for(ws.receive(), 60)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4404)

    asyncio.run(run())


def test_however_many_ticks_there_are_few_updates_and_they_are_small():
    async def run() -> None:
        board = a_board()
        loop = asyncio.get_running_loop()
        heard: list[str] = []

        async def burst() -> None:
            while True:
                for i in range(200):
                    board.predicted(S_NS + i, 64_000.0 + i, P_H, 40_000)
                await asyncio.sleep(0.01)

        def ticks() -> int:
            return orjson.loads(heard[-1])["state"]["ticks"]

        async with client({"BTC/USDT": board}) as session:
            begun_s = loop.time()
            async with session.ws_connect("/ws") as ws:
                ticking = asyncio.create_task(burst())
                while len(heard) < 7 or ticks() <= 2_000:
                    heard.append(await asyncio.wait_for(ws.receive_str(), 60))
                took_s = loop.time() - begun_s
                ticking.cancel()
        updates = [orjson.loads(message) for message in heard[1:]]
        assert len(updates) <= took_s / 0.2 + 1
        assert max(len(update["fine"]["time"]) for update in updates) <= POINTS_AN_UPDATE
        assert max(map(len, heard)) < 10_000

    asyncio.run(run())


class Counting(Board):
    """Counts how often a page was given something."""

    given = 0

    def since(self, cursor):
        self.given += 1
        self.warn(["x" * 20_000])  # an update is large
        return super().since(cursor)


async def idle_page(port: int) -> socket.socket:
    """A page that asks for updates, and never takes them from its socket."""
    loop = asyncio.get_running_loop()
    idle = socket.socket()
    idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    idle.setblocking(False)
    await loop.sock_connect(idle, ("127.0.0.1", port))
    await loop.sock_sendall(
        idle,
        b"GET /ws?market=slow HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    return idle


async def stands_still(board: Counting) -> int:
    """Wait until nothing is given any more, for 60 times as long as from update to update."""
    before, still = 0, 0
    while before == 0 or still < 60:
        still = still + 1 if board.given == before else 0
        before = board.given
        await asyncio.sleep(app._UPDATE_S)
    return before


def test_a_page_that_takes_nothing_is_not_queued_for_and_is_dropped(monkeypatch):
    monkeypatch.setattr(app, "_UPDATE_S", 0.005)
    monkeypatch.setattr(app, "_HEARTBEAT_S", 0.005)
    monkeypatch.setattr(app, "_DEAD_MS", 400)

    async def run() -> None:
        slow, other = Counting("slow", HORIZONS), a_board()
        async with served({"slow": slow, "fast": other}) as port:
            with await idle_page(port):
                given = await stands_still(slow)
                assert 1 < given < 60  # 20 kB each: what the sockets' buffers hold
                async with (
                    aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
                    session.ws_connect("/ws?market=fast") as ws,
                ):
                    for _ in range(5):
                        other.predicted(S_NS, 1.0, P_H, 1)
                        await hear(ws)
                while any(task.get_name() == "updating slow" for task in asyncio.all_tasks()):
                    await asyncio.sleep(0.05)
                assert slow.given == given

    asyncio.run(asyncio.wait_for(run(), 120))


# --- the end -----------------------------------------------------------------------------------


def test_it_ends_cleanly_leaves_signals_alone_and_begins_again_on_the_same_port():
    async def run() -> None:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        boards = {"BTC/USDT": a_board()}
        async with aiohttp.ClientSession() as session:
            async with served(boards) as port:
                url = f"http://127.0.0.1:{port}/ws"
                ws = await session.ws_connect(url)
                await hear(ws)
                assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
            while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1012)
            async with served(boards, port=port) as again:
                assert again == port
                async with session.ws_connect(url) as ws:
                    assert "markets" in await hear(ws)
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    asyncio.run(run())
