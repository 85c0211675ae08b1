"""A small run, its market, and what a journal of it holds: what the tests of live share."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from helpers.live_exchange import LocalExchange
from nexttick.cli import run
from nexttick.learn import run_folder
from nexttick.live.journal.journal import Journal
from nexttick.live.journal.table import reading
from nexttick.live.market import Market
from nexttick.live.page.board import Board
from nexttick.live.promises import Promise, base_rates, identify
from nexttick.options import (
    EventOptions,
    LabelOptions,
    ModelOptions,
    OutputOptions,
    Recipe,
    TrainOptions,
)
from nexttick.ticks.simulated import SimulatedMarket, simulate
from nexttick.ticks.writing import write_table
from nexttick.venues.messages import Feed, Health, Message, Trade
from nexttick.venues.opening import open_feed
from nexttick.venues.retrying import Waits

CONTEXT = 8
TICKS = 4000
HASTE = Waits(
    silence_s=0.4,
    delay_s=0.02,
    patience_s=60.0,
    retry_s=0.02,
    first_s=0.01,
    longest_s=0.1,
    open_s=3.0,
)


def trained(folder: Path, kind: str = "cnn", raw_ticks: bool = False) -> Path:
    """A run on the first half of the market, tested, small and quick."""
    market = simulate(SimulatedMarket(ticks=TICKS, seed=5))
    write_table(market, folder / "past.parquet")
    recipe = Recipe(
        events=EventOptions(raw_ticks=raw_ticks, max_gap="10m"),
        labels=LabelOptions(("1", "5s")),
        model=ModelOptions(type=kind, hidden_size=8, num_layers=1, sequence_length=CONTEXT),
        train=TrainOptions(epochs=1, threads=1),
    )
    out = folder / "run"
    run.run((str(folder / "past.parquet"),), recipe, OutputOptions(out=out, quiet=True))
    return out


def opened(run: Path, path: Path, symbol: str = "BTC/USDT", source: str = "replay") -> Market:
    """A market with bare promises, which are quick to make."""
    predictor, fitted = run_folder.load_trained(run, "cpu")
    rates = base_rates(fitted)
    promises = {name: Promise(rate) for name, rate in zip(predictor.horizons, rates, strict=True)}
    identity = identify(run, predictor, fitted, source, symbol)
    board = Board(symbol, predictor.horizons, rates)
    return Market(predictor, promises, Journal(path, identity), board)


def batch_predictions(run: Path, ticks: pl.DataFrame) -> pl.DataFrame:
    return run_folder.load_trained(run, "cpu")[0].predict(ticks)


def assert_same(said: pl.DataFrame, batch: pl.DataFrame) -> None:
    assert said["time"].equals(batch["time"])
    assert said["price"].equals(batch["price"])
    for name in batch.columns[2:]:
        ours, theirs = said[name].cast(pl.Float32).to_numpy(), batch[name].to_numpy()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def table_of(lines: Sequence[str]) -> pl.DataFrame:
    rows = [json.loads(line) for line in lines]
    return pl.DataFrame(rows, infer_schema_length=None)


def events_of(path: Path) -> pl.DataFrame:
    with reading(path) as view:
        return view.events()


def trades_of(path: Path) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(path)
    try:
        return db.execute("SELECT * FROM trades ORDER BY seq").fetchall()
    finally:
        db.close()


def some_trades(count: int, start: int = 0) -> list[Trade]:
    rng = np.random.default_rng(start)
    prices = 100 + np.cumsum(rng.choice([-0.5, 0, 0.5], count))
    return [
        Trade((start + k + 1) * 1_000_000_000, float(price), 1.0, 1, start + k, 0)
        for k, price in enumerate(prices)
    ]


class Told:
    """A feed that says what it is told to."""

    name, symbol = "told", "BTC/USDT"

    def __init__(self, batches: Sequence[list[Message]], pause_s: float = 0.0):
        self._batches, self._pause_s, self.health = batches, pause_s, Health()

    async def batches(self, after: Trade | None = None):  # type: ignore[no-untyped-def]
        for batch in self._batches:
            yield batch
            await asyncio.sleep(self._pause_s)


def feed_of(exchange: LocalExchange, waits: Waits = HASTE) -> Feed:
    urls = {"ws_url": exchange.ws_url, "rest_url": exchange.rest_url}
    return open_feed("binance", exchange.symbol, waits=waits, **urls)


class Until:
    """A feed that ends with a trade."""

    def __init__(self, feed: Feed, last_id: int):
        self._feed, self._last_id = feed, last_id
        self.name, self.symbol, self.health = feed.name, feed.symbol, feed.health

    async def batches(self, after: Trade | None = None):  # type: ignore[no-untyped-def]
        batches = self._feed.batches(after)
        try:
            async for batch in batches:
                yield batch
                if any(isinstance(m, Trade) and m.id >= self._last_id for m in batch):
                    return
        finally:
            await batches.aclose()  # type: ignore[attr-defined]


def later_ticks() -> pl.DataFrame:
    """Ticks after the run's: bursts of one time stamp, and a pause."""
    ticks = simulate(SimulatedMarket(ticks=TICKS, seed=6)).drop("truth")
    number = pl.int_range(pl.len())
    burst = pl.col("time").gather(number - number % 3 * (number % 7 < 3).cast(pl.Int64))
    pause = (number > TICKS // 2).cast(pl.Int64) * 3_600_000_000_000
    return ticks.with_columns(time=(burst + pause).sort())


def told(messages: Sequence[Message]) -> list[Trade]:
    return [m for m in messages if isinstance(m, Trade)]


def values(messages: Sequence[Message]) -> list[tuple[Any, ...]]:
    return [m[:5] for m in told(messages)]
