"""Train a network on ticks, test it, ask it for predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from nexttick.checks import check_device, validate
from nexttick.cli import arguments, screen, screen_scores
from nexttick.cli.arguments import Device, Files, Flag, OutFile, Output, RunFolder, words
from nexttick.cli.ticks import check_inputs, check_output, read_named
from nexttick.learn import run_folder
from nexttick.options import EvaluateOptions, EvaluationRecipe, OutputOptions, Recipe

if TYPE_CHECKING:
    import polars as pl

    from nexttick.learn.baselines import Fitted
    from nexttick.learn.predictor.predictor import Predictor
    from nexttick.prepare.dataset import Prepared


def run(
    files: Files = (), recipe: arguments.Recipe = Recipe(), output: Output = OutputOptions()
) -> None:
    """Train on files of ticks, test on the last part, write predictions.

    Args:
        files: files, folders or globs of ticks.
    """
    folder, prepared, predictor, fitted = _train(files, recipe, output, tested=True)
    from nexttick.judge import held_out

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
    folder, *_ = _train(files, recipe, output, tested=False)
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
    check_device(device)
    run_folder.check_free(out, overwrite)
    # A test may replace an earlier test, never what was trained.
    trained = ("predictor", run_folder.CHECKPOINT)
    if out is not None and any((out / name).exists() for name in trained):
        raise ValueError(f"{out} holds a training run: give the test another --out")
    run_folder.check_trained(run)
    config = run_folder.read_config(run)
    check_inputs(files, config.recipe.read)

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
    check_device(device)
    check_output(output, files)
    run_folder.check_trained(run)
    read = run_folder.read_config(run).recipe.read
    check_inputs(files, read)

    from nexttick.learn.epochs import pick_device
    from nexttick.ticks.reading.long import open_stream
    from nexttick.ticks.record import TickError
    from nexttick.ticks.writing import write_chunks

    predictor, _ = run_folder.load_trained(run, str(pick_device(device)))
    events = without = 0

    def counted(tables: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        nonlocal events, without
        for table in tables:
            events += len(table)
            without += table[table.columns[-1]].null_count()
            yield table
        if without == events:
            raise TickError(
                f"{events} events are fewer than the {predictor.model.context} that one "
                f"prediction looks at: give more ticks"
            )

    stream = open_stream(files, outliers=read.outliers)
    chunks: Iterable[pl.DataFrame]
    if stream is None:
        table, set_aside = read_named(files, read)
        chunks = [table]
    else:
        chunks = stream.chunks()
    write_chunks(counted(predictor.predict_chunks(chunks)), output)
    screen.show_set_aside(stream.ledger.table() if stream else set_aside)
    screen.say(f"{events:,} events in {output}, {without:,} of them without enough history")


def _train(
    files: Sequence[str], recipe: Recipe, output: OutputOptions, *, tested: bool
) -> tuple[Path, Prepared, Predictor, Fitted]:
    if output.resume:
        config = resumed(EvaluationRecipe(recipe, files=tuple(files)), output, "run")
        files, recipe = config.files, config.recipe
    validate(recipe)
    check_device(recipe.train.device)
    if tested and recipe.split.test == 0:
        raise ValueError("--test 0 leaves nothing to test on: give a share, or use nexttick train")
    if not output.resume:
        run_folder.check_free(output.out, output.overwrite)
    check_inputs(files, recipe.read)

    from nexttick.learn.baselines import fit_on_training
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
    checkpoint = folder / run_folder.CHECKPOINT
    if not output.resume:
        run_folder.write_log(folder, [])
    progress = screen.Training(prepared, recipe.train.epochs, str(device), output.quiet)

    def on_epoch(record: run_folder.EpochRecord) -> None:
        progress.records.append(record)
        run_folder.write_log(folder, progress.records)
        progress.show_epoch(record)

    with _kept_if_begun(folder), progress:
        predictor = train_network(
            prepared, recipe, checkpoint, on_epoch, progress.show_step, network
        )
    if predictor.provenance["stopped"]:
        screen.say(
            f"Stopped in epoch {len(progress.records) + 1}: "
            f"what follows is of the best epoch until then"
        )
    fitted = fit_on_training(prepared)
    run_folder.save_trained(folder, predictor, fitted)
    return folder, prepared, predictor, fitted


@contextmanager
def _kept_if_begun(folder: Path) -> Iterator[None]:
    """Remove the folder again where the training ends before its first checkpoint.

    A training that diverges leaves its folder, for its configuration.
    """
    from nexttick.learn.epochs import DivergenceError

    try:
        yield
    except DivergenceError:
        raise
    except BaseException:
        if not (folder / run_folder.CHECKPOINT).exists():
            run_folder.discard(folder)
        raise


def _prepared(
    files: Sequence[str], recipe: Recipe, out: Path | None, predictor: Predictor | None = None
) -> tuple[Prepared, pl.DataFrame]:
    """Ticks read and prepared, and what was set aside of them.

    Arrays of a long history, larger than memory, lie in files beside the run folder.
    """
    from nexttick.prepare.dataset import prepare_ticks
    from nexttick.prepare.on_disk import OnDisk
    from nexttick.ticks.reading.long import open_stream

    stream = open_stream(files, outliers=recipe.read.outliers)
    if stream is None:
        table, set_aside = read_named(files, recipe.read)
        return prepare_ticks(table, recipe, predictor), set_aside
    folder = out.absolute().parent if out is not None else run_folder.RUNS
    folder.mkdir(parents=True, exist_ok=True)
    prepared = prepare_ticks(stream.chunks(), recipe, predictor, OnDisk(folder))
    return prepared, stream.ledger.table()


def open_folder(output: OutputOptions, name: str, config: run_folder.RunConfig) -> Path:
    """The new run's folder, or the old one's where it goes on."""
    if not (output.resume and output.out is not None):
        return run_folder.create(output.out, name, output.overwrite, config)
    if run_folder.read_config(output.out).data_hash != config.data_hash:
        raise ValueError(f"the files of {output.out} hold other ticks than when it was started")
    return output.out


def resumed(given: EvaluationRecipe, output: OutputOptions, what: str) -> run_folder.RunConfig:
    """What the run or evaluation that goes on is of; what is given here must not differ."""
    if output.out is None:
        raise ValueError(f"--resume needs --out: which {what} shall go on?")
    if output.overwrite:
        raise ValueError("--resume goes on with a run, --overwrite replaces it: give one of them")
    config = run_folder.read_config(output.out)
    if (what == "evaluation") != (config.evaluate is not None):
        command = "run" if what == "evaluation" else "evaluate"
        raise ValueError(f"{output.out} is no {what}: go on with it by nexttick {command} --resume")
    if (output.out / "predictor").exists():
        raise ValueError(
            f"{output.out} is trained, there is nothing to resume; test it with: "
            f"nexttick test {output.out} FILE…"
        )
    kept = EvaluationRecipe(config.recipe, config.evaluate or EvaluateOptions(), given.files)
    if given not in (EvaluationRecipe(files=given.files), kept):
        raise ValueError(
            f"--resume goes on with the recipe in {output.out / 'config.json'}, and the options "
            f"given here differ from it: leave them out, or start a new {what}"
        )
    if given.files not in ((), config.files):
        raise ValueError(f"--resume goes on with {', '.join(config.files)}: name no other files")
    return config


def _first_unseen(prepared: Prepared, predictor: Predictor) -> int:
    """The first event after the time that training and validation saw."""
    import numpy as np

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
