"""What run, train, test and predict do: the steps of the main job, printed by `screen`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from nexttick.checks import validate
from nexttick.cli import screen, screen_scores
from nexttick.cli.ticks import check_output, read_named
from nexttick.judge import held_out
from nexttick.judge.held_out import judge
from nexttick.learn import run_folder
from nexttick.learn.baselines import fit_on_training
from nexttick.learn.epochs import DivergenceError, pick_device
from nexttick.learn.predictor.predictor import Predictor
from nexttick.learn.train import check_parts, fresh_network, train_network
from nexttick.options import OutputOptions, Recipe
from nexttick.prepare.dataset import Prepared, prepare_ticks
from nexttick.prepare.on_disk import OnDisk
from nexttick.ticks.reading.long import open_stream
from nexttick.ticks.record import TickError
from nexttick.ticks.writing import write_chunks


def run(files: Sequence[str], recipe: Recipe, output: OutputOptions) -> None:
    """`nexttick run`: train, test on the last part, write everything to the run folder."""
    folder, prepared, predictor = _train(files, recipe, output, tested=True)
    fitted = fit_on_training(prepared)
    run_folder.save_trained(folder, predictor, fitted)
    tested = judge(predictor, fitted, prepared, prepared.split.test)
    held_out.write_test(folder, tested, _data_report(prepared, prepared.split.test))
    screen_scores.show_test(tested)
    screen.say(f"Everything is in {folder}")


def train(files: Sequence[str], recipe: Recipe, output: OutputOptions) -> None:
    """`nexttick train`: train only, the test part stays unseen."""
    folder, prepared, predictor = _train(files, recipe, output, tested=False)
    run_folder.save_trained(folder, predictor, fit_on_training(prepared))
    screen.say(f"The predictor is in {folder}; test it with: nexttick test {folder} FILE…")


def test(
    run: Path, files: Sequence[str], out: Path | None, *, seen: bool, overwrite: bool, device: str
) -> None:
    """`nexttick test`: score a trained network on events after the time that training saw."""
    _check_test_folder(out, overwrite)
    predictor, fitted = run_folder.load_trained(run, str(pick_device(device)))
    config = run_folder.read_config(run)
    prepared = _prepared_for(predictor, files, config.recipe, out)
    begin = 0 if seen else _first_unseen(prepared, predictor)
    tested = judge(predictor, fitted, prepared, begin)
    if out is not None:
        source = run_folder.RunConfig(config.recipe, tuple(files), prepared.data_hash)
        folder = run_folder.create(out, out.name, overwrite, source)
        held_out.write_test(folder, tested, _data_report(prepared, begin))
    screen_scores.show_test(tested)


def predict(run: Path, files: Sequence[str], output: Path, *, device: str) -> None:
    """`nexttick predict`: a probability for every event and horizon."""
    check_output(output, files)
    predictor, _ = run_folder.load_trained(run, str(pick_device(device)))
    read = run_folder.read_config(run).recipe.read
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
        for table in tables:
            self.events += len(table)
            self.without += table[table.columns[-1]].null_count()
            yield table
        if self.without == self.events:
            raise TickError(
                f"{self.events} events are fewer than the {self.context} that one prediction looks "
                f"at: give more ticks"
            )


def _check_test_folder(out: Path | None, overwrite: bool) -> None:
    """A test may replace an earlier test, never what was trained."""
    run_folder.check_free(out, overwrite)
    if out is not None and any(
        (out / name).exists() for name in ("predictor", run_folder.CHECKPOINT)
    ):
        raise ValueError(f"{out} holds a training run: give the test another --out")


def _train(
    files: Sequence[str], recipe: Recipe, output: OutputOptions, *, tested: bool
) -> tuple[Path, Prepared, Predictor]:
    files, recipe = _resumed(files, recipe, output) if output.resume else (files, recipe)
    validate(recipe)
    network = fresh_network(recipe)
    if tested and recipe.split.test == 0:
        raise ValueError("--test 0 leaves nothing to test on: give a share, or use nexttick train")
    device = pick_device(recipe.train.device)
    if not output.resume:
        run_folder.check_free(output.out, output.overwrite)
    prepared = _prepared(files, recipe, output)
    check_parts(prepared, network.context, tested=tested)
    folder = _folder(files, recipe, output, prepared.data_hash)
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


def _prepared(files: Sequence[str], recipe: Recipe, output: OutputOptions) -> Prepared:
    """Ticks read and prepared, a long history in files beside the run folder."""
    stream = open_stream(files, outliers=recipe.read.outliers)
    if stream is None:
        table, set_aside = read_named(files, recipe.read)
        prepared = prepare_ticks(table, recipe)
    else:
        prepared = prepare_ticks(stream.chunks(), recipe, on_disk=_room(output.out))
        set_aside = stream.ledger.table()
    if not output.quiet:
        screen.show_set_aside(set_aside)
    return prepared


def _prepared_for(
    predictor: Predictor, files: Sequence[str], recipe: Recipe, out: Path | None
) -> Prepared:
    """The same for a test."""
    stream = open_stream(files, outliers=recipe.read.outliers)
    if stream is None:
        return prepare_ticks(read_named(files, recipe.read)[0], recipe, predictor)
    return prepare_ticks(stream.chunks(), recipe, predictor, _room(out))


def _room(out: Path | None) -> OnDisk:
    """Where arrays larger than memory lie: beside the run folder."""
    folder = out.absolute().parent if out is not None else run_folder.RUNS
    folder.mkdir(parents=True, exist_ok=True)
    return OnDisk(folder)


@contextmanager
def _kept_if_begun(folder: Path) -> Iterator[None]:
    """Remove the folder again where the training ends before its first checkpoint.

    A training that diverges leaves its folder, for its configuration.
    """
    try:
        yield
    except DivergenceError:
        raise
    except BaseException:
        if not (folder / run_folder.CHECKPOINT).exists():
            run_folder.discard(folder)
        raise


def _folder(files: Sequence[str], recipe: Recipe, output: OutputOptions, data_hash: str) -> Path:
    """The new run's folder, or the old one's where it goes on."""
    if output.resume and output.out is not None:
        if run_folder.read_config(output.out).data_hash != data_hash:
            raise ValueError(f"the files of {output.out} hold other ticks than when it was started")
        return output.out
    config = run_folder.RunConfig(recipe, tuple(files), data_hash)
    name = run_folder.name_of(recipe.model.name, files)
    folder = run_folder.create(output.out, name, output.overwrite, config)
    run_folder.write_log(folder, [])
    return folder


def _resumed(
    files: Sequence[str], recipe: Recipe, output: OutputOptions
) -> tuple[Sequence[str], Recipe]:
    """Files and recipe of the run that goes on; what the command line says must not differ."""
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


def _data_report(prepared: Prepared, begin: int) -> dict[str, object]:
    """What `metrics.json` says of the data."""
    events, labels, split = prepared.events, prepared.labels, prepared.split
    return {
        "hash": prepared.data_hash,
        "ticks": int(events["count"].sum()),
        "events": len(events),
        "segments": len(prepared.starts),
        "max_gap_s": prepared.spec.max_gap_ns / 1e9,
        "train_events": split.valid,
        "valid_events": split.test - split.valid,
        "test_events": len(events) - begin,
        "first_ns": events["time"][0],
        "test_from_ns": events["time"][begin],
        "last_ns": events["time"][-1],
        "ties": {
            name: float(labels.tie_NH[begin:, h].mean()) for h, name in enumerate(labels.names)
        },
    }
