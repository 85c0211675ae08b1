"""A journal of November 2026 is shown, scored, exported, and gone on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from helpers.console import done, strict_json
from helpers.live_runs import assert_same, batch_predictions, events_of, table_of
from nexttick.cli import live
from nexttick.live.journal.table import reading, score
from nexttick.options import LiveOptions
from nexttick.ticks.writing import with_nulls

KEPT = Path(__file__).parents[1] / "kept" / "2026-11"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the run, with its journal of a replay of `later.parquet`."""
    shutil.copytree(KEPT / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def journal(run: Path) -> Path:
    return run / "live" / "replay-market-later.parquet.journal"


def test_it_is_shown_and_scored(journal: Path) -> None:
    shown = strict_json(done("journal", journal, "--json").out)
    assert (shown["source"], shown["symbol"]) == ("replay", "market")
    assert (shown["ticks"], shown["events"], shown["gaps"]) == (300, 300, [])
    predicted = pl.read_parquet(KEPT / "predicted.parquet")
    assert shown["predicted"] == predicted["p_rise@1"].count()
    scores = shown["scores"]["rise@1"]
    assert scores["n"] + scores["waiting"] + scores["missing"] <= shown["events"]
    assert 0 < scores["log_loss"][0] < 1
    with reading(journal) as view:
        scored = score(view.events(), view.identity)
    assert strict_json(json.dumps(with_nulls(scored))) == shown["scores"]
    assert "replay market" in done("journal", journal).out


def test_what_was_said_is_exported(journal: Path, tmp_path: Path) -> None:
    done("journal", journal, "--export", tmp_path / "events.parquet")
    exported = pl.read_parquet(tmp_path / "events.parquet")
    said = table_of((KEPT / "said.jsonl").read_text().splitlines())
    for name in said.columns:
        assert exported[name].cast(said[name].dtype).to_list() == said[name].to_list()
    assert_same(exported, pl.read_parquet(KEPT / "predicted.parquet"))


def test_a_replay_goes_on_from_it(
    run: Path, journal: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    before = pl.read_parquet(KEPT / "later.parquet").drop("truth")
    later_ns = before["time"][-1] - before["time"][0] + 1_000_000_000
    after = before.head(100).with_columns(pl.col("time") + later_ns, pl.col("id") + len(before))
    ticks = pl.concat([before, after])
    ticks.write_parquet(tmp_path / "later.parquet")
    file = str(tmp_path / "later.parquet")
    live.live([run], LiveOptions(source="replay", file=file, speed="max", json=True))
    said = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    batch = batch_predictions(run, ticks)
    assert [one["time"] for one in said] == after["time"].to_list()
    assert_same(pl.DataFrame(said), batch.tail(100))
    assert_same(events_of(journal), batch)
