"""The run folder: made once, replaced only when told, gone on with after a kill or a stop."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

import pytest

from helpers.console import (
    TINY,
    WRITTEN,
    call,
    contents,
    done,
    log_records,
    python,
    refused,
    strict_json,
)
from helpers.markets import simulated_ticks
from nexttick.cli.screen import Training
from nexttick.learn import run_folder
from nexttick.learn.run_folder import CHECKPOINT, RunConfig
from nexttick.options import Recipe
from nexttick.ticks.writing import write_table

WEIGHTS = "predictor/weights.safetensors"
CONFIG = RunConfig(Recipe(), ("ticks.csv",), "hash")
LONG = ("--epochs", 4, "--patience", 4)


@pytest.fixture
def ticks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file in the current folder, which is a temporary one."""
    monkeypatch.chdir(tmp_path)
    write_table(simulated_ticks(1000), "ticks.csv")
    return "ticks.csv"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the same options as `LONG`, and its ticks beside it."""
    folder = tmp_path_factory.mktemp("runs")
    write_table(simulated_ticks(1000), folder / "ticks.csv")
    done("run", *TINY, *LONG, folder / "ticks.csv", "--out", folder / "run")
    return folder / "run"


# Making and replacing


def test_a_run_folder_holds_what_the_page_says(trained: Path) -> None:
    assert sorted(contents(trained)) == sorted(WRITTEN)
    assert len(log_records(trained)) == 4
    config = strict_json((trained / "config.json").read_text())
    assert config["model"]["hidden_size"] == 4
    assert config["source"]["files"] == [str(trained.with_name("ticks.csv"))]


def test_the_first_free_name_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = [str(run_folder.create(None, "cnn-ticks", False, CONFIG)) for _ in range(3)]
    assert made == ["runs/cnn-ticks", "runs/cnn-ticks-2", "runs/cnn-ticks-3"]


@pytest.mark.parametrize(
    ("files", "name"),
    [("ticks.csv", "ticks"), ("*.csv", "ticks"), ("btc*.csv", "btc"), (".", "ticks")],
)
def test_a_run_is_named_by_its_type_and_file(files: str, name: str, ticks: str) -> None:
    Path("btc-1.csv").write_bytes(Path(ticks).read_bytes())
    done("run", *TINY, "--type", "rnn", files)
    assert [path.name for path in Path("runs").iterdir()] == [f"rnn-{name}"]


def test_an_existing_run_is_left_as_it_is(trained: Path) -> None:
    before = contents(trained)
    for command in ("run", "train"):
        message = refused(command, *TINY, trained.with_name("ticks.csv"), "--out", trained)
        assert f"{trained} exists" in message
        assert "--overwrite" in message
    assert contents(trained) == before


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    assert run_folder.create(tmp_path, "run", False, CONFIG) == tmp_path
    assert run_folder.read_config(tmp_path) == CONFIG


def test_overwrite_replaces_a_whole_run(ticks: str) -> None:
    done("run", *TINY, ticks, "--out", "run")
    done("train", *TINY, "--type", "rnn", ticks, "--out", "run", "--overwrite")
    assert set(contents(Path("run"))) == set(WRITTEN) - {"metrics.json", "predictions.parquet"}
    assert run_folder.read_config(Path("run")).recipe.model.type == "rnn"


def test_overwrite_leaves_alone_what_no_run_wrote(ticks: str) -> None:
    Path("notes").mkdir()
    Path("notes/todo.txt").write_text("buy low")
    assert "is no run folder" in refused("run", *TINY, ticks, "--out", "notes", "--overwrite")
    assert "is no run folder" in refused("run", *TINY, ticks, "--out", ticks, "--overwrite")
    Path("notes/config.json").write_text("{}")
    before = contents(Path())
    message = refused("run", *TINY, ticks, "--out", "notes", "--overwrite")
    assert "holds todo.txt, which no run wrote" in message
    assert contents(Path()) == before


def test_overwrite_replaces_what_a_link_points_to(ticks: str) -> None:
    done("run", *TINY, ticks, "--out", "run")
    Path("link").symlink_to("run")
    Path("run/log.jsonl").write_text("old")
    done("run", *TINY, ticks, "--out", "link", "--overwrite")
    assert Path("link").is_symlink()
    assert len(log_records(Path("run"))) == 2


def test_a_test_replaces_a_test_and_never_a_training(ticks: str) -> None:
    done("run", *TINY, ticks, "--out", "run")
    before = contents(Path("run"))
    assert "holds a training run" in refused("test", "run", ticks, "--out", "run", "--overwrite")
    done("test", "run", ticks, "--out", "tested")
    assert "tested exists" in refused("test", "run", ticks, "--out", "tested")
    done("test", "run", ticks, "--out", "tested", "--overwrite")
    assert contents(Path("tested")).keys() == {
        "config.json",
        "metrics.json",
        "predictions.parquet",
    }
    assert contents(Path("run")) == before


def test_files_have_the_usual_mode(trained: Path) -> None:
    (trained.parent / "plain").touch()
    usual = stat.S_IMODE((trained.parent / "plain").stat().st_mode)
    for name in WRITTEN:
        assert stat.S_IMODE((trained / name).stat().st_mode) == usual, name


# Damaged


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1: damaged JSON"),
        ("[]", "no configuration of a run"),
        ("{}", "no configuration of a run ('source')"),
        ('{"source": {"files": []}}', "no configuration of a run ('data_hash')"),
        ('{"source": {"files": [], "data_hash": ""}, "modle": {}}', "did you mean 'model'?"),
        ('{"source": {"files": [], "data_hash": ""}, "model": {"bins": "8"}}', "bins"),
        ('{"source": {"files": [], "data_hash": ""}, "model": {"bins": -8}}', "bins -8"),
        ("\udcff", "config.json"),
    ],
)
def test_a_damaged_configuration_is_refused_and_named(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text, errors="surrogateescape")
    message = refused("run", "--resume", "--out", tmp_path)
    assert f"{tmp_path}/config.json" in message
    assert says in message


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"logistic": 3}', '{"median": []}'])
def test_damaged_baselines_are_refused_and_named(
    text: str | None, trained: Path, tmp_path: Path
) -> None:
    run = copied(trained, tmp_path / "run")
    path = run / "baselines.json"
    path.unlink() if text is None else path.write_text(text)
    message = refused("test", run, trained.with_name("ticks.csv"))
    assert f"{path}: missing or damaged" in message
    assert "train again" in message


@pytest.mark.parametrize("name", ["predictor/predictor.json", WEIGHTS])
def test_a_damaged_predictor_is_refused_and_named(name: str, trained: Path, tmp_path: Path) -> None:
    run = copied(trained, tmp_path / "run")
    (run / name).write_bytes((run / name).read_bytes()[:-100])
    message = refused("predict", run, trained.with_name("ticks.csv"), "-o", tmp_path / "o.csv")
    assert f"{run}/{name}" in message
    assert not (tmp_path / "o.csv").exists()


def test_what_is_no_run_is_refused(trained: Path, ticks: str) -> None:
    for run in ("none", ticks):
        assert f"{run} is no run folder" in refused("test", run, ticks)
        assert f"{run} is no run folder" in refused("run", "--resume", "--out", run)
    assert "holds no predictor" in refused("test", ".", ticks)


def copied(run: Path, to: Path) -> Path:
    for name, data in contents(run).items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes(data)
    return to


# Killed, stopped, resumed


KILLED = """
import os
from nexttick.cli.screen import Training

