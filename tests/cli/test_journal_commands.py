"""`nexttick journal`: what it tells, what it exports, and that it disturbs no writer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from helpers.console import done, refused, strict_json
from helpers.journal_writer import IDENTITY, Stepper, outcomes_by, trade, whole, write
from nexttick.live.journal.journal import Journal
from nexttick.live.outcomes import NEVER_NS
from nexttick.live.records import Outcome, Reset
from nexttick.prepare.labels import MISSING
from nexttick.venues.messages import Gap

WRITER = Path(__file__).parents[1] / "helpers" / "journal_writer.py"
TRADES = 3000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of 3,000 trades in one batch, a gap and a reset, some answers missing."""
    path = tmp_path_factory.mktemp("journal") / "made up?.journal"
    stepper, trades = Stepper(), [trade(i) for i in range(TRADES)]
    said = [one for one in map(stepper.step, trades) if one is not None]
    outcomes = [
        one._replace(y=MISSING, tie=False, known_ns=NEVER_NS) if one.event < 10 else one
        for prediction in said
        for one in outcomes_by(prediction)
    ]
    gap = Gap(trade(99).time_ns, trade(100).time_ns, 1099, 1100, "the venue has them no more")
    reset = Reset(100, 67, trade(100).time_ns, "after a gap")
    with Journal(path, IDENTITY) as journal:
        journal.append([*trades[:100], gap, *trades[100:]], said, outcomes, [reset])
    return path


def test_everything_is_told_as_json(path: Path) -> None:
    told = strict_json(done("journal", path, "--json").out)
    said, _ = whole(TRADES)
    assert (told["ticks"], told["events"], told["predicted"]) == (TRADES, len(said), len(said))
    assert (told["first_ns"], told["last_ns"]) == (trade(0).time_ns, trade(TRADES - 1).time_ns)
    assert told["fingerprint"] == IDENTITY.fingerprint
    assert told["gaps"] == [
        {
            "since_ns": trade(99).time_ns,
            "until_ns": trade(100).time_ns,
            "reason": "the venue has them no more",
        }
    ]
    assert [reset["reason"] for reset in told["resets"]] == ["after a gap"]
    for name, delay in (("rise@1", 1), ("rise@4", 4)):
        scores = told["scores"][name]
        counts = {"n": len(said) - delay - 10, "waiting": delay, "missing": 10}
        assert {key: scores[key] for key in counts} == counts
        value, low, high = scores["log_loss"]
        assert low < value < high


def test_scores_are_those_of_what_is_exported(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    told = strict_json(done("journal", path, "--json", "--export", out).out)["scores"]
    table = pl.read_parquet(out)
    said, outcomes = whole(TRADES)
    assert table["event"].to_list() == [one.event for one in said]
    assert table["time"].to_list() == [one.time_ns for one in said]
    assert table["said"].to_list() == [one.said_ns for one in said]
    for h, (name, rate) in enumerate(zip(IDENTITY.horizons, IDENTITY.base_rates, strict=True)):
        of_h = {one.event: one for one in outcomes if one.horizon == h}
        p = np.array([one.p_H[h] for one in said], np.float32)
        assert table[f"p_{name}"].to_list() == p.tolist()
        y = [of_h[i].y if i in of_h else None for i in range(len(said))]
        assert table[f"y_{name}"].to_list() == [MISSING] * 10 + y[10:]
        assert table[f"tie_{name}"].to_list()[10:20] == [of_h[i].tie for i in range(10, 20)]
        assert table[f"known_{name}"].to_list()[:10] == [None] * 10
        assert table[f"known_{name}"][10] == of_h[10].known_ns
        known = [i for i in range(10, len(said)) if y[i] is not None]
        answers = [y[i] for i in known]
        loss, base = log_loss(answers, p[known]), log_loss(answers, np.full(len(known), rate))
        assert told[name]["log_loss"][0] == pytest.approx(loss, rel=1e-5)
        assert told[name]["bits"][0] == pytest.approx((base - loss) / np.log(2), rel=1e-4)
        assert told[name]["auc"][0] == pytest.approx(roc_auc_score(answers, p[known]), abs=1e-5)
        ties = sum(of_h[i].tie for i in known)
        assert told[name]["tie_rate"][0] == pytest.approx(ties / len(known), rel=1e-5)


def test_a_reader_finds_it_in_words(path: Path) -> None:
    said = done("journal", path).out
    assert "made-up BTC/USDT" in said
    assert "the venue has them no more" in said
    assert re.search(r"log loss\s+\d\.\d{4} \[\d\.\d{4}, \d\.\d{4}\]", said)
    assert "1 waiting, 10 without an answer" in said


def test_it_is_read_while_a_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "busy.journal"
    command = [sys.executable, str(WRITER), str(path), "1", "1000000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        printed = [child.stdout.readline() for _ in range(50)]
        told = strict_json(done("journal", path, "--json").out)
        printed += [child.stdout.readline() for _ in range(50)]
        child.kill()
    assert told["events"] >= 50
    assert printed[99].startswith("99 ")
    scored = told["scores"]["rise@4"]
    assert scored["n"] + scored["waiting"] == told["events"]
    assert scored["waiting"] == 4


def test_a_journal_with_nothing_in_it_says_so(tmp_path: Path) -> None:
    path = tmp_path / "new.journal"
    Journal(path, IDENTITY).close()
    told = strict_json(done("journal", path, "--json").out)
    assert (told["ticks"], told["events"], told["first_ns"]) == (0, 0, None)
    assert told["scores"]["rise@1"] == {"n": 0, "waiting": 0, "missing": 0}
    assert "none" in done("journal", path).out


def test_few_events_have_no_interval(tmp_path: Path) -> None:
    path = tmp_path / "short.journal"
    write(path, 1, 20)
    scores = strict_json(done("journal", path, "--json").out)["scores"]["rise@1"]
    assert scores["n"] < 500
    assert scores["log_loss"][0] > 0
    assert scores["log_loss"][1:] == [None, None]


def test_what_cannot_be_read_or_written_is_told(path: Path, tmp_path: Path) -> None:
    assert "is no file" in refused("journal", tmp_path / "nowhere.journal")
    text = tmp_path / "ticks.csv"
    text.write_text("time,price\n" * 99)
    assert "no journal" in refused("journal", text)
    (tmp_path / "empty").touch()
    assert "is empty" in refused("journal", tmp_path / "empty")
    assert ".parquet or .csv" in refused("journal", path, "--export", tmp_path / "out.xlsx")


def test_an_outcome_that_names_no_event_harms_no_score(tmp_path: Path) -> None:
    path = tmp_path / "odd.journal"
    with Journal(path, IDENTITY) as journal:
        journal.append(outcomes=[Outcome(7, 0, 1, False, 0, 0.5)])
    assert strict_json(done("journal", path, "--json").out)["scores"]["rise@1"]["n"] == 0
