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
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from itertools import islice
from pathlib import Path

import polars as pl

from nexttick.ticks.record import SCHEMA, TickError
from nexttick.ticks.source import Missing, Page, Series, SourceError
from nexttick.venues.archives import binance_files
from nexttick.venues.archives.binance_files import ArchiveFile, archive_symbol, plan
from nexttick.venues.archives.spool import DAY_NS, Days, day_name, make_page, within
from nexttick.venues.http import Http, NotThereError, UnreachableError
from nexttick.venues.retrying import ATTEMPTS

BASE_URL = "https://data.binance.vision"
JOBS = 4
_FOLDERS = {"spot": "spot", "um": "futures/um", "cm": "futures/cm"}
_VENUES = {"spot": "binance", "um": "binance-um", "cm": "binance-cm"}
_KINDS = ("trades", "aggTrades")
_NO_TICKS = pl.DataFrame(schema=SCHEMA)
_TELL_S = 1.0  # between two words on how much came
_UNREACHABLE = 3  # so many files on end, and the archive itself is
_ONE_SIDED = 1000  # rows of one day all of whose sides are one: no market, but a mistake
_SUM = re.compile(rb"([0-9a-fA-F]{64})\s+\*?(\S+)\s*")


@dataclass(frozen=True)
class _Got:
    """What came of one file: its path, or why there is none."""

    file: ArchiveFile
    path: Path | None
    reason: str = ""
    fault: bool = False
    unreachable: bool = False


@dataclass(frozen=True)
class _Read:
    """A file's ticks by day, and what was set aside."""

    days: Days
    noted: tuple[tuple[str, int], ...]


