"""The store: what is written is read, and nothing that is wrong with it goes unseen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import fsspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.markets import few, quick, seeds
from helpers.recorded_source import CONTENT, FIRST_NS, SERIES, market
from nexttick.ticks.days import DAY_NS, by_day, day_of, day_span
from nexttick.ticks.describing import describe
from nexttick.ticks.gaps import usual_max_gap_ns
from nexttick.ticks.reading.read import read_ticks
from nexttick.ticks.record import TickError, fingerprint
from nexttick.ticks.source import Series
from nexttick.ticks.store import Store, names_of, symbol_of
from nexttick.ticks.store.checking import StoreFinding, check
from nexttick.ticks.store.records import Provenance, from_json, measure, write_day
from nexttick.ticks.store.series import StoredSeries, export
from nexttick.ticks.store.writer import as_stored, writing

DAYS = 3
SPAN = (FIRST_NS, FIRST_NS + DAYS * DAY_NS)
FIRST, SECOND, THIRD = (date(2023, 12, day) for day in (9, 10, 11))
PROVENANCE = Provenance("recorded ticks", True, {})


def put(
    url: object,
    ticks: pl.DataFrame,
    span: tuple[int, int] = SPAN,
    provenance: Provenance = PROVENANCE,
) -> StoredSeries:
    stored = Store(str(url)).open(SERIES)
    with writing(stored) as writer:
        for _, one in by_day(span):
            writer.write(ticks, one, provenance)
    return stored


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three whole days, to be copied."""
    folder = tmp_path_factory.mktemp("kept")
    put(folder, market(1))
    return folder


@pytest.fixture
def stored(kept: Path, tmp_path: Path) -> StoredSeries:
    """One to spoil."""
    shutil.copytree(kept, tmp_path / "store")
    return Store(tmp_path / "store").open(SERIES)


def folder_of(stored: StoredSeries) -> Path:
    return Path(str(stored.folder))


def faults(stored: StoredSeries) -> list[StoreFinding]:
    return [one for one in check(stored) if one.fault]


# Round trip


@pytest.mark.parametrize("url", ["{tmp}/a", "file://{tmp}/b", "memory://round-trip"])
def test_what_is_written_is_read_to_the_last_bit(url: str, tmp_path: Path) -> None:
    ticks = market(1).with_columns(price=pl.col("price") * np.pi)
    stored = put(url.format(tmp=tmp_path), ticks)
    assert stored.days() == [FIRST, SECOND, THIRD]
    assert stored.scan().collect().equals(ticks)
    assert pl.concat([stored.read(day) for day in stored.days()]).equals(ticks)
    assert pl.concat(stored.chunks(77)).equals(ticks)
    some = stored.scan(SECOND, SECOND).collect()
    assert some.equals(ticks.filter(pl.col("time").is_between(*day_span(SECOND), closed="left")))
    assert Store(url.format(tmp=tmp_path)).series() == [SERIES]
    assert faults(stored) == []


@few
@given(seed=seeds, rows=st.integers(1, 700))
def test_chunks_have_the_rows_asked_for(seed: int, rows: int) -> None:
    stored = put(f"memory://chunks-{seed}-{rows}", market(seed, rows=600))
    chunks = list(stored.chunks(rows))
    assert [len(one) for one in chunks[:-1]] == [rows] * (len(chunks) - 1)
    assert 0 < len(chunks[-1]) <= rows
    assert pl.concat(chunks).equals(market(seed, rows=600))


def test_a_lazy_frame_reads_what_is_asked(tmp_path: Path) -> None:
    ticks = market(1)
    for url in (str(tmp_path), "memory://lazy"):
        lazy = put(url, ticks).scan()
        dear = lazy.filter(pl.col("price") > 100).select("id", "price").collect()
        assert dear.equals(ticks.filter(pl.col("price") > 100).select("id", "price"))
        assert lazy.head(700).collect().equals(ticks[:700])
        assert lazy.select(pl.len()).collect().item() == len(ticks)


