"""Every entry of the zoo trains on ticks, is saved and loaded, and steps as it predicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from torch import nn

from helpers.console import TINY, done, refused, strict_json
from helpers.markets import S_NS, simulated_ticks, tiny_recipe
from nexttick.learn.predictor.predictor import Predictor
from nexttick.learn.predictor.stepper import Stepper
from nexttick.learn.train import train_network
from nexttick.networks.models import MODELS
from nexttick.options import ModelOptions, Recipe
from nexttick.prepare.dataset import prepare_ticks
from nexttick.prepare.events import merge_events
from nexttick.prepare.features import EVENT
from nexttick.ticks.writing import write_table

ENTRIES = [(kind, arch) for kind, archs in MODELS.items() for arch in archs]
OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, options, num_features, num_horizons):
        super().__init__()
        self.linear = nn.Linear(options.sequence_length * num_features, num_horizons)

    def forward(self, x_BLF):
        return self.linear(x_BLF.flatten(1))
"""


pytestmark = pytest.mark.usefixtures("one_thread")


def market(n: int = 700) -> pl.DataFrame:
    """Simulated ticks with a gap near the end."""
    late = (pl.col("id") >= n - 60).cast(pl.Int64) * 3600 * S_NS
    return simulated_ticks(n).with_columns(time=pl.col("time") + late)


def recipe_of(kind: str, arch: str, epochs: int = 1) -> Recipe:
    model = ModelOptions(
        kind, arch, num_layers=2, hidden_size=8, sequence_length=12, bins=2, kernel_size=3
    )
    return replace(tiny_recipe(kind, epochs=epochs), model=model)


def stepped(predictor: Predictor, ticks: pl.DataFrame) -> np.ndarray:
    stepper, answers = Stepper(predictor, "torch"), []
    for event in merge_events(ticks).select(EVENT).iter_rows():
        answer = stepper.step(event)
        answers.append(np.full(len(predictor.horizons), np.nan) if answer is None else answer)
    return np.array(answers, np.float32)


def predicted(predictor: Predictor, ticks: pl.DataFrame) -> np.ndarray:
    table = predictor.predict(ticks).drop("time", "price")
    return table.fill_null(np.nan).to_numpy().astype(np.float32)


@pytest.mark.parametrize(("kind", "arch"), ENTRIES)
def test_trained_saved_loaded_and_stepped_the_numbers_are_the_same(
    kind: str, arch: str, tmp_path: Path
) -> None:
    recipe, ticks = recipe_of(kind, arch), market()
    predictor = train_network(prepare_ticks(ticks, recipe), recipe)
    p_NH = predicted(predictor, ticks)
    assert np.isfinite(p_NH).any()
    assert np.nanstd(p_NH, axis=0).min() > 0
    np.testing.assert_allclose(stepped(predictor, ticks), p_NH, atol=1e-5)
    predictor.save(tmp_path / "predictor")
    loaded = Predictor.load(tmp_path / "predictor")
    assert np.array_equal(predicted(loaded, ticks), p_NH, equal_nan=True)


def test_a_condensed_network_leaves_training_with_grouped_convolutions() -> None:
    recipe = recipe_of("cnn", "condense", epochs=4)
    model = train_network(prepare_ticks(market(), recipe), recipe).model
    kinds = [type(module).__name__ for module in model.modules()]
    assert "LearnedGroupConv" not in kinds
    assert kinds.count("CondensedConv") == 2
    grouped = [m for m in model.modules() if isinstance(m, nn.Conv1d) and m.groups == 4]
    assert len(grouped) == 4


def test_the_command_takes_an_architecture(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(market(), "ticks.csv")
    done("run", "ticks.csv", *TINY, "--type", "rnn", "--arch", "gru")
    run = tmp_path / "runs" / "rnn-gru-ticks"
    written = strict_json((run / "predictor" / "predictor.json").read_text())
    assert (written["model"]["type"], written["model"]["arch"]) == ("rnn", "gru")
    assert "GRU" in done("describe", run).out


def test_the_command_takes_a_network_of_ones_own(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    (tmp_path / "nets_of_mine.py").write_text(OWN)
    write_table(market(), "ticks.csv")
    done("run", "ticks.csv", *TINY, "--type", "nets_of_mine:Net")
    run = tmp_path / "runs" / "nets_of_mine.Net-ticks"
    done("predict", run, "ticks.csv", "-o", "p.parquet")
    assert pl.read_parquet("p.parquet")["p_rise@1"].null_count() == 14  # two segments
    assert "window is computed by itself" in done("describe", run).out


def test_a_network_that_cannot_be_built_is_refused_before_ticks_are_read(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.csv"
    assert "give at least 17" in refused(
        "run", nowhere, "--arch", "residual", "--sequence-length", 16
    )
    # Whether a file exists is told first, without torch; what it holds is not looked at before.
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    assert "cannot be imported" in refused("run", empty, "--type", "nowhere_at_all:Net")