def kill(self, step):
    if len(self.records) == 2:
        os.kill(os.getpid(), 9)

Training.show_step = kill
"""


@pytest.mark.usefixtures("ticks")
def test_a_killed_run_goes_on_to_the_same_weights(trained: Path) -> None:
    run, ticks = Path("run"), trained.with_name("ticks.csv")  # its name stands in metrics.json
    said = python("run", *TINY, *LONG, ticks, "--out", run, cwd=Path(), prelude=KILLED)
    assert said.code == -signal.SIGKILL, said.err
    assert set(contents(run)) == {"config.json", "log.jsonl", CHECKPOINT}
    assert len(log_records(run)) == 2
    assert "its training is not finished" in refused("test", "run", ticks)
    assert "nexttick run --resume --out run" in refused("predict", "run", ticks, "-o", "o.csv")

    done("run", "--resume", "--out", "run")
    now, uninterrupted = contents(run), contents(trained)
    assert now.keys() == uninterrupted.keys()
    for name in (WEIGHTS, "predictions.parquet", "metrics.json", "baselines.json"):
        assert now[name] == uninterrupted[name], name
    losses = [[one["valid_loss"] for one in log_records(of)] for of in (run, trained)]
    assert losses[0] == losses[1]


@pytest.fixture
def unfinished(ticks: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that broke off after its first epoch."""

    def break_off(self: Training, record: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Training, "show_epoch", break_off)
        assert "power cut" in refused("run", *TINY, *LONG, ticks, "--out", "run")
    return Path("run").absolute()


