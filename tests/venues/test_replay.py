"""Recorded ticks and standard input as feeds."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import polars as pl
import pytest

from helpers.live_runs import told, values
from helpers.markets import simulated_ticks
from nexttick.venues.feeds.replay import Replay
from nexttick.venues.feeds.stdin import Stdin
from nexttick.venues.messages import Feed, Message, Trade


async def all_batches(feed: Feed, after: Trade | None = None) -> list[list[Message]]:
    return [batch async for batch in feed.batches(after)]


def test_replay_gives_all_ticks_in_lists_of_bounded_length(tmp_path: Path) -> None:
    ticks = simulated_ticks(2500)
    ticks.drop("truth").write_parquet(tmp_path / "ticks.parquet")
    for source in (ticks, tmp_path / "ticks.parquet"):
        batches = asyncio.run(all_batches(Replay(source, None, "BTC/USD", batch=400)))
        assert [len(batch) for batch in batches] == [400] * 6 + [100]
        rows = ticks.select("time", "price", "amount", "side", "id").rows()
        assert values([m for batch in batches for m in batch]) == rows


def test_replay_at_a_pace_gives_ticks_of_one_instant_together() -> None:
    ticks = pl.DataFrame({"time": [10**18, 10**18, 10**18 + 5, 10**18 + 9]}).with_columns(
        price=pl.lit(1.0), amount=pl.lit(2.0), side=pl.lit(0, pl.Int8)
    )
    feed = Replay(ticks, speed=10.0)
    batches = asyncio.run(all_batches(feed))
    assert [[t.time_ns - 10**18 for t in told(batch)] for batch in batches] == [[0, 0], [5], [9]]
    assert [t.id for batch in batches for t in told(batch)] == [0, 1, 2, 3]  # of its own
    assert feed.health.trades == 4
    rest = asyncio.run(all_batches(feed, told(batches[1])[0]))
    assert values(rest[0]) == values(batches[2])


def test_replay_keeps_the_pace_of_the_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    slept, clock = list[float](), [0.0]
    ticks = simulated_ticks(50)
    monkeypatch.setattr("nexttick.venues.feeds.replay.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("nexttick.venues.feeds.replay.asyncio.sleep", sleep)
    asyncio.run(all_batches(Replay(ticks, speed=4.0)))
    span_s = (ticks["time"][-1] - ticks["time"][0]) / 1e9
    assert clock[0] == pytest.approx(span_s / 4.0, abs=0.001)


def test_replay_goes_on_by_id_within_one_instant() -> None:
    ticks = simulated_ticks(30).with_columns(time=pl.lit(10**18))
    after = Trade(10**18, 1.0, 1.0, 1, 11, 0)
    batches = asyncio.run(all_batches(Replay(ticks, None), after))
    assert [t.id for t in told(batches[0])] == list(range(12, 30))


@pytest.mark.parametrize(("speed", "batch"), [(0.0, 10), (-1.0, 10), (1.0, 0)])
def test_replay_refuses(speed: float, batch: int) -> None:
    with pytest.raises(ValueError, match="give"):
        Replay(simulated_ticks(30), speed, batch=batch)


def from_stdin(written: bytes, after: Trade | None = None) -> tuple[list[Message], Stdin]:
    reading, writing = os.pipe()
    os.write(writing, written)
    os.close(writing)
    feed = Stdin("BTC/USD", reading)
    batches = asyncio.run(all_batches(feed, after))
    os.close(reading)
    return [m for batch in batches for m in batch], feed


def test_stdin_reads_trades_and_passes_over_what_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = [
        '{"time": "2026-01-02T03:04:05.678901Z", "price": 100.5, "amount": 0.25, "side": 1}',
        '{"time": 1767323046000000000, "price": "7", "amount": 1, "side": "sell", "id": 17}',
        '{"time": 1767323047000000000, "price": 7',
        '{"time": 1767323047, "price": 7, "amount": 1}',
        '{"time": 1767323048000000000, "price": -7, "amount": 1}',
        "",
        '{"price": 7, "amount": 1}',
        '{"time": 1767323048000000000, "price": 7, "amount": 1, "side": "up"}',
        "[1, 2]",
        '{"time": 1767323046000000000, "price": "7", "amount": 1, "side": "sell", "id": 17}',
        '{"time": 1767323045000000000, "price": 7, "amount": 1}',
        '{"time": 1767323049000000000, "price": 8, "amount": 1}',
    ]
    with caplog.at_level(logging.WARNING):
        messages, feed = from_stdin("\n".join(lines).encode())
    assert values(messages) == [
        (1767323045678901000, 100.5, 0.25, 1, -1),
        (1767323046000000000, 7.0, 1.0, -1, 17),
        (1767323049000000000, 8.0, 1.0, 0, -1),
    ]
    health = feed.health
    assert (health.malformed, health.duplicates, health.late) == (6, 1, 1)
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[1] for text in said] == [f" line {n}" for n in (3, 4, 5, 7, 8, 9)]
    assert "price -7.0: a price is positive" in said[2]
    assert "no time" in said[3]


def test_stdin_reads_more_than_a_pipe_holds_at_once_and_goes_on_after_a_trade() -> None:
    lines = [
        f'{{"time": {10**18 + i}, "price": 1.5, "amount": 1, "id": {i}}}\n' for i in range(900)
    ]
    messages, feed = from_stdin("".join(lines).encode(), Trade(10**18 + 99, 1.5, 1.0, 0, 99, 0))
    assert [t.id for t in told(messages)] == list(range(100, 900))
    assert feed.health.malformed == 0


def test_stdin_that_cannot_be_read_ends_with_an_error() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    os.close(reader)

    async def read() -> list[list[Message]]:
        return [batch async for batch in Stdin(fd=reader).batches()]

    with pytest.raises(OSError, match="standard input cannot be read"):
        asyncio.run(asyncio.wait_for(read(), 10.0))
