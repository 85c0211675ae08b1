"""Every dialect from a small sample of our own, every kind of bad file, and the recorded ticks."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexttick.ticks.describing import describe
from nexttick.ticks.reading import plain_csv
from nexttick.ticks.reading.long import read_chunks
from nexttick.ticks.reading.read import read_pandas, read_ticks, to_pandas
from nexttick.ticks.record import TickError, year_ns
from nexttick.ticks.writing import write_table

S = 1_600_000_000  # a Sunday in September 2020, in seconds
NS = 10**9
PRICES = [10.5, 10.75, 10.25]
AMOUNTS = [1.0, 0.5, 2.25]


def ns(*seconds: float) -> list[int]:
    return [S * NS + round(s * NS) for s in seconds]


def write(folder: Path, text: str | bytes, name: str = "ticks.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def check(ticks: pl.DataFrame, seconds=(0, 1, 2), sides=(0, 0, 0), ids=None) -> None:
    assert ticks["time"].to_list() == ns(*seconds)
    assert ticks["price"].to_list() == PRICES
    assert ticks["amount"].to_list() == AMOUNTS
    assert ticks["side"].to_list() == list(sides)
    assert (ticks["id"].to_list() if "id" in ticks.columns else None) == ids


def reasons(table: pl.DataFrame) -> dict[str, int]:
    return dict(table.select("reason", "rows").iter_rows())


LECTURE = f",time,price,amount\n0,{S},10.5,1\n1,{S + 1},10.75,0.5\n2,{S + 2},10.25,2.25\n"
CHARTS = f"{S},10.500000000000,1.0\n{S + 1},10.750000000000,0.5\n{S + 2},10.25,2.250000000000\n"
BITFLYER = """"product_code","loaded","id","exec_date","side","price","size","order"
"BTC_JPY","x","9","2020-09-13T21:26:42.000+09:00","SELL","10.25","2.25","A"
"BTC_JPY","x","8","2020-09-13T21:26:41+09:00","","10.75","0.5","A"
"BTC_JPY","x","7","2020-09-13T21:26:40.000+09:00","BUY","10.5","1","B"
"""
SPOT_TRADES = "".join(
    f"{i},{p},{q},{p * q},{S + k}000,{m},True\n"
    for k, (i, p, q, m) in enumerate(
        zip([70, 71, 72], PRICES, AMOUNTS, ["True", "False", "True"], strict=True)
    )
)
FUTURES_AGG = (
    "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
)
FUTURES_AGG += "".join(
    f"{i},{p},{q},{i * 3},{i * 3 + 2},{S + k}000,{m}\n"
    for k, (i, p, q, m) in enumerate(
        zip([70, 71, 72], PRICES, AMOUNTS, ["true", "false", "true"], strict=True)
    )
)
QUESTDB = """"symbol","trade_id","price","quantity","buyer_id","is_buyer_market_maker","timestamp"
"AB",7.0E1,10.5,1.0,,true,"2020-09-13T12:26:40.000000Z"
"AB",7.1E1,10.75,0.5,,false,"2020-09-13T12:26:41.000000Z"
"AB",7.2E1,10.25,2.25,,true,"2020-09-13T12:26:42.000000Z"
"""
OWN = "time,price,amount,side,id,truth\n" + "".join(
    f"{S + k}000000000,{p},{q},{s},{i},0.5\n"
    for k, (p, q, s, i) in enumerate(zip(PRICES, AMOUNTS, [-1, 1, -1], [70, 71, 72], strict=True))
)
MAKERS = ((-1, 1, -1), [70, 71, 72])


# --- dialects


@pytest.mark.parametrize(
    ("text", "sides", "ids"),
    [
        (LECTURE, (0, 0, 0), None),
        (CHARTS, (0, 0, 0), None),
        (CHARTS.replace("\n", "\r\n"), (0, 0, 0), None),
        ("\ufeff" + LECTURE, (0, 0, 0), None),
        (CHARTS.replace("\n", ",ANY\n"), (0, 0, 0), None),
        (BITFLYER, (1, 0, -1), [7, 8, 9]),
        (BITFLYER.replace('"id"', '"execution_id"'), (1, 0, -1), [7, 8, 9]),
        (SPOT_TRADES, *MAKERS),
        (SPOT_TRADES.replace(",True\n", "\n"), *MAKERS),
        ("id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch\n" + SPOT_TRADES, *MAKERS),
        ("id,price,qty,base_qty,time,is_buyer_maker,x\n" + SPOT_TRADES.upper(), *MAKERS),
        (FUTURES_AGG, *MAKERS),
        (FUTURES_AGG.split("\n", 1)[1], *MAKERS),
        (FUTURES_AGG.split("\n", 1)[1].replace("e\n", "e,true\n"), *MAKERS),
        (QUESTDB, *MAKERS),
        (OWN, *MAKERS),
    ],
    ids=[
        *("lecture", "bitcoincharts", "crlf", "byte-order-mark", "fourth-column", "bitflyer"),
        *("bitflyer-v2", "spot-trades", "futures-trades", "spot-header", "coin-header"),
        *("futures-agg", "agg-bare", "spot-agg", "questdb", "own"),
    ],
)
def test_dialects(tmp_path, text, sides, ids):
    ticks, _ = read_ticks(write(tmp_path, text))
    check(ticks, sides=sides, ids=ids)


def test_a_side_that_a_bitflyer_row_lacks_is_reported(tmp_path):
    _, set_aside = read_ticks(write(tmp_path, BITFLYER))
    assert reasons(set_aside) == {
        "side not told: unknown": 1,
        "newest first: turned round": 3,
    }


def test_a_blank_bitflyer_time_is_filled(tmp_path):
    text = BITFLYER.replace("2020-09-13T21:26:41+09:00", "")
    ticks, set_aside = read_ticks(write(tmp_path, text))
    check(ticks, seconds=(0, 0, 2), sides=(1, 0, -1), ids=[7, 8, 9])
    assert reasons(set_aside)["time blank: took the time of the trade before it by id"] == 1


@pytest.mark.parametrize(("unit", "zeros"), [("s", 0), ("ms", 3), ("us", 6), ("ns", 9)])
def test_units_are_told_apart_by_their_years(tmp_path, unit, zeros):
    text = "".join(
        f"{S + k}{'0' * zeros},{p},{q}\n"
        for k, (p, q) in enumerate(zip(PRICES, AMOUNTS, strict=True))
    )
    path = write(tmp_path, text)
    check(read_ticks(path)[0])
    check(read_ticks(path, time_unit=unit)[0])


def test_microseconds_of_binance_spot(tmp_path):
    check(
        read_ticks(write(tmp_path, SPOT_TRADES.replace("000,", "000000,")))[0], (0, 1, 2), *MAKERS
    )


def test_decimal_times_are_exact(tmp_path):
    text = f"{S}.123456789,10.5,1\n{S + 1}.5,10.75,0.5\n{S + 2}.,10.25,2.25\n"
    ticks, _ = read_ticks(write(tmp_path, text))
    assert ticks["time"].to_list() == [S * NS + 123456789, (S + 1) * NS + NS // 2, (S + 2) * NS]


def test_zero_times_are_set_aside_and_the_file_still_reads(tmp_path):
    ticks, set_aside = read_ticks(write(tmp_path, "0,10.0,1.0\n" + CHARTS))
    check(ticks)
    assert set_aside["reason"][0].startswith("time outside 2009-01-01 to ")
    assert set_aside.row(0, named=True)["first"] == 1


def test_iso_times_without_a_zone_are_utc_and_said_to_be(tmp_path):
    rows = zip(("40", "41.000", "42"), PRICES, AMOUNTS, strict=True)
    text = "date,price,volume\n" + "".join(f"2020-09-13 12:26:{t},{p},{q}\n" for t, p, q in rows)
    ticks, set_aside = read_ticks(write(tmp_path, text))
    check(ticks)
    assert reasons(set_aside) == {"times without a zone: read as UTC": 3}


def test_old_times_need_a_told_unit(tmp_path):
    path = write(tmp_path, CHARTS.replace("16000000", "8000000"))
    with pytest.raises(TickError, match="1995"):
        read_ticks(path)
    assert len(read_ticks(path, time_unit="s")[0]) == 3


def test_columns_can_be_told(tmp_path):
    text = LECTURE.replace("time,price,amount", "when,px2,n")
    path = write(tmp_path, text)
    with pytest.raises(TickError, match=r"no time column.*'when', 'px2', 'n'"):
        read_ticks(path)
    check(read_ticks(path, columns="time=when, price=px2, amount=n")[0])
    check(read_ticks(path, columns={"time": "when", "price": "px2", "amount": "n"})[0])


def test_columns_without_a_header_are_told_by_number(tmp_path):
    rows = zip(PRICES, AMOUNTS, range(3), strict=True)
    path = write(tmp_path, "".join(f"{p},{q},{S + k}\n" for p, q, k in rows))
    with pytest.raises(TickError, match="no known layout"):
        read_ticks(path)
    check(read_ticks(path, columns="time=3,price=1,amount=2")[0])


def test_uuids_leave_the_order_of_the_file(tmp_path):
    text = "time,price,amount,id\n" + "".join(
        f"{S},{p},{q},a{9 - k}-f\n" for k, (p, q) in enumerate(zip(PRICES, AMOUNTS, strict=True))
    )
    ticks, set_aside = read_ticks(write(tmp_path, text))
    check(ticks, seconds=(0, 0, 0))
    assert reasons(set_aside) == {"ids are not integers: left out, the file's order kept": 3}


def test_ids_that_stop_being_integers_late(tmp_path):
    text = "time,price,amount,id\n" + f"{S},10.5,1,7\n" * 300 + f"{S},10.5,1,a-b\n"
    ticks, _ = read_ticks(write(tmp_path, text))
    assert len(ticks) == 301
    assert "id" not in ticks.columns


def test_blanks_round_numbers_are_forgiven(tmp_path):
    text = CHARTS.replace(",", ", ").replace("10.25", "10.25 ")
    check(read_ticks(write(tmp_path, text))[0])


def test_an_empty_line_is_set_aside(tmp_path):
    ticks, set_aside = read_ticks(write(tmp_path, CHARTS + "\n\n"))
    check(ticks)
    assert sum(reasons(set_aside).values()) in (0, 1, 2)


def test_a_missing_end_of_line_is_remarked(tmp_path):
    ticks, set_aside = read_ticks(write(tmp_path, CHARTS.rstrip("\n")))
    check(ticks)
    row = set_aside.row(0, named=True)
    assert (row["reason"], row["kept"]) == ("the last line does not end: it may be cut off", True)
    assert row["first"] == 3


def test_truth_comes_along(tmp_path):
    ticks, _ = read_ticks(write(tmp_path, OWN))
    assert ticks["truth"].to_list() == [0.5] * 3


def test_freqtrade_json(tmp_path):
    rows = [
        [(S + k) * 1000, str(70 + k), None, side, p, q, p * q]
        for k, (p, q, side) in enumerate(zip(PRICES, AMOUNTS, ["sell", "buy", "sell"], strict=True))
    ]
    check(read_ticks(write(tmp_path, json.dumps(rows), "t.json"))[0], (0, 1, 2), *MAKERS)
    packed = write(tmp_path, gzip.compress(json.dumps(rows).encode()), "t.json.gz")
    check(read_ticks(packed)[0], (0, 1, 2), *MAKERS)


def test_json_objects(tmp_path):
    rows = [
        {"timestamp": (S + k) * 1000, "price": p, "amount": q, "info": {}}
        for k, (p, q) in enumerate(zip(PRICES, AMOUNTS, strict=True))
    ]
    check(read_ticks(write(tmp_path, json.dumps(rows), "t.json"))[0])


FRAME = pl.DataFrame({"timestamp": ns(0, 1, 2), "price": PRICES, "qty": AMOUNTS})


@pytest.mark.parametrize(
    "frame",
    [
        FRAME,
        FRAME.lazy(),
        FRAME.with_columns(pl.from_epoch("timestamp", "ns")),
        FRAME.with_columns(
            pl.from_epoch("timestamp", "ns")
            .dt.replace_time_zone("Asia/Tokyo", non_existent="raise")
            .dt.offset_by("9h")
        ),
        FRAME.with_columns(pl.col("timestamp") // 1000),
        FRAME.with_columns(pl.col("timestamp") / 1e9),
        FRAME.with_columns(pl.col("price").cast(pl.String), pl.col("qty").cast(pl.Decimal(9, 3))),
        pd.DataFrame({"time": ns(0, 1, 2), "price": PRICES, "amount": AMOUNTS}),
        pd.DataFrame(
            {"time": pd.to_datetime(ns(0, 1, 2), utc=True), "price": PRICES, "amount": AMOUNTS}
        ),
        pd.DataFrame({"price": PRICES, "amount": AMOUNTS}, pd.to_datetime(ns(0, 1, 2))),
        pd.DataFrame({"time": [str(t) for t in ns(0, 1, 2)], "price": PRICES, "amount": AMOUNTS}),
    ],
    ids=["polars", "lazy", "naive", "zoned", "us", "float", "text", *["pandas"] * 4],
)
def test_frames_and_parquet_of_them(tmp_path, frame):
    check(read_ticks(frame)[0])
    if isinstance(frame, pl.DataFrame):
        frame.write_parquet(tmp_path / "t.parquet")
        check(read_ticks(tmp_path / "t.parquet")[0])


def test_a_buyer_maker_column_of_text_in_parquet(tmp_path):
    frame = FRAME.with_columns(
        trade_id=pl.Series(["70", "71", "72"]), buyer_maker=pl.Series(["True", "False", "True"])
    )
    frame.write_parquet(tmp_path / "t.parquet")
    check(read_ticks(tmp_path / "t.parquet")[0], (0, 1, 2), *MAKERS)


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt8, pl.Int64, pl.Float64, pl.Boolean, pl.String])
def test_a_buyer_maker_column_of_ones_and_zeros(tmp_path, dtype):
    maker = pl.Series([1, 0, None], dtype=pl.Int8).cast(dtype)
    frame = FRAME.with_columns(maker.alias("is_buyer_maker"))
    frame.write_parquet(tmp_path / "t.parquet")
    check(read_ticks(frame)[0], sides=(-1, 1, 0))
    check(read_ticks(tmp_path / "t.parquet")[0], sides=(-1, 1, 0))


def test_a_maker_column_of_sides_is_refused():
    sides = pl.Series("is_buyer_maker", [1, -1, 1], dtype=pl.Int8)
    with pytest.raises(TickError, match="'-1' says neither false nor true"):
        read_ticks(FRAME.with_columns(sides))


def test_ids_beyond_int64_are_left_out():
    ids = pl.Series("id", [2**63, 2**63 + 1, 2**63 + 2], dtype=pl.UInt64)
    ticks, table = read_ticks(FRAME.with_columns(ids))
    check(ticks)
    assert reasons(table) == {"ids are not integers: left out, the file's order kept": 3}


# --- packings, many files


def zipped(*members: tuple[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members:
            archive.writestr(name, text)
    return buffer.getvalue()


def test_packings(tmp_path):
    check(read_ticks(write(tmp_path, gzip.compress(CHARTS.encode()), "a.csv.gz"))[0])
    check(read_ticks(write(tmp_path, zipped(("a.csv", CHARTS)), "a.zip"))[0])
    zstandard = pytest.importorskip("zstandard")
    check(read_ticks(write(tmp_path, zstandard.compress(CHARTS.encode()), "a.csv.zst"))[0])
    check(read_ticks(write(tmp_path, zstandard.compress(LECTURE.encode()), "b.csv.zst"))[0])


def test_many_files_a_pattern_and_a_folder(tmp_path):
    lines = OWN.splitlines(keepends=True)
    paths = [write(tmp_path, lines[0] + line, f"{k}.csv") for k, line in enumerate(lines[1:])]
    for source in (paths[::-1], [str(p) for p in paths], str(tmp_path / "*.csv"), tmp_path):
        check(read_ticks(source)[0], (0, 1, 2), *MAKERS)


def test_other_files_of_a_folder_are_named(tmp_path):
    write(tmp_path, CHARTS)
    write(tmp_path, "hello", "README.md")
    ticks, set_aside = read_ticks(tmp_path)
    check(ticks)
    assert set_aside["file"][0].endswith("README.md")


def test_overlapping_files_with_ids_count_each_trade_once(tmp_path):
    ticks, set_aside = read_ticks([write(tmp_path, OWN), write(tmp_path, OWN, "again.csv")])
    check(ticks, (0, 1, 2), *MAKERS)
    assert reasons(set_aside) == {"id repeated": 3}


def test_a_page_that_repeats_the_end_of_the_last_one(tmp_path):
    lines = CHARTS.splitlines(keepends=True)
    first, second = (
        write(tmp_path, "".join(lines[:2])),
        write(tmp_path, "".join(lines[1:]), "b.csv"),
    )
    ticks, set_aside = read_ticks([first, second])
    check(ticks)
    assert reasons(set_aside) == {f"same rows as the end of {first}": 1}


def test_files_that_meet_in_one_second_keep_all_rows(tmp_path):
    first = write(tmp_path, f"{S},10.5,1\n{S + 1},10.75,0.5\n")
    second = write(tmp_path, f"{S + 1},10.25,2.25\n", "b.csv")
    check(read_ticks([first, second])[0], seconds=(0, 1, 1))


def test_other_overlaps_without_ids_are_refused(tmp_path):
    other = write(tmp_path, CHARTS.replace("10.75", "10.76"), "b.csv")
    with pytest.raises(TickError, match=r"b\.csv starts at .* before .*ends at .*without ids"):
        read_ticks([write(tmp_path, CHARTS), other])


def test_two_markets_are_refused(tmp_path):
    mixed = BITFLYER.replace('"BTC_JPY","x","8"', '"ETH_JPY","x","8"')
    with pytest.raises(TickError, match="'ETH_JPY' beside 'BTC_JPY'"):
        read_ticks(write(tmp_path, mixed))
    other = write(tmp_path, BITFLYER.replace("BTC_JPY", "ETH_JPY"), "b.csv")
    with pytest.raises(TickError, match="'ETH_JPY' beside 'BTC_JPY'"):
        read_ticks([write(tmp_path, BITFLYER), other])


# --- exact numbers


@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_prices_read_as_python_reads_them(tmp_path_factory, prices):
    texts = [t for p in prices for t in (repr(p), f"{p:.12f}", f"{p:.8f}", f"{p:.17g}")]
    texts = [text for text in texts if float(text) > 0]
    path = tmp_path_factory.mktemp("exact") / "t.csv"
    path.write_text("time,price,amount\n" + "".join(f"{S},{text},1\n" for text in texts))
    ticks, _ = read_ticks(path, outliers=False)
    assert ticks["price"].to_list() == [float(text) for text in texts]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_plain_numbers_in_many_blocks(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(plain_csv, "_BLOCK_BYTES", 200)
    rng = np.random.default_rng(2)
    texts = [
        f"{x:.{d}f}" for x, d in zip(rng.uniform(1, 9, 500), rng.integers(0, 13, 500), strict=True)
    ]
    texts[10], texts[300] = "0.1234567890123456789", "12345678901234567890"
    texts += ["7.", ".5", "00.25"]
    path = tmp_path / "t.csv"
    path.write_text(
        "".join(f"x,{S + k},{t},{k + 1}{ending}" for k, t in enumerate(texts)), newline=""
    )
    columns = [plain_csv.Column(), whole("t"), plain_csv.Column("p"), plain_csv.Column("a")]
    for body in (path, path.read_bytes()):
        frame = plain_csv.read_plain(body, columns, has_header=False)
        assert frame["p"].to_list() == [float(text) for text in texts]
        assert frame["t"].to_list() == [S + k for k in range(len(texts))]
        assert frame["a"].to_list() == [k + 1.0 for k in range(len(texts))]


def whole(name: str) -> plain_csv.Column:
    return plain_csv.Column(name, whole=True)


@pytest.mark.parametrize(
    "line",
    [
        *("1,", ",1", "1", "1,1,1", "1,1e3", "1,-1", "1,nan", "1,1.2.3", "1,.", "1, 1", '1,"1"'),
        *("1.5,1", "1.,1", "-1,1", "1234567890123456789,1", "x,1", ""),
    ],
)
def test_lines_that_are_not_plain_are_left_to_the_general_reader(line):
    columns = [whole("t"), plain_csv.Column("p")]
    for text in (f"{line}\n1,1\n", f"1,1\n{line}\n", f"1,1\n{line or 'x'}"):
        assert plain_csv.read_plain(text.encode(), columns, has_header=False) is None


# --- bad input


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file is empty; fetch it again"),
        ("\n\n", "one field|blank lines only"),
        ("time,price,amount\n", "a header and no tick"),
        (CHARTS.replace(",", ";"), r"line 1: fields stand apart by a semicolon \(';'\)"),
        (CHARTS.replace(",", "\t"), "line 1: fields stand apart by a tab"),
        (CHARTS.replace(".", ",").replace(",", ";", 1), "line 1|no known layout"),
        (CHARTS + f"{S},abc,1\n", "line 4, column 'column 2': 'abc' is no number; correct"),
        (LECTURE + f"3,{S},1.x,1\n", "line 5, column 'price': '1.x' is no number"),
        (LECTURE + f"3,{S},1,-\n", "line 5, column 'amount': '-' is no number"),
        (LECTURE + "3,soon,1,1\n", "line 5, column 'time': 'soon' is no time"),
        (LECTURE + ",time,price,amount\n", "line 5, column 'price': 'price' is no number"),
        (CHARTS + f"{S},10", r"line 4, column 'column 3': .* has 2 fields, not 3; .*cut off"),
        (CHARTS.replace("10.750000000000,", ""), "line 2, .* has 2 fields, not 3"),
        (CHARTS + f"{S},1,1,1\n", "line 4, .* has 4 fields, not 3"),
        (LECTURE.replace("price", "cost"), "no price column; the columns are '', 'time', 'cost'"),
        (LECTURE.replace("amount", "cost"), "no amount column"),
        (
            LECTURE.replace("amount", "amount,volume").replace("\n", ",\n"),
            "'amount', 'volume' could",
        ),
        ("12345,10.5,1\n12346,10.5,1\n", "no known layout.*starts\n  12345,10.5,1"),
        (LECTURE.replace(str(S)[:4], "1"), r"column 'time': \d+ is in no unit a time"),
        (LECTURE + f"3,{S + 3}000,10.5,1\n", "line 5, column 'time': .* looks like ms, most"),
        ("hello, world, again\nthis, is, text\n", "no time column"),
        (b"a,b,c\n\0\0\0\1\2,\3\n", "this is no text"),
        (b"\x93\xfa\x96\x7b,1,2\n" * 3, "no known layout"),
        (CHARTS.replace("\n", ",hold\n"), "line 1, column 'column 4': 'hold' says neither buy"),
        (CHARTS.replace("\n", ",7\n"), "4 columns of .* are no known layout"),
        (CHARTS.replace("10.", "-10."), "no tick is left after cleaning: price not positive"),
        (b"[[1600000000000", "no valid JSON"),
        (b'{"a": 1}', "no list of trades"),
    ],
)
def test_bad_text(tmp_path, text, message):
    with pytest.raises(TickError, match=rf"(?s)ticks\.csv.*({message})"):
        read_ticks(write(tmp_path, text))


def test_a_missing_file_suggests_the_nearest(tmp_path):
    write(tmp_path, CHARTS)
    with pytest.raises(
        TickError, match=r"tick\.csv: there is no such file; did you mean .*ticks\.csv"
    ):
        read_ticks(tmp_path / "tick.csv")
    with pytest.raises(TickError, match="nor the folder"):
        read_ticks(tmp_path / "no" / "ticks.csv")
    with pytest.raises(TickError, match="no file matches"):
        read_ticks(str(tmp_path / "*.parquet"))


def test_an_empty_folder(tmp_path):
    with pytest.raises(TickError, match="no file in this folder ends in"):
        read_ticks(tmp_path)


def parquet_bytes() -> bytes:
    buffer = io.BytesIO()
    FRAME.write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv.gz", gzip.compress(CHARTS.encode() * 99)[:-20], "truncated or corrupt gzip"),
        ("t.csv.gz", gzip.compress(CHARTS.encode())[:12] + b"junkjunkjunk", "corrupt gzip"),
        ("t.csv.gz", b"\0\1\2\3\4\5", "does not start as gzip"),
        ("t.csv.gz", gzip.compress(b""), "file inside is empty"),
        ("t.zip", zipped(("a.csv", CHARTS))[:-30], "truncated or corrupt zip"),
        ("t.zip", zipped(("a.csv", CHARTS), ("b.csv", CHARTS)), r"holds 2 files \(a.csv, b.csv\)"),
        ("t.zip", zipped(), r"holds 0 files"),
        ("t.csv.zst", b"\x28\xb5\x2f\xfd\0\0\0", "truncated or corrupt zstd"),
        ("t.parquet", parquet_bytes()[:-40], "truncated or corrupt Parquet"),
        ("t.parquet", b"PAR1" + b"\7" * 60 + b"PAR1", "truncated or corrupt Parquet"),
        ("t.parquet", b"time,price", "does not start as Parquet"),
    ],
    # Archives hold the time at which they were made: as ids they would differ between workers.
    ids=lambda value: "bytes" if isinstance(value, bytes) else None,
)
def test_broken_packings(tmp_path, name, content, message):
    with pytest.raises(TickError, match=message):
        read_ticks(write(tmp_path, content, name))


def test_a_file_without_permission(tmp_path, monkeypatch):
    path = write(tmp_path, CHARTS)

    def refuse(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TickError, match="no permission to read it"):
        read_ticks(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": "tme=a"}, "'tme' is no role .did you mean 'time'"),
        ({"columns": "tme=a,prise=b"}, "did you mean 'time'.*did you mean 'price'"),
        ({"columns": "time"}, "'time' names no column"),
        ({"columns": "time=a,time=b"}, "'time' is told twice"),
        ({"columns": "price=prce"}, "no column 'prce' for price .did you mean 'price'"),
        ({"time_unit": "mss"}, "'mss' is none of s, ms, us, ns .did you mean 'ms'"),
    ],
)
def test_mistakes_in_options(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        read_ticks(write(tmp_path, LECTURE), **options)


def test_a_told_unit_that_makes_no_sense(tmp_path):
    with pytest.raises(TickError, match=r"line 1, .*is no time from 1990 on in ns|no known layout"):
        read_ticks(write(tmp_path, CHARTS), time_unit="ns")
    with pytest.raises(TickError, match="line 2, column 'time': 1600000001 is no time from 1990"):
        read_ticks(write(tmp_path, LECTURE.replace(f"{S}", f"{S + 1}", 1)), time_unit="ms")


def test_something_that_is_no_path():
    with pytest.raises(TypeError, match="no path, nor a frame"):
        read_ticks(7)


# --- pandas, writing, describing


NOTHING: dict[str, tuple[object, str]] = {
    "no file": ([], "no file was given to read; give files, folders"),
    "pattern": ("{folder}/*.parquet", "no file matches this pattern; check the folder"),
    "empty": ("{folder}/empty.csv", "the file is empty; fetch it again"),
    "header": ("{folder}/header.csv", "there is a header and no tick; fetch the file again"),
    "frame": (
        pl.DataFrame(schema=dict.fromkeys(("time", "price", "amount"), pl.Float64)),
        "no tick",
    ),
}


@pytest.mark.parametrize("what", NOTHING)
def test_reading_nothing_says_what_is_missing(what: str, tmp_path: Path) -> None:
    write(tmp_path, "", "empty.csv")
    write(tmp_path, "time,price,amount\n", "header.csv")
    paths, words = NOTHING[what]
    with pytest.raises(TickError, match=re.escape(words)):
        read_ticks(paths.format(folder=tmp_path) if isinstance(paths, str) else paths)


def test_a_column_without_any_time_says_so() -> None:
    blank = pl.DataFrame({"time": [None, None], "price": [1.0, 2.0], "amount": [1.0, 1.0]})
    for dtype in (pl.Int64, pl.Float64, pl.String, pl.Datetime("ns", "UTC")):
        with pytest.raises(TickError, match="there are no times"):
            read_ticks(blank.with_columns(pl.col("time").cast(dtype)), time_unit="s")


def test_pandas_gets_the_columns_it_knows(tmp_path):
    frame = read_pandas(write(tmp_path, OWN))
    assert list(frame.columns) == ["time", "price", "amount", "side", "id", "truth"]
    assert str(frame["time"].dtype) == "datetime64[ns, UTC]"
    assert frame["time"].astype("int64").tolist() == ns(0, 1, 2)
    assert frame.attrs["set_aside"] == []
    bare = read_pandas(write(tmp_path, CHARTS))
    assert list(bare.columns) == ["time", "price", "amount"]


def test_pandas_there_and_back(tmp_path):
    ticks, _ = read_ticks(write(tmp_path, OWN))
    assert read_ticks(to_pandas(ticks))[0].equals(ticks)


records = st.lists(
    st.tuples(
        st.integers(0, 10**10),
        st.floats(90, 110),
        st.floats(1e-9, 1e9),
        st.sampled_from([-1, 0, 1]),
    ),
    min_size=1,
    max_size=20,
)


@given(records, st.booleans(), st.sampled_from([".csv", ".parquet"]))
@settings(max_examples=40, deadline=None)
def test_what_is_written_reads_back(tmp_path_factory, rows, with_ids, suffix):
    data = pl.DataFrame(
        sorted(rows, key=lambda row: row[0]),
        schema={"time": pl.Int64, "price": pl.Float64, "amount": pl.Float64, "side": pl.Int8},
        orient="row",
    ).with_columns(pl.col("time") + year_ns(2021))
    if with_ids:
        data = data.with_row_index("id").with_columns(pl.col("id").cast(pl.Int64))
    ticks, _ = read_ticks(data)
    path = write_table(ticks, tmp_path_factory.mktemp("written") / f"t{suffix}")
    back, set_aside = read_ticks(path)
    assert back.equals(ticks)
    assert set_aside.is_empty()


def test_writing_replaces_and_leaves_nothing_else(tmp_path):
    ticks, _ = read_ticks(write(tmp_path, OWN))
    for _ in range(2):
        assert write_table(ticks, tmp_path / "out.parquet") == tmp_path / "out.parquet"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.parquet", "ticks.csv"]
    assert (tmp_path / "out.parquet").stat().st_mode & 0o777 == 0o666 & ~_mask()


def _mask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    ("code", "message"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "no permission to write")]
)
def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch, code, message):
    ticks, _ = read_ticks(write(tmp_path, OWN))

    def fail(_handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=rf"out\.csv: .*{message}") as caught:
        write_table(ticks, tmp_path / "out.csv")
    assert caught.value.errno == code
    assert [p.name for p in tmp_path.iterdir()] == ["ticks.csv"]


def test_chunks_of_a_long_file(tmp_path):
    n = 1000
    frame = pl.DataFrame({"time": ns(*range(n)), "price": [10.0] * n, "amount": [1.0] * n})
    ticks, _ = read_ticks(frame)
    path = write_table(ticks, tmp_path / "t.parquet")
    chunks = list(read_chunks(path, 300))
    assert [len(chunk) for chunk in chunks] == [300, 300, 300, 100]
    assert pl.concat(chunks).equals(ticks)
    write_table(ticks.reverse(), path)
    with pytest.raises(TickError, match="times step back"):
        list(read_chunks(path, 300))
    with pytest.raises(TickError, match=r"no Parquet of ticks"):
        list(read_chunks(write(tmp_path, CHARTS), 300))


def test_writing_to_no_folder_or_another_ending(tmp_path):
    ticks, _ = read_ticks(write(tmp_path, OWN))
    with pytest.raises(OSError, match="there is no such folder"):
        write_table(ticks, tmp_path / "no" / "out.csv")
    with pytest.raises(ValueError, match=r"\.parquet or \.csv"):
        write_table(ticks, tmp_path / "out.xlsx")


def test_describe(tmp_path):
    text = f"{S},10.5,1,buy\n{S},10.5,1,sell\n{S + 2},10.75,2,ANY\n{S + 5}.5,10.5,1,\n"
    about = describe(read_ticks(write(tmp_path, text))[0])
    assert about == {
        "rows": 4,
        "first": "2020-09-13T12:26:40Z",
        "last": "2020-09-13T12:26:45.500Z",
        "span_s": 5.5,
        "price_min": 10.5,
        "price_max": 10.75,
        "amount_median": 1.0,
        "amount_total": 5.0,
        "ties_share": pytest.approx(1 / 3),
        "same_time_share": 0.5,
        "sides_known_share": 0.5,
        "median_pause_s": 2.75,
        "longest_pause_s": 3.5,
        "has_ids": False,
    }
    json.dumps(about)


# --- recorded ticks


@pytest.mark.real_ticks
@pytest.mark.parametrize(
    ("name", "kept", "gone"),
    [
        ("lecture/bitstampUSD_2018-08.csv.gz", 102_588, 0),
        ("bitcoincharts/okcoinUSD.csv.gz", 640_142, 77),
        ("bitcoincharts/krakenCAD.csv.gz", 251_966, 6),
        ("bitcoincharts/coinfalconEUR.csv.gz", 191_834, 1),
        ("bitflyer/bitflyer.execution.20180121.BTC_JPY.csv.gz", 143_011, 96),
        ("bitflyer/bitflyer.execution.20180126.BTC_JPY.csv.gz", 100_803, 0),
        ("dialects/bcmPXGAU.csv.gz", 84, 1),
        ("dialects/bitflyer_v2_head.csv.gz", 2_999, 0),
        ("dialects/bitkonanUSD_head.csv.gz", 2_385, 17_615),
        ("dialects/bitmarketEUR.csv.gz", 63_825, 2_023),
        ("dialects/freqtrade_XRP_ETH-trades.json.gz", 12_477, 0),
        ("dialects/freqtrade_XRP_ETH-trades.parquet", 12_477, 0),
        ("dialects/gct_binance_BTCUSDT_2020-11-16.csv", 1_000, 0),
        ("dialects/mtgoxUSD_newest_first.csv", 5_000, 0),
        ("dialects/nautilus_btcusdt-trades.parquet", 2_001, 0),
        ("dialects/questdb_xrpusdt_head.csv", 1_999, 0),
    ],
)
def test_recorded_ticks(data_dir, name, kept, gone):
    ticks, set_aside = read_ticks(data_dir / name)
    assert len(ticks) == kept
    assert set_aside.filter(~pl.col("kept"))["rows"].sum() == gone
    assert ticks["time"].is_sorted()
    assert ticks["price"].max() < 2_000_000


@pytest.mark.real_ticks
def test_recorded_days_together(data_dir):
    ticks, _ = read_ticks(str(data_dir / "bitflyer" / "*.csv.gz"))
    assert len(ticks) == 850_051
    assert ticks["id"].n_unique() == len(ticks)
    # An id later by one is a trade later by at least minus a second.
    by_id = ticks.sort("id")["time"].to_numpy()
    assert np.diff(by_id).min() > -NS


@pytest.mark.real_ticks
def test_the_same_trades_from_json_and_parquet(data_dir):
    stem = data_dir / "dialects" / "freqtrade_XRP_ETH-trades"
    assert read_ticks(f"{stem}.json.gz")[0].equals(read_ticks(f"{stem}.parquet")[0])
