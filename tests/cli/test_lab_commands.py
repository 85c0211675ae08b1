"""`nexttick lab`: what each command writes and prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from helpers.console import (
    TINY,
    Said,
    call,
    contents,
    done,
    log_records,
    python,
    refused,
    strict_json,
)
from helpers.markets import simulated_ticks
from nexttick.cli.lab import COMMANDS
from nexttick.learn.run_folder import read_log
from nexttick.networks.lab.health import headline, measured, with_health
from nexttick.ticks.writing import write_table

QUICK = {
    "vanishing": (
        *("--ticks", 12, "--length", 10, "--steps", 2, "--hidden-size", 4),
        *("--depth", 4, "--conv-steps", 2, "--channels", 3, "--delay", 8, "--task", "copy"),
    ),
    "exploding": ("--grid", 9, "--steps", 3),
    "example": (),
}
Written = tuple[Path, dict[str, Said]]
every_experiment = pytest.mark.parametrize("name", QUICK)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each kind, and one that explodes."""
    folder = tmp_path_factory.mktemp("lab")
    write_table(simulated_ticks(1500), folder / "ticks.parquet")
    for name, options in (
        ("cnn", ()),
        ("rnn", ("--type", "rnn")),
        ("wild", ("--lr", "4", "--epochs", "1")),
    ):
        done("train", *TINY, *options, folder / "ticks.parquet", "--out", folder / name, "--quiet")
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A folder in which each experiment has run, and what it printed."""
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, {name: lab(name, *options) for name, options in QUICK.items()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lab(*args: object) -> Said:
    return done("lab", *args)


def check_results(folder: Path, name: str) -> dict:
    """Picture twice and numbers, each readable; the numbers."""
    assert {f"{name}.png", f"{name}.svg", f"{name}.json"} <= contents(folder).keys()
    assert (folder / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    root = ElementTree.fromstring((folder / f"{name}.svg").read_text())
    assert root.tag.endswith("svg")
    assert len(root.findall(".//{*}path")) > 10
    return strict_json((folder / f"{name}.json").read_text())


# What they write and print


@every_experiment
def test_an_experiment_writes_a_picture_and_its_numbers(name: str, written: Written) -> None:
    folder, said = written
    check_results(folder / "runs" / f"lab-{name}", name)
    assert len(contents(folder / "runs" / f"lab-{name}")) == 3
    assert f"Picture and numbers are in runs/lab-{name}" in said[name].out


def test_the_same_experiment_writes_the_same_bytes(written: Written, here: Path) -> None:
    lab("example", "--out", "b/c")
    assert contents(here / "b" / "c") == contents(written[0] / "runs" / "lab-example")


def test_vanishing_prints_what_is_left_and_what_was_learned(written: Written) -> None:
    folder, said = written
    for words in ("LSTM, open gates", "residual, batch norm", "untrained", "right answers"):
        assert words in said["vanishing"].out
    assert "Without memory 12.5% of the answers are right." in said["vanishing"].out
    told = strict_json((folder / "runs/lab-vanishing/vanishing.json").read_text())
    assert (told["options"]["task"], told["options"]["ticks"]) == ("copy", 12)


def test_exploding_prints_where_both_descents_ended(written: Written) -> None:
    folder, said = written
    told = strict_json((folder / "runs/lab-exploding/exploding.json").read_text())
    for name, words in (("plain", "without clipping"), ("clipped", "with clipping")):
        (line,) = [one for one in said["exploding"].out.splitlines() if words in one]
        assert line.endswith(f"{told[name]['error'][-1]:.4f} ")


def test_the_example_prints_the_lectures_numbers(written: Written) -> None:
    folder, said = written
    assert "0.77  -0.11   0.11   0.33   0.55  -0.11   0.33" in said["example"].out
    told = strict_json((folder / "runs/lab-example/example.json").read_text())
    assert told["result"][1][1] == 1.0


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
def test_health_draws_a_healthy_run(kind: str, trained: Path, here: Path) -> None:
    said = lab("health", trained / kind)
    told = check_results(here / "runs" / "lab-health", "health")
    assert said.out.count("healthy") == 2
    assert "--lr" not in said.out
    log = log_records(trained / kind)
    assert [one["health"] for one in told["epochs"]] == [one["health"] for one in log]
    picture = (here / "runs" / "lab-health" / "health.svg").read_text()
    names = {"cnn": "<!-- body.0.0 -->", "rnn": "<!-- Gates, tick by tick -->"}
    assert all((text in picture) == (of == kind) for of, text in names.items())


def test_health_names_what_is_wrong_and_the_cure(trained: Path, here: Path) -> None:
    said = lab("health", trained / "wild", "--out", "out")
    assert "exploding" in said.out
    assert "epoch 1: the loss explodes" in said.out
    assert "lower --lr or --clip-norm" in said.out.replace("\n", " ")
    assert headline(with_health(read_log(trained / "wild"), trained / "wild")).startswith(
        "epoch 1: the loss explodes"
    )


def test_a_run_that_still_goes_on_can_be_looked_at(trained: Path, here: Path) -> None:
    Path("run").mkdir()
    line = (trained / "cnn" / "log.jsonl").read_text().splitlines()[0]
    Path("run/log.jsonl").write_text(line + "\n")
    assert lab("health", "run").out.count("healthy") == 1


def test_a_measure_is_told_for_each_layer_and_epoch(trained: Path) -> None:
    records = with_health(read_log(trained / "rnn"), trained / "rnn")
    columns = measured(records, "saturated")
    assert list(columns) == ["LSTM.0"]
    expected = [one["health"]["layers"]["LSTM.0"]["saturated"] for one in records]
    assert columns["LSTM.0"] == expected
    del records[0]["health"]["layers"]["LSTM.0"]
    assert measured(records, "saturated") == {"LSTM.0": [None, expected[1]]}


# What they refuse


def test_earlier_results_stay_unless_told(here: Path) -> None:
    name = "example"
    lab(name, *QUICK[name], "--out", "out")
    Path("out/notes.txt").write_text("mine")
    before = contents(Path("out"))
    message = refused("lab", name, *QUICK[name], "--out", "out")
    assert f"{name}.json" in message
    assert "--overwrite" in message
    assert contents(Path("out")) == before
    Path(f"out/{name}.png").write_bytes(b"old")
    lab(name, *QUICK[name], "--out", "out", "--overwrite")
    assert contents(Path("out")) == before  # new ones, and what is not theirs is left


def test_results_of_other_experiments_are_no_obstacle(trained: Path, here: Path) -> None:
    lab("example", "--out", "out")
    lab("health", trained / "cnn", "--out", "out")
    assert len(contents(Path("out"))) == 6


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("vanish",), "did you mean 'vanishing'"),
        (("exploding", "--lr", "0"), "--lr 0.0 must be above 0"),
        (("vanishing", "--depth", "5", "--steps", "0"), "--depth 5 is odd"),
        (("health", "nowhere"), "nowhere is no run folder"),
        (("example", "--out", "file"), "file is a file: give --out a folder"),
        (("example", "--out", "file/out"), "its parent is no folder"),
    ],
)
def test_bad_input_ends_with_a_message(command: tuple[str, ...], says: str, here: Path) -> None:
    Path("file").write_text("")
    assert says in refused("lab", *command)
    assert list(contents(here)) == ["file"]


def test_no_experiment_prints_the_help(here: Path) -> None:
    said = call("lab")
    assert said.code == 2
    assert all(name in said.out for name in COMMANDS)
    assert call("lab", "--help").code == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_each_experiment_explains_itself(name: str) -> None:
    said = call("lab", name, "--help")
    assert said.code == 0
    assert f"usage: nexttick lab {name}" in said.out
    assert "--out" in said.out


def test_asking_for_help_loads_nothing_heavy(tmp_path: Path) -> None:
    lines = ("from nexttick.cli.main import main", "import sys")
    calls = [
        f"try: main(['lab', *{command}, '--help'])\nexcept SystemExit as stop: assert not stop.code"
        for command in ([], *([name] for name in COMMANDS))
    ]
    check = (
        "loaded = {'torch', 'matplotlib', 'polars'} & sys.modules.keys(); assert not loaded, loaded"
    )
    said = python("-c", "\n".join([*lines, *calls, check]), cwd=tmp_path)
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ("", "no epoch is done yet"),
        ("{", "log.jsonl, line 1: damaged JSON"),
        ("[1]\n", "line 1: no record of health"),
        ('{"epoch": 1}\n', "line 1: no record of health"),
    ],
)
def test_a_log_that_cannot_be_read_is_refused(log: str, says: str, here: Path) -> None:
    Path("run").mkdir()
    Path("run/log.jsonl").write_text(log)
    assert says in refused("lab", "health", "run")
    assert not Path("runs").exists()


def test_a_run_from_before_there_was_health_is_told(trained: Path, here: Path) -> None:
    Path("run").mkdir()
    records = log_records(trained / "cnn")
    records[1].pop("health")
    Path("run/log.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    message = refused("lab", "health", "run")
    assert "line 2" in message
    assert "train again" in message


def test_an_experiment_that_fails_leaves_no_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(options: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr("nexttick.networks.lab.exploding.run", fail)
    assert "the disk is gone" in refused("lab", "exploding", "--out", "a/b")
    assert list(here.iterdir()) == []
    Path("a").mkdir()
    refused("lab", "exploding", "--out", "a/b")
    assert [path.name for path in here.iterdir()] == ["a"]
