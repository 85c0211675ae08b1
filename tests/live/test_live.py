"""A replay says what `predict` says, and nothing printed is lost or said twice, however it ends."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from helpers.live_child import follow
from helpers.live_runs import (
    CONTEXT,
    assert_same,
    batch_predictions,
    events_of,
    opened,
    some_trades,
    table_of,
    trades_of,
    trained,
)
from nexttick.cli import live
from nexttick.learn.predictor.stepper import Stepper
from nexttick.live import follow as following
from nexttick.live.records import Prediction
from nexttick.options import LabelOptions, LiveOptions
from nexttick.prepare.events import merge_events
from nexttick.prepare.labels import make_labels
from nexttick.venues.feeds.replay import Replay
from nexttick.venues.messages import Gap, Message, Trade

# --- a replay


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
@pytest.mark.parametrize("raw_ticks", [False, True])
def test_a_replay_says_what_predict_says(
    kind: str,
    raw_ticks: bool,
    later: Path,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    run = trained(tmp_path, kind, raw_ticks)
    capfdbinary.readouterr()
    live.live((run,), LiveOptions(source="replay", file=str(later), speed="max"))
    said = table_of(capfdbinary.readouterr().out.decode().splitlines())
    batch = batch_predictions(run, pl.read_parquet(later))
    assert said.columns == batch.columns == ["time", "price", "p_rise@1", "p_rise@5s"]
    assert_same(said, batch)
    assert batch["p_rise@1"].null_count() == 2 * (CONTEXT - 1)  # at the start, after the pause
    journal = events_of(run / "live" / "replay-market-later.parquet.journal")
    assert len(journal) == len(batch)


def test_a_journal_knows_outcomes_as_labels_do(live_run: Path, later: Path, tmp_path: Path) -> None:
    market = opened(live_run, tmp_path / "j")
    asyncio.run(following.run([(market, Replay(later, None))], lambda *_: None, None))
    market.close()
    told = events_of(tmp_path / "j")
    events = merge_events(pl.read_parquet(later))
    labels = make_labels(events, LabelOptions(("1", "5s")), 600_000_000_000)
    for h, name in enumerate(labels.names):
        waits = told[f"y_{name}"].is_null().to_numpy()
        np.testing.assert_array_equal(told[f"y_{name}"].fill_null(-1), labels.y_NH[:, h])
        assert waits.nonzero()[0].tolist() == [*range(len(told) - waits.sum(), len(told))]
        assert 0 < waits.sum() < 50  # the last ones wait, and no others


def test_started_again_it_says_nothing_twice(live_run: Path, later: Path, tmp_path: Path) -> None:
    ticks = pl.read_parquet(later)
    said: list[int] = []
    for part in (ticks[:1500], ticks[:1500], ticks):
        market = opened(live_run, tmp_path / "j")
        feed = Replay(part, None)
        asyncio.run(
            following.run(
                [(market, feed)], lambda _, told: said.extend(p.event for p in told), None
            )
        )
        market.close()
    assert said == list(range(len(merge_events(ticks))))
    assert len(trades_of(tmp_path / "j")) == len(ticks)


# --- a kill at any instant


def test_killed_fifty_times_nothing_is_lost_or_said_twice(
    untested_run: Path, later: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(3)
    forks = multiprocessing.get_context("forkserver")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # of the server that forks
    forks.set_forkserver_preload(["helpers.live_child"])
    options = LiveOptions(
        source="replay", file=str(later), speed="300", journal=tmp_path, json=True
    )
    out = tmp_path / "lines.jsonl"
    out.touch()
    for k in range(50):
        child = forks.Process(target=follow, args=(untested_run, options, out))
        said = out.stat().st_size
        child.start()
        while k % 2 and out.stat().st_size == said and child.is_alive():  # every other one speaks
            time.sleep(0.002)
        child.join(rng.uniform(0.0, 0.5))
        assert child.exitcode is None
        os.kill(child.pid, signal.SIGKILL)  # type: ignore[arg-type]
        child.join()
    killed = len(out.read_text().splitlines())
    last = forks.Process(target=follow, args=(untested_run, replace(options, speed="max"), out))
    last.start()
    last.join(300)
    assert last.exitcode == 0
    *whole, rest = out.read_text().split("\n")
    assert rest == ""
    batch = batch_predictions(untested_run, pl.read_parquet(later))
    journal = events_of(tmp_path / "replay-market-later.parquet.journal")
    assert_same(journal, batch)  # the journal has all, once
    assert killed >= 25
    held = iter(journal.select(batch.columns).rows())
    for line in map(json.loads, whole):  # what was said is in it, in order, and nothing twice
        assert any(row == pytest.approx(tuple(line.values()), nan_ok=True) for row in held), line
    assert len(whole) > len(batch) / 2  # the rest was committed, and killed before it was said


# --- kills and stops as drawn


Step = list[Message] | str


def some_steps(seed: int) -> list[Step]:
    """Batches of bursts, late and backward trades, gaps, settlings and kills, as drawn."""
    draws, steps = random.Random(seed), list[Step]()
    time_ns, price, number = 1_000_000_000, 100.0, 0
    for _ in range(60):
        batch: list[Message] = []
        for _ in range(draws.choice([1, 1, 2, 9])):
            if draws.random() < 0.04:
                since_ns = time_ns
                time_ns += draws.choice([5, 700]) * 1_000_000_000  # some beyond the longest pause
                batch.append(Gap(since_ns, time_ns, number - 1, number + 3, "cut"))
                number += 3
            time_ns += draws.choice([0, 0, 1, 1, 2, -1]) * 500_000_000
            price += draws.choice([-0.5, 0, 0, 0.5])
            batch.append(Trade(time_ns, price, 0.5, draws.choice([1, 1, -1]), number, 0))
            number += 1
        steps.append(batch)
        steps += [word for word in ("settle", "kill", "stop") if draws.random() < 0.15]
    return steps


def say_all(run: Path, path: Path, steps: Sequence[Step]) -> tuple[list[tuple[Any, ...]], Any]:
    """What is said by a market that is killed and stopped as the steps say, and how it drifted."""
    market, said = opened(run, path), list[Prediction]()
    for step in steps:
        if step == "kill":
            market.journal.close()  # what a kill leaves: nothing but what was committed
            market = opened(run, path)
        elif step == "stop":
            market.close()
            market = opened(run, path)
        else:
            said += market.settle() if isinstance(step, str) else market.take(step)
    market.close()
    assert market._drift is not None
    drift = {name: array.tolist() for name, array in market._drift.state().items()}
    return [(*one[:4], np.array(one.p_H).tobytes()) for one in said], drift


def tables_of(path: Path) -> list[list[tuple[Any, ...]]]:
    """What is in a journal that is the same for all processes that heard the same."""
    db = sqlite3.connect(path)
    try:
        return [
            db.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            for name in ("trades", "gaps", "resets", "outcomes")
        ]
    finally:
        db.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_or_stopped_anywhere_it_says_what_it_would_have_said(
    seed: int, live_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexttick.live.market.CHECKPOINT_EVENTS", 7)
    steps = some_steps(seed)
    assert {"kill", "stop", "settle"} <= {step for step in steps if isinstance(step, str)}
    unbroken = [step for step in steps if step not in ("kill", "stop")]
    expected, drift = say_all(live_run, tmp_path / "k", unbroken)
    assert say_all(live_run, tmp_path / "j", steps) == (expected, drift)
    assert [one[0] for one in expected] == list(range(len(expected)))
    assert drift["taken"] == [len(expected)]
    assert tables_of(tmp_path / "j") == tables_of(tmp_path / "k")


def test_the_clock_of_a_market_outlives_a_reset_and_a_stop(live_run: Path, tmp_path: Path) -> None:
    before, (after,) = some_trades(10), some_trades(1, 5)
    gap = Gap(before[-1].time_ns, before[-1].time_ns, 9, 15, "a venue whose clock goes back")
    market = opened(live_run, tmp_path / "j")
    market.take([*before, gap])
    market.close()
    again = opened(live_run, tmp_path / "j")
    again.take([after._replace(id=15)])
    (said,) = again.settle()
    again.close()
    assert said.time_ns == before[-1].time_ns > after.time_ns


def test_a_state_that_the_journal_does_not_lead_to_is_not_kept(
    live_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = opened(live_run, tmp_path / "j")
    market.take(some_trades(20))
    with monkeypatch.context() as patched:
        patched.setattr(market.board, "predicted", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            market.take(some_trades(20, 20))
    market.close()
    again = opened(live_run, tmp_path / "j")
    assert (again.journal.trades, again.stepper.seen) == (20, 19)
    said = [*again.take(some_trades(20, 20)), *again.settle()]
    again.close()
    assert [one.event for one in said] == list(range(19, 40))


def test_a_state_of_another_version_is_told_with_its_journal(
    live_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = opened(live_run, tmp_path / "j")
    market.take(some_trades(20))
    market.close()
    monkeypatch.setattr(Stepper, "_marks", lambda _: {"layout": np.zeros(1, np.uint8)})
    with pytest.raises(ValueError, match=r"j: its state cannot be taken up .* --journal FOLDER"):
        opened(live_run, tmp_path / "j")


def damage_states(path: Path, *, newest: int) -> None:
    """Make the newest states of a journal unreadable, so many of them."""
    db = sqlite3.connect(path)
    with db:
        db.execute(
            "UPDATE checkpoints SET state = x'00' WHERE trades IN "
            "(SELECT trades FROM checkpoints ORDER BY trades DESC LIMIT ?)",
            (newest,),
        )
    db.close()


def test_a_damaged_newest_state_gives_way_to_the_one_before_it(
    live_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It goes on as if nothing had been, says so in one line, and keeps a sound state again."""
    monkeypatch.setattr("nexttick.live.market.CHECKPOINT_EVENTS", 7)
    steps = some_steps(4)
    unbroken = [step for step in steps if step not in ("kill", "stop")]
    expected, drift = say_all(live_run, tmp_path / "k", unbroken)
    said, _ = say_all(live_run, tmp_path / "j", steps[:30])
    for part in (steps[30:50], steps[50:]):
        damage_states(tmp_path / "j", newest=1)
        more, drifted = say_all(live_run, tmp_path / "j", part)
        said += more
    assert caplog.text.count("its newest state cannot be taken up") >= 2
    assert (said, drifted) == (expected, drift)
    assert tables_of(tmp_path / "j") == tables_of(tmp_path / "k")


