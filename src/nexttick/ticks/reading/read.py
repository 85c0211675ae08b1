"""Reading every file or frame that holds ticks, whatever its dialect, into the record.

`read_ticks` finds out what a file is from its content: the packing from the first bytes, the
columns from their names or, without a header, from the kinds of their values, and the unit of
times from the years it would put them in. Where that is not sure it raises `TickError`, shows
what it saw and says how to tell it. Known dialects: lecture CSV, bitcoincharts, bitFlyer
executions, Binance trades and aggregated trades (spot and futures), QuestDB and GoCryptoTrader
exports, freqtrade's JSON and Parquet, Parquet in any layout with named columns, the record's own
CSV and Parquet, and pandas and Polars frames.

What it cannot know: whether `side` is the taker's, as it is on most venues (Coinbase's is the
maker's), and which of two columns that could be the amount is in units of the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from nexttick.ticks.cleaning import clean_parts
from nexttick.ticks.reading.delimited import read_delimited
from nexttick.ticks.reading.dialects import check_time_unit, parse_columns, roles_by_name
from nexttick.ticks.reading.files import PARQUET, expand, open_file
from nexttick.ticks.reading.values import Origin, Raw
from nexttick.ticks.record import SCHEMA, Ledger, Part, TickError

if TYPE_CHECKING:
    import pandas as pd

_STORED = [*SCHEMA, "id"]  # a store's day without trades is a file of no rows
_FREQTRADE = ("timestamp", "id", "type", "side", "price", "amount", "cost")


def read_ticks(
    paths: Any,
    *,
    columns: str | Mapping[str, str] | None = None,
    time_unit: str | None = None,
    outliers: bool = True,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read ticks of one market, clean them and say what was set aside.

    Args:
        paths: A file, a folder, a pattern like `"data/*.csv.gz"`, a Polars or pandas frame, or a
            list or tuple of these. Files may be plain, gzip, zip or zstd.
        columns: Which column is what where names don't say it: `"time=exec_date,price=px"`, or a
            mapping. Without a header, columns are numbered from 1.
        time_unit: `"s"`, `"ms"`, `"us"` or `"ns"`; inferred from the years 2009 to two from now
            where not given. Given, times from 1990 on are taken.
        outliers: Set isolated price outliers aside (see `nexttick.ticks.outliers`).

    Returns:
        ticks: Columns `time` (int64, ns since 1970, UTC), `price`, `amount` (float64), `side`
            (int8: +1 the buyer took, -1 the seller took, 0 unknown), `id` (int64) and `truth`
            where known; sorted by (time, id).
        set_aside: One row a file and reason: `file`, `reason`, `kept` (true for repairs and
            remarks), `rows`, `first` (line in the file) and `example`.

    Raises:
        TickError: Bad data; the message names file, line, column, value and cure.
        ValueError: A mistake in `columns` or `time_unit`.
    """
    given = parse_columns(columns)
    check_time_unit(time_unit)
    reading = _Reading(given, time_unit)
    many = paths if isinstance(paths, list | tuple) else [paths]
    if not many:
        raise TickError("no file was given to read; give files, folders, patterns or frames")
    skipped: list[str] = []
    for number, one in enumerate(many, start=1):
        if isinstance(one, str | Path):
            for path in expand(one, skipped):
                reading.take(reading.file(path))
        else:
            frame = one if isinstance(one, pl.DataFrame | pl.LazyFrame) else _from_pandas(one)
            reading.take(reading.by_role(frame.lazy(), f"frame {number}"))
    for name in skipped:
        reason = "no file of ticks by its ending: not read"
        reading.ledger.note(name, reason, 0, 0, "", kept=False)
    if reading.still and not reading.parts:
        raise TickError(f"{', '.join(reading.still)}: days without a single trade; give others too")
    return clean_parts(reading.parts, reading.ledger, outliers=outliers)


