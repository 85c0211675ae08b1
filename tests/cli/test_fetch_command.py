"""`nexttick fetch` against venues on 127.0.0.1: through faults, kills and wrong files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from helpers.console import Said, call, done, refused
from helpers.local_archive import JAN_2024_NS, BinanceShelf, bomb, days_of, market_ticks, zipped
from helpers.local_exchange import TRICKS, LocalExchange
from helpers.recorded_source import market
from helpers.servers import BROKEN, BUSY, CUT, DROP, OK, SLOW, Fault, LocalServer
from nexttick.ticks.store import Store
from nexttick.venues import retrying

HANGS = Fault("slow", seconds=60.0)
MIX = (OK, OK, BUSY, OK, OK, OK, CUT, OK, OK, OK, SLOW, *[OK] * 7, BROKEN, *[OK] * 7, DROP, OK)
BAD_DAY = "2024-01-02"
BAD_MEMBER = f"BTCUSDT-trades-{BAD_DAY}.csv"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and one for temporary files that is looked at."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Venue:
    """A venue on 127.0.0.1 with three days of ticks, and the command that fetches them.

    Attributes:
        command: of `nexttick`.
        server: where it listens.
        ticks: all that it has.
    """

    def __init__(self, command: tuple[str, ...], server: LocalServer, ticks: pl.DataFrame):
        self.command, self.server, self.ticks = command, server, ticks

    def stored(self) -> list[Path]:
        """Files of the days that are stored."""
        return sorted(Path("store").rglob("*.parquet"))

    def kill_when(self, reached: Callable[[], bool]) -> None:
        """Fetch in a process that is killed when it asks for more after something was reached."""
        hanging = threading.Event()

        def faults() -> Iterator[Fault]:
            for fault in cycle(MIX):
                if reached():
                    hanging.set()
                yield HANGS if hanging.is_set() else fault

        self.server.set_faults(faults())
        command = [sys.executable, "-W", "error", "-m", "nexttick", *self.command, "--quiet"]
        with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}) as child:
            came = hanging.wait(60)
            child.kill()
        assert came, "it ended, or asked for nothing more"
        assert child.returncode == -9

    def assert_complete(self) -> None:
        """Every tick once, digit for digit, and no fault; then nothing is asked for any more."""
        (series,) = Store("store").series()
        assert_frame_equal(Store("store").open(series).scan().collect(), self.ticks)
        assert "0 faults" in done("store", "check").out
        asked = len(self.server.requests)
        assert "nothing to fetch" in done(*self.command).out
        assert len(self.server.requests) == asked


@contextmanager
def binance() -> Iterator[Venue]:
    """Its REST interface, which pages by id; every fourth answer is not what it should be."""
    sides = pl.when(pl.col("side") < 0).then(-1).otherwise(1).cast(pl.Int8)
    ticks = market(1, days=3, rows=600).with_columns(pl.col("id") - 999, side=sides)
    tricks = [trick for one in TRICKS * 20 for trick in ("", "", "", one)]
    with LocalExchange("binance", ticks, page=60, tricks=tricks) as exchange:
        url, days = exchange.server.url, ("--from", "2023-12-09", "--to", "2023-12-11")
        command = ("fetch", "binance", "BTC/USDT", *days, "--option", f"base_url={url}")
        yield Venue(command, exchange.server, ticks)


@contextmanager
def archive(shelf: BinanceShelf | None = None) -> Iterator[Venue]:
    """Its archive, a file a day."""
    shelf, ticks = shelf or BinanceShelf(), market_ticks(1900, JAN_2024_NS)
    shelf.put_ticks(ticks, days_of("2024-01", 3))
    with LocalServer(shelf) as server:
        days = ("--from", "2024-01-01", "--to", "2024-01-03", "--option", "jobs=1")
        command = ("fetch", "binance-archive", "BTC/USDT", *days)
        yield Venue((*command, "--option", f"base_url={server.url}"), server, ticks)


VENUES = {"binance": binance, "archive": archive}


@pytest.mark.parametrize("name", VENUES)
def test_killed_between_faults_it_goes_on_to_the_end(name: str) -> None:
    with VENUES[name]() as venue:
        for days in (0, 1, 2):
            before = len(venue.server.requests)
            venue.kill_when(
                lambda days=days, before=before: (  # type: ignore[misc]
                    len(venue.stored()) >= days and len(venue.server.requests) > before + 1
                )
            )
            assert len(venue.stored()) == days
        venue.server.set_faults(cycle(MIX))
        said = done(*venue.command)
        assert "1 days written" in said.out
        venue.assert_complete()


def test_a_venue_that_goes_down_names_the_day_and_keeps_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT_S", 1e-9)
    with binance() as venue:

        def faults() -> Iterator[Fault]:
            while True:
                yield BROKEN if len(venue.stored()) == 1 else OK

        venue.server.set_faults(faults())
        said = refused(*venue.command)
        assert "2023-12-10: binance: asking for aggTrades of BTC/USDT failed" in said
        assert "503" in said
        assert "fetching again goes on there" in said
        first_day, rest = venue.stored()
        assert first_day.name == "2023-12-09.parquet"
        stored = pl.concat([pl.read_parquet(first_day), pl.read_parquet(rest)])
        assert_frame_equal(stored, venue.ticks[: len(stored)])
        assert call("store", "check").code == 0, "a last day that is not whole is no fault"
        venue.server.set_faults(())
        done(*venue.command)
        venue.assert_complete()


WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "wrong checksum": (lambda: b"", "SHA-256"),
    "truncated zip": (lambda: zipped((BAD_MEMBER, b"1,2.0,3.0\n" * 99))[:-40], "corrupt zip"),
    "zip bomb": (lambda: bomb(200 << 20, BAD_MEMBER), "zip bomb"),
    "path traversal": (lambda: zipped((f"../../{BAD_MEMBER}", b"1,2.0,3.0\n")), "'../../"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_names_the_day_and_keeps_the_others(wrong: str) -> None:
    make, words = WRONG[wrong]
    shelf = BinanceShelf()
    with archive(shelf) as venue:
        good = shelf.bodies[shelf.path(BAD_DAY)]
        assert isinstance(good, bytes)
        shelf.put(BAD_DAY, make() or good, told=None if make() else b"another file")
        said = call(*venue.command)
        assert (said.code, said.err) == (2, "")
        assert f"missing, for something is wrong: {BAD_DAY}: " in said.out
        assert words in said.out
        assert [path.stem for path in venue.stored()] == ["2024-01-01", "2024-01-03"]
        checked = call("store", "check")
        assert checked.code == 1
        assert f"fault {BAD_DAY}: not stored: {BAD_DAY}; fetch from {BAD_DAY}" in checked.out
        shelf.put(BAD_DAY, good)
        asked = len(venue.server.requests)
        assert "1 days written" in done(*venue.command).out
        assert all(BAD_DAY in path for path in venue.server.requests[asked:])
        venue.assert_complete()
    assert list(Path("scratch").iterdir()) == []


def test_addresses_that_are_none_are_refused() -> None:
    days = ("--from", "2024-01-01", "--to", "2024-01-01")
    said = refused("fetch", "kraken", "BTC/USD", *days, "--option", "base_url=localhost:80")
    assert "base_url 'localhost:80' is no address" in said
    assert "no such file or folder" in refused("fetch", "./ticks", "BTC/USD", *days)


def test_a_store_is_read_where_it_lies() -> None:
    with archive() as venue:
        done(*venue.command)
        (folder,) = {path.parent for path in venue.stored()}
        by_name: Said = done("store", "describe", folder.relative_to("store"))
        assert done("store", "describe", folder).out == by_name.out
        assert f"name a series of this store, such as {folder}" in refused("ticks", "store")
        venue.assert_complete()


def test_archive_and_exchange_fill_one_series() -> None:
    ticks = market_ticks(1900, JAN_2024_NS).with_columns(pl.col("id") - 6_999)
    shelf = BinanceShelf(kind="aggTrades")
    shelf.put_ticks(ticks, days_of("2024-01", 2))
    command = ("BTC/USDT", "--from", "2024-01-01", "--to", "2024-01-03", "--option")
    with LocalServer(shelf) as server:
        url = ("--option", f"base_url={server.url}")
        said = call("fetch", "binance-archive", *command, "kind=aggTrades", *url)
        assert (said.code, "not there: 2024-01-03" in said.out) == (0, True)
    with LocalExchange("binance", ticks) as exchange:
        source = ("fetch", "binance", *command, f"base_url={exchange.server.url}")
        assert "1 days written" in done(*source).out
        Venue(source, exchange.server, ticks).assert_complete()