def test_ticks_without_ids_have_no_ids(tmp_path: Path) -> None:
    ticks = market(1).drop("id")
    stored = put(tmp_path, ticks, provenance=Provenance("x", False, {}))
    assert stored.scan().collect().equals(ticks)
    assert pl.concat(stored.chunks(500)).equals(ticks)


@quick
@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_names_of_folders_say_whose_ticks_they_are(venue: str, symbol: str, kind: str) -> None:
    names = names_of(Series(venue, symbol, kind))
    assert symbol_of(names[1]) == symbol
    assert all(name.isascii() and not {"/", ":", "\\", "."} & set(name) for name in names)


def test_usual_names_are_plain() -> None:
    assert names_of(Series("binance-um", "BTC/USDT:USDT")) == (
        "binance-um",
        "BTC-USDT_USDT",
        "trades",
    )
    with pytest.raises(ValueError, match="needs venue, symbol and kind"):
        names_of(Series("binance", ""))


@pytest.mark.parametrize("symbol", ["BTC/USDT", "A-B/C_D:E-240329", "ä/€", ".."])
def test_series_are_found_by_their_folder(symbol: str, tmp_path: Path) -> None:
    series = Series("some.venue", symbol, "aggTrades")
    stored = Store(tmp_path).open(series)
    with writing(stored) as writer:
        writer.write(market(1), day_span(FIRST), PROVENANCE)
    assert Store(tmp_path).series() == [series]
    (folder_of(stored) / "manifest.json").unlink()
    (folder_of(stored) / ".lock").unlink(missing_ok=True)
    assert Store(tmp_path).series() == [series]


