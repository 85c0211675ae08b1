"""A faulty exchange against the real market loop: is every tick in the journal, once and in order?

    python -m bench.chaos [--ticks 1000000] [--faults 200] [--pace 10000] [--seed 0] [--json]

The local exchange of the tests, in a process of its own, cuts, stalls, drops, duplicates,
reorders, corrects, sends garbage and half frames, and lets REST fail, on a seeded schedule. The
loop of `nexttick live` follows it with a journal, in this process. At the end the journal is held
against what the exchange played, tick by tick, and its predictions against those of the batch on
the journal's own ticks, stretch by stretch between declared gaps. The exit code is 1 where
anything differs.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import re
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import asdict
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench import running
from bench.following import trained
from nexttick.learn import run_folder
from nexttick.live import follow as following
from nexttick.live.journal.journal import Journal
from nexttick.live.market import Market
from nexttick.live.page.board import Board
from nexttick.live.promises import base_rates, identify, read_promises
from nexttick.live.records import Prediction
from nexttick.options import parse_duration_ns
from nexttick.venues.messages import Feed, Message, Trade
from nexttick.venues.opening import open_feed
from nexttick.venues.retrying import Waits
from tests.helpers.live_exchange import CORRECTED, LocalExchange, Plan, Tick, drawn_ticks

HASTE = Waits(silence_s=0.5, first_s=0.02, retry_s=0.02, patience_s=30.0, longest_s=0.5)
CLOSE = 1e-5  # of float32 probabilities
CHUNK = 50  # ticks that the exchange sends at once
PACE = 10_000.0  # beyond it more may be missed in a silence than the 100,000 that REST is asked for


def play(pipe: Connection, ticks: list[Tick], plan: Plan, symbol: str) -> None:
    """The exchange: tells its addresses, waits to be told to end, and tells what it did."""
    with LocalExchange(ticks, plan, symbol=symbol) as exchange:
        pipe.send({"ws_url": exchange.ws_url, "rest_url": exchange.rest_url})
        pipe.recv()
        pipe.send((exchange.done, exchange.played))


@contextmanager
def playing(ticks: list[Tick], plan: Plan, symbol: str) -> Iterator[tuple[Connection, Any]]:
    ours, theirs = multiprocessing.Pipe()
    exchange = multiprocessing.get_context("spawn").Process(
        target=play, args=(theirs, ticks, plan, symbol), daemon=True
    )
    exchange.start()
    try:
        yield ours, ours.recv()
    finally:
        exchange.kill()
        exchange.join()


class Until:
    """A feed that ends with the exchange's last tick."""

    def __init__(self, feed: Feed, last_id: int):
        self._feed, self._last_id = feed, last_id
        self.name, self.symbol, self.health = feed.name, feed.symbol, feed.health

    async def batches(self, after: Trade | None = None) -> AsyncGenerator[list[Message], None]:
        """See `messages.Feed`."""
        async with aclosing(self._feed.batches(after)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                yield batch
                if any(isinstance(one, Trade) and one.id >= self._last_id for one in batch):
                    return


def follow(run: Path, path: Path, addresses: dict[str, str], symbol: str, last_id: int) -> Any:
    """What `nexttick live` does; the feed's health, and how many predictions were said."""
    predictor, fitted = run_folder.load_trained(run, "cpu")
    identity = identify(run, predictor, fitted, "binance", symbol)
    board = Board(symbol, predictor.horizons, base_rates(fitted))
    promises = read_promises(run, predictor, fitted)
    market = Market(predictor, promises, Journal(path, identity), board)
    feed = Until(open_feed("binance", symbol, waits=HASTE, **addresses), last_id)  # type: ignore[arg-type]
    said: list[int] = []

    def say(_: Market, predictions: Sequence[Prediction]) -> None:
        said.extend(one.event for one in predictions)

    settle_s = (parse_duration_ns("10ms") or 0) / 1e9
    try:
        asyncio.run(following.run([(market, feed)], say, settle_s))
    finally:
        market.close()
    return feed.health, said


# --- what the journal holds


def compare(run: Path, path: Path, ticks: Sequence[Tick]) -> dict[str, Any]:
    """Ticks that the journal lacks, has twice or has otherwise, and predictions that differ."""
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT id, price, amount, side, time_ns FROM trades ORDER BY seq")
        held = rows.fetchall()
        gaps = db.execute("SELECT after_id, before_id, reason FROM gaps ORDER BY rowid").fetchall()
        breaks = [at for (at,) in db.execute("SELECT trade FROM resets ORDER BY rowid")]
        columns = [name for (_, name, *_) in db.execute("PRAGMA table_info(events)")][5:]
        picked = ", ".join(f'"{name}"' for name in columns)
        said = db.execute(f"SELECT trade, {picked} FROM events ORDER BY seq").fetchall()
    db.close()
    played = {one.id: (float(one.price), float(one.amount), one.side, one.time_ns) for one in ticks}
    ids = [row[0] for row in held]
    counts = Counter(ids)
    missing = played.keys() - counts.keys()
    declared = {number for after, before, _ in gaps for number in range(after + 1, before)}
    other = [row for row in held if played.get(row[0]) != row[1:]]
    # Where the first message of a trade is its correction, it is the corrected trade that counts.
    corrected = [row for row in other if row[2] == float(CORRECTED)]
    return {
        "in_journal": len(ids),
        "gaps": dict(Counter(re.sub(r"\d+", "N", reason) for *_, reason in gaps)),
        "in_gaps": len(missing & declared),
        "lacking": len(missing - declared),
        "twice": sum(count - 1 for count in counts.values()),
        "out_of_order": sum(b <= a for a, b in pairwise(ids)),
        "corrected": len(corrected),
        "otherwise": len(other) - len(corrected),
        **compare_predictions(run, held, breaks, said),
    }


def compare_predictions(
    run: Path, held: Sequence[tuple[Any, ...]], breaks: Sequence[int], said: Sequence[Any]
) -> dict[str, Any]:
    """Each stretch between gaps by itself, as the batch predicts it."""
    predictor = run_folder.load_trained(run, "cpu")[0]
    parts = []
    for begin, end in zip([0, *breaks], [*breaks, len(held)], strict=True):
        if begin < end:
            columns = zip(*held[begin:end], strict=True)
            _, price, amount, side, time_ns = (list(column) for column in columns)
            table = {"time": time_ns, "price": price, "amount": amount}
            ticks = pl.DataFrame(table).with_columns(side=pl.Series(side, dtype=pl.Int8))
            parts.append(predictor.predict(ticks))
    batch = pl.concat(parts)
    theirs_NH = batch.select(batch.columns[2:]).to_numpy().astype(np.float64)
    ours_NH = np.array([row[1:] for row in said], np.float64)
    if ours_NH.shape != theirs_NH.shape:
        return {"events": len(ours_NH), "of_batch": len(theirs_NH), "differing": -1}
    nothing_NH = np.isnan(ours_NH)
    off_NH = np.where(nothing_NH, 0.0, np.abs(ours_NH - theirs_NH))
    off_NH[nothing_NH != np.isnan(theirs_NH)] = 1.0
    return {
        "events": len(ours_NH),
        "of_batch": len(theirs_NH),
        "predicted": int((~nothing_NH[:, 0]).sum()),
        "largest_difference": float(off_NH.max()),
        "differing": int((off_NH > CLOSE).any(axis=1).sum()),
    }


def measure(args: argparse.Namespace) -> running.Result:
    """Play, follow and compare."""
    ticks = drawn_ticks(args.ticks, args.seed)
    plan = Plan(faults=args.faults, seed=args.seed, chunk=CHUNK, pause_s=CHUNK / args.pace)
    with (
        tempfile.TemporaryDirectory() as name,
        playing(ticks, plan, args.symbol) as (pipe, addresses),
    ):
        run, path = trained(Path(name)), Path(name) / "chaos.journal"
        begun_s = time.perf_counter()
        health, said = follow(run, path, addresses, args.symbol, ticks[-1].id)
        seconds = time.perf_counter() - begun_s
        pipe.send("end")
        done, played = pipe.recv()
        compared = compare(run, path, ticks)
    return {
        "played": played,
        "faults": dict(sorted(Counter(done).items())),
        "seconds": round(seconds, 1),
        "ticks_per_s": round(played / seconds),
        "said": len(said),
        "said_in_order_once": said == list(range(compared["events"])),
        **compared,
        "health": {key: value for key, value in asdict(health).items() if value},
    }


def wrong_in(result: running.Result) -> list[str]:
    """What should be nothing and is not."""
    wrong = ("lacking", "twice", "out_of_order", "otherwise", "differing")
    names = [name for name in wrong if result[name]]
    return names + ["said_in_order_once"] * (not result["said_in_order_once"])


def show(result: running.Result) -> Iterator[str]:
    for key, value in result.items():
        pairs = value.items() if isinstance(value, dict) else ()
        yield f"{key:20} {', '.join(f'{a} {b}' for a, b in pairs) if pairs else value}"


def main(words: Sequence[str] | None = None) -> int:
    options = running.parser(__doc__, ticks=1_000_000, faults=200, seed=0, symbol="BTC/USDT")
    options.add_argument("--pace", type=float, default=PACE, help="ticks a second at the most")
    if wrong := wrong_in(running.run(options, measure, show, words)):
        print(f"wrong: {', '.join(wrong)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
