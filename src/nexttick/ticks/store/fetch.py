"""Fetching: from a source's pages to whole days in a store, and going on where it stopped.

Pages are cut at UTC days. What a page says is complete is committed a day at a time, and a part of
a day after every so many rows or seconds and whenever the fetch ends early: by an error, Ctrl-C or
a kill that can be caught. What is kept in memory is what has come since the last commit.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from nexttick.ticks.cleaning import clean
from nexttick.ticks.days import DAY_NS, Span, by_day, day_of, readable
from nexttick.ticks.record import TickError
from nexttick.ticks.source import Missing, Page, Series, Source, SourceError, TransientError
from nexttick.ticks.store import Store
from nexttick.ticks.store.records import STORED, DayRecord, Provenance
from nexttick.ticks.store.writer import WAIT_S, SeriesWriter, as_stored, within, writing

COMMIT_ROWS = 500_000
COMMIT_S = 30.0


@dataclass(frozen=True)
class Progress:
    """How far a fetch has come."""

    day: date  # whose ticks come now
    day_share: float  # how much of it is complete
    share: float  # how much of all that was missing is, counted in time
    days: int  # how many are finished
    rows: int
    received: int  # in bytes
    seconds: float  # since the start


@dataclass
class Summary:
    """What a fetch did."""

    series: Series
    source: str
    rows: int = 0  # ticks that are new in the store
    received: int = 0  # in bytes
    seconds: float = 0.0
    records: dict[date, DayRecord] = field(default_factory=dict)  # of the days that changed
    missing: list[Missing] = field(default_factory=list)  # what the source could not give
    replaced: dict[date, str] = field(default_factory=dict)  # damaged before, and how

    @property
    def set_aside(self) -> dict[str, int]:
        """Rows set aside or mended in the days that changed, by reason."""
        return dict(sum((Counter(one.set_aside) for one in self.records.values()), Counter()))

    @property
    def faults(self) -> list[Missing]:
        """What lacks because something is wrong."""
        return [one for one in self.missing if one.fault]


def fetch(
    source: Source,
    store: Store,
    start_ns: int,
    stop_ns: int,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    *,
    on_wait: Callable[[str], None] = lambda message: None,
    wait_s: float = WAIT_S,
    commit_rows: int = COMMIT_ROWS,
    commit_s: float = COMMIT_S,
) -> Summary:
    """Fetch what a store does not have yet of a span of time.

    Args:
        source: where the ticks come from.
        store: where they go.
        start_ns: start of the span, ns since 1970, UTC.
        stop_ns: its end, not included; what lies in the future is left out.
        on_progress: called after each page.
        on_wait: called with a message where another process writes this series.
        wait_s: how long to wait for it.
        commit_rows: a part of a day is committed after so many ticks,
        commit_s: or after so many seconds.

    Returns:
        What was done. What the source could not give is in `missing`, and is asked for again by
        the next fetch.

    Raises:
        SourceError: the venue cannot be reached, or refuses; with source, series and day.
        TickError: what came is not what it should be; likewise.
        LockedError: another process has been writing the series for `wait_s`.
        OSError: the store cannot be written.
    """
    stored = store.open(source.series)
    with writing(stored, on_wait, wait_s) as writer:
        fetching = _Fetch(source, writer, on_progress, commit_rows, commit_s)
        return fetching.run(start_ns, stop_ns)


@dataclass(frozen=True)
class _Pending:
    """Ticks that are not committed yet, and how far they are complete.

    It is replaced as a whole, so that an interruption never leaves half of a change.
    """

    wanted: Span
    start_ns: int  # what is before it is committed, or lacks
    until_ns: int
    pieces: tuple[pl.DataFrame, ...] = ()
    set_aside: tuple[tuple[str, int], ...] = ()

    @property
    def rows(self) -> int:
        return sum(map(len, self.pieces))

    def take(self, page: Page) -> _Pending:
        """With the ticks of another page."""
        cleaned, table = clean(page.ticks, outliers=False, may_be_empty=True)
        lost = table.filter(~pl.col("kept")).group_by("reason").agg(pl.col("rows").sum())
        aside = Counter(dict(lost.rows()))
        ticks = within(as_stored(cleaned), [self.wanted])
        fresh = ticks.filter(pl.col("time") >= self.start_ns)
        late = Counter({"came again after its time was complete": len(ticks) - len(fresh)})
        counts = Counter(dict(self.set_aside)) + Counter(dict(page.set_aside)) + aside + late
        return _Pending(
            self.wanted,
            self.start_ns,
            min(max(self.until_ns, page.until_ns), self.wanted[1]),
            (*self.pieces, fresh),
            tuple(counts.items()),
        )

    def after(self, time_ns: int) -> _Pending:
        """Without what was before a time."""
        rest = tuple(piece.filter(pl.col("time") >= time_ns) for piece in self.pieces)
        kept = tuple(piece for piece in rest if len(piece))
        return _Pending(self.wanted, time_ns, max(time_ns, self.until_ns), kept)


class _Fetch:
    def __init__(
        self,
        source: Source,
        writer: SeriesWriter,
        on_progress: Callable[[Progress], None],
        commit_rows: int,
        commit_s: float,
    ):
        self._source, self._writer, self._on_progress = source, writer, on_progress
        self._commit_rows, self._commit_s = commit_rows, commit_s
        self._summary = Summary(source.series, source.name)
        self._begun_s = self._committed_s = time.monotonic()
        self._pending = _Pending((0, 0), 0, 0)
        self._came, self._now_ns = 0, time.time_ns()

    def run(self, start_ns: int, stop_ns: int) -> Summary:
        damaged = dict(self._writer.days.damaged)
        spans = self._writer.days.missing(start_ns, min(stop_ns, self._now_ns))
        wanted_ns, done_ns = sum(stop - start for start, stop in spans), 0
        for span in spans:
            self._fetch_span(span, done_ns, wanted_ns)
            done_ns += span[1] - span[0]
        summary = self._summary
        summary.replaced = {day: damaged[day] for day in damaged if day in summary.records}
        summary.seconds = time.monotonic() - self._begun_s
        return summary

    def _fetch_span(self, span: Span, done_ns: int, wanted_ns: int) -> None:
        start_ns, stop_ns = span
        self._pending = _Pending(span, start_ns, start_ns)
        source, summary = self._source, self._summary
        try:
            for page in source.pages(*span):
                if isinstance(page, Missing):
                    self._skip(page)
                else:
                    self._take(page)
                until_ns = min(self._pending.until_ns, stop_ns - 1)
                progress = Progress(
                    day=day_of(until_ns),
                    day_share=until_ns % DAY_NS / DAY_NS,
                    share=(done_ns + self._pending.until_ns - start_ns) / wanted_ns,
                    days=len(summary.records),
                    rows=self._came,
                    received=summary.received,
                    seconds=time.monotonic() - self._begun_s,
                )
                self._on_progress(progress)
        except (SourceError, TickError, TransientError) as error:
            day = day_of(min(self._pending.until_ns, stop_ns - 1))
            kind = TickError if isinstance(error, TickError) else SourceError
            raise kind(
                f"{source.name}, {source.series}, {day}: {error}; what came before is "
                "kept, and fetching again goes on there"
            ) from error
        # Ctrl-C comes here too: what is complete is kept. One that meets polars is raised twice, by
        # polars and then by Python, amid the commit.
        finally:
            try:
                self._commit(self._pending.until_ns)
            except KeyboardInterrupt:
                self._commit(self._pending.until_ns)
                raise
        if self._pending.until_ns < stop_ns:
            reason = f"{source.name} gave nothing beyond {readable(self._pending.until_ns)}"
            fault = stop_ns < self._now_ns
            summary.missing.append(Missing(self._pending.until_ns, stop_ns, reason, fault))

    def _take(self, page: Page) -> None:
        self._summary.received += page.received
        self._came += len(page.ticks)
        self._pending = self._pending.take(page)
        until_ns = self._pending.until_ns
        midnight_ns = until_ns - until_ns % DAY_NS
        waited_s = time.monotonic() - self._committed_s
        if self._pending.rows >= self._commit_rows or waited_s >= self._commit_s:
            self._commit(until_ns)
        elif midnight_ns > self._pending.start_ns:
            self._commit(midnight_ns)

    def _skip(self, missing: Missing) -> None:
        # Ticks between what is known to be complete and the span's end may be some or all of those
        # that there were: they are left to another fetch.
        self._summary.missing.append(missing)
        self._commit(self._pending.until_ns)
        stop_ns = min(missing.stop_ns, self._pending.wanted[1])
        self._pending = self._pending.after(max(self._pending.until_ns, stop_ns))

    def _commit(self, until_ns: int) -> None:
        """Write what is complete before a time, day by day."""
        for day, (start, stop) in by_day((self._pending.start_ns, until_ns)):
            pending = self._pending
            pieces = [within(piece, [(start, stop)]) for piece in pending.pieces]
            ticks = pl.concat([pl.DataFrame(schema=STORED), *pieces])
            provenance = Provenance(
                self._source.name, self._source.consecutive_ids, dict(pending.set_aside)
            )
            record, new = self._writer.write(ticks, (start, stop), provenance)
            self._pending = pending.after(stop)
            self._summary.rows += new
            self._summary.records[day] = record
        self._committed_s = time.monotonic()