def test_where_no_state_can_be_taken_up_it_is_told(
    live_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for start in (0, 20):
        market = opened(live_run, tmp_path / "j")
        market.take(some_trades(20, start))
        market.close()
    damage_states(tmp_path / "j", newest=2)
    with pytest.raises(ValueError, match=r"j: its state cannot be taken up .* --journal FOLDER"):
        opened(live_run, tmp_path / "j")
    assert len(caplog.records) == 1


def test_events_that_settled_end_there_after_a_restart(live_run: Path, tmp_path: Path) -> None:
    """A late trade of an ended event stays one of its own, whenever the process is killed."""
    trades = some_trades(20)
    late = trades[-1]._replace(price=trades[-1].price + 1, id=20)
    market = opened(live_run, tmp_path / "j")
    market.take(trades)
    assert [one.event for one in market.settle()] == [19]
    market.take([late])
    market.journal.close()  # as a kill leaves it: no state of the last moment
    again = opened(live_run, tmp_path / "j")
    assert again.stepper.seen == 20
    assert again.last_trade == late
    (said,) = again.settle()
    whole = opened(live_run, tmp_path / "k")
    whole.take(trades)
    whole.settle()
    whole.take([late])
    (expected,) = whole.settle()
    assert (said.event, said.trade) == (expected.event, expected.trade) == (20, 20)
    np.testing.assert_array_equal(said.p_H, expected.p_H)
    again.close()
    whole.close()
