"""What venues send, against recorded messages: every trade exactly, nothing that is not counted."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.markets import quick
from nexttick.ticks.source import SourceError, TransientError
from nexttick.venues.binance import BinanceStream
from nexttick.venues.feeds.ccxt_feed import number_of, trade_of
from nexttick.venues.http import Rest
from nexttick.venues.kraken import KrakenStream, read_in_us
from nexttick.venues.messages import Trade
from nexttick.venues.trades import (
    UnknownMessageError,
    exact_json,
    iso_to_ns,
    numbered_trades,
    seconds_to_ns,
)

NOWHERE = Rest("http://127.0.0.1:9")


def binance(market: str = "BTC/USDT") -> BinanceStream:
    return BinanceStream(market, "wss://stream.binance.com:9443", NOWHERE)


@cache
def decode(path: Path, market: str) -> tuple[list[Trade], list[dict[str, Any]], int]:
    """All trades of a recording, the raw trades by another reader, and the count of the others."""
    venue, trades, raw, others = binance(market), list[Trade](), list[dict[str, Any]](), 0
    with gzip.open(path, "rt") as lines:
        for line in lines:
            received, _, message = line.partition(" ")
            try:
                trades += venue.trades(orjson.loads(message), int(received))
                raw.append(json.loads(message)["data"])
            except UnknownMessageError:
                others += 1
    return trades, raw, others


@pytest.mark.real_ticks
@pytest.mark.parametrize(
    ("name", "market", "count", "first_id", "others"),
    [
        ("binance_spot_btcusdt_20240808", "BTC/USDT", 9757, 3735683259, 31492),
        ("binance_spot_btcusdt_20240809", "BTC/USDT", 10147, 3735693016, 48178),
        ("binance_coinm_btcusd_perp_20240809", "BTCUSD_PERP", 2949, 849716688, 47167),
    ],
)
def test_recorded_lines_decode_exactly(
    name: str, market: str, count: int, first_id: int, others: int, data_dir: Path
) -> None:
    trades, raw, unknown = decode(data_dir / "wire" / f"{name}.jsonl.gz", market)
    assert (len(trades), unknown) == (count, others)
    assert [t.id for t in trades] == list(range(first_id, first_id + count))
    for trade, data in zip(trades, raw, strict=True):
        assert data["e"] == "trade"
        side = -1 if data["m"] else 1
        told = (data["T"] * 10**6, float(data["p"]), float(data["q"]), side, data["t"])
        assert trade[:5] == told


@pytest.mark.real_ticks
def test_first_and_last_recorded_trade(data_dir: Path) -> None:
    path = data_dir / "wire" / "binance_spot_btcusdt_20240809.jsonl.gz"
    trades, _, _ = decode(path, "BTC/USDT")
    first = (1723161601437000000, 61685.99, 0.00017, -1, 3735693016, 1723161600164378285)
    assert trades[0] == first
    assert sum(Decimal(str(t.amount)) for t in trades) == Decimal("225.88237")  # by awk
    assert sum(t.side > 0 for t in trades) == 4990
    other = path.with_name("binance_coinm_btcusd_perp_20240809.jsonl.gz")
    none, _, others = decode(other, "BTC/USDT")
    assert (none, others) == ([], 50116)


@pytest.mark.real_ticks
def test_recorded_answer_of_kraken_decodes_exactly(data_dir: Path) -> None:
    body = (data_dir / "wire" / "kraken_http_trades.json").read_bytes()
    rows = exact_json(body)["result"]["XBTUSDT"]
    trades = numbered_trades(rows, read_in_us, 2 * 10**18)
    assert [t.id for t in trades] == list(range(10218208, 10219208))
    assert trades[0][:4] == (1762795433971744000, 105433.6, 0.00027625, 1)
    assert trades[-1][:4] == (1762820035982277000, 105899.4, 0.00009443, -1)
    assert all(a.time_ns <= b.time_ns for a, b in pairwise(trades))


def test_binance_messages_bare_in_an_envelope_in_ms_and_in_us() -> None:
    bare = {"e": "trade", "s": "BTCUSDT", "t": 7, "p": "1.5", "q": "2", "T": 1723161601437}
    wanted = (1723161601437000000, 1.5, 2.0, 1, 7, 2 * 10**18)
    for message in (
        {**bare, "m": False},
        {"stream": "btcusdt@trade", "data": {**bare, "m": False}},
        {**bare, "m": False, "T": 1723161601437000},
    ):
        assert [*binance().trades(message, 2 * 10**18)] == [wanted]
    assert binance().trades({"result": None, "id": 1}, 0) == ()
    assert binance().url.endswith("/ws/btcusdt@trade?timeUnit=MICROSECOND")


def test_kraken_messages() -> None:
    kraken = KrakenStream("BTC/USD", "wss://ws.kraken.com", NOWHERE)
    row = {"symbol": "BTC/USD", "side": "sell", "price": 4.5117, "qty": 40.0, "trade_id": 4665906}
    data = [{**row, "timestamp": "2023-09-25T07:49:37.708706Z"}]
    for kind in ("snapshot", "update"):
        trades = kraken.trades({"channel": "trade", "type": kind, "data": data}, 2 * 10**18)
        assert [*trades] == [(1695628177708706000, 4.5117, 40.0, -1, 4665906, 2 * 10**18)]
    assert kraken.trades({"channel": "heartbeat"}, 0) == ()
    assert kraken.trades({"method": "subscribe", "success": True}, 0) == ()
    assert orjson.loads(kraken.hello()[0])["params"]["symbol"] == ["BTC/USD"]
    refusal = {"method": "subscribe", "success": False, "error": "Currency pair not supported X/Y"}
    with pytest.raises(SourceError, match="Currency pair not supported X/Y"):
        kraken.trades(refusal, 0)
    with pytest.raises(TransientError, match="EService:Unavailable"):
        kraken.trades({**refusal, "error": "EService:Unavailable"}, 0)


@pytest.mark.parametrize("number", [-1, 2**63, 1.0, None])
def test_ids_that_no_journal_can_hold_are_no_trades(number: Any) -> None:
    data = {"e": "trade", "s": "BTCUSDT", "T": 10**12, "p": "1.0", "q": "1.0", "m": True, "t": 0}
    (trade,) = binance().trades(data, 2 * 10**18)
    assert trade.id == 0
    with pytest.raises(ValueError, match="id "):
        binance().trades({**data, "t": number}, 2 * 10**18)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)

names = "e s t p q T m data channel type symbol side price qty trade_id timestamp"

fields = st.sampled_from(names.split(" "))


@quick
@given(st.dictionaries(fields, anything), st.booleans())
def test_no_message_raises_what_the_stream_does_not_count(
    message: dict[str, Any], of: bool
) -> None:
    for venue, told in (
        (binance(), {"e": "trade", "s": "BTCUSDT"}),
        (KrakenStream("BTC/USD", "wss://x", NOWHERE), {"channel": "trade", "type": "update"}),
    ):
        try:
            trades = venue.trades({**message, **told} if of else message, 2 * 10**18)
        except (UnknownMessageError, ValueError, KeyError, TypeError):
            continue
        assert all(type(trade.id) is int and trade.price > 0 for trade in trades)


@quick
@given(st.integers(0, 2**62))
def test_iso_and_decimal_times_are_exact(time_ns: int) -> None:
    stamp = pl.Series([time_ns]).cast(pl.Datetime("ns")).dt.to_string("%Y-%m-%dT%H:%M:%S%.9f")[0]
    whole, rest = divmod(time_ns, 10**9)
    assert iso_to_ns(f"{stamp}Z") == iso_to_ns(stamp) == time_ns
    assert seconds_to_ns(f"{whole}.{rest:09}") == time_ns


def test_what_is_finer_than_a_nanosecond_is_cut_off() -> None:
    assert iso_to_ns("2023-09-25T07:49:37.12345678999Z") == iso_to_ns(
        "2023-09-25T07:49:37.123456789Z"
    )
    assert seconds_to_ns("1695628177.12345678999") == seconds_to_ns("1695628177.123456789")


def test_a_row_may_become_longer() -> None:
    row = ["26000.1", "0.5", "1695628177.1234567", "b", "l", "", 7]
    assert read_in_us([*row, "more"]) == read_in_us(row)


def test_iso_times_of_other_zones() -> None:
    assert iso_to_ns("1970-01-01T02:00:01.5+02:00") == 1_500_000_000
    assert iso_to_ns("1970-01-02") == 86_400 * 10**9
    for wrong in ("", "now", "2023-13-01T00:00:00Z", "2023-01-01T00:00:00.Z"):
        with pytest.raises(ValueError, match=r".*"):
            iso_to_ns(wrong)


def test_ids_of_ccxt() -> None:
    assert [number_of(text) for text in ("0", "998")] == [0, 998]
    texts = ["a1-b2", str(2**62), "-3", "٣", ""]
    numbers = [number_of(text) for text in texts]
    assert numbers == [number_of(text) for text in texts]
    assert len({*numbers}) == len(texts)
    assert all(2**62 <= number < 2**63 for number in numbers)
    row = {"timestamp": 1_700_000_000_123, "price": 2, "amount": 3.5, "side": None, "id": "4"}
    assert trade_of(row, 2 * 10**18) == (1_700_000_000_123_000_000, 2.0, 3.5, 0, 4, 2 * 10**18)
    assert trade_of({**row, "id": None}, 2 * 10**18).id == -1
    with pytest.raises(ValueError, match="without"):
        trade_of({**row, "price": None}, 2 * 10**18)
