"""Archives on 127.0.0.1 in their own forms, of any ticks, whole or with something wrong in them."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import orjson
import polars as pl
import pytest
import tenacity.nap
from aiohttp import web

from nexttick.ticks.simulated import SimulatedMarket, simulate
from nexttick.ticks.source import Missing, Page, Source

DAY_NS = 86_400 * 10**9
S_NS = 10**9
JAN_2024_NS = 1_704_067_200 * S_NS  # 2024-01-01
UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
FOLDERS = {"spot": "spot", "um": "futures/um", "cm": "futures/cm"}


def day_ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * S_NS


def market_ticks(n: int, start_ns: int, unit: str = "ms", *, ids: bool = True) -> pl.DataFrame:
    """Simulated ticks, some forty hours a thousand, whose times are whole in a unit."""
    market = SimulatedMarket(n, 3, start_time_ns=start_ns, typical_pause_s=60, start_price=9e4)
    ticks = simulate(market).select("time", "price", "amount", "side", pl.col("id") + 7_000)
    whole = pl.col("time") // UNIT_NS[unit] * UNIT_NS[unit]
    ticks = ticks.with_columns(whole, pl.col("price").round(2), pl.col("amount").round(5))
    return ticks if ids else ticks.drop("id").with_columns(side=pl.lit(0, pl.Int8()))


# --- what a source gave


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited before trying again."""
    seconds: list[float] = []
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=seconds.append))
    return seconds


@dataclass
class Given:
    """What a source gave, put together."""

    ticks: pl.DataFrame
    pages: list[Page] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    @property
    def noted(self) -> dict[str, int]:
        return {reason: rows for page in self.pages for reason, rows in page.set_aside}


def collect(source: Source, start_ns: int, stop_ns: int, truth: pl.DataFrame) -> Given:
    """Go through a source's pages and hold it to its contract.

    After each page all true ticks before its `until_ns` must have been given, but for those in
    spans that are missing, and no others; a tick twice only with an id.
    """
    given = Given(truth.clear())
    span = truth.filter(pl.col("time").is_between(start_ns, stop_ns, closed="left"))
    until_ns = start_ns
    for part in source.pages(start_ns, stop_ns):
        if isinstance(part, Missing):
            assert start_ns <= part.start_ns < part.stop_ns <= stop_ns
            assert part.start_ns >= until_ns
            given.missing.append(part)
            continue
        assert until_ns <= part.until_ns <= stop_ns
        assert part.ticks["time"].is_between(start_ns, stop_ns, closed="left").all()
        until_ns = part.until_ns
        given.pages.append(part)
        given.ticks = _joined(given.ticks, part.ticks)
        known = _known(given.ticks, until_ns, given.missing)
        assert known.equals(_known(span, until_ns, given.missing))
    ends = [until_ns, *(gap.stop_ns for gap in given.missing)]
    assert max(ends) == stop_ns, "nothing is said of the end of the span"
    return given


