"""Files of ticks, here and at addresses, in the dialects that `read_ticks` knows."""

from __future__ import annotations

import gzip
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from helpers.local_archive import (
    DAY_NS,
    JAN_2024_NS,
    S_NS,
    Given,
    Shelf,
    bomb,
    collect,
    day_ns,
    days_of,
    gzip_bomb,
    market_ticks,
    waits,
    zipped,
)
from helpers.servers import BROKEN, BUSY, CUT, DROP, OK, LocalServer
from nexttick.ticks.reading.read import read_ticks
from nexttick.ticks.record import TickError
from nexttick.ticks.source import Missing, Page, SourceError
from nexttick.venues.archives import files
from nexttick.venues.archives.files import Files

__all__ = ["waits"]
DAYS = 5
STOP_NS = JAN_2024_NS + DAYS * DAY_NS


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder, where nothing may be left."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture(autouse=True)
def nothing_left(scratch: Path):  # type: ignore[no-untyped-def]
    yield
    assert not list(scratch.iterdir())


def whole_days(*, ids: bool = True) -> pl.DataFrame:
    """Ticks of more than five days."""
    return market_ticks(4500, JAN_2024_NS, ids=ids)


def csv_of(ticks: pl.DataFrame) -> bytes:
    return ticks.write_csv().encode()


def between(ticks: pl.DataFrame, start_ns: int, stop_ns: int) -> pl.DataFrame:
    return ticks.filter(pl.col("time").is_between(start_ns, stop_ns, closed="left"))


def by_day(ticks: pl.DataFrame, shift_ns: int = 0, form: str = "%Y-%m-%d") -> dict[str, bytes]:
    """Files of days, whose clock may go before UTC, at their addresses."""
    bodies = {}
    for label in days_of("2024-01", DAYS + 1):
        start_ns = day_ns(label) - shift_ns
        name = date.fromisoformat(label).strftime(form)
        part = between(ticks, start_ns, start_ns + DAY_NS)
        if len(part):
            bodies[f"/BTCUSDT/BTCUSDT-{name}.csv.gz"] = gzip.compress(csv_of(part))
    return bodies


def at(server: LocalServer, form: str = "{date}", **options: object) -> Files:
    where = f"{server.url}/{{symbol}}/{{symbol}}-{form}.csv.gz"
    return Files(where, "BTC/USDT", "venue", **options)  # type: ignore[arg-type]


def fetch(source: Files, ticks: pl.DataFrame, days: int = DAYS) -> Given:
    return collect(source, JAN_2024_NS, JAN_2024_NS + days * DAY_NS, ticks)


# --- here


@pytest.mark.parametrize("ids", [False, True])
def test_a_folder_comes_in_the_order_of_its_times(tmp_path: Path, ids: bool) -> None:
    ticks = whole_days(ids=ids)
    edges = np.linspace(JAN_2024_NS, STOP_NS, 8).astype(int)
    for number, name in enumerate("gacebfd"):
        part = between(ticks, *edges[number : number + 2].tolist())
        (tmp_path / f"{name}.csv").write_bytes(csv_of(part))
    ticks = between(ticks, JAN_2024_NS, STOP_NS)
    source = Files(tmp_path, "BTC/USDT")
    given = fetch(source, ticks)
    assert not given.missing
    assert given.ticks.equals(ticks)
    assert source.series == ("files", "BTC/USDT", "trades")
    inner = collect(source, day_ns("2024-01-03") + 7, day_ns("2024-01-04") + 9, ticks)
    assert not inner.missing


def test_the_days_around_a_file_are_missing(tmp_path: Path) -> None:
    ticks = between(whole_days(), day_ns("2024-01-02") + 7 * S_NS, day_ns("2024-01-04") - 99 * S_NS)
    ticks.write_parquet(tmp_path / "ticks.parquet")
    given = fetch(Files(tmp_path / "ticks.parquet", "BTC/USDT"), ticks)
    spans = [(gap.start_ns, gap.stop_ns, gap.fault) for gap in given.missing]
    assert spans == [
        (JAN_2024_NS, day_ns("2024-01-02"), False),
        (day_ns("2024-01-04"), STOP_NS, False),
    ]
    assert "begins later" in given.missing[0].reason
    (gap,) = Files(tmp_path / "ticks.parquet", "BTC/USDT").pages(STOP_NS, STOP_NS + DAY_NS)
    assert isinstance(gap, Missing)


@pytest.mark.parametrize("ids", [False, True])
def test_files_that_overlap_give_each_tick_once(tmp_path: Path, ids: bool) -> None:
    ticks = between(whole_days(ids=ids), JAN_2024_NS, STOP_NS)
    for number, (start, stop) in enumerate([(0, 700), (600, 1500), (1450, 2000), (2000, 9999)]):
        (tmp_path / f"{number}.csv").write_bytes(csv_of(ticks[start:stop]))
    given = fetch(Files(tmp_path, "BTC/USDT"), ticks)
    assert given.ticks.equals(ticks)
    if not ids:
        assert sum(page.ticks.height for page in given.pages) == len(ticks)
        assert sum(rows for why, rows in given.noted.items() if "same rows" in why) == 150