def test_other_folders_are_no_series(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    market(1).write_parquet(folder / "2023-12-09.parquet")
    assert Store(tmp_path).series() == []


def test_urls_that_nothing_reaches_are_refused() -> None:
    with pytest.raises(ValueError, match="nowhere://x: "):
        Store("nowhere://x").series()


# Records


def test_a_record_says_what_the_ticks_are(tmp_path: Path) -> None:
    ticks = market(2)
    record = put(tmp_path, ticks).records()[SECOND]
    day = ticks.filter(pl.col("time").is_between(*day_span(SECOND), closed="left"))
    assert (record.rows, record.first_ns, record.last_ns) == (
        len(day),
        day["time"][0],
        day["time"][-1],
    )
    assert (record.first_id, record.last_id) == (day["id"].min(), day["id"].max())
    assert record.hash == fingerprint(day, CONTENT)
    assert record.covered == (day_span(SECOND),)
    assert record.max_gap_ns == usual_max_gap_ns(day["time"].to_numpy())
    assert from_json(json.loads(json.dumps(record.to_json()))) == record


def test_gaps_in_ids_and_time_are_in_the_record(tmp_path: Path) -> None:
    ticks = market(1, rows=6000).filter(~pl.col("id").is_in([1100, 1200, 1201]))
    late = pl.when(pl.col("id") > 1300).then(6 * 3600 * 10**9).otherwise(0)
    ticks = ticks.with_columns(time=pl.col("time") + late)
    record = put(tmp_path, ticks, (FIRST_NS, FIRST_NS + DAY_NS)).records()[FIRST]
    assert record.missing_ids == 3
    assert record.id_gaps == ((1099, 1101), (1199, 1202))
    before, after = ticks.filter(pl.col("id").is_in([1300, 1301]))["time"]
    assert (record.pauses, record.longest) == (1, ((before, after),))
    told = [one.what for one in check(Store(tmp_path).open(SERIES))]
    assert any("1 ids lack between 1099 and 1101" in what for what in told)
    assert any("2 ids lack between 1199 and 1202" in what for what in told)
    assert any("no tick from 2023-12-09" in what for what in told)


def test_ids_that_are_not_consecutive_have_no_gaps(tmp_path: Path) -> None:
    ticks = market(1).with_columns(id=pl.col("id") * 10)
    stored = put(tmp_path, ticks, provenance=Provenance("x", False, {}))
    assert all(one.missing_ids == 0 for one in stored.records().values())
    assert faults(stored) == []


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    ticks = market(1)
    stored = put(tmp_path, ticks)
    before = stored.records()
    with writing(stored) as writer:
        record, new = writer.write(ticks, day_span(FIRST), PROVENANCE)
        assert (record, new) == (before[FIRST], 0)
        with pytest.raises(ValueError, match="of 3 days"):
            writer.write(ticks, SPAN, PROVENANCE)
    assert stored.records() == before


def test_parts_of_a_day_join(tmp_path: Path) -> None:
    ticks, hour = market(1), DAY_NS // 24
    start = FIRST_NS + DAY_NS
    parts = [(start + 5 * hour, start + 9 * hour), (start, start + hour)]
    for span in parts:
        put(tmp_path, ticks, span)
    record = put(tmp_path, ticks, (start + 8 * hour, start + 10 * hour)).records()[SECOND]
    spans = ((start, start + hour), (start + 5 * hour, start + 10 * hour))
    assert record.covered == spans
    inside = pl.any_horizontal(pl.col("time").is_between(*span, closed="left") for span in spans)
    assert Store(tmp_path).open(SERIES).scan().collect().equals(ticks.filter(inside))


def test_what_a_killed_writer_left_is_cleared_away(stored: StoredSeries) -> None:
    left = folder_of(stored) / ".2023-12-09.parquet.abc.part"
    left.write_bytes(b"half")
    (folder_of(stored) / "manifest.json").unlink()
    assert [one for one in check(stored) if "file of a store" in one.what] == []
    with writing(stored):
        pass
    assert not left.exists()
    assert (folder_of(stored) / "manifest.json").exists()
    assert [one for one in check(stored) if "manifest" in one.what] == []


# Check


def damage(stored: StoredSeries, change: Callable[[bytes], bytes]) -> None:
    path = folder_of(stored) / "2023-12-10.parquet"
    path.write_bytes(change(path.read_bytes()))


def rewritten(stored: StoredSeries, ticks: pl.DataFrame, keep_record: bool = True) -> None:
    """Put other ticks under the old record, as an edit by other programs might."""
    record, path = stored.record(SECOND), folder_of(stored) / "2023-12-10.parquet"
    if keep_record:
        with path.open("wb") as file:
            write_day(ticks, record, file)
    else:
        ticks.write_parquet(path)


def second(stored: StoredSeries) -> pl.DataFrame:
    return stored.read(SECOND)


SPOILT: dict[str, tuple[Callable[[StoredSeries], object], str]] = {
    "truncated": (lambda s: damage(s, lambda b: b[:-200]), "truncated or corrupt"),
    "emptied": (lambda s: damage(s, lambda b: b""), "truncated or corrupt"),
    "noise": (lambda s: damage(s, lambda b: bytes(len(b))), "truncated or corrupt"),
    "body": (lambda s: damage(s, lambda b: b[:50] + bytes(200) + b[250:]), ""),
    "foreign": (lambda s: rewritten(s, second(s), keep_record=False), "no file that a store"),
    "columns": (lambda s: rewritten(s, second(s).drop("side")), "not those of a store"),
    "price": (
        lambda s: rewritten(s, second(s).with_columns(price=pl.col("price") + 1e-9)),
        "record's hash is",
    ),
    "fewer": (lambda s: rewritten(s, second(s)[:-1]), "record's rows is"),
    "order": (lambda s: rewritten(s, second(s).reverse()), "not in the order of (time, id)"),
    "twice": (
        lambda s: rewritten(s, pl.concat([second(s), second(s)[-1:]])),
        "1 ids stand twice",
    ),
    "outside": (
        lambda s: rewritten(s, second(s).with_columns(time=pl.col("time") + DAY_NS // 2)),
        "ticks lie outside",
    ),
    "id gap": (
        lambda s: rewritten(s, pl.concat([second(s)[:5], second(s)[6:]])),
        "1 ids lack between",
    ),
    "renamed": (
        lambda s: shutil.copy(
            folder_of(s) / "2023-12-11.parquet", folder_of(s) / "2023-12-10.parquet"
        ),
        "it is the file of 2023-12-11, renamed",
    ),
    "gone": (
        lambda s: (folder_of(s) / "2023-12-10.parquet").unlink(),
        "its file is gone",
    ),
    "stranger": (
        lambda s: (folder_of(s) / "notes.txt").write_text("hello"),
        "notes.txt: no file of a store",
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_check_finds_what_is_spoilt(how: str, stored: StoredSeries) -> None:
    assert list(check(stored)) == []
    spoil, words = SPOILT[how]
    spoil(stored)
    found = faults(stored)
    assert any(words in one.what for one in found), found
    assert all(one.cure for one in found)
    if how != "stranger":
        assert any(one.day == "2023-12-10" and "2023-12-10" in str(one) for one in found)
    if how == "gone":
        assert any(one.what == "not stored: 2023-12-10" for one in found)


@few
@given(seeds)
def test_check_finds_any_flipped_bit_of_the_data(seed: int) -> None:
    """A bit may be flipped where Parquet reads nothing; then the ticks are still the same."""
    rng = np.random.default_rng(seed)
    url = f"memory://bits-{seed}"
    stored = put(url, market(seed, rows=300))
    fs = fsspec.filesystem("memory")
    path = f"{stored.folder.path}/2023-12-10.parquet"  # type: ignore[attr-defined]
    body, before = bytearray(fs.cat_file(path)), stored.read(SECOND)
    for _ in range(5):
        spoilt = body.copy()
        spoilt[rng.integers(len(body))] ^= 1 << int(rng.integers(8))
        fs.pipe_file(path, bytes(spoilt))
        found = faults(stored)
        try:
            same = stored.read(SECOND).equals(before)
        except TickError:
            same = False
        assert same or found


def test_an_edited_manifest_is_found_and_made_anew(stored: StoredSeries) -> None:
    path = folder_of(stored) / "manifest.json"
    told = json.loads(path.read_text())
    told["days"]["2023-12-10"]["record"]["rows"] += 1
    path.write_text(json.dumps(told))
    (found,) = faults(stored)
    assert "manifest's record is not the one" in found.what
    path.unlink()
    assert faults(stored) == []
    assert [one.what for one in check(stored)] == [
        "the manifest does not know this day's file as it is"
    ] * 3
    with writing(stored):
        pass
    assert list(check(stored)) == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"days": 3}', '{"days": {"x": {}}}'])
def test_a_broken_manifest_is_no_loss(text: str, stored: StoredSeries) -> None:
    before = stored.records()
    (folder_of(stored) / "manifest.json").write_text(text)
    assert stored.records() == before
    with writing(stored):
        pass
    assert list(check(stored)) == []


def test_gaps_between_days_are_named(tmp_path: Path) -> None:
    ticks = market(1)
    last = ticks.filter(pl.col("time") < FIRST_NS + DAY_NS)["id"][-1]
    put(tmp_path, ticks.filter(~pl.col("id").is_in([last, last + 1])))
    (found,) = faults(Store(tmp_path).open(SERIES))
    assert f"2 ids lack between {last - 1} and {last + 2}" in found.what
    assert found.day == "2023-12-10"


def test_an_id_in_two_neighbouring_days_is_found(tmp_path: Path) -> None:
    ticks = market(1).with_columns(id=pl.when(pl.col("id") == 1700).then(1001).otherwise("id"))
    stored = put(tmp_path, ticks, provenance=Provenance("x", False, {}))
    (one,) = faults(stored)
    assert "1 ids stand in the day before too, the first 1001" in one.what


def test_a_day_that_is_still_fetched_is_no_fault(tmp_path: Path) -> None:
    stored = put(tmp_path, market(1), (FIRST_NS, FIRST_NS + DAY_NS + DAY_NS // 2))
    (note,) = check(stored)
    assert (note.fault, note.day) == (False, "2023-12-10")
    assert note.what == "not stored: 2023-12-10 12:00:00 to 2023-12-11 00:00:00"
    assert stored.look().missing(*SPAN) == [(FIRST_NS + DAY_NS + DAY_NS // 2, SPAN[1])]


# Damaged days are not read as if nothing were


def test_a_damaged_day_stops_the_reading(stored: StoredSeries) -> None:
    damage(stored, lambda body: body[:-200])
    for read in (stored.scan, lambda: list(stored.chunks(100))):
        with pytest.raises(TickError, match=r"2023-12-10\.parquet: truncated or corrupt"):
            read()
    assert len(stored.scan(THIRD).collect())
    with pytest.raises(TickError, match="this day is not stored"):
        stored.read(date(2020, 1, 1))
    with pytest.raises(TickError, match="no day from 2020-01-01 to 2020-01-02 is stored"):
        stored.scan(date(2020, 1, 1), date(2020, 1, 2))


def test_records_of_another_form_are_refused(tmp_path: Path) -> None:
    ticks = as_stored(market(1))
    record = measure(FIRST, ticks, (SPAN,), PROVENANCE).to_json()
    for change in ({"format": 99}, {"more": 1}, {"covered": []}):
        with pytest.raises(ValueError, match="record"):
            from_json(record | change)


KEPT = Path(__file__).parents[1] / "kept" / "2026-11" / "store"


def test_a_store_of_november_2026_is_read(tmp_path: Path) -> None:
    """Its manifest has no format number; see `kept/README.md`."""
    shutil.copytree(KEPT, tmp_path / "store")
    store = Store(tmp_path / "store")
    assert store.series() == [Series("files", "BTC/USD")]
    stored, day = store.open(store.series()[0]), date(2024, 1, 1)
    manifest = json.loads((folder_of(stored) / "manifest.json").read_text())
    assert "format" not in manifest
    assert stored.records() == {day: from_json(manifest["days"]["2024-01-01"]["record"])}
    assert faults(stored) == []
    ticks = stored.read(day).drop("id")
    assert (len(ticks), fingerprint(stored.read(day), CONTENT)) == (40, stored.record(day).hash)
    assert stored.describe()["rows"] == 40
    assert export(stored, tmp_path / "out.parquet") == 40
    for path in (tmp_path / "out.parquet", folder_of(stored)):
        assert read_ticks(path, outliers=False)[0].equals(ticks)
    with writing(stored) as writer:
        writer.write(ticks, day_span(day), PROVENANCE)
    assert json.loads((folder_of(stored) / "manifest.json").read_text())["format"] == 1
    assert stored.read(day).drop("id").equals(ticks)


def put_again(stored: StoredSeries) -> None:
    with writing(stored) as writer:
        writer.write(market(1), day_span(SECOND), PROVENANCE)


def test_what_a_newer_version_wrote_is_refused_and_kept(stored: StoredSeries) -> None:
    path = folder_of(stored) / "2023-12-10.parquet"
    metadata = {"nexttick": json.dumps(stored.record(SECOND).to_json() | {"format": 2})}
    second(stored).write_parquet(path, metadata=metadata)
    before = path.read_bytes()
    for use in (stored.look, stored.scan, lambda: put_again(stored)):
        with pytest.raises(TickError, match=r"2023-12-10\.parquet: a record of format 2, and this"):
            use()
    (found,) = check(stored)  # so that its neighbours are checked all the same
    assert (found.fault, found.day) == (True, None)
    assert "2023-12-10.parquet: a record of format 2" in found.what
    assert path.read_bytes() == before
    (folder_of(stored) / "manifest.json").unlink()
    (folder_of(stored) / ".lock").unlink(missing_ok=True)
    assert Store(folder_of(stored).parents[2]).series() == [SERIES]


def test_a_manifest_of_a_newer_version_is_refused_and_kept(stored: StoredSeries) -> None:
    path = folder_of(stored) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    before = path.read_bytes()
    for use in (stored.look, lambda: put_again(stored)):
        with pytest.raises(TickError, match=r"manifest\.json: a manifest of format 2, and this"):
            use()
    assert path.read_bytes() == before


# Elsewhere


def test_readers_of_files_read_a_series(stored: StoredSeries) -> None:
    ticks = market(1)
    (folder_of(stored) / "notes.csv").write_text("no ticks")
    for path in (folder_of(stored), f"{stored.folder}/2023-12-*.parquet"):
        read, _ = read_ticks(path, outliers=False)
        assert read.equals(ticks)
    _, set_aside = read_ticks(folder_of(stored))
    assert set_aside["file"].to_list() == [str(folder_of(stored) / "notes.csv")]


def test_days_without_trades_alone_are_no_ticks(tmp_path: Path) -> None:
    stored = put(tmp_path, market(1)[:0])
    with pytest.raises(TickError, match="days without a single trade"):
        read_ticks(folder_of(stored))
    assert stored.describe() == {"rows": 0}
    assert list(stored.chunks(10)) == []


@few
@given(seed=seeds, rows=st.integers(2, 700))
def test_a_series_is_described_as_its_ticks_are(seed: int, rows: int) -> None:
    ticks = market(seed, rows=600)
    told = put(f"memory://described-{seed}-{rows}", ticks).describe(rows)
    expected = describe(ticks)
    assert told.keys() == expected.keys()
    for name, value in expected.items():
        if name.endswith("median") or name.startswith("median"):
            # An even number of values has two in the middle, and describe means them.
            column = ticks["amount"] if name == "amount_median" else ticks["time"].diff() / 1e9
            near = column.filter(column > 0).sort()
            low, high = near[(len(near) - 1) // 2], near[len(near) // 2]
            assert low * 0.999 <= told[name] <= high * 1.001
        elif isinstance(value, float):
            assert told[name] == pytest.approx(value, rel=1e-12)
        else:
            assert told[name] == value


@pytest.mark.parametrize("url", ["{tmp}/store", "memory://export"])
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_an_export_has_the_same_ticks(suffix: str, url: str, tmp_path: Path) -> None:
    ticks = market(1)
    stored, path = put(url.format(tmp=tmp_path), ticks), tmp_path / f"out.{suffix}"
    assert export(stored, path) == len(ticks)
    assert read_ticks(path, outliers=False)[0].equals(ticks)
    assert export(stored, path, SECOND, SECOND) == len(stored.read(SECOND))
    with pytest.raises(ValueError, match="give a name that ends in"):
        export(stored, tmp_path / "out.txt")


def test_files_that_cannot_be_written_say_why(
    stored: StoredSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(path: Path, fill: object) -> None:
        raise OSError(28, f"{path}: the disk is full; make room or choose another disk")

    before = stored.records()
    monkeypatch.setattr("nexttick.ticks.store.folders.write_whole", no_space)
    with pytest.raises(OSError, match="the disk is full"), writing(stored) as writer:
        writer.write(market(1), (SPAN[1], SPAN[1] + 1), PROVENANCE)
    assert stored.records() == before


@pytest.mark.real_ticks
def test_recorded_ticks_come_back(data_dir: Path, tmp_path: Path) -> None:
    ticks, _ = read_ticks(min((data_dir / "bitflyer").iterdir()), outliers=False)
    span = (day_span(day_of(ticks["time"][0]))[0], ticks["time"][-1] + 1)
    stored = put(tmp_path, ticks, span, Provenance("bitflyer", False, {}))
    assert stored.scan().collect().equals(ticks)
    assert stored.days() == [day for day, _ in by_day(span)]
    assert faults(stored) == []
