"""Binance's public archive: a zip for each day or month of a market, and its SHA-256 beside it.

A month that is asked for whole is got as one file, other days and months that are not there yet
day by day. Some files are downloaded ahead, into the system's temporary folder (`TMPDIR` names
another), while the first is read. A file with a wrong checksum is fetched once more; a month that
is wrong then is got by its days, and a day that is wrong is missing, with the reason.

Days come the day after, months some days after their end, and both are replaced later at times.
"""

from __future__ import annotations

import re
import tempfile
from calendar import monthrange
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from itertools import islice
from pathlib import Path

import polars as pl

from nexttick.ticks.days import by_day, day_of, day_span
from nexttick.ticks.record import SCHEMA, TickError
from nexttick.ticks.source import Missing, Page, Series, SourceError
from nexttick.venues.archives.spool import Spool, clipped, make_page, now_ns
from nexttick.venues.archives.unpacking import read_columns, unpacked_lines
from nexttick.venues.http import Http, NotThereError, UnreachableError
from nexttick.venues.retrying import ATTEMPTS

BASE_URL = "https://data.binance.vision"
DOWNLOADS = 4
_FOLDERS = {"spot": "spot", "um": "futures/um", "cm": "futures/cm"}
_VENUES = {"spot": "binance", "um": "binance-um", "cm": "binance-cm"}
_TIME = {"trades": 4, "aggTrades": 5}  # its place in a line, by kind
_NO_TICKS = pl.DataFrame(schema=SCHEMA)
_TELL_S = 1.0  # between two words on how much came
_UNREACHABLE = 3  # so many files on end, and the archive itself is
_ONE_SIDED = 1000  # rows of one day all of whose sides are one: no market, but a mistake
_FIRST_US, _FIRST_NS = 10**14, 10**17  # smaller are ms until the year 5138, µs until 5138
_SUM = re.compile(rb"([0-9a-fA-F]{64})\s+\*?(\S+)\s*")
_OWN_NAME = re.compile(r"[A-Z0-9]+(_[A-Z0-9]+)?")
_CCXT_NAME = re.compile(r"([A-Z0-9]+)/([A-Z0-9]+)(?::([A-Z0-9]+)(?:-(\d{6}))?)?")


@dataclass(frozen=True)
class ArchiveFile:
    """One file of the archive."""

    period: str  # `daily` or `monthly`
    first: date
    days: int
    instead: str = ""  # why it is got instead of a month's file, where that one is wrong

    @property
    def label(self) -> str:
        """What its name says: `2024-01` or `2024-01-05`."""
        return self.first.isoformat()[: 7 if self.period == "monthly" else 10]

    @property
    def dates(self) -> list[date]:
        """Its days, in order."""
        return [self.first + timedelta(days=k) for k in range(self.days)]


def plan(start_ns: int, stop_ns: int, today: date) -> list[ArchiveFile]:
    """The files that cover a span up to yesterday: whole past months, and single days."""
    wanted = [day for day, _ in by_day((start_ns, stop_ns)) if day < today]
    files: list[ArchiveFile] = []
    for day in wanted:
        if files and day <= files[-1].dates[-1]:
            continue
        month = ArchiveFile("monthly", day, monthrange(day.year, day.month)[1])
        whole = day.day == 1 and wanted[-1] >= month.dates[-1]
        past = (day.year, day.month) < (today.year, today.month)
        files.append(month if whole and past else ArchiveFile("daily", day, 1))
    return files


def archive_symbol(symbol: str, market: str) -> str:
    """What the archive calls a market: `BTC/USDT` is `BTCUSDT`; its own names stay."""
    name = symbol.upper()
    if _OWN_NAME.fullmatch(name):
        return name
    found = _CCXT_NAME.fullmatch(name)
    if found is None or (market == "spot" and found[3]):
        raise ValueError(
            f"symbol {symbol!r} is none of Binance's {market} market: give it like BTC/USDT "
            "(coin-margined BTC/USD:BTC), or as the archive names it"
        )
    base, quote, _, expiry = found.groups()
    ending = expiry or ("PERP" if market == "cm" else "")
    return f"{base}{quote}{'_' if ending else ''}{ending}"


@dataclass(frozen=True)
class _Got:
    """What came of one file: its path, or why there is none."""

    file: ArchiveFile
    path: Path | None
    reason: str = ""
    fault: bool = False
    unreachable: bool = False


