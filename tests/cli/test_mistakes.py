"""Mistakes in options and names, of every command: told before anything heavy is loaded."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from helpers.console import python
from nexttick.checks import validate
from nexttick.cli.main import COMMANDS, GROUPS, Family
from nexttick.networks.models import build_model
from nexttick.options import ARCHS, ModelOptions, Recipe

KEPT = Path(__file__).parents[1] / "kept" / "2026-11" / "run"
MISTAKES = {
    "run": (
        "ticks.csv --horizon 5x",
        "ticks.csv --arch densse",
        "ticks.csv --type cmm",
        "ticks.csv --sequence-length 3",
        "ticks.csv --device cdua",
        "ticks.csv --num_layer 3",
        "ticks.csv --num_layers two",
        "ticks.csv --test 0",
        "ticks.csv --out trained",
        "--resume --out none",
    ),
    "train": ("ticks.csv --lr 0", "ticks.csv --ties dwon", "--resume"),
    "evaluate": (
        "none.toml",
        "ticks.csv --folds 0",
        "ticks.csv --networks densse",
        "ticks.csv --baselines tress",
        "ticks.csv --embargo soon",
        "ticks.csv --device cdua",
        "--resume --out none",
    ),
    "compare": ("", "none", "trained none"),
    "test": ("none ticks.csv", "trained ticks.csv --out trained"),
    "predict": ("trained ticks.csv -o p.xls", "trained ticks.csv -o p.csv --device cdua"),
    "live": ("", "trained --source stdin --port 99999", "none --source stdin"),
    "describe": ("cmm", "cnn --horizon 5x", "cnn --arch densse", "cnn --bins -1"),
    "export": ("none -o x.onnx", "trained -o x.txt"),
    "ticks": ("ticks.csv --convert x.xls",),
    "simulate": ("-o x.xls",),
    "journal": ("ticks.csv --export x.xls",),
    "fetch": (
        "kraken BTC/USD --from soon",
        "kraken BTC/USD --from 2024-01-01 --option kind",
    ),
    "store": ("chek", "export x y.csv --from soon"),
    "lab": ("vanish", "vanishing --depth 5", "exploding --lr 0", "health none"),
}
# What only the code that reads ticks can tell, and Polars with it.
OF_TICKS = {
    "run": ("none.csv", "", "ticks.csv --columns prise=px"),
    "train": ("none.csv",),
    "evaluate": ("none.csv",),
    "test": ("trained none.csv",),
    "predict": ("none ticks.csv -o p.csv", "trained none.csv -o p.csv"),
    "live": (
        "trained --source binance --symbol BTC",
        "trained --source nowhere --symbol A/B",
        "trained --source replay --file none.csv",
        "trained --source stdin --journal ticks.csv",
    ),
    "ticks": ("none.csv", "ticks.csv --columns prise=px"),
    "simulate": ("--ticks 1 -o x.csv",),
    "journal": ("none", "ticks.csv"),
    "fetch": (
        "krakn BTC/USD --from 2024-01-01",
        "binance-archive BTC/USDT --from 2024-01-01 --option kid=1",
    ),
    "store": ("check x --store none",),
}
HEAVY = {"torch", "sklearn", "scipy", "lightgbm", "matplotlib", "numba", "ccxt"}
CODE = """
import sys
from nexttick.cli.main import main
for words in {commands!r}:
    try:
        code = main(words)
    except SystemExit as stop:  # tyro's own
        code = stop.code
    assert code == 2, words
    loaded = {heavy!r} & sys.modules.keys()
    assert not loaded, (words, loaded)
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistake_is_told_before_what_is_heavy_is_loaded(command: str, tmp_path: Path) -> None:
    shutil.copytree(KEPT, tmp_path / "trained")
    (tmp_path / "ticks.csv").write_text("time,price,amount\n1704067200,100.0,1.0\n")
    for mistakes, heavy in ((MISTAKES, HEAVY | {"polars"}), (OF_TICKS, HEAVY)):
        commands = [[command, *words.split()] for words in mistakes.get(command, ())]
        said = python("-c", CODE.format(commands=commands, heavy=heavy), cwd=tmp_path)
        assert said.code == 0, said.err
        assert "Traceback" not in said.err


def test_the_first_screen_fits_and_groups_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    from nexttick.cli.main import main

    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert set(GROUPS) <= set(lines)
    for name in COMMANDS:
        assert sum(line.startswith(f"  {name} ") for line in lines) == 1


HELP = [[name] for name, command in COMMANDS.items() if not isinstance(command, Family)] + [
    [name, one]
    for name, command in COMMANDS.items()
    if isinstance(command, Family)
    for one in command.commands
]


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_shows_words_and_no_types(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nexttick.cli.main import main

    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    said = capsys.readouterr().out
    for never in ("STR", "INT", "FLOAT", "PATH", "None", "(default: )", "''"):
        assert never not in said
    assert not re.search(r"recipe\.\w", said)
    assert "usage: nexttick " + " ".join(words) in said


@pytest.mark.parametrize("arch", [None, *ARCHS["cnn"]])
@pytest.mark.parametrize(("num_layers", "kernel_size"), [(1, 3), (2, 5), (3, 4), (4, 2), (2, 1)])
def test_a_window_too_short_is_told_as_the_network_itself_would(
    arch: str | None, num_layers: int, kernel_size: int
) -> None:
    for length in range(1, 22):
        model = ModelOptions("cnn", arch, num_layers, 8, length, kernel_size=kernel_size)
        built, checked = None, None
        try:
            build_model(model, 6, 1)
        except ValueError as error:
            built = str(error)
        try:
            validate(Recipe(model=model))
        except ValueError as error:
            checked = str(error)
        assert checked == (None if arch in ("fcn", "deeplab") else built)