def test_a_second_that_is_cut_in_two_stays_whole(tmp_path: Path) -> None:
    ticks = between(market_ticks(2000, JAN_2024_NS, "s", ids=False), JAN_2024_NS, STOP_NS)
    cut = len(ticks) // 2
    alike = pl.int_range(pl.len()).is_between(cut - 2, cut + 2)
    ticks = ticks.with_columns(time=pl.when(alike).then(ticks["time"][cut]).otherwise("time"))
    for name, part in {"a": ticks[:cut], "b": ticks[cut:]}.items():
        (tmp_path / f"{name}.csv").write_bytes(csv_of(part.sort("time", maintain_order=True)))
    given = collect(Files(tmp_path, "BTC/USDT"), JAN_2024_NS, int(ticks["time"][-1]), ticks)
    assert sum(len(page.ticks) for page in given.pages) == len(ticks) - 1


def test_files_of_two_markets_are_refused(tmp_path: Path) -> None:
    ticks = between(whole_days(ids=False), JAN_2024_NS, STOP_NS)
    (tmp_path / "a.csv").write_bytes(csv_of(ticks))
    (tmp_path / "b.csv").write_bytes(csv_of(ticks.with_columns(pl.col("price") * 2)[100:]))
    with pytest.raises(TickError, match=r"b\.csv starts at 2024-01-01.*do not overlap"):
        fetch(Files(tmp_path, "BTC/USDT"), ticks)


def test_what_is_no_file_of_ticks_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("no,ticks\n")
    with pytest.raises(TickError, match=r"a\.csv"):
        list(Files(tmp_path, "BTC/USDT").pages(JAN_2024_NS, STOP_NS))
    with pytest.raises(TickError, match="no such file"):
        list(Files(tmp_path / "none.csv", "BTC/USDT").pages(JAN_2024_NS, STOP_NS))


