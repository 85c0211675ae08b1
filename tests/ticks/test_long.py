"""A long history streamed: the numbers of one that is read whole, and memory that stays flat."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from nexttick.learn.baselines.base import MOST_ROWS, Known, newest_known
from nexttick.learn.train import train_network
from nexttick.options import LabelOptions, ModelOptions, Recipe, TrainOptions
from nexttick.prepare.dataset import Scaler, prepare_ticks
from nexttick.prepare.events import merge_events
from nexttick.prepare.labels import MISSING, make_labels
from nexttick.prepare.on_disk import OnDisk
from nexttick.ticks.gaps import GAP_FACTOR, pieces, usual_max_gap_ns
from nexttick.ticks.reading import long
from nexttick.ticks.reading.long import TickStream, open_stream
from nexttick.ticks.reading.read import read_ticks
from nexttick.ticks.record import Fingerprint, TickError, fingerprint
from nexttick.ticks.simulated import SimulatedMarket, simulate
from nexttick.ticks.writing import write_chunks, write_table

RECIPE = Recipe(
    labels=LabelOptions(("1", "10", "5s", "move")),
    model=ModelOptions(hidden_size=8, num_layers=1),
    train=TrainOptions(epochs=2, threads=1),
)


@pytest.fixture(scope="module")
def market() -> pl.DataFrame:
    """A market with a pause of an hour and two bad prices."""
    ticks = simulate(SimulatedMarket(ticks=6000, seed=3)).drop("truth")
    late = pl.int_range(pl.len()) >= 4000
    ticks = ticks.with_columns(time=pl.col("time") + late.cast(pl.Int64) * 3_600_000_000_000)
    price = ticks["price"].to_numpy().copy()
    price[[1500, 4500]] *= 3
    return ticks.with_columns(price=pl.Series(price))


@pytest.fixture
def days(market: pl.DataFrame, tmp_path: Path) -> list[str]:
    """The market in three files."""
    cuts = (0, 1000, 4100, 6000)
    for k, (a, b) in enumerate(itertools.pairwise(cuts)):
        write_table(market[a:b], tmp_path / f"{k}.parquet")
    return [str(tmp_path / f"{k}.parquet") for k in range(3)]


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stream files of any length, in small pieces."""
    monkeypatch.setattr(long, "MANY_TICKS", 0)
    monkeypatch.setattr(long, "_ROWS", 700)


def opened(days: list[str]) -> TickStream:
    stream = open_stream(days)
    assert stream is not None
    return stream


@pytest.mark.usefixtures("streamed")
def test_stream_reads_what_read_ticks_reads(days: list[str]) -> None:
    whole, set_aside = read_ticks(days)
    stream = opened(days)
    assert len(stream) == 6000
    assert pl.concat(stream.chunks()).equals(whole)
    assert len(whole) == 5998
    assert stream.ledger.table()["rows"].sum() == set_aside["rows"].sum() == 2


@pytest.mark.usefixtures("streamed")
def test_prepared_and_trained_streamed_equals_whole(days: list[str], tmp_path: Path) -> None:
    whole = prepare_ticks(read_ticks(days)[0], RECIPE)
    stream = opened(days)
    on_disk = prepare_ticks(stream.chunks(), RECIPE, on_disk=OnDisk(tmp_path))
    assert on_disk.events.equals(whole.events)
    assert on_disk.data_hash == whole.data_hash
    assert on_disk.spec == whole.spec
    for name in ("features_NF", "x_NF", "starts"):
        np.testing.assert_array_equal(getattr(on_disk, name), getattr(whole, name))
    for name in ("y_NH", "known_at_NH", "known_ns_NH", "tie_NH"):
        np.testing.assert_array_equal(getattr(on_disk.labels, name), getattr(whole.labels, name))
    p_NH = [
        train_network(one, RECIPE).score(whole.x_NF, whole.starts).p_NH for one in (whole, on_disk)
    ]
    np.testing.assert_array_equal(*p_NH)


def test_a_long_history_without_a_tick_is_told(tmp_path: Path) -> None:
    with pytest.raises(TickError, match="there is no tick in any of these files"):
        prepare_ticks(iter(()), RECIPE, on_disk=OnDisk(tmp_path))


def test_columns_on_disk_are_seen_and_not_copied(tmp_path: Path) -> None:
    values = OnDisk(tmp_path).empty(1000, np.int64)
    column = pl.DataFrame({"a": values[:900]})["a"]
    values[7] = 3
    assert column[7] == 3
    assert list(tmp_path.iterdir()) == []  # no name that a killed process could leave behind


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
@pytest.mark.parametrize("rows", [1, 37, 5000])
def test_predict_chunks_equals_predict(market: pl.DataFrame, kind: str, rows: int) -> None:
    recipe = Recipe(model=ModelOptions(type=kind, hidden_size=8, num_layers=1))
    prepared = prepare_ticks(market[3500:4800], recipe)
    predictor = train_network(prepared, Recipe(model=recipe.model, train=TrainOptions(epochs=1)))
    some = market[3500:4800]
    chunks = [some[begin:stop] for begin, stop in pieces(len(some), rows)]
    tables = pl.concat(predictor.predict_chunks(chunks))
    whole = predictor.predict(some)
    assert tables.columns == whole.columns
    np.testing.assert_allclose(tables.to_numpy(), whole.to_numpy(), rtol=0, atol=2e-6)


