"""The main job: train a network on ticks, test it, ask it for predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from nexttick.checks import check_device, validate
from nexttick.cli import arguments
from nexttick.cli.arguments import Device, Files, Flag, OutFile, Output, RunFolder, words
from nexttick.cli.ticks import check_inputs, check_output, read_named
from nexttick.options import OutputOptions, Recipe

if TYPE_CHECKING:
    import polars as pl

    from nexttick.learn.predictor.predictor import Predictor
    from nexttick.learn.run_folder import RunConfig
    from nexttick.prepare.dataset import Prepared


def run(
    files: Files = (), recipe: arguments.Recipe = Recipe(), output: Output = OutputOptions()
) -> None:
    """Train on files of ticks, test on the last part, write predictions.

    Args:
        files: files, folders or globs of ticks.
    """
    folder, prepared, predictor = _train(files, recipe, output, tested=True)
    from nexttick.cli import screen, screen_scores
    from nexttick.judge import held_out
    from nexttick.learn import run_folder
    from nexttick.learn.baselines import fit_on_training

    fitted = fit_on_training(prepared)
    run_folder.save_trained(folder, predictor, fitted)
    files = run_folder.read_config(folder).files  # those of a run that went on
    tested = held_out.judge(predictor, fitted, prepared, prepared.split.test, files)
    tested.write(folder)
    screen_scores.show_scores(tested.metrics)
    screen.say(f"Everything is in {folder}")


def train(
    files: Files = (), recipe: arguments.Recipe = Recipe(), output: Output = OutputOptions()
) -> None:
    """Train only; the last part stays unseen, for nexttick test.

    Args:
        files: files, folders or globs of ticks.
    """
    folder, prepared, predictor = _train(files, recipe, output, tested=False)
    from nexttick.cli import screen
    from nexttick.learn import run_folder
    from nexttick.learn.baselines import fit_on_training

    run_folder.save_trained(folder, predictor, fit_on_training(prepared))
    screen.say(f"The predictor is in {folder}; test it with: nexttick test {folder} FILE…")


def test(
    run: RunFolder,
    files: Files,
    out: Annotated[Path | None, words("FOLDER")] = None,
    seen: Flag = False,
    overwrite: Flag = False,
    device: Device = "auto",
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
    from nexttick.learn import run_folder

    check_device(device)
    run_folder.check_free(out, overwrite)
    # A test may replace an earlier test, never what was trained.
    trained = ("predictor", run_folder.CHECKPOINT)
    if out is not None and any((out / name).exists() for name in trained):
        raise ValueError(f"{out} holds a training run: give the test another --out")
    run_folder.check_trained(run)
    config = run_folder.read_config(run)
    check_inputs(files, config.recipe.read)

    from nexttick.cli import screen_scores
    from nexttick.judge import held_out
    from nexttick.learn.epochs import pick_device

    predictor, fitted = run_folder.load_trained(run, str(pick_device(device)))
    prepared, _ = _prepared(files, config.recipe, out, predictor)
    begin = 0 if seen else _first_unseen(prepared, predictor)
    tested = held_out.judge(predictor, fitted, prepared, begin, files)
    if out is not None:
        source = run_folder.RunConfig(config.recipe, tuple(files), prepared.data_hash)
        folder = run_folder.create(out, out.name, overwrite, source)
        tested.write(folder)
    screen_scores.show_scores(tested.metrics)


def predict(run: RunFolder, files: Files, output: OutFile, device: Device = "auto") -> None:
    """Write the probability of a rise for every event.

    The columns are time, price, p_rise@1 and so on, one a horizon.

    Args:
        run: run folder made by train or run.
        files: files, folders or globs of ticks.
        output: Parquet or CSV file to write.
        device: auto, cpu or cuda.
    """
    from nexttick.learn import run_folder

    check_device(device)
    check_output(output, files)
    run_folder.check_trained(run)
    read = run_folder.read_config(run).recipe.read
    check_inputs(files, read)

    from nexttick.cli import screen
    from nexttick.learn.epochs import pick_device
    from nexttick.ticks.reading.long import open_stream
    from nexttick.ticks.writing import write_chunks

    predictor, _ = run_folder.load_trained(run, str(pick_device(device)))
    stream = open_stream(files, outliers=read.outliers)
    chunks: Iterable[pl.DataFrame]
    if stream is None:
        table, set_aside = read_named(files, read)
        chunks = [table]
    else:
        chunks = stream.chunks()
    counted = _Counted(predictor.model.context)
    write_chunks(counted.over(predictor.predict_chunks(chunks)), output)
    screen.show_set_aside(stream.ledger.table() if stream else set_aside)
    screen.say(
        f"{counted.events:,} events in {output}, {counted.without:,} of them without enough history"
    )


@dataclass
class _Counted:
    """Predictions on their way to a file: how many, and how many without enough history."""

    context: int
    events: int = 0
    without: int = 0

    def over(self, tables: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        from nexttick.ticks.record import TickError

        for table in tables:
            self.events += len(table)
            self.without += table[table.columns[-1]].null_count()
            yield table
        if self.without == self.events:
            raise TickError(
                f"{self.events} events are fewer than the {self.context} that one prediction looks "
                f"at: give more ticks"
            )


def _train(
    files: Sequence[str], recipe: Recipe, output: OutputOptions, *, tested: bool
) -> tuple[Path, Prepared, Predictor]:
    from nexttick.learn import run_folder

    files, recipe = _resumed(files, recipe, output) if output.resume else (files, recipe)
    validate(recipe)
    check_device(recipe.train.device)
    if tested and recipe.split.test == 0:
        raise ValueError("--test 0 leaves nothing to test on: give a share, or use nexttick train")
    if not output.resume:
        run_folder.check_free(output.out, output.overwrite)
    check_inputs(files, recipe.read)

    from nexttick.cli import screen
    from nexttick.learn.epochs import pick_device
    from nexttick.learn.train import check_parts, fresh_network, train_network

    network = fresh_network(recipe)
    device = pick_device(recipe.train.device)
    prepared, set_aside = _prepared(files, recipe, output.out)
    if not output.quiet:
        screen.show_set_aside(set_aside)
    check_parts(prepared, network.context, tested=tested)
    config = run_folder.RunConfig(recipe, tuple(files), prepared.data_hash)
    folder = open_folder(output, run_folder.name_of(recipe.model.name, files), config)
    if not output.resume:
        run_folder.write_log(folder, [])
    with (
        _kept_if_begun(folder),
        screen.Training(prepared, recipe.train.epochs, str(device), output.quiet) as progress,
    ):

        def on_epoch(record: run_folder.EpochRecord) -> None:
            progress.records.append(record)
            run_folder.write_log(folder, progress.records)
            progress.show_epoch(record)

        checkpoint = folder / run_folder.CHECKPOINT
        predictor = train_network(
            prepared, recipe, checkpoint, on_epoch, progress.show_step, network
        )
    if predictor.provenance["stopped"]:
        screen.say(
            f"Stopped in epoch {len(progress.records) + 1}: "
            f"what follows is of the best epoch until then"
        )
    return folder, prepared, predictor


def _prepared(
    files: Sequence[str], recipe: Recipe, out: Path | None, predictor: Predictor | None = None
) -> tuple[Prepared, pl.DataFrame]:
    """Ticks read and prepared, and what was set aside of them.

    Arrays of a long history, larger than memory, lie in files beside the run folder.
    """
    from nexttick.learn.run_folder import RUNS
    from nexttick.prepare.dataset import prepare_ticks
    from nexttick.prepare.on_disk import OnDisk
    from nexttick.ticks.reading.long import open_stream

    stream = open_stream(files, outliers=recipe.read.outliers)
    if stream is None:
        table, set_aside = read_named(files, recipe.read)
        return prepare_ticks(table, recipe, predictor), set_aside
    folder = out.absolute().parent if out is not None else RUNS
    folder.mkdir(parents=True, exist_ok=True)
    prepared = prepare_ticks(stream.chunks(), recipe, predictor, OnDisk(folder))
    return prepared, stream.ledger.table()


@contextmanager
def _kept_if_begun(folder: Path) -> Iterator[None]:
    """Remove the folder again where the training ends before its first checkpoint.

    A training that diverges leaves its folder, for its configuration.
    """
    from nexttick.learn import run_folder
    from nexttick.learn.epochs import DivergenceError

    try:
        yield
    except DivergenceError:
        raise
    except BaseException:
        if not (folder / run_folder.CHECKPOINT).exists():
            run_folder.discard(folder)
        raise


def open_folder(output: OutputOptions, name: str, config: RunConfig) -> Path:
    """The new run's folder, or the old one's where it goes on."""
    from nexttick.learn import run_folder

    if not (output.resume and output.out is not None):
        return run_folder.create(output.out, name, output.overwrite, config)
    if run_folder.read_config(output.out).data_hash != config.data_hash:
        raise ValueError(f"the files of {output.out} hold other ticks than when it was started")
    return output.out


def _resumed(
    files: Sequence[str], recipe: Recipe, output: OutputOptions
) -> tuple[Sequence[str], Recipe]:
    """Files and recipe of the run that goes on; what the command line says must not differ."""
    from nexttick.learn import run_folder

    if output.out is None:
        raise ValueError("--resume needs --out: which run shall go on?")
    if output.overwrite:
        raise ValueError("--resume goes on with a run, --overwrite replaces it: give one of them")
    config = run_folder.read_config(output.out)
    if (output.out / "predictor").exists():
        raise ValueError(
            f"{output.out} is trained, there is nothing to resume; test it with: "
            f"nexttick test {output.out} FILE…"
        )
    if recipe not in (Recipe(), config.recipe):
        raise ValueError(
            f"--resume goes on with the recipe in {output.out / 'config.json'}, and the options "
            f"given here differ from it: leave them out, or start a new run"
        )
    if files and tuple(files) != config.files:
        raise ValueError(f"--resume goes on with {', '.join(config.files)}: name no other files")
    return config.files, config.recipe


def _first_unseen(prepared: Prepared, predictor: Predictor) -> int:
    """The first event after the time that training and validation saw."""
    import numpy as np

    from nexttick.cli import screen
    from nexttick.ticks.record import TickError

    time_ns = prepared.events["time"].to_numpy()
    first_ns, last_ns = predictor.provenance["first_ns"], predictor.provenance["last_ns"]
    if time_ns[-1] < first_ns:
        return 0
    begin = int(np.searchsorted(time_ns, last_ns, side="right"))
    if begin == len(time_ns):
        raise TickError(
            f"all {begin} events lie in the time that training saw: give later ticks, or --seen "
            f"if they are another market's"
        )
    if begin > 0:
        screen.say(f"{begin:,} events from the time that training saw are not scored (--seen does)")
    return begin