def test_columns_and_unit_are_told(tmp_path: Path) -> None:
    ticks = between(whole_days(ids=False), JAN_2024_NS, STOP_NS)
    rows = ticks.select(when=pl.col("time") // 10**6, px="price", lots="amount")
    rows.write_csv(tmp_path / "a.csv")
    source = Files(tmp_path, "X/Y", columns="time=when,price=px,amount=lots", time_unit="ms")
    given = fetch(source, ticks)
    assert given.ticks.equals(ticks)


def test_recorded_files_come_as_read_together(data_dir: Path) -> None:
    paths = sorted((data_dir / "bitcoincharts").glob("k*.gz"))
    ticks, _ = read_ticks(paths, outliers=False)
    start_ns, stop_ns = day_ns("2017-12-01"), day_ns("2018-01-01")
    truth = between(ticks, start_ns, stop_ns)
    given = collect(Files(paths[0], "BTC/CAD", "kraken"), start_ns, stop_ns, truth)
    assert not given.missing
    assert len(given.ticks) == len(truth) > 10_000


# --- at an address


@pytest.mark.parametrize("form", ["{date}", "{date:%Y%m%d}"])
def test_a_file_a_day(form: str) -> None:
    ticks = whole_days()
    bodies = by_day(ticks, form="%Y%m%d" if "m" in form else "%Y-%m-%d")
    del bodies[next(name for name in bodies if name.endswith(("06.csv.gz",)))]
    ticks = between(ticks, JAN_2024_NS, STOP_NS)
    with LocalServer(Shelf(bodies)) as server:
        source = at(server, form)
        given = fetch(source, ticks)
        assert len(server.requests) == DAYS + 2
    assert not given.missing, "the day after need not be there"
    assert given.ticks.equals(ticks)
    assert sum(page.received for page in given.pages) == sum(map(len, bodies.values()))


@pytest.mark.parametrize("ids", [False, True])
def test_days_of_another_clock(ids: bool) -> None:
    ticks = whole_days(ids=ids)
    bodies = by_day(ticks, 9 * 3600 * S_NS)
    with LocalServer(Shelf(bodies)) as server:
        given = fetch(at(server), between(ticks, JAN_2024_NS, STOP_NS))
    assert not given.missing
    assert given.ticks.equals(between(ticks, JAN_2024_NS, STOP_NS))


def test_a_day_of_another_clock_that_is_not_there() -> None:
    ticks, shift_ns = whole_days(), 9 * 3600 * S_NS
    bodies = by_day(ticks, shift_ns)
    del bodies["/BTCUSDT/BTCUSDT-2024-01-03.csv.gz"]
    with LocalServer(Shelf(bodies)) as server:
        given = fetch(at(server), ticks)
    (gap,) = given.missing
    start_ns = day_ns("2024-01-03") - shift_ns
    before = between(ticks, JAN_2024_NS, start_ns)["time"][-1]
    after = between(ticks, start_ns + DAY_NS, STOP_NS)["time"][0]
    assert (gap.start_ns, gap.stop_ns, gap.fault) == (before + 1, after, False)
    assert "2024-01-03" in gap.reason


@pytest.mark.parametrize(
    ("body", "fault", "word"),
    [
        (404, False, "status 404"),
        (b"no,ticks\n", True, "there is no"),
        (gzip.compress(csv_of(whole_days()))[:-50], True, "corrupt gzip"),
        (gzip_bomb(100 << 20), True, "zip bomb"),
        (bomb(100 << 20), True, "zip bomb"),
        (zipped(("a", b"1"), ("b", b"2")), True, "holds 2 files"),
        (b"", True, "empty"),
    ],
    ids=["not there", "no ticks", "truncated", "gzip bomb", "zip bomb", "two members", "empty"],
)
def test_a_day_that_is_wrong_is_missing_and_others_come(
    body: bytes | int, fault: bool, word: str
) -> None:
    ticks = whole_days()
    bodies: dict[str, bytes | list[bytes] | int] = {**by_day(ticks)}
    bodies["/BTCUSDT/BTCUSDT-2024-01-03.csv.gz"] = body
    with LocalServer(Shelf(bodies)) as server:
        given = fetch(at(server), ticks)
    (gap,) = given.missing
    assert (gap.start_ns, gap.stop_ns) == (day_ns("2024-01-03"), day_ns("2024-01-04"))
    assert gap.fault is fault
    assert "2024-01-03" in gap.reason
    assert word in gap.reason
    assert "scratch" not in gap.reason


@pytest.mark.usefixtures("waits")
def test_addresses_through_faults() -> None:
    ticks = whole_days()
    faults = [BUSY, OK, CUT, BROKEN, OK, DROP, CUT, OK, BUSY]
    with LocalServer(Shelf({**by_day(ticks)}), faults) as server:
        assert not fetch(at(server), ticks).missing


def test_three_wrong_files_on_end_are_an_error() -> None:
    bodies: dict[str, bytes | list[bytes] | int] = dict.fromkeys(
        by_day(whole_days()), b"no,ticks\n"
    )
    with LocalServer(Shelf(bodies)) as server:
        with pytest.raises(SourceError, match=r"(?s)2024-01-03.*nor could the files before"):
            list(at(server).pages(JAN_2024_NS, STOP_NS))
        assert len(server.requests) == 4


def test_no_file_at_all_is_missing() -> None:
    with LocalServer(Shelf()) as server:
        (gap,) = at(server).pages(JAN_2024_NS, STOP_NS)
    assert isinstance(gap, Missing)
    assert (gap.start_ns, gap.stop_ns, gap.fault) == (JAN_2024_NS, STOP_NS, False)


def test_months_and_days_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = whole_days()
    monkeypatch.setattr(files, "now_ns", lambda: day_ns("2024-01-04"))
    shelf = Shelf({"/BTCUSDT/BTCUSDT-2024-01.csv.gz": gzip.compress(csv_of(ticks))})
    with LocalServer(shelf) as server:
        given = fetch(at(server, "{date:%Y-%m}"), ticks)
        assert [path[-14:] for path in server.requests] == ["2023-12.csv.gz", "2024-01.csv.gz"]
    assert given.ticks["time"].max() > day_ns("2024-01-04")  # type: ignore[operator]


def test_one_file_at_an_address_of_a_strange_name(tmp_path: Path) -> None:
    ticks = between(whole_days(), JAN_2024_NS, STOP_NS)
    with LocalServer(Shelf({"/a/..": csv_of(ticks), "/x y;rm": csv_of(ticks)})) as server:
        for path in ("a/%2E%2E", "x%20y;rm"):
            source = Files(f"{server.url}/{path}?token=5ecret", "BTC/USDT")
            assert "5ecret" not in source.name
            given = fetch(source, ticks)
            assert given.ticks.equals(ticks)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "scratch"]


def test_files_that_go_back_in_time_are_refused() -> None:
    ticks = whole_days()
    bodies = by_day(ticks)
    first, second = sorted(bodies)[:2]
    bodies[first], bodies[second] = bodies[second], bodies[first]
    with LocalServer(Shelf({**bodies})) as server, pytest.raises(TickError, match="starts before"):
        list(at(server).pages(JAN_2024_NS, STOP_NS))


@pytest.mark.parametrize(
    ("where", "word"),
    [
        ("ftp://host/a.csv", "http or https"),
        ("s3://bucket/a.csv", "http or https"),
        ("https://host/{day}.csv", "{day} is unknown"),
        ("https://host/{date.__class__}.csv", "is unknown"),
        ("https://host/{date", "no address"),
    ],
)
def test_strange_addresses_are_refused(where: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Files(where, "BTC/USDT")


@pytest.mark.network
def test_a_real_address() -> None:
    where = "https://public.bybit.com/trading/{symbol}/{symbol}{date}.csv.gz"
    start_ns = day_ns("2020-03-25")
    parts = list(Files(where, "BTC/USDT", "bybit").pages(start_ns, start_ns + DAY_NS))
    assert sum(len(part.ticks) for part in parts if isinstance(part, Page)) > 0
