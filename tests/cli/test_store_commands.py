"""`nexttick fetch` and `nexttick store` as a user runs them."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from rich.console import Console

from helpers.console import call, done, refused, strict_json
from helpers.recorded_source import FIRST_NS, SERIES, Recorded, market
from nexttick.ticks.days import DAY_NS
from nexttick.ticks.source import Missing, Source, SourceError
from nexttick.ticks.store import Store
from nexttick.ticks.store.writer import writing
from nexttick.venues import opening

NAME = "recorded/BTC-USDT/trades"
DAYS = ("--from", "2023-12-09", "--to", "2023-12-11")


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recorded:
    """A source that the registry knows as `recorded`, in an empty folder."""
    made = Recorded(market(1))
    offer(monkeypatch, lambda symbol, page_rows=100, kind="trades": made)
    monkeypatch.chdir(tmp_path)
    return made


def offer(monkeypatch: pytest.MonkeyPatch, factory: Callable[..., Source]) -> None:
    monkeypatch.setitem(opening.SOURCES, "recorded", lambda: factory)


def stored(url: str = "store") -> pl.DataFrame:
    return Store(url).open(SERIES).scan().collect()


def test_fetch_list_check_export(source: Recorded) -> None:
    said = done("fetch", "recorded", "BTC/USDT", *DAYS)
    words = ("2,000 new ticks", "3 days written", "100.0 kB", "recorded ticks")
    assert all(word in said.out for word in words)
    assert_frame_equal(stored(), source.ticks)
    said = done("store", "list")
    assert all(word in said.out for word in (NAME, "2,000", "2023-12-09", "2023-12-11"))
    assert "0 faults" in done("store", "check").out
    said = done("store", "export", NAME, "out.parquet", "--from", "2023-12-10")
    assert "written to out.parquet" in said.out
    out = pl.read_parquet("out.parquet")
    assert_frame_equal(out, source.ticks.filter(pl.col("time") >= FIRST_NS + DAY_NS))
    assert "2,000" in done("store", "describe", NAME).out
    assert "nothing to fetch" in done("fetch", "recorded", "BTC/USDT", *DAYS).out


def test_json_says_the_same(source: Recorded) -> None:
    done("fetch", "recorded", "BTC/USDT", *DAYS, "--store", "here")
    (series,) = strict_json(done("store", "list", "--store", "here", "--json").out)["series"]
    assert (series["venue"], series["symbol"], series["folder"]) == ("recorded", "BTC/USDT", NAME)
    assert sum(day["rows"] for day in series["days"]) == 2000
    files = Path("here").rglob("*.parquet")
    assert series["bytes"] == sum(file.stat().st_size for file in files)
    told = strict_json(done("store", "describe", NAME, "--store", "here", "--json").out)
    assert told["rows"] == 2000
    assert strict_json(done("store", "check", "--store", "here", "--json").out) == {"findings": []}


def test_check_ends_with_one_where_there_is_a_fault(source: Recorded) -> None:
    done("fetch", "recorded", "BTC/USDT", *DAYS)
    path = Path("store") / NAME / "2023-12-10.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    said = call("store", "check", NAME)
    assert said.code == 1
    assert "fault 2023-12-10" in said.out
    told = call("store", "check", "--json")
    assert told.code == 1
    days = {one["day"] for one in json.loads(told.out)["findings"]}
    assert days == {"2023-12-10"}
    said = done("fetch", "recorded", "BTC/USDT", *DAYS)
    assert "fetched anew: 2023-12-10" in said.out
    assert done("store", "check", NAME)


def test_a_fault_that_leaves_a_hole_ends_with_two(source: Recorded) -> None:
    hole = (FIRST_NS + DAY_NS, FIRST_NS + 2 * DAY_NS)
    source.missing = (Missing(*hole, "wrong checksum"),)
    said = call("fetch", "recorded", "BTC/USDT", *DAYS)
    assert said.code == 2
    assert "missing, for something is wrong: 2023-12-10: wrong checksum" in said.out
    quiet = call("fetch", "recorded", "BTC/USDT", *DAYS, "--quiet")
    assert (quiet.code, quiet.out) == (2, "")
    assert "wrong checksum" in quiet.err
    source.missing = (Missing(*hole, "not yet published", fault=False),)
    said = call("fetch", "recorded", "BTC/USDT", *DAYS)
    assert said.code == 0
    assert "not there: 2023-12-10: not yet published" in said.out


def test_quiet_prints_nothing(source: Recorded) -> None:
    said = done("fetch", "recorded", "BTC/USDT", *DAYS, "--quiet")
    assert said.out == ""
    assert_frame_equal(stored(), source.ticks)


def test_a_terminal_sees_the_day_and_all(source: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    terminal = Console(file=out, force_terminal=True, width=80, highlight=False)
    monkeypatch.setattr("nexttick.cli.screen_store.console", terminal)
    monkeypatch.setattr("nexttick.cli.screen_store._REFRESH_S", 0.0)
    done("fetch", "recorded", "BTC/USDT", *DAYS)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    lines = [line.strip() for line in re.split(r"[\r\n]+", shown)]
    assert any(re.match(r"2023-12-10 .* \d+% [\d,]+ rows, [\d,]+/s, .*B/s", one) for one in lines)
    assert any(re.match(r"in all .*100% 2,000 rows, .*, 100.0 kB, ", one) for one in lines)
    assert max(map(len, lines)) <= 80


def test_the_last_day_is_yesterday(source: Recorded) -> None:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    done("fetch", "recorded", "BTC/USDT", "--from", str(yesterday))
    ((start, stop),) = source.asked
    assert datetime.fromtimestamp(start / 1e9, UTC).date() == yesterday
    assert stop - start == DAY_NS


def test_an_error_keeps_what_came_and_says_so(source: Recorded) -> None:
    source.events = {12: SourceError("the venue is down")}
    said = refused("fetch", "recorded", "BTC/USDT", *DAYS)
    assert "2023-12-10: the venue is down; what came before is kept" in said
    assert len(stored()) > 1100
    source.events = {}
    done("fetch", "recorded", "BTC/USDT", *DAYS)
    assert_frame_equal(stored(), source.ticks)


def test_options_reach_the_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[object] = []

    def make(
        symbol: str,
        venue: str | None = None,
        key: str | None = None,
        jobs: int = 4,
        wait_s: float = 1.0,
        whole: bool = False,
    ) -> Source:
        given.append((symbol, venue, jobs, wait_s, whole))
        return Recorded(market(1))

    offer(monkeypatch, make)
    command = ("fetch", "recorded", "BTC/USDT", *DAYS, "--store", tmp_path)
    options = ("venue=a", "jobs=2", "wait_s=.5", "whole=Yes")
    done(*command, *(word for one in options for word in ("--option", one)))
    assert given == [("BTC/USDT", "a", 2, 0.5, True)]
    assert "did you mean 'venue'" in refused(*command, "--option", "venues=x")
    assert "has no option 'key'" in refused(*command, "--option", "key=secret")
    assert "'two' is no whole number" in refused(*command, "--option", "jobs=two")
    assert "'maybe' is no yes or no" in refused(*command, "--option", "whole=maybe")
    assert "'jobs' is no NAME=VALUE" in refused(*command, "--option", "jobs")


def test_what_a_source_has_to_say_is_said(source: Recorded) -> None:
    source.notice = "these are no trades"  # type: ignore[attr-defined]
    said = call("fetch", "recorded", "BTC/USDT", *DAYS)
    assert (said.code, said.err) == (0, "nexttick: these are no trades\n")


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "date": (("fetch", "recorded", "X", "--from", "31.1.2024"), "--from '31.1.2024' is no date"),
    "order": (
        ("fetch", "recorded", "X", "--from", "2024-01-02", "--to", "2024-01-01"),
        "--from 2024-01-02 lies after --to 2024-01-01",
    ),
    "future": (("fetch", "recorded", "X", "--from", "2199-01-01"), "lies in the future"),
    "source": (("fetch", "binance-archiv", "X", *DAYS), "did you mean binance-archive"),
    "exchange": (("fetch", "krakem", "X", *DAYS), "did you mean kraken"),
    "empty": (("store", "check"), "store: no series is stored here"),
    "command": (("store", "chek"), "command 'store chek' is unknown"),
}


@pytest.mark.parametrize("what", WRONG)
def test_mistakes_are_explained(what: str, source: Recorded) -> None:
    args, words = WRONG[what]
    assert words in refused(*args)
    assert not Path("store").exists()


def test_a_series_of_a_newer_version_hides_no_other(source: Recorded) -> None:
    done("fetch", "recorded", "BTC/USDT", *DAYS, "--quiet")
    shutil.copytree("store/recorded/BTC-USDT", "store/recorded/ETH-USDT")
    path = Path("store/recorded/ETH-USDT/trades/manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    said = call("store", "list")
    assert said.code == 0
    assert "BTC-USDT/trades" in said.out
    assert "a manifest of format 2" in said.err
    report = json.loads(call("store", "list", "--json").out)["series"]
    assert ["error" in one for one in report] == [False, True]
    assert "a manifest of format 2" in call("store", "check").out


def test_unknown_series_are_explained(source: Recorded) -> None:
    done("fetch", "recorded", "BTC/USDT", *DAYS)
    said = refused("store", "export", "recorded/BTC-USD/trades", "out.csv")
    assert f"did you mean '{NAME}'" in said
    assert "give a name that ends in" in refused("store", "export", NAME, "out.txt")


def test_an_empty_store_lists_nothing(source: Recorded) -> None:
    assert "no series is stored here" in done("store", "list").out
    assert done("store", "--help").out.count("store") > 3


def test_another_process_is_waited_for(source: Recorded) -> None:
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with writing(Store("store").open(SERIES)):
            held.set()
            free.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    said = refused("fetch", "recorded", "BTC/USDT", *DAYS, "--wait-s", "0.05")
    free.set()
    thread.join()
    waiting, refusal = said.splitlines()
    assert "another process is writing here; waiting for it, 0.05 s at most" in waiting
    assert "another process has been writing here for 0.05 s" in refusal


STOPPED = """
import sys
import time
sys.path.insert(0, {tests!r})
from nexttick.venues import opening
from helpers.recorded_source import Recorded, market

