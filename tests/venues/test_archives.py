"""Binance's archive: every tick once and exactly, or a word on which file is wrong."""

from __future__ import annotations

import io
import struct
import threading
import tracemalloc
import zipfile
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from helpers.local_archive import (
    DAY_NS,
    JAN_2024_NS,
    BinanceShelf,
    Given,
    binance_rows,
    binance_text,
    bomb,
    collect,
    day_ns,
    days_of,
    every,
    market_ticks,
    waits,
    zipped,
)
from helpers.servers import BROKEN, BUSY, CUT, DROP, OK, SLOW, LocalServer
from nexttick.ticks.days import day_span
from nexttick.ticks.reading.read import read_ticks
from nexttick.ticks.source import Missing, Page, SourceError
from nexttick.venues.archives import binance_archive, unpacking
from nexttick.venues.archives import spool as days
from nexttick.venues.archives.binance_archive import (
    ArchiveFile,
    BinanceArchive,
    archive_symbol,
    plan,
)

__all__ = ["waits"]
BAD_DAY = "2024-01-02"
BAD_MEMBER = f"BTCUSDT-trades-{BAD_DAY}.csv"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder; the test fails where anything is left there or written beside it."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture(autouse=True)
def nothing_left(scratch: Path):  # type: ignore[no-untyped-def]
    threads = threading.active_count()
    yield
    assert list(scratch.parent.rglob("*")) == [scratch]
    assert threading.active_count() == threads, "a thread is left"


def three_days(**options: object) -> tuple[BinanceShelf, pl.DataFrame]:
    """A shelf with the first days of 2024, one file a day."""
    shelf = BinanceShelf(**options)  # type: ignore[arg-type]
    ticks = market_ticks(2500, JAN_2024_NS)
    shelf.put_ticks(ticks, days_of("2024-01", 3))
    return shelf, ticks


def archive(server: LocalServer, **options: object) -> BinanceArchive:
    settings = {"base_url": server.url, "jobs": 2, "timeout_s": 5.0} | options
    return BinanceArchive("BTC/USDT", **settings)  # type: ignore[arg-type]


def fetch(server: LocalServer, ticks: pl.DataFrame, days: int = 3, **options: object) -> Given:
    stop_ns = JAN_2024_NS + days * DAY_NS
    return collect(archive(server, **options), JAN_2024_NS, stop_ns, ticks)


def assert_only_bad_day_missing(given: Given, *words: str) -> None:
    """One day is missing, by a fault whose reason says these words; all others are whole."""
    (gap,) = given.missing
    assert gap.start_ns == day_ns(BAD_DAY)
    assert gap.stop_ns == day_ns("2024-01-03")
    assert gap.fault
    for word in words:
        assert word in gap.reason
    assert [page.until_ns for page in given.pages] == [day_ns(BAD_DAY), day_ns("2024-01-04")]
    assert all(len(page.ticks) > 300 for page in given.pages)


# --- forms


@pytest.mark.parametrize("market", ["spot", "um", "cm"])
@pytest.mark.parametrize("kind", ["trades", "aggTrades"])
@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize(("start", "unit"), [("2024-12-30", "ms"), ("2025-01-01", "us")])
def test_every_form_comes_exactly(
    market: str, kind: str, header: bool, start: str, unit: str
) -> None:
    symbol = "BTCUSD_PERP" if market == "cm" else "BTCUSDT"
    shelf = BinanceShelf({}, symbol, market, kind)
    start_ns = day_ns(start)
    ticks = market_ticks(900, start_ns, unit)
    labels = [str(np.datetime64(start) + k) for k in range(2)]
    shelf.put_ticks(ticks, labels, unit, header=header)
    with LocalServer(shelf) as server:
        source = BinanceArchive(symbol, market, kind, base_url=server.url)
        given = collect(source, start_ns, start_ns + 2 * DAY_NS, ticks)
    assert not given.missing
    assert len(given.ticks) > 600
    assert source.series.kind == kind
    assert (
        source.series.venue == {"spot": "binance", "um": "binance-um", "cm": "binance-cm"}[market]
    )
    bodies = [body for body in shelf.bodies.values() if isinstance(body, bytes)]
    assert sum(page.received for page in given.pages) == sum(map(len, bodies))


