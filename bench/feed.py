"""Messages a second that a feed takes in, of one burst over a local websocket, and against ccxt.

    python -m bench.feed [--json] [--messages 20000] [--repeats 5]

A process of its own writes a prepared burst of Binance's trade messages as fast as the socket
takes them; the reader runs on one core. Readers take turns on the same burst, and medians are
compared. Counted is the reader's own CPU time from the first trade to the last, and the wall-clock
time beside it: on a shared machine only the first means much.

- `websockets + orjson`: receives and parses, and nothing else
- `feed`: `open_feed("binance")`: checked, in order, each once
- `ccxt`: its `watch_trades` as it comes, with a cache that holds the burst
- `feed over ccxt`: `CcxtFeed`
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing as mp
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import orjson
from rich.table import Table

from bench import running

FIRST_ID = 1000


class Took(NamedTuple):
    """What a reader took for the trades after its first sight of any."""

    cpu_s: float
    wall_s: float
    timed: int  # trades after the first sight
    trades: int  # all that came before one more message was needed


def burst(messages: int) -> bytes:
    """Frames of one burst: unmasked text, as a server sends them."""
    now_ms, frames = time.time_ns() // 1_000_000, bytearray()
    for number in range(FIRST_ID, FIRST_ID + messages):
        data = orjson.dumps(
            {
                "e": "trade", "E": now_ms, "s": "BTCUSDT", "t": number, "p": "61685.99000000",
                "q": "0.00017000", "T": now_ms, "m": number % 2 == 0, "M": True,
            }
        )  # fmt: skip
        frames += b"\x81" + (
            bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
        )
        frames += data
    return bytes(frames)


def serve(pipe: Connection, messages: int) -> None:
    """Answer as a small exchange; after the subscription comes the burst."""
    from aiohttp import WSMsgType, web

    frames = burst(messages)

    async def info(request: web.Request) -> web.Response:
        market = {
            "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT",
            "isSpotTradingAllowed": True, "permissions": ["SPOT"], "filters": [], "orderTypes": [],
        }  # fmt: skip
        return web.json_response({"symbols": [market]})

    async def trades(request: web.Request) -> web.Response:
        return web.json_response([])

    async def stream(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        if not request.match_info["name"].startswith("btcusdt@"):
            asked = await socket.receive_json()
            await socket.send_json({"result": None, "id": asked["id"]})
        assert isinstance(request.transport, asyncio.Transport)
        await asyncio.sleep(0.2)
        request.transport.write(frames)
        async for message in socket:
            if message.type == WSMsgType.ERROR:
                break
        return socket

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/api/v3/exchangeInfo", info)
        app.router.add_get("/api/v3/trades", trades)
        app.router.add_get("/ws/{name:.*}", stream)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


class Stopwatch:
    """CPU and wall-clock time from the first trade to the last."""

    def __init__(self) -> None:
        self._begun, self._took = (0.0, 0.0), (0.0, 0.0)
        self.trades = self._first = 0

    def saw(self, trades: int) -> None:
        """Take the time at which so many more trades are there."""
        now = time.process_time(), time.perf_counter()
        if not self.trades:
            self._begun, self._first = now, trades
        self.trades += trades
        self._took = now[0] - self._begun[0], now[1] - self._begun[1]

    def took(self) -> Took:
        """Return what it was in all."""
        return Took(*self._took, self.trades - self._first, self.trades)


async def bare(port: int, messages: int) -> Took:
    from websockets.asyncio.client import connect

    watch = Stopwatch()
    url = f"ws://127.0.0.1:{port}/ws/btcusdt@trade"
    async with connect(url, compression=None, max_queue=256) as socket:
        while watch.trades < messages:
            orjson.loads(await socket.recv(decode=False))
            watch.saw(1)
    return watch.took()


async def own(port: int, messages: int) -> Took:
    from nexttick.venues.opening import open_feed

    urls = {"ws_url": f"ws://127.0.0.1:{port}", "rest_url": f"http://127.0.0.1:{port}"}
    return await _through(open_feed("binance", "BTC/USDT", **urls), messages)  # type: ignore[arg-type]


async def over_ccxt(port: int, messages: int) -> Took:
    from nexttick.venues.feeds.ccxt_feed import CcxtFeed

    return await _through(CcxtFeed("binance", "BTC/USDT", options=_options(port)), messages)


async def _through(feed: Any, messages: int) -> Took:
    watch, batches = Stopwatch(), feed.batches()
    async for batch in batches:
        watch.saw(len(batch))
        if watch.trades == messages:
            break
    await batches.aclose()
    return watch.took()


async def bare_ccxt(port: int, messages: int) -> Took:
    import ccxt.pro

    exchange = ccxt.pro.binance(_options(port))
    exchange.options["tradesLimit"] = 2 * messages
    watch = Stopwatch()
    try:
        while watch.trades < messages:
            trades = await asyncio.wait_for(exchange.watch_trades("BTC/USDT"), 3.0)
            watch.saw(len(trades))
    except TimeoutError:
        pass  # it holds the rest back until another message comes
    await exchange.close()
    return watch.took()


def _options(port: int) -> dict[str, Any]:
    rest, ws = f"http://127.0.0.1:{port}/api/v3", f"ws://127.0.0.1:{port}/ws"
    options = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False}
    urls = {"api": {"public": rest, "ws": {"spot": ws}}}
    return {"urls": urls, "options": options, "enableRateLimit": False}


READERS: dict[str, Callable[[int, int], Awaitable[Took]]] = {
    "websockets + orjson": bare,
    "feed": own,
    "ccxt": bare_ccxt,
    "feed over ccxt": over_ccxt,
}


def measure(args: argparse.Namespace) -> running.Result:
    here, there = mp.Pipe()
    server = mp.get_context("spawn").Process(target=serve, args=(there, args.messages), daemon=True)
    server.start()
    port = here.recv()
    took: dict[str, list[Took]] = {name: [] for name in READERS}
    draw = random.Random(0)
    with running.one_core():
        for turn in range(args.repeats + 1):  # the first warms up
            for name in draw.sample(list(READERS), len(READERS)):
                one = asyncio.run(_awaited(READERS[name](port, args.messages)))
                if turn:
                    took[name].append(one)
    server.terminate()
    server.join()
    if any(not took_one.timed for times in took.values() for took_one in times):
        raise ValueError(f"{args.messages} messages came at once: give more --messages to time")
    return {
        "messages": args.messages,
        "readers": {name: _medians(times) for name, times in took.items()},
    }


async def _awaited(work: Awaitable[Took]) -> Took:
    return await work


def _medians(times: list[Took]) -> dict[str, float]:
    rates: dict[str, list[float]] = {
        "per_cpu_s": [took.timed / took.cpu_s for took in times],
        "per_s": [took.timed / took.wall_s for took in times],
        "trades": [took.trades for took in times],
    }
    return {name: statistics.median(values) for name, values in rates.items()}


def show(result: running.Result) -> Iterator[Table]:
    keys = ("per_cpu_s", "per_s", "trades")
    ccxt = result["readers"]["ccxt"]["per_cpu_s"]
    yield running.table(
        *("reader", "messages a CPU second", "a second", "trades got", "times ccxt"),
        rows=(
            (name, *(f"{took[key]:,.0f}" for key in keys), f"{took['per_cpu_s'] / ccxt:.1f}")
            for name, took in result["readers"].items()
        ),
    )


def main(words: Sequence[str] | None = None) -> None:
    running.run(running.parser(__doc__, messages=20_000, repeats=5), measure, show, words)


if __name__ == "__main__":
    main()
