"""Bad input: exit code 2, a message with the place and the cure, and nothing left behind."""

from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from helpers.console import TINY, contents, done, python, refused
from helpers.markets import simulated_ticks
from nexttick.cli.main import main
from nexttick.learn.run_folder import CHECKPOINT
from nexttick.ticks.record import TickError
from nexttick.ticks.writing import write_table

N = 1000


@dataclass(frozen=True)
class Bad:
    """A bad file: how to make it, and what the message must say."""

    name: str
    make: Callable[[Path], object]
    says: tuple[str, ...]


def market() -> pl.DataFrame:
    return simulated_ticks(N)


def csv() -> str:
    return market().select("time", "price", "amount", "side").write_csv()


def text(change: Callable[[str], str]) -> Callable[[Path], object]:
    """A maker of the market's CSV with a change."""
    return lambda path: path.write_text(change(csv()))


def table(**columns: pl.Expr | float) -> Callable[[Path], object]:
    """A maker of the market with other columns."""
    values = {k: pl.lit(v) if isinstance(v, float) else v for k, v in columns.items()}
    return lambda path: write_table(market().with_columns(**values), path)


def cut_gzip(path: Path) -> None:
    packed = gzip.compress(csv().encode())
    path.write_bytes(packed[: len(packed) // 2])


def corrupt_gzip(path: Path) -> None:
    packed = bytearray(gzip.compress(csv().encode()))
    packed[len(packed) // 2 : len(packed) // 2 + 50] = bytes(50)
    path.write_bytes(packed)


def cut_parquet(path: Path) -> None:
    write_table(market(), path)
    path.write_bytes(path.read_bytes()[:-2000])


def with_text_in_a_number(whole: str) -> str:
    lines = whole.splitlines()
    time, _, *others = lines[499].split(",")
    lines[499] = ",".join([time, "cheap", *others])
    return "\n".join(lines) + "\n"


def without_price(path: Path) -> None:
    write_table(market().select("time", "amount", "side"), path)


UNREADABLE = [
    Bad("missing.csv", lambda path: None, ("no such file", "check the path")),
    Bad("empty.csv", lambda path: path.touch(), ("the file is empty", "fetch it again")),
    Bad("header.csv", text(lambda t: t.splitlines()[0] + "\n"), ("no tick", "fetch")),
    Bad("cut.csv.gz", cut_gzip, ("truncated", "gzip", "fetch it again")),
    Bad("cut.parquet", cut_parquet, ("truncated", "Parquet", "fetch it again")),
    Bad("cut.csv", text(lambda t: t[:-25]), (f"line {N + 1}", "fields, not 4", "fetch")),
    Bad("corrupt.csv.gz", corrupt_gzip, ("corrupt", "fetch it again")),
    Bad("noise.csv", lambda p: p.write_bytes(b"\x80\0\xfe" * 333), ("no text", "CSV")),
    Bad("noise.parquet", lambda p: p.write_bytes(b"x" * 999), ("corrupt", "Parquet", "fetch")),
    Bad("semicolon.csv", text(lambda t: t.replace(",", ";")), ("line 1", "';'", "commas")),
    Bad("text.csv", text(with_text_in_a_number), ("line 500", "'price'", "'cheap'", "correct")),
    Bad("noprice.csv", without_price, ("no price column", "'time', 'amount'", "price=")),
    Bad(
        "unit.csv",
        table(time=pl.col("time") // 10**13),
        ("line 2", "'time'", "170406", "s: 1970", "unit"),
    ),
]
UNTRAINABLE = [
    Bad(
        "few.csv",
        lambda path: write_table(market()[:9], path),
        ("9 events", "one window alone takes 8", "more ticks", "--sequence-length"),
    ),
    Bad("flat.csv", table(price=100.0), ("700 prices", "are 100", "nothing ever rises")),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the market."""
    folder = tmp_path_factory.mktemp("trained")
    write_table(market(), folder / "ticks.csv")
    done("run", *TINY, folder / "ticks.csv", "--out", folder / "run")
    return folder / "run"


@pytest.fixture
def ticks(tmp_path: Path) -> Path:
    """A good file."""
    write_table(market(), tmp_path / "ticks.csv")
    return tmp_path / "ticks.csv"


def assert_told(message: str, *said: object) -> None:
    for part in said:
        assert str(part) in message


# Files


@pytest.mark.parametrize("bad", [*UNREADABLE, *UNTRAINABLE], ids=lambda bad: bad.name)
def test_a_bad_file_leaves_no_run(
    bad: Bad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad.make(tmp_path / bad.name)
    before = contents(tmp_path)
    for out in ((), ("--out", "run")):
        assert_told(refused("run", *TINY, bad.name, *out), *bad.says)
        assert contents(tmp_path) == before
        assert not Path("run").exists()
        assert not Path("runs").exists()


@pytest.mark.parametrize("bad", UNREADABLE, ids=lambda bad: bad.name)
def test_a_bad_file_leaves_no_output(bad: Bad, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / bad.name
    bad.make(path)
    before, run_before = contents(tmp_path), contents(trained)
    for command in (
        ("ticks", path, "--convert", tmp_path / "out.parquet"),
        ("predict", trained, path, "-o", tmp_path / "out.csv"),
        ("test", trained, path, "--out", tmp_path / "tested"),
    ):
        assert_told(refused(*command), path, *bad.says)
        assert contents(tmp_path) == before
    assert contents(trained) == run_before


@pytest.mark.parametrize("bad", [*UNREADABLE[:2], *UNTRAINABLE], ids=lambda bad: bad.name)
def test_a_bad_file_leaves_an_earlier_run_as_it_was(bad: Bad, ticks: Path, trained: Path) -> None:
    path = ticks.with_name(bad.name)
    bad.make(path)
    before = contents(trained)
    refused("run", *TINY, path, "--out", trained, "--overwrite")
    refused("train", *TINY, path, "--out", trained, "--overwrite")
    assert contents(trained) == before


def test_one_bad_file_among_good_ones_is_named(ticks: Path) -> None:
    bad = ticks.with_name("bad.csv")
    bad.write_text(with_text_in_a_number(csv()))
    assert_told(refused("ticks", ticks, bad), "bad.csv, line 500, column 'price': 'cheap'")


def test_a_misspelt_file_suggests_the_nearest(ticks: Path) -> None:
    message = refused("run", *TINY, ticks.with_name("tiks.csv"))
    assert_told(message, f"did you mean {ticks}?")


def test_a_pattern_that_matches_nothing_is_told(tmp_path: Path) -> None:
    assert_told(refused("ticks", tmp_path / "*.csv"), "no file matches this pattern")


def test_no_file_at_all_is_told() -> None:
    for command in ("run", "train", "ticks"):
        assert_told(refused(command), "no file of ticks was named")


def test_too_few_ticks_to_predict_or_test_are_told(trained: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.csv"
    write_table(market()[:7], few)
    message = refused("predict", trained, few, "-o", tmp_path / "out.csv")
    assert_told(message, "7 events are fewer than the 8", "give more ticks")
    message = refused("test", trained, few, "--seen", "--out", tmp_path / "tested")
    assert_told(message, "no event can be scored at rise@1", "give more ticks")
    assert contents(tmp_path).keys() == {"few.csv"}


# Options


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--type", "cmm", ("--type 'cmm'", "did you mean 'cnn'?")),
        ("--norm", "bach", ("--norm 'bach'", "did you mean 'batch'?")),
        ("--ties", "dwon", ("--ties 'dwon'", "did you mean 'down'?")),
        ("--time-unit", "mss", ("--time-unit 'mss'", "did you mean 'ms'?")),
        ("--horizon", "5x", ("--horizon '5x'", "5s")),
        ("--max-gap", "long", ("--max-gap 'long'", "e.g. 10m")),
        ("--device", "cdua", ("--device 'cdua'", "try auto or cpu")),
        ("--device", "meta", ("--device 'meta'", "try auto or cpu")),
        ("--num_layers", "two", ("--num-layers", "'two'")),
        ("--num_layers", "0", ("--num-layers 0 must be at least 1",)),
        ("--num_layer", "3", ("--num_layer", "--num-layers")),
        ("--sequence_lenght", "3", ("--sequence_lenght", "--sequence-length")),
        ("--lr", "0", ("--lr 0.0 must be above 0",)),
        ("--seed", "-1", ("--seed -1 must not be negative",)),
        ("--test", "0", ("--test 0", "nexttick train")),
        ("--columns", "prise=px", ("'prise'", "did you mean 'price'?")),
    ],
)
def test_an_unusable_option_is_told_with_its_cure(
    option: str, value: str, says: tuple[str, ...], ticks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ticks.parent)
    before = contents(ticks.parent)
    assert_told(refused("run", ticks, option, value), *says)
    assert contents(ticks.parent) == before
    assert not Path("runs").exists()


def test_all_mistakes_are_told_at_once(ticks: Path) -> None:
    message = refused(
        "run", ticks, "--type", "cmm", "--norm", "bach", "--horizon", "5x", "--lr", -1
    )
    assert_told(message, "'cmm'", "'bach'", "'5x'", "--lr -1.0")
    assert all(line.startswith("nexttick: ") for line in message.splitlines())
    message = refused("run", ticks, "--num_layer", 3, "--hiden_size", 5)
    assert_told(message, "--num-layers", "--hidden-size")
    message = refused("simulate", "--ticks", 1, "--signal", 2, "-o", ticks.with_name("m.csv"))
    assert_told(message, "ticks=1", "signal=2")


def test_a_traceback_is_shown_to_who_asks_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Traceback" not in refused("ticks", tmp_path / "none.csv")
    monkeypatch.setenv("NEXTTICK_TRACEBACK", "1")
    with pytest.raises(TickError, match="no such file"):
        main(["ticks", str(tmp_path / "none.csv")])


def test_an_unknown_command_suggests_the_nearest() -> None:
    assert_told(refused("rum", "ticks.csv"), "'rum'", "did you mean 'run'?", "predict")


def test_what_no_part_can_be_asked_is_told_before_the_training(ticks: Path, trained: Path) -> None:
    before = contents(trained)
    for options, says in (
        (("--horizon", 500), ("validation part", "rise@500")),
        (("--test", 0.005), ("test part", "rise@10")),
        (("--max-gap", "1ms"), ("training part", "--max-gap (now 0.001s)")),
    ):
        message = refused("run", *TINY, *options, ticks, "--out", trained, "--overwrite")
        assert_told(message, *says)
    assert contents(trained) == before


def test_an_output_of_unknown_form_is_told_before_the_work(ticks: Path, trained: Path) -> None:
    folder = ticks.parent
    for command in (
        ("ticks", folder / "none.csv", "--convert", folder / "out.xls"),
        ("predict", trained, folder / "none.csv", "-o", folder / "out.xls"),
        ("simulate", "-o", folder / "out.xls"),
    ):
        assert_told(refused(*command), "out.xls", ".parquet or .csv")


def test_an_output_that_is_an_input_is_refused(ticks: Path, trained: Path) -> None:
    before = ticks.read_bytes()
    for files in (ticks, ticks.parent, ticks.parent / "*.csv"):
        assert_told(refused("ticks", files, "--convert", ticks), "one of the files to read")
        assert_told(refused("predict", trained, files, "-o", ticks), "one of the files to read")
    assert ticks.read_bytes() == before


# Folders and disks


def test_a_folder_that_does_not_exist_is_told(ticks: Path, trained: Path) -> None:
    out = ticks.parent / "none" / "out.csv"
    for command in (
        ("ticks", ticks, "--convert", out),
        ("predict", trained, ticks, "-o", out),
        ("simulate", "--ticks", 100, "-o", out),
    ):
        message = refused(*command)
        assert_told(message, out, "no such folder", "make it first")
        assert "Errno" not in message


def test_a_folder_under_a_file_is_told(ticks: Path) -> None:
    before = contents(ticks.parent)
    message = refused("run", *TINY, ticks, "--out", ticks / "run")
    assert_told(message, ticks / "run", "its parent is no folder", "choose another path")
    refused("simulate", "--ticks", 100, "-o", ticks / "out.csv")
    assert contents(ticks.parent) == before


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc")
def test_a_folder_that_nobody_may_make_is_told(ticks: Path) -> None:
    message = refused("run", *TINY, ticks, "--out", "/proc/nexttick-run")
    assert_told(message, "/proc/nexttick-run", "nexttick: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_permission_is_told(ticks: Path) -> None:
    locked = ticks.parent / "locked"
    locked.mkdir(mode=0o500)
    message = refused("run", *TINY, ticks, "--out", locked / "run")
    assert_told(message, locked / "run", "no permission to write")
    assert not any(locked.iterdir())


def failing(number: int) -> Callable[..., None]:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


CURES = {
    errno.EACCES: "no permission to write in this folder; choose another",
    errno.EROFS: "read-only; choose another",
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "quota is used up; make room",
}


@pytest.mark.parametrize("number", CURES)
def test_what_the_system_refuses_is_told_in_words(
    number: int, ticks: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(ticks.parent)
    monkeypatch.setattr("nexttick.ticks.writing.os.fsync", failing(number))
    out = ticks.parent / "out.parquet"
    for command, path in (
        (("run", *TINY, ticks, "--out", ticks.parent / "run"), "run/config.json"),
        (("test", trained, ticks, "--out", ticks.parent / "run"), "run/config.json"),
        (("ticks", ticks, "--convert", out), out),
        (("predict", trained, ticks, "-o", out), out),
        (("simulate", "--ticks", 100, "-o", out), out),
    ):
        assert_told(refused(*command), path, CURES[number])
    monkeypatch.undo()
    assert contents(ticks.parent) == before
    assert not (ticks.parent / "run").exists()


def test_a_run_folder_that_cannot_be_made_is_told(
    ticks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ticks.parent)
    monkeypatch.setattr("nexttick.learn.run_folder.Path.mkdir", failing(errno.EACCES))
    assert_told(refused("run", *TINY, ticks), "runs", CURES[errno.EACCES])
    assert_told(refused("run", *TINY, ticks, "--out", "x"), "x", CURES[errno.EACCES])


# Imported before the limit: numba may write its cache.
LIMITED = """
import resource
import {modules}
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
"""


@pytest.mark.parametrize(
    ("limit", "command", "file"),
    [
        (300, ("simulate", "--ticks", "1000", "-o", "out.parquet"), "out.parquet"),
        (300, ("simulate", "--ticks", "1000", "-o", "out.csv"), "out.csv"),
        (5000, ("run", *TINY, "ticks.csv", "--out", "run"), "run/checkpoint.safetensors"),
    ],
)
def test_a_disk_that_takes_no_more_leaves_nothing(
    limit: int, command: tuple[str, ...], file: str, ticks: Path
) -> None:
    pytest.importorskip("resource")
    before = contents(ticks.parent)
    modules = "nexttick.ticks.simulated, nexttick.ticks.reading.read"
    if command[0] == "run":
        modules += ", nexttick.learn.train, nexttick.judge.held_out"
    prelude = LIMITED.format(limit=limit, modules=modules)
    said = python(*command, cwd=ticks.parent, prelude=prelude)
    assert said.code == 2, said
    assert_told(said.err, f"nexttick: {file}: ", "choose another disk")
    assert "Traceback" not in said.err
    assert contents(ticks.parent) == before
    assert not (ticks.parent / "run").exists()


def test_a_disk_that_is_full_after_the_training_keeps_the_predictor(
    ticks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ticks.parent / "run"
    monkeypatch.setattr("nexttick.judge.held_out.write_table", failing(errno.ENOSPC))
    assert "No space left" in refused("run", *TINY, ticks, "--out", run)
    monkeypatch.undo()
    assert (run / "predictor" / "weights.safetensors").exists()
    assert not (run / "metrics.json").exists()
    assert "test it with: nexttick test" in refused("run", "--resume", "--out", run)
    done("test", run, ticks)


def test_a_full_predictor_folder_is_taken_away_again(
    ticks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ticks.parent / "run"
    monkeypatch.setattr("nexttick.learn.predictor.predictor.write_text", failing(errno.ENOSPC))
    refused("train", *TINY, ticks, "--out", run)
    monkeypatch.undo()
    kept = {"config.json", "log.jsonl", "baselines.json", CHECKPOINT}
    assert contents(run).keys() == kept
    done("train", "--resume", "--out", run)
    assert (run / "predictor" / "weights.safetensors").exists()


def test_a_full_standard_output_is_an_error(ticks: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    said = python(
        *("ticks", "ticks.csv", "--json"),
        cwd=ticks.parent,
        prelude="sys.stdout = open('/dev/full', 'w')\nimport atexit, os\n"
        "atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()))",
    )
    assert said.code == 2
    assert "No space left on device" in said.err


def test_a_training_that_diverges_leaves_its_configuration_and_says_what_to_lower(
    ticks: Path,
) -> None:
    run = ticks.parent / "run"
    message = refused("run", *TINY, "--lr", 1e9, "--clip-norm", 1e9, ticks, "--out", run)
    assert_told(message, "lower --lr (now 1e+09)", "--clip-norm")
    kept = contents(run).keys()
    assert {"config.json", "log.jsonl"} <= kept <= {"config.json", "log.jsonl", CHECKPOINT}
    done("run", *TINY, ticks, "--out", run, "--overwrite")