def test_units_may_change_within_a_file() -> None:
    shelf, ticks = three_days()
    rows = binance_rows(ticks.filter(pl.col("time") < day_ns(BAD_DAY)))
    late = pl.int_range(pl.len()) >= 100
    times = pl.when(late).then(pl.col("time") * 1000).otherwise("time")
    ns = pl.when(pl.int_range(pl.len()) >= 200).then(times * 1000).otherwise(times)
    member = "BTCUSDT-trades-2024-01-01.csv"
    shelf.put("2024-01-01", zipped((member, binance_text(rows.with_columns(time=ns)))))
    with LocalServer(shelf) as server:
        assert not fetch(server, ticks).missing


def test_rows_in_disorder_and_doubled_are_sorted_out() -> None:
    shelf, ticks = three_days()
    rows = binance_rows(ticks.filter(pl.col("time") < day_ns(BAD_DAY)))
    mixed = pl.concat([rows, rows.head(7)]).sample(fraction=1, shuffle=True, seed=3)
    member = "BTCUSDT-trades-2024-01-01.csv"
    shelf.put("2024-01-01", zipped((member, binance_text(mixed))))
    with LocalServer(shelf) as server:
        given = fetch(server, ticks)
    assert given.noted["id repeated"] == 7


def test_text_in_small_pieces_and_many_ticks_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = BinanceShelf()
    ticks = market_ticks(2500, JAN_2024_NS)
    order = pl.int_range(pl.len()).shuffle(4)
    month = ticks.with_columns(order.alias("order")).sort("order").drop("order")
    shelf.put_ticks(month, ["2024-01"], header=True)
    monkeypatch.setattr(unpacking, "PIECE_BYTES", 3000)
    monkeypatch.setattr(days, "MAX_ROWS", 400)
    with LocalServer(shelf) as server:
        given = fetch(server, ticks, 31)
    assert len(given.pages) == 31
    assert len(given.ticks) == len(ticks)


