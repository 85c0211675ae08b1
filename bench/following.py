"""The whole of `nexttick live` at work: an exchange at a pace, a replay, and ten million ticks.

    python -m bench.following [--json] [--only process replay memory] [--rate 1000] [--seconds 30]
                              [--ticks 10000000]

`process`: an exchange of its own process sends trades in Binance's form at a fixed rate to a real
`nexttick live`, whose JSON lines come back through a pipe. The latency of an event is from the
sending of its last trade to the arrival of its line. An event ends with the next trade or after
`--settle`, so the pause between two trades is a part of it. `replay`: a market with journal,
scores, drift and board, fed as fast as it takes ticks, on one core. `memory`: the same for very
many ticks, and the resident memory after each tenth of them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from rich.table import Table

from bench import running
from nexttick.cli import run
from nexttick.learn import run_folder
from nexttick.live.journal.journal import Journal
from nexttick.live.market import Market
from nexttick.live.page.board import Board
from nexttick.live.promises import base_rates, identify, read_promises
from nexttick.options import OutputOptions, Recipe, TrainOptions
from nexttick.ticks.simulated import SimulatedMarket, simulate
from nexttick.ticks.writing import write_table
from nexttick.venues.messages import Message, Trade

FIRST_ID = 1000
WARM_S = 3.0  # before latencies count
WARM_TICKS = 5000
REPLAYED = 200_000  # ticks
TENTHS = 10


def trained(folder: Path) -> Path:
    """A default CNN, trained for an epoch on a simulated market."""
    write_table(simulate(SimulatedMarket(ticks=60_000, seed=0)), folder / "past.parquet")
    recipe = Recipe(train=TrainOptions(epochs=1, threads=1))
    out = folder / "run"
    with redirect_stdout(sys.stderr):
        run.run((str(folder / "past.parquet"),), recipe, OutputOptions(out=out, quiet=True))
    return out


# --- the whole process


def serve(pipe: Connection, rate: float, trades: int) -> None:
    """A small exchange: after the subscription come the trades, at their rate."""
    from aiohttp import web

    async def nothing(request: web.Request) -> web.Response:
        return web.json_response([])

    async def stream(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await send_paced(socket.send_str, rate, trades)
        await asyncio.sleep(3600)
        return socket

    async def run() -> None:
        app = web.Application()
        app.add_routes([web.get("/api/v3/{what}", nothing), web.get("/{path:.*}", stream)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        pipe.send(runner.addresses[0][1])
        await asyncio.sleep(3600)

    asyncio.run(run())


async def send_paced(send: Callable[[str], Any], rate: float, trades: int) -> None:
    """Trades whose time is that of their sending; what is late is caught up with at once."""
    rng = np.random.default_rng(0)
    prices = 60_000 + np.cumsum(rng.choice([-0.5, 0.0, 0.5], trades))
    begun = time.perf_counter()
    for k, price in enumerate(prices.tolist()):
        wait_s = begun + k / rate - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        now_us = time.time_ns() // 1000
        await send(
            f'{{"e":"trade","E":{now_us},"s":"BTCUSDT","t":{FIRST_ID + k},"p":"{price:.2f}",'
            f'"q":"0.01","T":{now_us},"m":{"true" if k % 2 else "false"},"M":true}}'
        )


def measure_process(run: Path, rate: float, seconds: float) -> dict[str, float]:
    """Latencies of a real `nexttick live`, and whether all trades came through."""
    if seconds <= WARM_S:
        raise ValueError(f"--seconds {seconds:g}: give more than the {WARM_S:g} that do not count")
    trades = int(rate * seconds)
    ours, theirs = multiprocessing.Pipe()
    exchange = multiprocessing.get_context("spawn").Process(
        target=serve, args=(theirs, rate, trades), daemon=True
    )
    exchange.start()
    try:
        gc.disable()  # its pauses here would count as the other process's
        lines = list(follow(run, ours.recv(), trades))
    finally:
        gc.enable()
        exchange.kill()
    late_ms = np.array([arrived - orjson.loads(line)["time"] for line, arrived in lines]) / 1e6
    counted = late_ms[int(WARM_S * rate) :]
    median, p99 = np.quantile(counted, [0.5, 0.99]).tolist()
    return {
        "rate": rate,
        "trades": trades,
        "events_said": len(lines),
        "median_ms": median,
        "p99_ms": p99,
        "max_ms": float(counted.max()),
    }


def follow(run: Path, port: int, trades: int) -> Iterator[tuple[bytes, int]]:
    """The lines of `nexttick live` and when each arrived, until the last trade's."""
    addresses = {
        "NEXTTICK_BINANCE_WS": f"ws://127.0.0.1:{port}",
        "NEXTTICK_BINANCE_REST": f"http://127.0.0.1:{port}",
    }
    words = ["--source", "binance", "--symbol", "BTC/USDT", "--dashboard"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "nexttick", "live", str(run), *words, "--journal", folder],
            stdout=subprocess.PIPE,
            env=os.environ | addresses,
        )
        assert process.stdout is not None
        for _ in range(trades):
            line = process.stdout.readline()
            yield line, time.time_ns()
        process.terminate()
        process.wait(60)