def _joined(ticks: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    if more.is_empty():
        return ticks
    ticks = pl.concat([ticks, more.select(ticks.columns)])
    if "id" in ticks.columns:
        return ticks.unique("id", maintain_order=True).sort("time", "id")
    return ticks.sort("time", maintain_order=True)


def _known(ticks: pl.DataFrame, until_ns: int, gaps: list[Missing]) -> pl.DataFrame:
    ticks = ticks.filter(pl.col("time") < until_ns)
    for gap in gaps:
        ticks = ticks.filter(~pl.col("time").is_between(gap.start_ns, gap.stop_ns, closed="left"))
    return ticks


# --- bodies at addresses


Bodies = bytes | list[bytes] | int


@dataclass
class Shelf:
    """Answers with the body at a path, 404 where there is none.

    Attributes:
        bodies: at a path: bytes; several, one a request, the last for ever; or a status.
    """

    bodies: dict[str, Bodies] = field(default_factory=dict)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        body = self.bodies.get(request.path, 404)
        if isinstance(body, list):
            body = body.pop(0) if len(body) > 1 else body[0]
        if isinstance(body, int):
            return web.Response(status=body, text="no such key")
        return web.Response(body=body)


# --- Binance's archive


def binance_rows(
    ticks: pl.DataFrame, market: str = "spot", kind: str = "trades", unit: str = "ms"
) -> pl.DataFrame:
    """The columns of a market's file, as text."""
    price, amount, number = ticks["price"], ticks["amount"], ticks["id"]
    rows: dict[str, Any] = {"id": number, "price": price, "qty": amount}
    if kind == "trades":
        rows["quote_qty"] = amount if market == "cm" else price * amount
    else:
        rows |= {"first_id": number * 2, "last_id": number * 2 + 1}
    rows["time"] = ticks["time"] // UNIT_NS[unit]
    rows["is_buyer_maker"] = ticks["side"] < 0
    if market == "spot":
        rows["is_best_match"] = [True] * len(ticks)
    flags = [name for name in ("is_buyer_maker", "is_best_match") if name in rows]
    frame = pl.DataFrame(rows)
    if market == "spot":
        return frame.with_columns(pl.col(flags).cast(pl.String).str.to_titlecase())
    return frame


def binance_text(rows: pl.DataFrame, *, header: bool = False) -> bytes:
    return rows.write_csv(include_header=header).encode()


def zipped(*members: tuple[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, text in members:
            archive.writestr(name, text)
    return sink.getvalue()


@dataclass
class BinanceShelf(Shelf):
    """One market of Binance's archive."""

    symbol: str = "BTCUSDT"
    market: str = "spot"
    kind: str = "trades"

    def path(self, label: str) -> str:
        period = "monthly" if len(label) == 7 else "daily"
        folder = f"/data/{FOLDERS[self.market]}/{period}/{self.kind}/{self.symbol}"
        return f"{folder}/{self.symbol}-{self.kind}-{label}.zip"

    def member(self, label: str) -> str:
        return f"{self.symbol}-{self.kind}-{label}.csv"

    def put(self, label: str, body: bytes, told: bytes | None = None) -> None:
        """Put a zip, and its checksum or another's."""
        path = self.path(label)
        self.bodies[path] = body
        self.bodies[f"{path}.CHECKSUM"] = self.checksum(label, body if told is None else told)

    def checksum(self, label: str, body: bytes) -> bytes:
        name = self.path(label).rpartition("/")[2]
        return f"{hashlib.sha256(body).hexdigest()}  {name}\n".encode()

    def put_ticks(
        self, ticks: pl.DataFrame, labels: Iterable[str], unit: str = "ms", *, header: bool = False
    ) -> None:
        """Put the ticks of days (`2024-01-05`) or months (`2024-01`) there."""
        date = pl.from_epoch(pl.col("time"), time_unit="ns").dt.strftime("%Y-%m-%d")
        for label in labels:
            rows = ticks.filter(date.str.starts_with(label))
            text = binance_text(binance_rows(rows, self.market, self.kind, unit), header=header)
            self.put(label, zipped((self.member(label), text)))


def days_of(month: str, count: int) -> list[str]:
    return [f"{month}-{day:02}" for day in range(1, count + 1)]


# --- CoinMarketCap


@dataclass
class QuoteService:
    """CoinMarketCap's two endpoints for one coin.

    Attributes:
        quotes: times and prices, in order.
        key: the one that is taken.
        wrap: puts the coin where an answer has it.
    """

    quotes: pl.DataFrame
    key: str = "5ecret-5ecret"
    wrap: Callable[[dict[str, Any]], Any] = lambda coin: {"1": coin}

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("X-CMC_PRO_API_KEY") != self.key:
            told = request.headers.get("X-CMC_PRO_API_KEY", "none")
            return _json({"status": {"error_message": f"This API Key is invalid: {told}"}}, 401)
        if request.path == "/v1/cryptocurrency/map":
            return _json(_status() | {"data": self._coins(request.query["symbol"])})
        assert request.path == "/v3/cryptocurrency/quotes/historical"
        assert request.query["interval"] == "5m"
        return _json(_status() | {"data": self.wrap(self._coin(request))})

    def _coins(self, symbol: str) -> list[dict[str, Any]]:
        if symbol != "BTC":
            return []
        return [{"id": 99, "rank": 4000, "symbol": "BTC"}, {"id": 1, "rank": 1, "symbol": "BTC"}]

    def _coin(self, request: web.Request) -> dict[str, Any]:
        """As the real one: later than its start, no later than its end, and the first so many."""
        assert request.query["id"] == "1"
        after, until = (day_ns(request.query[k][:-1]) for k in ("time_start", "time_end"))
        times = pl.col("time")
        rows = self.quotes.filter((times > after) & (times <= until)).head(
            min(int(request.query["count"]), 10_000)
        )
        currency = request.query["convert"]
        quotes = [
            {"timestamp": iso_ms(time), "quote": {currency: {"price": price}}}
            for time, price in rows.iter_rows()
        ]
        return {"id": 1, "symbol": "BTC", "quotes": quotes}


def _status() -> dict[str, Any]:
    return {"status": {"error_code": 0, "error_message": None}}


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def iso_ms(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns / 1e9, tz=UTC):%Y-%m-%dT%H:%M:%S}.000Z"


# --- bitcoincharts


@dataclass
class TradePages:
    """bitcoincharts' pages of one market.

    Attributes:
        ticks: times in whole seconds, sorted.
        size: trades a page.
        changed: what to do with a page before it is sent, by the number of the request.
    """

    ticks: pl.DataFrame
    size: int = 50
    changed: dict[int, Callable[[pl.DataFrame], pl.DataFrame]] = field(default_factory=dict)
    asked: int = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/csv/bitstampUSD.csv.gz"):
            return web.Response(body=gzip.compress(charts_text(self.ticks), 1))
        assert request.path.endswith("/trades.csv")
        assert request.query["symbol"] == "bitstampUSD"
        start_ns = int(request.query["start"]) * S_NS
        page = self.ticks.filter(pl.col("time") >= start_ns).head(self.size)
        page = self.changed.get(self.asked, lambda same: same)(page)
        self.asked += 1
        return web.Response(body=charts_text(page))


def charts_text(ticks: pl.DataFrame) -> bytes:
    """`unixtime,price,amount` with twelve decimals, as they write them."""
    rows = ticks.select(pl.col("time") // S_NS, "price", "amount")
    return rows.write_csv(include_header=False, float_precision=12).encode()


def bomb(size: int, member: str = "BTCUSDT-trades-2024-01-02.csv") -> bytes:
    """A zip of so many zeros."""
    return zipped((member, b"0" * size))


def gzip_bomb(size: int) -> bytes:
    piece = 1 << 20
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=1) as file:
        for _ in range(math.ceil(size / piece)):
            file.write(b"0" * piece)
    return sink.getvalue()


def every(kinds: Iterable[Any], times: int) -> Iterator[Any]:
    """Faults in turn, so many times."""
    for _ in range(times):
        yield from kinds
