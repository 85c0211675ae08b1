"""The commands. Nothing heavy is imported until a command runs, so that `--help` starts fast."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import tyro

import nexttick
from nexttick.options import (
    EvaluateOptions,
    LabelOptions,
    LiveOptions,
    ModelOptions,
    OutputOptions,
    ReadOptions,
    Recipe,
    is_horizon,
    nearest,
)

Files = tyro.conf.Positional[tuple[str, ...]]
RunFolder = tyro.conf.Positional[Path]
Model = tyro.conf.Positional[str]
Many = tyro.conf.UseAppendAction[tuple[str, ...]]
From = Annotated[str, tyro.conf.arg(name="from", metavar="DATE")]
To = Annotated[str | None, tyro.conf.arg(metavar="DATE")]
Source = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
Symbol = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SYMBOL")]
SourceOption = Annotated[Many, tyro.conf.arg(metavar="NAME=VALUE")]
OutFile = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


def run(
    files: Files = (), recipe: Recipe = Recipe(), output: OutputOptions = OutputOptions()
) -> None:
    """Train a network on files of ticks, test it on the last part, write its predictions.

    Args:
        files: files, folders or globs of ticks.
        recipe: what decides the run.
        output: where it goes.
    """
    from nexttick.cli import run as commands

    commands.run(files, recipe, output)


def train(
    files: Files = (), recipe: Recipe = Recipe(), output: OutputOptions = OutputOptions()
) -> None:
    """Train a network only; the last part of the ticks stays unseen, for `nexttick test`.

    Args:
        files: files, folders or globs of ticks.
        recipe: what decides the run.
        output: where it goes.
    """
    from nexttick.cli import run as commands

    commands.train(files, recipe, output)


def evaluate(
    files: Files = (),
    recipe: Recipe = Recipe(),
    evaluate: EvaluateOptions = EvaluateOptions(),
    output: OutputOptions = OutputOptions(),
) -> int:
    """Judge a recipe fold by fold: scores with intervals, baselines, audit, costs, a report.

    Args:
        files: files, folders or globs of ticks; or a recipe (.toml) first.
        recipe: what is judged.
        evaluate: how.
        output: where it goes.
    """
    from nexttick.cli import evaluate as commands

    return commands.evaluate(files, recipe, evaluate, output)


def compare(runs: tyro.conf.Positional[tuple[Path, ...]], json: bool = False) -> None:
    """Put runs side by side on the events that all of them speak of, with paired intervals.

    Args:
        runs: run folders of run, test or evaluate; the others are compared with the first.
        json: print one JSON object instead of tables.
    """
    from nexttick.cli import evaluate as commands

    commands.compare(runs, as_json=json)


def test(
    run: RunFolder,
    files: Files,
    out: Path | None = None,
    seen: bool = False,
    overwrite: bool = False,
    device: str = "auto",
) -> None:
    """Test a trained network on ticks that it has not seen.

    Args:
        run: run folder made by train or run.
        files: files, folders or globs of ticks.
        out: folder for metrics.json and predictions.parquet; printed only when not given.
        seen: score also events from the time that training saw; for another market's ticks.
        overwrite: replace an earlier test in --out.
        device: auto, cpu or cuda.
    """
    from nexttick.cli import run as commands

    commands.test(run, files, out, seen=seen, overwrite=overwrite, device=device)


def predict(run: RunFolder, files: Files, output: OutFile, device: str = "auto") -> None:
    """Write the probability of a rise for every event.

    The columns are time, price, p_rise@1 and so on, one a horizon.

    Args:
        run: run folder made by train or run.
        files: files, folders or globs of ticks.
        output: Parquet or CSV file to write.
        device: auto, cpu or cuda.
    """
    from nexttick.cli import run as commands

    commands.predict(run, files, output, device=device)


def describe(
    model: Model,
    network: ModelOptions = ModelOptions(),
    horizon: tuple[str, ...] = LabelOptions.horizon,
    json: bool = False,
) -> None:
    """Show the layers of a network: shape, parameters, multiply-adds, receptive field.

    Args:
        model: cnn, rnn, an architecture (dense, gru, cnn-residual), MODULE:CLASS, or a run folder.
        network: its sizes.
        horizon: what it is asked; one answer each.
        json: print one JSON object instead of a table.
    """
    from nexttick.cli import networks as commands

    commands.describe(model, network, horizon, as_json=json)


def export(run: RunFolder, output: OutFile) -> None:
    """Write one step of a trained network as an ONNX file, for use elsewhere.

    Unscaled features and state go in, probabilities and state come out; docs/export.md says how.

    Args:
        run: run folder made by train or run.
        output: .onnx file to write.
    """
    from nexttick.cli import networks as commands

    commands.export(run, output)


def live(
    runs: tyro.conf.Positional[tuple[Path, ...]] = (),
    live: tyro.conf.UseAppendAction[LiveOptions] = LiveOptions(),
) -> None:
    """Follow an exchange's trades, and say for each how likely a rise is.

    Prints JSON lines under the names of predict, or on a terminal a table. Ctrl-C ends it; started
    again, it goes on where it stopped.

    Args:
        runs: run folder made by train or run; one for all markets, or one for each --symbol.
        live: what is followed, and how it is shown.
    """
    from nexttick.cli import live as commands

    commands.live(runs, live)


def ticks(
    files: Files,
    read: ReadOptions = ReadOptions(),
    convert: Path | None = None,
    json: bool = False,
) -> None:
    """Read, check and describe files of ticks; convert them to Parquet or CSV.

    Args:
        files: files, folders or globs of ticks.
        read: see the group below.
        convert: write the cleaned ticks to this .parquet or .csv file.
        json: print one JSON object instead of tables.
    """
    from nexttick.cli import ticks as commands

    commands.ticks(files, read, convert, as_json=json)


def simulate(output: OutFile, ticks: int = 300_000, signal: float = 1.0, seed: int = 0) -> None:
    """Write a simulated market whose true probability of a rise is known tick by tick.

    Args:
        output: Parquet or CSV file to write.
        ticks: number of ticks.
        signal: how much can be known beyond the bid-ask bounce, 0 to 1.
        seed: seed of the random numbers.
    """
    from nexttick.cli import ticks as commands

    commands.simulate(output, ticks, signal, seed)


def journal(
    file: tyro.conf.Positional[Path], export: Path | None = None, json: bool = False
) -> None:
    """Show what the journal of a live run holds, score it, export it; also while it is written.

    Args:
        file: the journal.
        export: write events, predictions and outcomes to this .parquet or .csv file.
        json: print one JSON object instead of tables.
    """
    from nexttick.cli import live as commands

    commands.journal(file, export, as_json=json)


def fetch(
    source: Source,
    symbol: Symbol,
    from_: From,
    to: To = None,
    store: str = "store",
    option: SourceOption = (),
    wait_s: float = 600.0,
    quiet: bool = False,
) -> int:
    """Fetch days of ticks into a store, only what it lacks.

    Ended early, it goes on where it stopped when it is run again. Exit code 2 where something was
    wrong and left a hole; docs/data.md tells of sources and their options.

    Args:
        source: an exchange by its ccxt name (kraken), binance-archive, bitcoincharts,
            coinmarketcap, or a URL, file or folder of ticks.
        symbol: base and quote, e.g. BTC/USDT.
        from_: first day (UTC), e.g. 2024-01-31.
        to: last day, included; by default yesterday.
        store: folder or URL of the store.
        option: of the source, e.g. kind=aggTrades; may be given several times.
        wait_s: how long to wait while another process writes the same series.
        quiet: print nothing but what is wrong.
    """
    from nexttick.cli import store as commands

    return commands.fetch(
        source, symbol, from_, to, store, options=option, quiet=quiet, wait_s=wait_s
    )


def store() -> None:
    """Look after stored ticks: store list, check, describe and export."""
    raise AssertionError("its commands are in nexttick.cli.store")


def lab() -> None:
    """Experiments on gradients: lab vanishing, lab exploding, lab example, lab health RUN."""
    raise AssertionError("its commands are in nexttick.cli.lab")


Command = Callable[..., int | None]
COMMANDS: dict[str, Command] = {
    "run": run,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "test": test,
    "predict": predict,
    "live": live,
    "describe": describe,
    "export": export,
    "ticks": ticks,
    "simulate": simulate,
    "journal": journal,
    "fetch": fetch,
    "store": store,
    "lab": lab,
}


# Options that take several words.
_MANY = (
    "--horizon",
    "--networks",
    "--baselines",
    "--half-lives-events",
    "--half-lives-s",
)
_FILE = re.compile(r"[/*?\\]|\.[A-Za-z]\w*$")


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 2 where the user can mend what went wrong."""
    # OpenMP's threads wait in a busy loop, and where another process wants the same core, training
    # was measured 12 times slower for it. Read once, when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        code = _run_command(list(sys.argv[1:] if args is None else args))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("NEXTTICK_TRACEBACK"):
            raise  # a message says what the user can mend, and not where a bug of ours lies
        for line in _told(error).splitlines():
            print(f"nexttick: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("nexttick: stopped", file=sys.stderr)
        return 130
    return code


def _run_command(args: list[str]) -> int:
    if args[:1] == ["lab"]:
        from nexttick.cli import lab as commands

        return _choose("nexttick lab", commands.COMMANDS, args[1:], lab.__doc__)
    if args[:1] == ["store"]:
        from nexttick.cli import store as store_commands

        return _choose("nexttick store", store_commands.COMMANDS, args[1:], store.__doc__)
    return _choose("nexttick", COMMANDS, _files_first(args), nexttick.__doc__)


def _choose(prog: str, commands: Mapping[str, Command], args: list[str], about: str | None) -> int:
    if args and args[0] not in commands and not args[0].startswith("-"):
        command = " ".join([*prog.split()[1:], args[0]])
        raise ValueError(f"command {command!r} is unknown: {nearest(args[0], commands)}")
    try:
        code = tyro.extras.subcommand_cli_from_dict(
            dict(commands),
            prog=prog,
            args=args or ["--help"],
            description=about,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except SystemExit as stop:
        raise SystemExit(stop.code if args else 2) from None
    return code or 0


def _files_first(args: list[str]) -> list[str]:
    """Move files from behind an option that takes several words, which would swallow them."""
    files: list[str] = []
    others: list[str] = []
    option = ""
    for word in args:
        option = word.replace("_", "-") if word.startswith("--") else option
        swallowed = option in _MANY and word != option and _is_file(word)
        (files if swallowed else others).append(word)
    return [*others[:1], *files, *others[1:]]


def _is_file(word: str) -> bool:
    return not is_horizon(word) and (bool(_FILE.search(word)) or Path(word).exists())


def _told(error: Exception) -> str:
    """What an error says, without Python's `[Errno 28]` where the message says it in words."""
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        return error.strerror
    return str(error)