def test_resuming_takes_the_same_recipe_or_none(unfinished: Path, trained: Path) -> None:
    ticks = unfinished.with_name("ticks.csv")
    resume = ("--resume", "--out", unfinished)
    for options, says in (
        (("--num_layers", 3), "the options given here differ"),
        ((ticks.with_name("other.csv"),), "name no other files"),
        (("--overwrite",), "give one of them"),
    ):
        before = contents(unfinished)
        assert says in refused("run", *resume, *options)
        assert contents(unfinished) == before
    assert "--resume needs --out" in refused("run", "--resume")
    done("run", *TINY, *LONG, *resume)
    assert contents(unfinished)[WEIGHTS] == contents(trained)[WEIGHTS]


def test_resuming_refuses_other_ticks(unfinished: Path, trained: Path) -> None:
    write_table(simulated_ticks(1200), unfinished.with_name("ticks.csv"))
    before = contents(unfinished)
    assert "hold other ticks" in refused("run", "--resume", "--out", unfinished)
    assert contents(unfinished) == before


def test_a_damaged_checkpoint_is_refused_and_named(unfinished: Path) -> None:
    path = unfinished / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100])
    message = refused("run", "--resume", "--out", unfinished)
    assert CHECKPOINT in message
    assert "start a new run" in message


def test_a_run_killed_before_its_first_checkpoint_begins_anew(
    unfinished: Path, trained: Path
) -> None:
    (unfinished / CHECKPOINT).unlink()
    done("run", "--resume", "--out", unfinished)
    assert contents(unfinished)[WEIGHTS] == contents(trained)[WEIGHTS]


def test_leftovers_of_a_kill_go_when_the_run_ends(unfinished: Path) -> None:
    (unfinished / ".log.jsonl.x1.part").touch()
    done("run", "--resume", "--out", unfinished)
    assert sorted(contents(unfinished)) == sorted(WRITTEN)


def test_a_finished_run_is_not_resumed(trained: Path) -> None:
    before = contents(trained)
    message = refused("run", "--resume", "--out", trained)
    assert f"nexttick test {trained} FILE" in message
    assert contents(trained) == before


def stop_in(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C in a step of an epoch."""

    def stop(self: Training, step: object) -> None:
        if len(self.records) == epoch - 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Training, "show_step", stop)


def test_ctrl_c_ends_with_the_best_weights_so_far(
    ticks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done("run", *TINY, *LONG, "--epochs", 2, ticks, "--out", "two")
    stop_in(3, monkeypatch)
    said = done("run", *TINY, *LONG, ticks, "--out", "run")
    assert "Stopped in epoch 3" in said.out
    assert "log loss" in said.out
    run, two = contents(Path("run")), contents(Path("two"))
    assert sorted(run) == sorted(WRITTEN)
    assert run[WEIGHTS] == two[WEIGHTS]
    assert len(log_records(Path("run"))) == 2
    assert strict_json(run["predictor/predictor.json"].decode())["provenance"]["stopped"]


def test_ctrl_c_in_the_first_epoch_leaves_nothing(
    ticks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_in(1, monkeypatch)
    said = call("run", *TINY, ticks, "--out", "run")
    assert said.code == 130
    assert said.err == "nexttick: stopped\n"
    assert not Path("run").exists()


INTERRUPTED = """
import os, signal
from nexttick.cli.screen import Training

signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent may have switched it off

def interrupt(self, step):
    if len(self.records) == 1:
        os.kill(os.getpid(), signal.SIGINT)

Training.show_step = interrupt
"""


def test_a_real_sigint_ends_cleanly(ticks: str) -> None:
    command = ("run", *TINY, *LONG, ticks, "--out", "run")
    said = python(*command, cwd=Path(), prelude=INTERRUPTED)
    assert said.code == 0, said.err
    assert said.err == ""
    assert "Stopped in epoch 2" in said.out
    assert sorted(contents(Path("run"))) == sorted(WRITTEN)
