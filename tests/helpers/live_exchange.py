"""A local exchange on 127.0.0.1 whose streams and answers go wrong on a seeded schedule.

    python -m tests.helpers.live_exchange [--lines FILE.jsonl.gz] [--ticks N] [--faults N] …

It speaks Binance's trade streams (bare, combined, subscribed to) with `/api/v3/trades`,
`historicalTrades`, `exchangeInfo`, and Kraken's websocket v2 with `Trades` and `AssetPairs`. It
prints one JSON line with its addresses, waits for a first subscriber, plays its market once, and
goes on answering until it is stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from aiohttp import WSMsgType, web

from .servers import ServerThread

STREAM_FAULTS = (
    "cut", "half", "reserved", "stall", "drop", "duplicate", "reorder", "garbage", "binary",
    "unknown", "correction",
)  # fmt: skip
REST_FAULTS = ("429", "503", "late", "broken")
FAULTS = STREAM_FAULTS + REST_FAULTS
_HALF_FRAME = b"\x81\x64half"  # promises 100 bytes
_RESERVED_FRAME = b"\xf3\x05hello"  # reserved bits and opcode: no websocket frame
_GARBAGE: dict[str, str | bytes] = {
    "garbage": '{"e":"trade",', "binary": bytes(range(256)), "unknown": "[1]",
}  # fmt: skip
CORRECTED = "123.45"  # the amount that a correction tells
_REORDERED = 3  # ticks that come in reverse


class Tick(NamedTuple):
    """One trade of the market, with the pause before it, and lines of other kinds beside it."""

    id: int
    time_ns: int
    price: str
    amount: str
    side: int
    pause_s: float = 0.0
    beside: tuple[str, ...] = ()


@dataclass
class Plan:
    """How the market is played.

    Attributes:
        faults: how many, each at a drawn place; kinds in turn, in drawn order.
        kinds: of the faults.
        seed: of the draws.
        speed: of the pauses between ticks; None plays without pauses, `chunk` ticks at a time.
        chunk: ticks that are sent in one go.
        pause_s: between two chunks, where there is no speed.
        late_s: how long a late answer of REST is late.
        end_with_calm: places no faults in the last tenth.
        keyed: refuses `historicalTrades`, as where a key is needed.
        reach: trades that REST reaches back, None all.
        rest_lag: trades that REST is behind the stream.
        holds: places at which it waits until somebody listens (True), or nobody does.
    """

    faults: int = 0
    kinds: Sequence[str] = FAULTS
    seed: int = 0
    speed: float | None = None
    chunk: int = 20
    pause_s: float = 0.001
    late_s: float = 0.05
    end_with_calm: bool = True
    keyed: bool = False
    reach: int | None = None
    rest_lag: int = 0
    holds: Mapping[int, bool] = field(default_factory=dict)

    def schedule(self, ticks: int) -> dict[int, list[str]]:
        """Return which faults happen before which tick."""
        draws = random.Random(self.seed)
        kinds = [self.kinds[i % len(self.kinds)] for i in range(self.faults)]
        draws.shuffle(kinds)
        last = int(ticks * (0.9 if self.end_with_calm else 1.0))
        places: dict[int, list[str]] = {}
        for kind in kinds:
            places.setdefault(draws.randrange(min(100, last // 2), last), []).append(kind)
        return places


@dataclass
class Subscriber:
    form: Any
    transport: asyncio.Transport
    stalled: bool = False


@dataclass
class LocalExchange(ServerThread):
    """Serves one market; see `ServerThread`.

    Attributes:
        ticks: the market.
        plan: how it is played.
        symbol: base and quote.
        port: to listen on, 0 for a free one.
        done: faults that have happened, in order.
        requests: paths of REST with queries.
        played: ticks that have happened.
    """

    ticks: Sequence[Tick]
    plan: Plan = field(default_factory=Plan)
    symbol: str = "BTC/USDT"
    port: int = 0
    done: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    played: int = 0

    def __post_init__(self) -> None:
        self._subscribers: dict[web.WebSocketResponse, Subscriber] = {}
        self._rest_faults: list[str] = []
        self._dropped: set[int] = set()
        self._held: list[Tick] | None = None
        self._met = asyncio.Event()

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def market(self) -> str:
        return self.symbol.replace("/", "")

    def ccxt_options(self, exchange_id: str) -> dict[str, Any]:
        """What makes ccxt's class talk to this exchange."""
        if exchange_id == "binance":
            urls = {"public": f"{self.rest_url}/api/v3", "ws": {"spot": f"{self.ws_url}/ws"}}
            options = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False}
            return {"urls": {"api": urls}, "options": options, "enableRateLimit": False}
        urls = {"public": self.rest_url, "ws": {"publicV2": f"{self.ws_url}/v2"}}
        return {"urls": {"api": urls}, "enableRateLimit": False}

    # --- the server

    def routes(self) -> list[web.RouteDef]:
        handlers = {
            "/ws/{stream:.*}": self._binance_socket,
            "/ws": self._binance_socket,
            "/stream": self._binance_socket,
            "/v2": self._kraken_socket,
            "/api/v3/trades": self._binance_trades,
            "/api/v3/historicalTrades": self._binance_trades,
            "/api/v3/exchangeInfo": self._binance_info,
            "/0/public/Trades": self._kraken_trades,
            "/0/public/AssetPairs": self._kraken_pairs,
            "/0/public/Assets": self._kraken_pairs,
        }
        return [web.get(path, handler) for path, handler in handlers.items()]

    def left_open(self) -> list[asyncio.Transport]:
        return [subscriber.transport for subscriber in self._subscribers.values()]

    # --- the market

    async def work(self) -> None:
        await self._met.wait()
        faults = self.plan.schedule(len(self.ticks))
        for index, tick in enumerate(self.ticks):
            listened = self.plan.holds.get(index)
            while listened is not None and self._listened() != listened:
                await asyncio.sleep(0.001)
            for kind in faults.get(index, ()):
                await self._someone_listens()
                await self._go_wrong(kind, index)
            if self.plan.speed is not None and tick.pause_s:
                await asyncio.sleep(tick.pause_s / self.plan.speed)
            elif self.plan.speed is None and index % self.plan.chunk == 0:
                await asyncio.sleep(self.plan.pause_s)
            self.played = index + 1
            await self._tell(tick)
        await self._release()

    def _listened(self) -> bool:
        """Whether there is a subscriber who would notice a fault."""
        return not all(subscriber.stalled for subscriber in self._subscribers.values())

    async def _someone_listens(self) -> None:
        while not self._listened():
            await asyncio.sleep(0.001)

    async def _tell(self, tick: Tick) -> None:
        for line in tick.beside:
            await self._send_all(lambda _, line=line: line)
        if tick.id in self._dropped:
            return
        if self._held is None:
            await self._send_all(lambda form: form.message(self.symbol, tick))
        else:
            self._held.append(tick)
            if len(self._held) == _REORDERED:
                await self._release()

    async def _release(self) -> None:
        held, self._held = self._held or [], None
        for tick in reversed(held):
            await self._send_all(lambda form, tick=tick: form.message(self.symbol, tick))

    async def _send_all(self, message: Any) -> None:
        for socket, subscriber in list(self._subscribers.items()):
            if not subscriber.stalled:
                await _send(socket, message(subscriber.form))

    async def _go_wrong(self, kind: str, index: int) -> None:
        self.done.append(kind)
        if kind in REST_FAULTS:
            self._rest_faults.append(kind)
        elif kind == "drop":
            self._dropped.add(self.ticks[index].id)  # REST will know it
        elif kind == "reorder":
            await self._release()
            self._held = []
        else:
            for socket, subscriber in list(self._subscribers.items()):
                await self._hurt(socket, subscriber, kind, index)

    async def _hurt(
        self, socket: web.WebSocketResponse, subscriber: Subscriber, kind: str, index: int
    ) -> None:
        form, transport = subscriber.form, subscriber.transport
        if kind == "stall":
            subscriber.stalled = True
        elif kind == "duplicate":
            for tick in self.ticks[max(index - 5, 0) : index]:
                await _send(socket, form.message(self.symbol, tick))
        elif kind == "correction":
            tick = self.ticks[index - 1]
            await _send(socket, form.message(self.symbol, tick._replace(amount=CORRECTED)))
        elif kind in ("garbage", "binary", "unknown"):
            await _send(socket, _GARBAGE[kind])
        elif kind == "cut":
            transport.abort()
        else:
            transport.write(_HALF_FRAME if kind == "half" else _RESERVED_FRAME)
            transport.close()

    # --- sockets

    async def _binance_socket(self, request: web.Request) -> web.WebSocketResponse:
        unit = request.query.get("timeUnit", "").upper()
        form = BinanceForm(unit == "MICROSECOND", combined=request.path == "/stream")
        socket = web.WebSocketResponse(autoping=True, compress=False)
        if not await _opened(socket, request):
            return socket
        named = request.match_info.get("stream", "") + request.query.get("streams", "")
        if self.market.lower() in named:
            self._subscribe(socket, form, request)
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                continue
            asked = orjson.loads(message.data)
            if asked.get("method") == "SUBSCRIBE":
                await _send(socket, orjson.dumps({"result": None, "id": asked["id"]}).decode())
                self._subscribe(socket, form, request)
        self._subscribers.pop(socket, None)
        return socket

    async def _kraken_socket(self, request: web.Request) -> web.WebSocketResponse:
        form = KrakenForm()
        socket = web.WebSocketResponse(compress=False)
        if not await _opened(socket, request):
            return socket
        await _send(socket, '{"channel":"status","type":"update","data":[{"system":"online"}]}')
        async for message in socket:
            asked = orjson.loads(message.data) if message.type == WSMsgType.TEXT else {}
            if asked.get("method") != "subscribe":
                continue
            known = asked["params"]["symbol"] == [self.symbol]
            answer = {"method": "subscribe", "success": known, "req_id": asked.get("req_id")}
            if not known:
                answer["error"] = "Currency pair not supported"
            await _send(socket, orjson.dumps(answer).decode())
            if known:
                await _send(socket, form.snapshot(self.symbol, self._public()[-50:]))
                self._subscribe(socket, form, request)
        self._subscribers.pop(socket, None)
        return socket

    def _subscribe(self, socket: web.WebSocketResponse, form: Any, request: web.Request) -> None:
        assert isinstance(request.transport, asyncio.Transport)
        self._subscribers[socket] = Subscriber(form, request.transport)
        self._met.set()

    # --- REST

    def _public(self) -> Sequence[Tick]:
        known = self.ticks[: max(self.played - self.plan.rest_lag, 0)]
        return known if self.plan.reach is None else known[-self.plan.reach :]

    async def _fault(self, request: web.Request) -> web.Response | None:
        self.requests.append(request.path_qs)
        kind = self._rest_faults.pop(0) if self._rest_faults else ""
        if kind == "late":
            await asyncio.sleep(self.plan.late_s)
        if kind == "429":
            return web.Response(status=429, headers={"Retry-After": "0"}, text="{}")
        if kind == "503":
            return web.Response(status=503, text="busy")
        return web.Response(text='[{"id":') if kind == "broken" else None

    async def _binance_trades(self, request: web.Request) -> web.Response:
        if (faulty := await self._fault(request)) is not None:
            return faulty
        if request.query["symbol"] != self.market:
            return _json({"code": -1121, "msg": "Invalid symbol."}, 400)
        old = request.path.endswith("historicalTrades")
        if old and self.plan.keyed:
            return _json({"code": -2014, "msg": "API-key format invalid."}, 401)
        known, limit = self._public(), int(request.query.get("limit", 500))
        if old and known:
            start = max(int(request.query["fromId"]) - known[0].id, 0)
            known = known[start : start + limit]
        unit = request.headers.get("X-MBX-TIME-UNIT") == "MICROSECOND"
        return _json([BinanceForm(unit).row(tick) for tick in known[-limit:]])

    async def _binance_info(self, request: web.Request) -> web.Response:
        base, quote = self.symbol.split("/")
        market = {
            "symbol": self.market, "status": "TRADING", "baseAsset": base, "quoteAsset": quote,
            "isSpotTradingAllowed": True, "permissions": ["SPOT"], "filters": [],
            "orderTypes": ["LIMIT", "MARKET"],
        }  # fmt: skip
        return _json({"timezone": "UTC", "symbols": [market]})

    async def _kraken_trades(self, request: web.Request) -> web.Response:
        if (faulty := await self._fault(request)) is not None:
            return faulty
        pair, since = request.query["pair"], int(request.query.get("since", 0))
        if pair.replace("XBT", "BTC") != self.market:
            return _json({"error": ["EQuery:Unknown asset pair"]})
        if since < 10**12:
            since *= 10**9
        known, limit = self._public(), int(request.query.get("count", 1000))
        page = [tick for tick in known if tick.time_ns > since][:limit]
        last = str(page[-1].time_ns if page else since)
        rows = ",".join(KrakenForm.row(tick) for tick in page)
        body = f'{{"error":[],"result":{{"{pair}":[{rows}],"last":"{last}"}}}}'
        return web.Response(text=body, content_type="application/json")

    async def _kraken_pairs(self, request: web.Request) -> web.Response:
        if request.path.endswith("Assets"):
            return _json({"error": [], "result": {}})
        base, quote = self.symbol.replace("BTC", "XBT").split("/")
        pair = {
            "altname": base + quote, "wsname": f"{base}/{quote}", "base": base, "quote": quote,
            "pair_decimals": 2, "lot_decimals": 8, "status": "online", "fees": [],
            "leverage_buy": [], "leverage_sell": [], "ordermin": "0.0001", "tick_size": "0.01",
        }  # fmt: skip
        return _json({"error": [], "result": {base + quote: pair}})