def test_recorded_ticks_come_exactly(data_dir: Path) -> None:
    ticks, _ = read_ticks(
        data_dir / "bitflyer" / "bitflyer.execution.20180126.BTC_JPY.csv.gz", outliers=False
    )
    ticks = ticks.filter(pl.col("side") != 0).with_columns(pl.col("time") // 10**6 * 10**6)
    ticks = ticks.sort("time", "id").select("time", "price", "amount", "side", "id")
    shelf = BinanceShelf({}, "BTCJPY")
    labels = ["2018-01-25", "2018-01-26"]
    shelf.put_ticks(ticks, labels)
    with LocalServer(shelf) as server:
        source = BinanceArchive("BTC/JPY", base_url=server.url)
        given = collect(source, day_ns("2018-01-25"), day_ns("2018-01-27"), ticks)
    assert given.ticks.equals(ticks)
    assert len(ticks) > 90_000


# --- months and days


def test_whole_past_months_come_as_one_file_and_edges_by_day() -> None:
    shelf = BinanceShelf()
    ticks = market_ticks(23_000, JAN_2024_NS)
    labels = [*days_of("2024-01", 31), "2024-02", *days_of("2024-02", 29), *days_of("2024-03", 31)]
    shelf.put_ticks(ticks, labels)
    with LocalServer(shelf) as server:
        start, stop = day_ns("2024-01-31T07:00"), day_ns("2024-03-02T01:00")
        given = collect(archive(server), start, stop, ticks)
        zips = sorted(path for path in server.requests if path.endswith(".zip"))
    assert not given.missing
    labels = [path.removesuffix(".zip").partition("trades-")[2] for path in zips]
    assert labels == ["2024-01-31", "2024-03-01", "2024-03-02", "2024-02"]


def test_a_month_that_is_not_there_comes_by_day() -> None:
    shelf = BinanceShelf()
    ticks = market_ticks(23_000, JAN_2024_NS)
    shelf.put_ticks(ticks, days_of("2024-01", 31))
    del shelf.bodies[shelf.path("2024-01-05")]
    shelf.put_ticks(ticks, ["2024-02"])
    with LocalServer(shelf) as server:
        given = collect(archive(server), JAN_2024_NS, day_ns("2024-03-01"), ticks)
    (gap,) = given.missing
    assert not gap.fault
    assert "2024-01-05" in gap.reason
    assert (gap.start_ns, gap.stop_ns) == (day_ns("2024-01-05"), day_ns("2024-01-06"))


def test_a_wrong_month_comes_by_day_and_says_so() -> None:
    shelf = BinanceShelf()
    ticks = market_ticks(23_000, JAN_2024_NS)
    shelf.put_ticks(ticks, days_of("2024-01", 31))
    shelf.put("2024-01", zipped(("BTCUSDT-trades-2024-01.csv", b"no,numbers\n")))
    del shelf.bodies[shelf.path("2024-01-05")]
    with LocalServer(shelf) as server:
        given = collect(archive(server), JAN_2024_NS, day_ns("2024-02-01"), ticks)
    (gap,) = given.missing
    assert gap.fault, "the month's file may hold that day"
    assert "month's file is wrong" in gap.reason
    assert len(given.pages) == 30
    for page in given.pages:
        ((reason, rows),) = page.set_aside
        assert "month's is wrong" in reason
        assert rows == len(page.ticks), "a note of no rows is lost where notes are added up"


def test_days_that_are_not_over_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, ticks = three_days()
    monkeypatch.setattr(binance_archive, "now_ns", lambda: day_ns("2024-01-03"))
    with LocalServer(shelf) as server:
        given = fetch(server, ticks, 5)
        assert not any("2024-01-03" in path for path in server.requests)
    (gap,) = given.missing
    assert (gap.start_ns, gap.stop_ns, gap.fault) == (
        day_ns("2024-01-03"),
        day_ns("2024-01-06"),
        False,
    )


def test_plan_covers_each_day_once() -> None:
    files = plan(day_ns("2023-11-15T12:00"), day_ns("2024-02-10"), date(2024, 1, 20))
    assert [file.label for file in files if file.period == "monthly"] == ["2023-12"]
    covered = [day_span(day)[0] // DAY_NS for file in files for day in file.dates]
    assert covered == list(range(day_ns("2023-11-15") // DAY_NS, day_ns("2024-01-20") // DAY_NS))
    assert ArchiveFile("daily", date(2024, 2, 29), 1).label == "2024-02-29"


# --- faults of the network


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("seed", range(4))
def test_faults_that_pass_leave_nothing_out(seed: int) -> None:
    shelf, ticks = three_days()
    rng = np.random.default_rng(seed)
    kinds = [OK, BUSY, BROKEN, CUT, DROP, SLOW]
    faults = [kinds[k] for k in rng.integers(0, len(kinds), 14)]
    with LocalServer(shelf, faults) as server:
        given = fetch(server, ticks, attempts=20)
    assert not given.missing
    assert len(given.pages) == 3


@pytest.mark.usefixtures("waits")
def test_a_day_that_fails_each_time_is_missing_and_others_go_on() -> None:
    shelf, ticks = three_days()
    shelf.bodies[shelf.path(BAD_DAY)] = 503
    with LocalServer(shelf) as server:
        given = fetch(server, ticks, attempts=3)
    assert_only_bad_day_missing(given, BAD_DAY, "status 503", "tried 3 times")


@pytest.mark.usefixtures("waits")
def test_bytes_are_told_while_a_file_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binance_archive, "_TELL_S", 0.01)
    shelf, ticks = three_days()
    with LocalServer(shelf, [SLOW] * 4) as server:
        given = fetch(server, ticks, jobs=1)
    waiting = [page for page in given.pages if page.ticks.is_empty()]
    assert waiting[0].until_ns == JAN_2024_NS
    assert [page.until_ns for page in given.pages] == sorted(page.until_ns for page in given.pages)
    bodies = [body for body in shelf.bodies.values() if isinstance(body, bytes)]
    assert sum(page.received for page in given.pages) == sum(map(len, bodies))


def test_an_archive_that_is_out_of_reach_is_an_error() -> None:
    shelf, ticks = three_days()
    with LocalServer(shelf, every([BROKEN], 1000)) as server:
        with pytest.raises(SourceError, match=r"2024-01-03.*nor were the files before"):
            fetch(server, ticks, 9, attempts=2)
        assert len(server.requests) <= 2 * 4


def test_a_refusal_is_an_error_at_once() -> None:
    shelf, ticks = three_days()
    shelf.bodies[shelf.path("2024-01-01")] = 403
    with LocalServer(shelf) as server, pytest.raises(SourceError, match=r"2024-01-01.*status 403"):
        fetch(server, ticks)


# --- files that are wrong


def test_a_wrong_checksum_is_asked_for_once_more() -> None:
    shelf, ticks = three_days()
    path = f"{shelf.path(BAD_DAY)}.CHECKSUM"
    right = shelf.bodies[path]
    assert isinstance(right, bytes)
    shelf.bodies[path] = [shelf.checksum(BAD_DAY, b"another file"), right]
    with LocalServer(shelf) as server:
        assert not fetch(server, ticks).missing


def test_a_file_that_is_replaced_while_it_is_fetched_comes_whole() -> None:
    shelf, ticks = three_days()
    new = shelf.bodies[shelf.path(BAD_DAY)]
    assert isinstance(new, bytes)
    old = zipped((BAD_MEMBER, b"1,2.0,3.0,6.0,1704153600000,True,True\n"))
    shelf.bodies[shelf.path(BAD_DAY)] = [old, new]
    with LocalServer(shelf) as server:
        assert not fetch(server, ticks).missing


def test_a_wrong_checksum_twice_is_missing_with_both_sums() -> None:
    shelf, ticks = three_days()
    body = shelf.bodies[shelf.path(BAD_DAY)]
    assert isinstance(body, bytes)
    shelf.put(BAD_DAY, body, told=b"another file")
    with LocalServer(shelf) as server:
        given = fetch(server, ticks)
    sums = [shelf.checksum(BAD_DAY, text).split()[0].decode() for text in (body, b"another file")]
    assert_only_bad_day_missing(given, f"BTCUSDT-trades-{BAD_DAY}.zip", *sums)


@pytest.mark.parametrize(
    "told",
    [404, b"", b"<html>" * 999, b"0" * 64 + b"  \xff.zip\n"],
    ids=["none", "empty", "a page", "another"],
)
def test_a_checksum_that_is_none_is_missing(told: int | bytes) -> None:
    shelf, ticks = three_days()
    shelf.bodies[f"{shelf.path(BAD_DAY)}.CHECKSUM"] = told
    with LocalServer(shelf) as server:
        given = fetch(server, ticks)
    assert_only_bad_day_missing(given, f"BTCUSDT-trades-{BAD_DAY}.zip.CHECKSUM")


BOMB = 200 << 20  # bytes, unpacked
GOOD_ROW = b"1,2.0,3.0,6.0,1704153600000,True,True\n"


def lying_bomb(size: int) -> bytes:
    """A zip of so many zeros that says it holds a thousand bytes."""
    body = bytearray(bomb(size, BAD_MEMBER))
    for offset in (22, body.rindex(b"PK\x01\x02") + 24):  # in the file's header, and in the list
        assert struct.unpack_from("<I", body, offset) == (size,)
        struct.pack_into("<I", body, offset, 1000)
    return bytes(body)


WRONG_ZIPS = {
    "no zip": (lambda: b"<html>busy</html>", "corrupt zip"),
    "empty": (lambda: b"", "corrupt zip"),
    "truncated": (lambda: zipped((BAD_MEMBER, GOOD_ROW * 99))[:-40], "corrupt zip"),
    "bomb": (lambda: bomb(BOMB), "zip bomb"),
    "lying bomb": (lambda: lying_bomb(BOMB), "corrupt zip"),
    "one endless line": (lambda: bomb(60 << 20), "a line longer"),
    "path traversal": (lambda: zipped((f"../../{BAD_MEMBER}", GOOD_ROW)), "../../BTCUSDT"),
    "absolute path": (lambda: zipped((f"/tmp/{BAD_MEMBER}", GOOD_ROW)), "/tmp/BTCUSDT"),
    "two members": (lambda: zipped((BAD_MEMBER, GOOD_ROW), ("b.csv", GOOD_ROW)), "'b.csv'"),
    "no member": (zipped, "holds nothing"),
    "another day": (lambda: zipped(("BTCUSDT-trades-2024-01-03.csv", GOOD_ROW)), "2024-01-03"),
    "text": (lambda: zipped((BAD_MEMBER, b"1,2.0,x,6.0,1704153600000,True,True\n")), BAD_MEMBER),
    "header of another": (lambda: zipped((BAD_MEMBER, b"open,high,low\n" + GOOD_ROW)), "no header"),
    "short line": (lambda: zipped((BAD_MEMBER, GOOD_ROW * 9 + b"1,2.0\n")), "blank or missing"),
    "long line": (
        lambda: zipped((BAD_MEMBER, GOOD_ROW + GOOD_ROW[:-1] + b",9\n")),
        "have 7 fields",
    ),
    "blank": (lambda: zipped((BAD_MEMBER, GOOD_ROW.replace(b"3.0", b""))), "blank or missing"),
    "too few columns": (lambda: zipped((BAD_MEMBER, b"1,2.0,3.0\n")), "3 fields"),
    "seconds": (
        lambda: zipped((BAD_MEMBER, GOOD_ROW.replace(b"600000", b"600"))),
        f"time outside {BAD_DAY}",
    ),
    "binary": (lambda: zipped((BAD_MEMBER, b"\x00\xff\n" * 50)), BAD_MEMBER),
}


@pytest.mark.parametrize("wrong", WRONG_ZIPS)
def test_a_wrong_zip_is_missing_and_bounded_in_memory(wrong: str) -> None:
    shelf, ticks = three_days()
    make, word = WRONG_ZIPS[wrong]
    shelf.put(BAD_DAY, make())
    with LocalServer(shelf) as server:
        tracemalloc.start()
        try:
            given = fetch(server, ticks)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert_only_bad_day_missing(given, BAD_DAY, word)
    assert peak < 0.6 * BOMB


def test_an_encrypted_member_is_missing() -> None:
    shelf, ticks = three_days()
    body = bytearray(zipped((BAD_MEMBER, GOOD_ROW)))
    for offset in (6, body.rindex(b"PK\x01\x02") + 8):
        body[offset] |= 1
    shelf.put(BAD_DAY, bytes(body))
    with zipfile.ZipFile(io.BytesIO(bytes(body))) as check:
        assert check.infolist()[0].flag_bits & 1
    with LocalServer(shelf) as server:
        assert_only_bad_day_missing(fetch(server, ticks), "encrypted")


def test_a_few_rows_of_other_days_are_set_aside() -> None:
    shelf, ticks = three_days()
    rows = binance_rows(
        ticks.filter(pl.col("time").is_between(day_ns(BAD_DAY), day_ns("2024-01-03")))
    )
    stray = rows.head(3).with_columns(pl.col("id") + 10**6, pl.col("time") - 86_400_000)
    shelf.put(BAD_DAY, zipped((BAD_MEMBER, binance_text(pl.concat([rows, stray])))))
    with LocalServer(shelf) as server:
        given = fetch(server, ticks)
    assert given.noted == {f"time outside {BAD_DAY}, which the file is of": 3}


def test_rows_that_are_no_ticks_are_set_aside() -> None:
    shelf, ticks = three_days()
    rows = binance_rows(ticks.filter(pl.col("time") < day_ns(BAD_DAY)))
    zero = rows.head(2).with_columns(pl.col("id") + 10**6, qty=pl.lit(0.0))
    member = "BTCUSDT-trades-2024-01-01.csv"
    shelf.put("2024-01-01", zipped((member, binance_text(pl.concat([zero, rows])))))
    with LocalServer(shelf) as server:
        given = fetch(server, ticks)
    assert given.noted == {"amount not positive and finite": 2}


@pytest.mark.parametrize("side", [-1, 1])
def test_sides_that_are_all_one_are_not_believed(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binance_archive, "_ONE_SIDED", 300)
    shelf, ticks = three_days()
    bad = pl.col("time").is_between(day_ns(BAD_DAY), day_ns("2024-01-03"), closed="left")
    one_sided = ticks.with_columns(side=pl.when(bad).then(side).otherwise("side").cast(pl.Int8))
    shelf.put_ticks(one_sided, [BAD_DAY])
    truth = ticks.with_columns(side=pl.when(bad).then(0).otherwise("side").cast(pl.Int8))
    with LocalServer(shelf) as server:
        given = fetch(server, truth)
    ((reason, rows),) = given.noted.items()
    assert "side not believed" in reason
    assert rows == ticks.filter(bad).height


def test_an_empty_day_is_a_page_without_ticks() -> None:
    shelf, ticks = three_days()
    shelf.put(BAD_DAY, zipped((BAD_MEMBER, b"")))
    bad = pl.col("time").is_between(day_ns(BAD_DAY), day_ns("2024-01-03"), closed="left")
    with LocalServer(shelf) as server:
        given = fetch(server, ticks.filter(~bad))
    assert [len(page.ticks) > 0 for page in given.pages] == [True, False, True]


# --- ahead of the reader


def test_read_ahead_is_bounded_on_disk_and_ends_with_the_reader(scratch: Path) -> None:
    shelf = BinanceShelf()
    ticks = market_ticks(9_000, JAN_2024_NS)
    shelf.put_ticks(ticks, days_of("2024-01", 9))
    with LocalServer(shelf) as server:
        pages = archive(server, jobs=3).pages(JAN_2024_NS, JAN_2024_NS + 9 * DAY_NS)
        for number, page in zip(range(4), pages, strict=False):
            assert isinstance(page, Page)
            asked = sum(path.endswith(".zip") for path in server.requests)
            assert asked <= number + 3
            assert len(list(scratch.rglob("*.zip"))) <= 3
        pages.close()  # type: ignore[attr-defined]
        assert not list(scratch.iterdir())
        asked = len(server.requests)
    assert asked <= 2 * 7


# --- names


@pytest.mark.parametrize(
    ("symbol", "market", "own"),
    [
        ("BTC/USDT", "spot", "BTCUSDT"),
        ("btcusdt", "spot", "BTCUSDT"),
        ("1000SATS/USDT:USDT", "um", "1000SATSUSDT"),
        ("BTC/USDT", "um", "BTCUSDT"),
        ("BTC/USDT:USDT-241227", "um", "BTCUSDT_241227"),
        ("BTC/USD:BTC", "cm", "BTCUSD_PERP"),
        ("BTC/USD:BTC-241227", "cm", "BTCUSD_241227"),
        ("BTCUSD_PERP", "cm", "BTCUSD_PERP"),
    ],
)
def test_symbols(symbol: str, market: str, own: str) -> None:
    assert archive_symbol(symbol, market) == own


@pytest.mark.parametrize("symbol", ["BTC-USDT", "../BTC", "BTC/USDT:USDT", "", "BTC/", "BTC/US?D"])
def test_strange_symbols_are_refused(symbol: str) -> None:
    with pytest.raises(ValueError, match="give it like BTC/USDT"):
        BinanceArchive(symbol)


def test_strange_arguments_are_refused() -> None:
    for options in ({"market": "swap"}, {"kind": "klines"}, {"jobs": 0}):
        with pytest.raises(ValueError, match=str(next(iter(options.values())))):
            BinanceArchive("BTC/USDT", **options)  # type: ignore[arg-type]


def test_consecutive_ids() -> None:
    assert BinanceArchive("BTC/USDT").consecutive_ids
    assert BinanceArchive("BTC/USDT", "um", "aggTrades").consecutive_ids
    assert not BinanceArchive("BTC/USDT", "um").consecutive_ids


@pytest.mark.network
def test_the_real_archive() -> None:
    start_ns = day_ns("2020-01-01")
    parts = list(BinanceArchive("BNB/PAX").pages(start_ns, start_ns + DAY_NS))
    assert all(isinstance(part, Page | Missing) for part in parts)
    assert sum(len(part.ticks) for part in parts if isinstance(part, Page)) > 0