def test_a_file_that_is_not_clean_is_refused(market: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    write_table(market.with_columns(amount=pl.lit(0.0)), path)
    with pytest.raises(TickError, match="amount blank, or not positive"):
        list(TickStream((path,)).chunks())


def test_overlapping_files_are_refused(days: list[str]) -> None:
    with pytest.raises(TickError, match="starts before the file before it ends"):
        list(TickStream((Path(days[1]), Path(days[0]))).chunks())


def test_few_ticks_and_other_files_are_read_whole(market: pl.DataFrame, tmp_path: Path) -> None:
    write_table(market, tmp_path / "a.parquet")
    write_table(market, tmp_path / "a.csv")
    assert open_stream([str(tmp_path / "a.parquet")]) is None
    assert open_stream([str(tmp_path / "a.csv")]) is None


def test_fingerprint_does_not_hang_on_cuts(market: pl.DataFrame) -> None:
    digest = Fingerprint()
    for begin, stop in pieces(len(market), 999):
        digest.update(market[begin:stop])
    assert str(digest) == fingerprint(market)
    assert fingerprint(market[1:]) != fingerprint(market)


@pytest.mark.parametrize("count", [2, 3, 100, 5003])
def test_usual_gap_is_the_quantile(count: int) -> None:
    rng = np.random.default_rng(count)
    time_ns = np.cumsum((rng.exponential(1e13, count)).astype(np.int64))
    usual = np.quantile(np.diff(time_ns), 0.99)
    assert usual_max_gap_ns(time_ns) == pytest.approx(GAP_FACTOR * usual, rel=1e-12)


def test_labels_in_pieces_equal_labels_at_once(
    market: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = merge_events(market)
    options = LabelOptions(("1", "10", "700", "5s", "40m", "move"))
    whole = make_labels(events, options, 600_000_000_000)
    smooth = make_labels(events, LabelOptions(("3",), smooth=True), 600_000_000_000)
    monkeypatch.setattr("nexttick.prepare.labels.pieces", lambda length: pieces(length, 97))
    cut = make_labels(events, options, 600_000_000_000)
    for name in ("y_NH", "known_at_NH", "known_ns_NH", "tie_NH"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))
    again = make_labels(events, LabelOptions(("3",), smooth=True), 600_000_000_000)
    np.testing.assert_array_equal(again.y_NH, smooth.y_NH)


def test_newest_known_label_by_brute_force(market: pl.DataFrame) -> None:
    labels = make_labels(merge_events(market)[:700], LabelOptions(("3", "5s", "move")), 10**12)
    for h in range(3):
        y, known_at = labels.y_NH[:, h], labels.known_at_NH[:, h]
        expected = [
            next((y[i] for i in range(k, -1, -1) if y[i] != MISSING and known_at[i] <= k), MISSING)
            for k in range(len(y))
        ]
        assert newest_known(y, known_at).tolist() == expected


def test_known_rows_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.tile(np.array([0, 1, MISSING], np.int8), 50)
    assert MOST_ROWS >= 1_000_000
    monkeypatch.setattr("nexttick.learn.baselines.base.MOST_ROWS", 40)
    known = Known.of(y)
    assert known.rows.tolist() == np.flatnonzero(y != MISSING)[::3].tolist()


def test_scaler_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    x_NF = np.random.default_rng(0).normal(3, 2, (1000, 5)).astype(np.float32)
    monkeypatch.setattr("nexttick.prepare.dataset._ROWS", 64)
    scaler = Scaler.fit(x_NF)
    np.testing.assert_allclose(scaler.mean, x_NF.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(scaler.scale, x_NF.std(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_array_equal(scaler.scaled(x_NF, np.empty), scaler(x_NF))


def test_chunks_are_written_whole(market: pl.DataFrame, tmp_path: Path) -> None:
    for ending in (".parquet", ".csv"):
        chunks = (market[a:b] for a, b in pieces(len(market), 999))
        path = write_chunks(chunks, tmp_path / f"all{ending}")
        read = pl.read_parquet(path) if ending == ".parquet" else pl.read_csv(path)
        assert read.select("time", "price").equals(market.select("time", "price"))


def test_an_error_of_a_chunk_is_told_and_leaves_nothing(
    market: pl.DataFrame, tmp_path: Path
) -> None:
    def chunks():  # type: ignore[no-untyped-def]
        yield market[:10]
        raise TickError("the second piece is bad")

    with pytest.raises(TickError, match="the second piece is bad"):
        write_chunks(chunks(), tmp_path / "all.parquet")
    assert list(tmp_path.iterdir()) == []