# --- in this process


def opened(run: Path, folder: Path) -> Market:
    predictor, fitted = run_folder.load_trained(run, "cpu")
    identity = identify(run, predictor, fitted, "bench", "market")
    board = Board("market", predictor.horizons, base_rates(fitted))
    journal = Journal(folder / "bench.journal", identity)
    return Market(predictor, read_promises(run, predictor, fitted), journal, board)


def batches(ticks: int, size: int = 1000) -> Iterator[list[Message]]:
    """Simulated trades, a million of them made at a time."""
    last_ns, made = 0, 0
    while made < ticks:
        count = min(1_000_000, ticks - made)
        market = simulate(SimulatedMarket(ticks=count, seed=made))
        columns = [market[name].to_numpy() for name in ("time", "price", "amount", "side")]
        columns[0] = columns[0] - columns[0][0] + last_ns + 1_000_000_000
        last_ns = int(columns[0][-1])
        for begin in range(0, count, size):
            rows = zip(*(column[begin : begin + size].tolist() for column in columns), strict=True)
            yield [Trade._make((*row, made + begin + k, row[0])) for k, row in enumerate(rows)]
        made += count


def measure_replay(run: Path, ticks: int) -> dict[str, float]:
    """Ticks a second of a market, its own CPU time and by the clock."""
    if ticks <= WARM_TICKS:
        raise ValueError(f"--ticks {ticks}: give more than the {WARM_TICKS:,} that do not count")
    with tempfile.TemporaryDirectory() as folder:
        market = opened(run, Path(folder))
        prepared = list(batches(ticks))
        warm = WARM_TICKS // len(prepared[0])
        for batch in prepared[:warm]:
            market.take(batch)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        for batch in prepared[warm:]:
            market.take(batch)
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        market.close()
    timed = ticks - WARM_TICKS
    return {
        "ticks": timed,
        "cpu_us_a_tick": cpu_s / timed * 1e6,
        "ticks_per_s": timed / wall_s,
        "ticks_per_cpu_s": timed / cpu_s,
    }


def measure_memory(run: Path, ticks: int) -> dict[str, Any]:
    """Resident memory after each tenth of the ticks."""
    resident: list[float] = []
    taken = 0
    with tempfile.TemporaryDirectory() as folder:
        market = opened(run, Path(folder))
        for batch in batches(ticks):
            market.take(batch)
            taken += len(batch)
            if taken >= ticks * (len(resident) + 1) / TENTHS:
                market.report()
                resident.append(round(running.memory_mib("RssAnon"), 1))
        market.close()
    return {"ticks": ticks, "resident_mib": resident}


def measure(args: argparse.Namespace) -> running.Result:
    with tempfile.TemporaryDirectory() as folder:
        run = trained(Path(folder))
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "process": lambda: measure_process(run, args.rate, args.seconds),
            "replay": lambda: measure_replay(run, min(REPLAYED, args.ticks)),
            "memory": lambda: measure_memory(run, args.ticks),
        }
        return {name: parts[name]() for name in args.only}


def show(result: running.Result) -> Iterator[Table]:
    for part, figures in result.items():
        cells = (f"{v:,.2f}" if isinstance(v, float) else str(v) for v in figures.values())
        yield running.table(*figures, title=part, rows=[cells])


def main(words: Sequence[str] | None = None) -> None:
    options = running.parser(__doc__, rate=1000.0, seconds=30.0, ticks=10_000_000)
    parts, default = ("process", "replay", "memory"), ("process", "replay")
    options.add_argument("--only", nargs="+", choices=parts, default=default)
    running.run(options, measure, show, words)


if __name__ == "__main__":
    main()