# --- what the venues' messages look like


@dataclass
class BinanceForm:
    micro: bool = False
    combined: bool = False

    def _time(self, tick: Tick) -> int:
        return tick.time_ns // (1000 if self.micro else 1_000_000)

    def message(self, symbol: str, tick: Tick) -> str:
        market, t = symbol.replace("/", ""), self._time(tick)
        data = (
            f'{{"e":"trade","E":{t},"s":"{market}","t":{tick.id},"p":"{tick.price}",'
            f'"q":"{tick.amount}","T":{t},"m":{"true" if tick.side < 0 else "false"},"M":true}}'
        )
        return f'{{"stream":"{market.lower()}@trade","data":{data}}}' if self.combined else data

    def row(self, tick: Tick) -> dict[str, Any]:
        return {
            "id": tick.id, "price": tick.price, "qty": tick.amount, "time": self._time(tick),
            "quoteQty": "0", "isBuyerMaker": tick.side < 0, "isBestMatch": True,
        }  # fmt: skip


@dataclass
class KrakenForm:
    def data(self, symbol: str, tick: Tick) -> str:
        whole, rest = divmod(tick.time_ns, 10**9)
        stamp = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        side = "buy" if tick.side > 0 else "sell"
        return (
            f'{{"symbol":"{symbol}","side":"{side}","price":{tick.price},"qty":{tick.amount},'
            f'"ord_type":"market","trade_id":{tick.id},"timestamp":"{stamp}.{rest // 1000:06}Z"}}'
        )

    def message(self, symbol: str, tick: Tick, kind: str = "update") -> str:
        return f'{{"channel":"trade","type":"{kind}","data":[{self.data(symbol, tick)}]}}'

    def snapshot(self, symbol: str, ticks: Sequence[Tick]) -> str:
        rows = ",".join(self.data(symbol, tick) for tick in ticks)
        return f'{{"channel":"trade","type":"snapshot","data":[{rows}]}}'

    @staticmethod
    def row(tick: Tick) -> str:
        whole, rest = divmod(tick.time_ns, 10**9)
        side = "b" if tick.side > 0 else "s"
        time_s = f"{whole}.{rest // 100:07}"
        return f'["{tick.price}","{tick.amount}",{time_s},"{side}","m","",{tick.id}]'