class BinanceArchive:
    """Trades or aggregated trades of one market from data.binance.vision.

    Args:
        symbol: as ccxt writes it (`BTC/USDT`; futures also `BTC/USDT:USDT`, `BTC/USD:BTC`,
            `BTC/USDT:USDT-241227`), or the archive's own name (`BTCUSDT`, `BTCUSD_PERP`).
        market: `spot`, `um` (USD-margined futures) or `cm` (coin-margined; amounts in contracts).
        kind: `trades` or `aggTrades`.
        base_url: the archive or a mirror of it.
        jobs: files that are downloaded at once, and that wait on disk at most.
        timeout_s: longest silence of a connection.
        attempts: how often a request is tried that fails in passing.
    """

    def __init__(
        self,
        symbol: str,
        market: str = "spot",
        kind: str = "trades",
        *,
        base_url: str = BASE_URL,
        jobs: int = DOWNLOADS,
        timeout_s: float = 30.0,
        attempts: int = ATTEMPTS,
    ):
        if market not in _FOLDERS:
            raise ValueError(f"market {market!r} is none of {', '.join(_FOLDERS)}")
        if kind not in _TIME:
            raise ValueError(f"kind {kind!r} is none of {', '.join(_TIME)}")
        if jobs < 1:
            raise ValueError(f"jobs {jobs} must be at least 1")
        self._own = archive_symbol(symbol, market)
        self._base = f"{base_url.rstrip('/')}/data/{_FOLDERS[market]}"
        self._kind, self._downloads = kind, jobs
        self._client = partial(Http, timeout_s=timeout_s, attempts=attempts)
        self.name = "data.binance.vision"
        self.series = Series(_VENUES[market], symbol.upper(), kind)
        # The ids of futures' trades leave single numbers out.
        self.consecutive_ids = market == "spot" or kind == "aggTrades"

    def pages(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        """Go through the ticks with start_ns <= time < stop_ns, one page a UTC day.

        While a file is being downloaded there is a page without ticks a second, which tells how
        many bytes came. A day that is not there is `Missing`, as is one whose file is wrong. A
        SourceError where the archive refuses, or cannot be reached.
        """
        today = day_of(now_ns())
        files = plan(start_ns, stop_ns, today)
        with (
            tempfile.TemporaryDirectory(prefix="nexttick-") as name,
            closing(self._client()) as http,
            closing(self._parts(http, files, Path(name))) as parts,
        ):
            until_ns = start_ns
            for whole in parts:
                part = clipped(whole, start_ns, stop_ns) if whole else Page(_NO_TICKS, until_ns)
                if isinstance(part, Page):
                    until_ns = part.until_ns
                    part = replace(part, received=http.received())
                yield part
        late_ns = max(start_ns, day_span(today)[0])
        if late_ns < stop_ns:
            reason = f"{self._own} from {day_of(late_ns)} on: a day's file comes the day after"
            yield Missing(late_ns, stop_ns, f"{reason}; fetch it then", fault=False)

    # --- reading

    def _parts(
        self, http: Http, files: list[ArchiveFile], folder: Path
    ) -> Generator[Page | Missing | None]:
        """Pages and gaps of whole files, None while one is waited for."""
        line, unreachable = deque(files), 0
        with closing(self._downloaded(http, line, folder)) as downloaded:
            for got in downloaded:
                if got is None:
                    yield None
                    continue
                file, reason, fault = got.file, got.reason, got.fault
                if got.path is not None:
                    try:
                        spool, noted = self._read(file, got.path, folder)
                    except TickError as error:
                        reason, fault = str(error), True
                    else:
                        yield from self._pages_of(file, spool, noted)
                if reason and file.period == "monthly":
                    # Its days may be there, or right, where the month is not.
                    instead = reason if fault else ""
                    days = [ArchiveFile("daily", day, 1, instead) for day in file.dates]
                    line.extendleft(reversed(days))
                elif reason:
                    if file.instead and not fault:
                        reason = f"{reason}; and the month's file is wrong: {file.instead}"
                        fault = True
                    yield Missing(*day_span(file.first), reason, fault)
                unreachable = unreachable + 1 if got.unreachable else 0
                if unreachable == _UNREACHABLE:
                    raise SourceError(f"{got.reason}; nor were the files before it to be had")

    def _read(
        self, file: ArchiveFile, path: Path, folder: Path
    ) -> tuple[Spool, list[tuple[str, int]]]:
        """Sort a file's ticks by day, and count what is set aside; the file is deleted."""
        spool, rows, strange = Spool(folder), 0, 0
        first_ns, stop_ns = day_span(file.first)[0], day_span(file.dates[-1])[1]
        try:
            for frame in frames(path, self._member(file), self._kind):
                inside = frame.filter(pl.col("time").is_between(first_ns, stop_ns, closed="left"))
                rows, strange = rows + len(frame), strange + len(frame) - len(inside)
                spool.add(inside)
        finally:
            path.unlink()
        reason = f"time outside {file.label}, which the file is of"
        if 2 * strange > rows:
            raise TickError(f"{self._member(file)}: {strange:,} of {rows:,} rows: {reason}")
        return spool, [(reason, strange)] if strange else []

    def _pages_of(
        self, file: ArchiveFile, spool: Spool, noted: list[tuple[str, int]]
    ) -> Iterator[Page]:
        for day in file.dates:
            ticks = spool.take(day)
            if file.instead:
                reason = f"the day's own file taken, the month's is wrong: {file.instead}"
                noted = [*noted, (reason, len(ticks))]
            if len(ticks) >= _ONE_SIDED and ticks["side"].n_unique() == 1:
                reason = "side not believed, for all rows of the day say the same: unknown"
                noted = [*noted, (reason, len(ticks))]
                ticks = ticks.with_columns(side=pl.lit(0, pl.Int8()))
            yield make_page(ticks, f"{self._own} {day}", day_span(day)[1], noted=noted)
            noted = []

    # --- downloading

    def _downloaded(
        self, http: Http, line: deque[ArchiveFile], folder: Path
    ) -> Generator[_Got | None]:
        """Take files from the line as they come, in order, with some of them under way.

        None, each second that one is waited for.
        """
        under_way: dict[ArchiveFile, Future[_Got]] = {}
        with ThreadPoolExecutor(self._downloads) as pool:
            try:
                while line:
                    for file in islice(line, self._downloads):
                        if file not in under_way:
                            under_way[file] = pool.submit(self._fetch, http, folder, file)
                    first = under_way.pop(line.popleft())
                    while not wait([first], _TELL_S).done:
                        yield None
                    yield first.result()
            finally:
                http.close()
                pool.shutdown(cancel_futures=True)

    def _fetch(self, http: Http, folder: Path, file: ArchiveFile) -> _Got:
        """Download one file; what concerns no other file is in the answer, not raised."""
        zipped = self._member(file).replace(".csv", ".zip")
        url = f"{self._base}/{file.period}/{self._kind}/{self._own}/{zipped}"
        path, what = folder / zipped, f"{self._own} {file.label}"
        try:
            # Twice: a file that is replaced just now may not be the one that the sum is of.
            for _ in range(2):
                sha256 = http.download(url, what, path)
                try:
                    body = http.get(f"{url}.CHECKSUM", what, max_bytes=100_000)
                except NotThereError as error:
                    said = str(error)
                else:
                    found = _SUM.fullmatch(body)
                    said = f"{body[:80]!r}, which is no sum of that file"
                    if found is not None and found[2] == zipped.encode():
                        said = found[1].decode().lower()
                if said == sha256:
                    return _Got(file, path)
        except (NotThereError, UnreachableError) as error:
            path.unlink(missing_ok=True)
            failed = isinstance(error, UnreachableError)
            return _Got(file, None, reason=str(error), fault=failed, unreachable=failed)
        path.unlink()
        reason = (
            f"{what}: {zipped} has the SHA-256 {sha256}, and by {zipped}.CHECKSUM it should "
            f"have {said}, twice in turn; fetch it again later"
        )
        return _Got(file, None, reason, fault=True)

    def _member(self, file: ArchiveFile) -> str:
        return f"{self._own}-{self._kind}-{file.label}.csv"


def frames(path: Path, member: str, kind: str) -> Iterator[pl.DataFrame]:
    """Go through the ticks of one zip as they stand there, with their ids."""
    # With a header or without, the columns of the two kinds differ before the time:
    #   trades     id, price, qty, quoteQty (coin-margined: baseQty), time, isBuyerMaker[, …]
    #   aggTrades  id, price, qty, firstId, lastId, time, isBuyerMaker[, isBestMatch]
    # isBuyerMaker true means that the seller took; qty is in contracts on the coin-margined market.
    line, width, time = 1, 0, _TIME[kind]
    side = pl.when("buyer_maker").then(-1).otherwise(1).cast(SCHEMA["side"]).alias("side")
    columns = {
        0: ("id", pl.Int64()),
        1: ("price", pl.Float64()),
        2: ("amount", pl.Float64()),
        time: ("time", pl.Int64()),
        time + 1: ("buyer_maker", pl.Boolean()),
    }
    for piece in unpacked_lines(path, member):
        text = piece
        if line == 1:
            if not piece[:1].isdigit():  # only some files have a header
                header = piece[: piece.find(b"\n")]
                names = header.decode(errors="replace").strip().lower().split(",")
                if len(names) <= time + 1 or names[1] != "price" or "time" not in names[time]:
                    raise TickError(f"{member}, line 1: {header[:80]!r} is no header of {kind}")
                text, line = piece[len(header) + 1 :], 2
            width = text[: text.find(b"\n")].count(b",") + 1
        if not text:
            continue
        where = f"{member}, line {line} on"
        if not time + 2 <= width <= time + 3:
            raise TickError(f"{where}: {width} fields, {kind} have {time + 2} or {time + 3}")
        frame = read_columns(text, columns, width, where)
        line += len(frame)
        # The unit of each time by its size; one multiplication where all are of one, as nearly
        # always.
        times, ns = frame["time"], pl.col("time")
        lowest, highest = int(times.min() or 0), int(times.max() or 0)  # type: ignore[arg-type]
        if highest < _FIRST_US:
            ns = ns * 10**6
        elif lowest >= _FIRST_US and highest < _FIRST_NS:
            ns = ns * 10**3
        else:
            scaled = pl.when(ns < _FIRST_US).then(ns * 10**6).otherwise(ns * 10**3)
            ns = pl.when(ns < _FIRST_NS).then(scaled).otherwise(ns).alias("time")
        yield frame.select(ns, "price", "amount", side, "id")