@dataclass
class _Waiting:
    """A file that is to be downloaded, or is being."""

    file: ArchiveFile
    future: Future[_Got] | None = None


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

    Attributes:
        consecutive_ids: true but for futures' trades, whose ids leave single numbers out.

    Raises:
        ValueError: an argument is wrong.
    """

    def __init__(
        self,
        symbol: str,
        market: str = "spot",
        kind: str = "trades",
        *,
        base_url: str = BASE_URL,
        jobs: int = JOBS,
        timeout_s: float = 30.0,
        attempts: int = ATTEMPTS,
    ):
        if market not in _FOLDERS:
            raise ValueError(f"market {market!r} is none of {', '.join(_FOLDERS)}")
        if kind not in _KINDS:
            raise ValueError(f"kind {kind!r} is none of {', '.join(_KINDS)}")
        if jobs < 1:
            raise ValueError(f"jobs {jobs} must be at least 1")
        self._own = archive_symbol(symbol, market)
        self._base = f"{base_url.rstrip('/')}/data/{_FOLDERS[market]}"
        self._kind, self._jobs = kind, jobs
        self._client = partial(Http, timeout_s=timeout_s, attempts=attempts)
        self.name = "data.binance.vision"
        self.series = Series(_VENUES[market], symbol.upper(), kind)
        self.consecutive_ids = market == "spot" or kind == "aggTrades"

    def pages(self, start_ns: int, stop_ns: int) -> Iterator[Page | Missing]:
        """Go through the ticks with start_ns <= time < stop_ns, one page a UTC day.

        While a file is being downloaded there is a page without ticks a second, which tells how
        many bytes came. A day that is not there is `Missing`, as is one whose file is wrong.

        Raises:
            SourceError: the archive refuses, or cannot be reached.
            OSError: the temporary folder cannot be written in.
        """
        today = _today()
        files = plan(start_ns, stop_ns, today)
        with (
            tempfile.TemporaryDirectory(prefix="nexttick-") as name,
            closing(self._client()) as http,
            closing(self._parts(http, files, Path(name))) as parts,
        ):
            until_ns = start_ns
            for whole in parts:
                part = within(whole, start_ns, stop_ns) if whole else Page(_NO_TICKS, until_ns)
                if isinstance(part, Page):
                    until_ns = part.until_ns
                    part = replace(part, received=http.received())
                yield part
        late_ns = max(start_ns, (today - date(1970, 1, 1)).days * DAY_NS)
        if late_ns < stop_ns:
            reason = f"{self._own} from {day_name(late_ns)} on: a day's file comes the day after"
            yield Missing(late_ns, stop_ns, f"{reason}; fetch it then", fault=False)

    # --- reading

    def _parts(
        self, http: Http, files: list[ArchiveFile], folder: Path
    ) -> Generator[Page | Missing | None]:
        """Pages and gaps of whole files, None while one is waited for.

        A month that fails is got by its days instead.
        """
        line, unreachable = deque(_Waiting(file) for file in files), 0
        with closing(self._downloaded(http, line, folder)) as downloaded:
            for got in downloaded:
                if got is None:
                    yield None
                    continue
                read = self._read(got, folder)
                if isinstance(read, _Read):
                    yield from self._pages_of(got, read)
                elif got.file.period == "monthly":
                    instead = read.reason if read.fault else ""
                    line.extendleft(map(_Waiting, reversed(got.file.by_day(instead))))
                else:
                    yield _missing(read)
                unreachable = unreachable + 1 if got.unreachable else 0
                if unreachable == _UNREACHABLE:
                    raise SourceError(f"{got.reason}; nor were the files before it to be had")

    def _read(self, got: _Got, folder: Path) -> _Read | _Got:
        """Sort a file's ticks by day, or say what is wrong with it; the file is deleted."""
        if got.path is None:
            return got
        try:
            return self._by_day(got.file, got.path, Days(folder))
        except TickError as error:
            return replace(got, path=None, reason=str(error), fault=True)
        finally:
            got.path.unlink()

    def _by_day(self, file: ArchiveFile, path: Path, days: Days) -> _Read:
        first_ns, stop_ns = file.first_day * DAY_NS, (file.first_day + file.days) * DAY_NS
        member, rows, strange = self._member(file), 0, 0
        for frame in binance_files.frames(path, member, self._kind):
            inside = frame.filter(pl.col("time").is_between(first_ns, stop_ns, closed="left"))
            rows, strange = rows + len(frame), strange + len(frame) - len(inside)
            days.add(inside)
        reason = f"time outside {file.label}, which the file is of"
        if 2 * strange > rows:
            raise TickError(f"{member}: {strange:,} of {rows:,} rows: {reason}")
        return _Read(days, ((reason, strange),) if strange else ())

    def _pages_of(self, got: _Got, read: _Read) -> Iterator[Page]:
        noted = [*read.noted]
        for day in range(got.file.first_day, got.file.first_day + got.file.days):
            ticks = read.days.take(day)
            if got.file.instead:
                reason = f"the day's own file taken, the month's is wrong: {got.file.instead}"
                noted = [*noted, (reason, len(ticks))]
            if len(ticks) >= _ONE_SIDED and ticks["side"].n_unique() == 1:
                reason = "side not believed, for all rows of the day say the same: unknown"
                noted = [*noted, (reason, len(ticks))]
                ticks = ticks.with_columns(side=pl.lit(0, pl.Int8()))
            name = f"{self._own} {day_name(day * DAY_NS)}"
            yield make_page(ticks, name, (day + 1) * DAY_NS, noted=noted)
            noted = []

    # --- downloading

    def _downloaded(
        self, http: Http, line: deque[_Waiting], folder: Path
    ) -> Generator[_Got | None]:
        """Take files from the line as they come, in order, with `jobs` of them under way.

        None, each second that one is waited for.
        """
        with ThreadPoolExecutor(self._jobs) as pool:
            try:
                while line:
                    for waiting in islice(line, self._jobs):
                        if waiting.future is None:
                            waiting.future = pool.submit(self._fetch, http, folder, waiting.file)
                    first = line.popleft().future
                    assert first is not None
                    while not wait([first], _TELL_S).done:
                        yield None
                    yield first.result()
            finally:
                http.close()
                pool.shutdown(cancel_futures=True)

    def _fetch(self, http: Http, folder: Path, file: ArchiveFile) -> _Got:
        """Download one file; what concerns no other file is in the answer, not raised."""
        path = folder / self._member(file).replace(".csv", ".zip")
        try:
            return self._verified(http, path, file)
        except (NotThereError, UnreachableError) as error:
            path.unlink(missing_ok=True)
            failed = isinstance(error, UnreachableError)
            return _Got(file, None, reason=str(error), fault=failed, unreachable=failed)

    def _verified(self, http: Http, path: Path, file: ArchiveFile) -> _Got:
        zipped = path.name
        url = f"{self._base}/{file.period}/{self._kind}/{self._own}/{zipped}"
        what = f"{self._own} {file.label}"
        for _ in range(2):
            done = http.download(url, what, path)
            try:
                answer = http.get(f"{url}.CHECKSUM", what, max_bytes=100_000)
                told = _told_sum(answer.body, zipped)
            except (NotThereError, TickError) as error:
                told = str(error)
            if told == done.sha256:
                return _Got(file, path)
        path.unlink()
        reason = (
            f"{what}: {zipped} has the SHA-256 {done.sha256}, and by {zipped}.CHECKSUM it should "
            f"have {told}, twice in turn; fetch it again later"
        )
        return _Got(file, None, reason, fault=True)

    def _member(self, file: ArchiveFile) -> str:
        return f"{self._own}-{self._kind}-{file.label}.csv"


def _told_sum(body: bytes, zipped: str) -> str:
    found = _SUM.fullmatch(body)
    if found is None or found[2] != zipped.encode():
        raise TickError(f"{body[:80]!r}, which is no sum of that file")
    return found[1].decode().lower()


def _missing(got: _Got) -> Missing:
    start_ns = got.file.first_day * DAY_NS
    reason, fault = got.reason, got.fault
    if got.file.instead and not fault:
        reason, fault = f"{reason}; and the month's file is wrong: {got.file.instead}", True
    return Missing(start_ns, start_ns + got.file.days * DAY_NS, reason, fault)


def _today() -> date:
    return datetime.now(tz=UTC).date()