class _Reading:
    """Files and frames of one market, read one after the other; what came of them so far."""

    def __init__(self, given: Mapping[str, str], time_unit: str | None):
        self.given, self.time_unit = given, time_unit
        self.ledger = Ledger()
        self.parts: list[Part] = []
        self.still: list[str] = []  # files of days without a trade
        self._markets: dict[str, str] = {}

    def file(self, path: Path) -> Raw:
        """Read a file as what its first bytes say that it is."""
        opened = open_file(path)
        name = opened.name
        if opened.head.startswith(PARQUET):
            try:
                return self.by_role(pl.scan_parquet(opened.body, glob=False), name)
            except (pl.exceptions.PolarsError, OSError) as error:
                reason = str(error).split("\n")[0]
                raise TickError(
                    f"{name}: truncated or corrupt Parquet ({reason}); fetch it again"
                ) from error
        if opened.head.lstrip()[:1] not in (b"[", b"{"):
            return read_delimited(opened, self.given, self.time_unit, self.ledger)
        body = opened.body if isinstance(opened.body, bytes) else opened.body.read_bytes()
        try:
            rows = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise TickError(
                f"{name}, line {error.lineno}, column {error.colno}: no valid JSON "
                f"({error.msg}); fetch it again, or unpack it"
            ) from error
        if isinstance(rows, list) and rows:
            if all(isinstance(row, dict) for row in rows):
                return self.by_role(pl.from_dicts(rows, infer_schema_length=None).lazy(), name)
            if all(isinstance(row, list) and len(row) == len(_FREQTRADE) for row in rows):
                table = dict(zip(_FREQTRADE, zip(*rows, strict=True), strict=True))
                del table["type"]
                try:
                    frame = pl.DataFrame(table)
                except (TypeError, pl.exceptions.PolarsError) as error:
                    reason = str(error).split("\n")[0]
                    raise TickError(
                        f"{name}: the lists are no {', '.join(_FREQTRADE)} ({reason}); "
                        "correct the rows"
                    ) from error
                return self.by_role(frame.lazy(), name)
        raise TickError(
            f"{name}: {body[:80]!r} starts no list of trades that is known; expected a list "
            f"of objects, or of lists of {', '.join(_FREQTRADE)}"
        )

    def by_role(self, lazy: pl.LazyFrame, name: str) -> Raw:
        """Pick a frame's columns by their names; its rows count from 0."""
        columns = lazy.collect_schema().names()
        roles = roles_by_name(columns, self.given, name)
        names = {role: columns[k] for role, k in roles.items()}
        frame = lazy.select(pl.col(column).alias(role) for role, column in names.items()).collect()
        if frame.is_empty() and columns != _STORED:
            raise TickError(f"{name}: there are columns and no tick")
        return Raw(frame, Origin(name, names, 0, self.time_unit))

    def take(self, raw: Raw) -> None:
        """Turn what was read into the record's columns, and note what is to be remarked of it."""
        file, first_line = raw.origin.file, raw.origin.first_line
        if raw.frame.is_empty():
            self.still.append(file)
            return
        # One price series is one market's.
        if "market" in raw.frame.columns:
            column = raw.origin.columns["market"]
            named = raw.frame["market"].cast(pl.String).unique(maintain_order=True).drop_nulls()
            for market in named:
                known, where = next(iter(self._markets.items()), (market, file))
                if market != known:
                    raise TickError(
                        f"{file}, column {column!r}: {market!r} beside {known!r} "
                        f"(in {where}); ticks are of one market, so split them first"
                    )
                self._markets.setdefault(market, file)
        record, earliest_ns, remarks = raw.to_record()
        for remark in remarks:
            example = raw.frame["id" if remark.startswith("ids") else "time"].drop_nulls()[0]
            self.ledger.note(file, remark, len(record), first_line, example, kept=True)
        self.parts.append(Part(file, record, first_line, earliest_ns))


# --- pandas in and out


def _from_pandas(frame: Any) -> pl.DataFrame:
    """Convert a pandas frame; not by pl.from_pandas, which needs an Arrow library."""
    if type(frame).__module__.partition(".")[0] != "pandas" or not hasattr(frame, "columns"):
        raise TypeError(
            f"no path, nor a frame: {type(frame)}; give paths, or Polars or pandas frames"
        )
    # A date-time index counts as a column.
    if frame.index.dtype.kind == "M":
        frame = frame.rename_axis(frame.index.name or "time").reset_index()
    columns: dict[str, pl.Series] = {}
    for name in frame.columns:
        column = frame[name]
        kind = column.dtype.kind
        if kind == "M":
            zone = getattr(column.dtype, "tz", None)
            naive = column if zone is None else column.dt.tz_convert("UTC").dt.tz_localize(None)
            series = pl.Series(naive.to_numpy(dtype="datetime64[ns]"))
            series = series if zone is None else series.dt.replace_time_zone("UTC")
        elif kind in "iufb" and not column.hasnans:
            series = pl.Series(column.to_numpy())
        elif kind == "f":
            series = pl.Series(column.to_numpy(dtype=float))
        else:
            blank = zip(column, column.isna(), strict=True)
            series = pl.Series([None if missing else value for value, missing in blank])
        columns[str(name)] = series
    return pl.DataFrame(columns)


def read_pandas(paths: Any, **options: Any) -> pd.DataFrame:
    """Read ticks as `read_ticks` does, with its options, into a pandas frame.

    The table of what was set aside stands in the frame's `attrs["set_aside"]`, as a list of dicts.
    """
    ticks, set_aside = read_ticks(paths, **options)
    frame = to_pandas(ticks)
    frame.attrs["set_aside"] = set_aside.to_dicts()
    return frame


def to_pandas(ticks: pl.DataFrame) -> pd.DataFrame:
    """Return ticks as a pandas frame.

    Returns:
        Columns `time` (datetime64[ns, UTC]), `price`, `amount`; `side` where any side is known,
        `id` and `truth` where the ticks have them (`id` as nullable Int64 where some are blank).

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("this needs pandas: pip install 'nexttick[pandas]'") from error
    columns = {name: ticks[name].to_numpy() for name in ("price", "amount")}
    frame = pd.DataFrame({"time": pd.to_datetime(ticks["time"].to_numpy(), unit="ns", utc=True)})
    frame = frame.assign(**columns)
    if (ticks["side"] != 0).any():
        frame["side"] = ticks["side"].to_numpy()
    if "id" in ticks.columns:
        blank = ticks["id"].null_count() > 0
        frame["id"] = pd.array(ticks["id"].to_list(), "Int64") if blank else ticks["id"].to_numpy()
    if "truth" in ticks.columns:
        frame["truth"] = ticks["truth"].to_numpy()
    return frame