class Slow(Recorded):
    def pages(self, start_ns, stop_ns):
        for number, page in enumerate(super().pages(start_ns, stop_ns)):
            if number == 4:
                time.sleep(600)  # until the signal
            yield page
            print("page", flush=True)

opening.SOURCES["recorded"] = lambda: lambda symbol: Slow(market(1))
from nexttick.cli.main import main
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_signal_commits_what_is_complete(number: signal.Signals, source: Recorded) -> None:
    code = STOPPED.format(tests=str(Path(__file__).parents[1]))
    command = [sys.executable, "-W", "error", "-c", code, "fetch", "recorded", "BTC/USDT", *DAYS]
    with subprocess.Popen(
        [*command, "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for _ in range(4):  # the fourth is said when all before it are taken in
            assert child.stdout.readline() == "page\n"
        os.kill(child.pid, number)
        _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (130, "nexttick: stopped\n")
    got = stored()
    assert 200 < len(got) < 2000
    assert_frame_equal(got, source.ticks[: len(got)])
    done("fetch", "recorded", "BTC/USDT", *DAYS)
    assert_frame_equal(stored(), source.ticks)
    assert source.asked[0][0] > FIRST_NS


def test_training_reads_a_series(source: Recorded) -> None:
    done("fetch", "recorded", "BTC/USDT", *DAYS)
    report = strict_json(done("ticks", f"store/{NAME}", "--json").out)
    assert report["ticks"]["rows"] == 2000
    assert report["set_aside"] == []