async def _opened(socket: web.WebSocketResponse, request: web.Request) -> bool:
    try:
        await socket.prepare(request)
    except ConnectionError:  # gone already
        return False
    return True


async def _send(socket: web.WebSocketResponse, message: str | bytes) -> None:
    try:
        if isinstance(message, bytes):
            await socket.send_bytes(message)
        else:
            await socket.send_str(message)
    except ConnectionError:
        pass  # its handler takes it off the list


def _json(answer: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(answer), status=status, content_type="application/json")


# --- markets


def recorded_ticks(path: Path) -> list[Tick]:
    """The trades of a recording (`receive_time_ns JSON` a line), other messages beside them."""
    ticks: list[Tick] = []
    beside: list[str] = []
    before_ns = 0
    with gzip.open(path, "rt") as lines:
        for line in lines:
            received, _, message = line.rstrip().partition(" ")
            data = orjson.loads(message).get("data", {})
            if data.get("e") != "trade":
                beside.append(message)
                continue
            pause_s = (int(received) - (before_ns or int(received))) / 1e9
            before_ns, side = int(received), -1 if data["m"] else 1
            tick = Tick(data["t"], data["T"] * 10**6, data["p"], data["q"], side, pause_s)
            ticks.append(tick._replace(beside=tuple(beside)))
            beside = []
    return ticks


