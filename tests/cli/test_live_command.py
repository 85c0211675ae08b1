"""`nexttick live` from its command line: signals, pipes, ports, several markets, mistakes."""

from __future__ import annotations

import functools
import json
import logging
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from helpers.live_exchange import LocalExchange, Plan, drawn_ticks
from helpers.live_runs import (
    Until,
    assert_same,
    batch_predictions,
    events_of,
    feed_of,
    opened,
    trained,
)
from nexttick.cli import live, main, screen_live
from nexttick.options import LiveOptions


def test_what_is_logged_comes_with_its_time_and_only_meanwhile(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = logging.getLogger("nexttick.venues.feeds.stream")
    with screen_live.logging_lines():
        log.info("binance A/B: connected")
        log.debug("too much")
    log.info("afterwards")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ binance A/B: connected\n", capsys.readouterr().err
    )


def test_a_taken_port_ends_it_with_a_line(
    live_run: Path, later: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ["live", live_run, "--source", "replay", "--file", later, "--journal", tmp_path]
        assert main.main([*map(str, words), "--dashboard", "--port", port]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"nexttick: the page can't be served on 127.0.0.1:{port}")
    with opened(
        live_run, tmp_path / "replay-market-later.parquet.journal", "market"
    ).journal as journal:
        assert journal.events == 0


def test_a_reader_that_has_seen_enough_ends_it_and_it_goes_on(
    live_run: Path, later: Path, tmp_path: Path
) -> None:
    words = ["live", live_run, "--source", "replay", "--file", later, "--speed", "max"]
    command = [sys.executable, "-m", "nexttick", *map(str, words), "--journal", str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 141
    assert "Traceback" not in told
    held = events_of(tmp_path / "replay-market-later.parquet.journal")
    assert held["time"][0] == json.loads(first)["time"]
    options = LiveOptions(source="replay", file=str(later), speed="max", journal=tmp_path)
    live.live((live_run,), options)
    whole = events_of(tmp_path / "replay-market-later.parquet.journal")
    assert_same(whole, batch_predictions(live_run, pl.read_parquet(later)))


def test_two_markets_in_one_process(
    live_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    ticks = drawn_ticks(300)
    plan = Plan(pause_s=0.001)
    with (
        LocalExchange(ticks, plan, symbol="BTC/USDT") as one,
        LocalExchange(ticks, plan, symbol="ETH/USDT") as two,
    ):
        exchanges = {"BTC/USDT": one, "ETH/USDT": two}
        monkeypatch.setattr(
            "nexttick.venues.opening.open_feed",
            lambda source, symbol, **_: Until(feed_of(exchanges[symbol]), ticks[-1].id),
        )
        options = LiveOptions(source="binance", symbol=("BTC/USDT", "ETH/USDT"), journal=tmp_path)
        live.live((live_run,), options)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert {line["symbol"] for line in lines} == set(exchanges)
    assert (
        sorted(path.suffix for path in tmp_path.iterdir() if path.suffix == ".journal")
        == [".journal"] * 2
    )


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(how: int, live_run: Path, later: Path, tmp_path: Path) -> None:
    words = ["live", str(live_run), "--source", "replay", "--file", str(later), "--journal"]
    out = tmp_path / "lines.jsonl"
    with out.open("w") as lines_file:
        process = subprocess.Popen(
            [sys.executable, "-m", "nexttick", *words, str(tmp_path)],
            stdout=lines_file,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not out.stat().st_size and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(how)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines
    held = events_of(tmp_path / "replay-market-later.parquet.journal")
    assert [line["time"] for line in lines] == held["time"].to_list()
    assert "nexttick journal" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (LiveOptions(), "--source is missing"),
        (LiveOptions(source="replay"), "needs --file"),
        (LiveOptions(source="binance"), "--symbol is missing"),
        (LiveOptions(source="binance", symbol=("A/B", "A/B")), "names a market twice"),
        (LiveOptions(source="stdin", symbol=("A/B", "C/D")), "gives one market"),
        (LiveOptions(source="stdin", file="x"), "--file is for --source replay"),
        (LiveOptions(source="stdin", speed="0"), "--speed '0' must be"),
        (LiveOptions(source="stdin", settle="soon"), "--settle 'soon' is no duration"),
        (LiveOptions(source="stdin", dashboard=True, host="0.0.0.0"), "token"),
        (LiveOptions(source="stdin", port=99_999), "--port 99999: a port is a number"),
        (LiveOptions(source="stdin", journal=Path(__file__)), r"--journal .* is a file"),
        (
            LiveOptions(source="stdin", journal=Path("/proc/no")),
            "--journal /proc/no cannot be made",
        ),
        (LiveOptions(source="nowhere", symbol=("A/B",)), "source='nowhere' is not known"),
    ],
)
def test_mistakes_are_told(options: LiveOptions, words: str, live_run: Path) -> None:
    with pytest.raises(ValueError, match=words):
        live.live((live_run,), options)


def test_a_replay_tells_what_it_set_aside_and_that_nothing_is_new(
    untested_run: Path, later: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks = pl.read_parquet(later)[:100]
    nothing = pl.when(pl.int_range(pl.len()) == 50).then(0.0).otherwise(pl.col("amount"))
    ticks.with_columns(amount=nothing).write_parquet(tmp_path / "ticks.parquet")
    options = LiveOptions(
        source="replay", file=str(tmp_path / "ticks.parquet"), speed="max", journal=tmp_path
    )
    told = []
    for _ in range(2):
        live.live((untested_run,), options)
        told.append(capsys.readouterr().err)
    assert "ticks.parquet: 1 rows set aside: " in told[0]
    assert "market: 99 trades" in told[0]
    assert "newer than the last one of the journal" not in told[0]
    assert "market: no tick is newer than the last one of the journal" in told[1]


def test_a_journal_of_another_predictor_is_refused(
    live_run: Path, later: Path, tmp_path: Path
) -> None:
    other = trained(tmp_path, "rnn")
    options = LiveOptions(source="replay", file=str(later), speed="max", journal=tmp_path)
    market = opened(live_run, tmp_path / "replay-market-later.parquet.journal", "market")
    market.close()
    with pytest.raises(ValueError, match="fingerprint"):
        live.live((other,), options)


def test_runs_and_symbols_must_fit(live_run: Path) -> None:
    options = LiveOptions(source="binance", symbol=("A/B", "C/D", "E/F"))
    with pytest.raises(ValueError, match="2 run folders for 3 symbols"):
        live.live(
            (
                live_run,
                live_run,
            ),
            options,
        )


def test_symbols_are_given_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Any, ...]] = []

    @functools.wraps(live.live)
    def keep(runs: Any, options: LiveOptions) -> None:
        told.append((runs, options.symbol))

    monkeypatch.setitem(main.GROUPS["Run live"], "live", keep)
    words = ["--symbol", "BTC/USDT", "--symbol", "ETH/USDT", "--source", "binance"]
    assert main.main(["live", *words, "run"]) == main.main(["live", "run", *words]) == 0
    assert told == [((Path("run"),), ("BTC/USDT", "ETH/USDT"))] * 2
