"""A made-up live run: random prices and probabilities told to boards, and the page served."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import numpy as np

from nexttick.live.page.app import build_app, serve
from nexttick.live.page.board import Board, Skill
from nexttick.venues.messages import Health

HORIZONS = ("rise@1", "rise@10", "rise@5s")
BASE_RATES = (0.34, 0.47, 0.45)
FEATURES = (
    "log_return", "log_return@10", "log_return@100", "signed_amount", "signed_amount@10s",
    "trade_rate@1s", "trade_rate@60s", "spread_proxy", "volatility@10s", "volatility@300s",
    "side_run", "time_since_last",
)  # fmt: skip
S_NS = 1_000_000_000
STEP_S = 0.02


@contextlib.asynccontextmanager
async def served(
    boards: dict[str, Board], token: str | None = None, port: int = 0
) -> AsyncIterator[int]:
    """The page on 127.0.0.1, for the length of a block; gives the port."""
    said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    page = asyncio.create_task(serve(build_app(boards, token), port=port, say=said.set_result))
    try:
        await asyncio.wait({page, said}, return_when=asyncio.FIRST_COMPLETED)
        if page.done():
            page.result()
        found = re.search(r":(\d+)/", said.result())
        assert found is not None
        yield int(found[1])
    finally:
        page.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await page


@dataclass
class Clock:
    """Stands at a time that is set, or goes with the wall's.

    Attributes:
        now_ns: the time it stands at; None to go.
    """

    now_ns: int | None = None

    def __call__(self) -> int:
        return time.time_ns() if self.now_ns is None else self.now_ns


@dataclass
class FakeMarket:
    """A random walk with probabilities that lean on the last moves; and whatever goes wrong.

    Attributes:
        board: is told.
        rate: ticks a second of wall-clock time.
        price: of the last tick.
    """

    board: Board
    rate: float
    price: float
    seed: int = 1
    health: Health = field(default_factory=lambda: Health(connected=True, skew_ms=38.0))

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._lean_H = np.zeros(len(HORIZONS))
        self._grid = round(self.price * 1e-5, 2)
        self._count, self._silent_until_ns = 0, 0
        self.board.health(self.health)

    def history(self, seconds: int, clock: Clock) -> None:
        """Begin with a past, through which the board's clock is led."""
        now_ns = time.time_ns()
        for i in range(seconds * 10):
            at_ns = clock.now_ns = now_ns - (seconds * 10 - i) * S_NS // 10
            if i % (seconds * 4) == seconds * 3:
                self._fault(at_ns)
            if at_ns >= self._silent_until_ns:
                for _ in range(max(1, round(self.rate / 10))):
                    self.tick(at_ns)
            if i % 10 == 0:
                self.tell_scores()
        clock.now_ns = None

    def tick(self, time_ns: int) -> None:
        """One tick at this time."""
        step = self._rng.choice([-2, -1, 0, 0, 0, 1, 2])
        self.price = round(self.price + self._grid * step, 2)
        self._lean_H = 0.995 * self._lean_H + 0.12 * self._rng.normal(size=len(HORIZONS))
        usual_H = np.log(np.array(BASE_RATES) / (1 - np.array(BASE_RATES)))
        p_H = 1 / (1 + np.exp(-usual_H - self._lean_H))
        latency_ns = int(33_000 * np.exp(0.25 * abs(self._rng.standard_t(3))))
        self.board.predicted(time_ns, self.price, p_H.astype(np.float32), latency_ns)
        self.health.trades += 1
        self.health.last_arrival_ns = time_ns
        self._count += 1

    def tell_scores(self) -> None:
        """Running scores that settle, and drift."""
        noise = self._rng.normal(size=3) / np.sqrt(self._count + 50)
        self.board.scored(
            {
                name: Skill(bits + off, bits - 0.012, bits + 0.015, 0.69 - bits, self._count, 0.68)
                for name, bits, off in zip(HORIZONS, (0.11, 0.05, 0.03), 0.4 * noise, strict=True)
            }
        )  # fmt: skip
        drift = np.random.default_rng(self.seed).exponential(0.06, len(FEATURES))
        drift[3] = 0.31
        limits = dict.fromkeys(FEATURES, 0.25)
        self.board.drifted(dict(zip(FEATURES, drift, strict=True)), limits)
        self.board.warn(["signed_amount has drifted from training: stability index 0.31"])

    def _fault(self, time_ns: int) -> None:
        self._silent_until_ns = time_ns + 12 * S_NS
        reason = "the connection was cut; REST no longer holds the trades between"
        self.board.gap(time_ns, self._silent_until_ns, reason)
        self.board.reset(self._silent_until_ns, "after a gap")
        self.health.reconnects += 1
        self.health.gaps += 1
        self.health.backfilled += 212
        self.health.duplicates += 41

    async def run(self) -> None:
        """Tick for ever, in small bursts, as many as the clock says that are owed."""
        loop = asyncio.get_running_loop()
        begun_s, ticked = loop.time(), 0
        while True:
            await asyncio.sleep(STEP_S)
            owed = int((loop.time() - begun_s) * self.rate) - ticked
            for _ in range(owed):
                self.tick(time.time_ns())
            ticked += owed
            self.tell_scores()


class FakeLive:
    """Two made-up markets, one of which nothing is known, and their page, in a thread of their own.

    A context manager.

    Args:
        port: 0 for any.
        rate: ticks a second of the first market.
        past_s: seconds of history to begin with.
        token: that is asked for.

    Attributes:
        url: of the page.
        port: it is served on.
    """

    def __init__(
        self, port: int = 0, rate: float = 40.0, past_s: int = 0, token: str | None = None
    ):
        self.port, self._rate, self._past_s, self._token = port, rate, past_s, token
        self.url = ""

    def __enter__(self) -> FakeLive:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True)
        self._thread.start()
        assert started.wait(120), "the page did not start"
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(120)
        assert not self._thread.is_alive(), "the page did not stop"

    def _markets(self) -> Iterator[FakeMarket]:
        for seed, (name, rate, price) in enumerate(
            (("BTC/USDT", self._rate, 64_120.0), ("ETH/USDT", 3.0, 3_150.0))
        ):
            clock = Clock(time.time_ns() - self._past_s * S_NS)
            board = Board(name, HORIZONS, BASE_RATES, clock=clock)
            market = FakeMarket(board, rate, price, seed + 1)
            market.history(self._past_s, clock)
            yield market

    async def _run(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        markets = list(self._markets())
        running = [asyncio.create_task(market.run()) for market in markets]
        boards = {market.board.name: market.board for market in markets}
        boards["NEW/USDT"] = unknown = Board("NEW/USDT", HORIZONS)
        unknown.scored({"rise@1": Skill(np.nan, np.nan, np.nan, np.nan, 0)})
        async with served(boards, self._token, self.port) as self.port:
            self.url = f"http://127.0.0.1:{self.port}/"
            started.set()
            await self._stop.wait()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