def drawn_ticks(count: int, seed: int = 0, first_id: int = 1000) -> list[Tick]:
    """A random walk that ends now, times in whole µs and strictly increasing."""
    draws = random.Random(seed)
    pauses_us = [1 + int(draws.expovariate(1 / 2000)) for _ in range(count)]
    time_us = time.time_ns() // 1000 - sum(pauses_us)
    price, ticks = 6_000_000, []
    for index, pause_us in enumerate(pauses_us):
        time_us += pause_us
        price += draws.choice((-1, 0, 0, 1))
        amount = f"{draws.randint(1, 10**6) / 10**5:.5f}"
        side = draws.choice((-1, 1))
        ticks.append(
            Tick(
                first_id + index, time_us * 1000, f"{price / 100:.2f}", amount, side, pause_us / 1e6
            )
        )
    return ticks


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the local exchange until it is stopped.")
    parser.add_argument("--lines", type=Path, help="a recording, .jsonl.gz; else ticks are drawn")
    parser.add_argument("--ticks", type=int, default=10_000)
    parser.add_argument("--first-id", type=int, default=1000)
    parser.add_argument("--faults", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(FAULTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", type=float, help="of the pauses; else --chunk and --pause-s")
    parser.add_argument("--chunk", type=int, default=20)
    parser.add_argument("--pause-s", type=float, default=0.02)
    parser.add_argument("--port", type=int, default=0)
    told = parser.parse_args()
    drawn = None if told.lines else drawn_ticks(told.ticks, told.seed, told.first_id)
    ticks = drawn or recorded_ticks(told.lines)
    kinds = told.kinds.split(",")
    plan = Plan(told.faults, kinds, told.seed, told.speed, told.chunk, told.pause_s)
    with LocalExchange(ticks, plan, port=told.port) as exchange:
        ids = {"first_id": ticks[0].id, "last_id": ticks[-1].id}
        print(json.dumps({"ws": exchange.ws_url, "rest": exchange.rest_url, **ids}), flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
