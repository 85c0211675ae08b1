"""From ticks to the test: nothing that decides anything has seen anything later."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from helpers.markets import (
    FINITE_TAMPERINGS,
    S_NS,
    random_ticks,
    simulated_ticks,
    tampered,
    tiny_recipe,
)
from nexttick.learn.checkpoint import EpochRecord
from nexttick.learn.epochs import Step
from nexttick.learn.predictor.predictor import Predictor
from nexttick.learn.train import train_network, training_data
from nexttick.networks.models import MODELS
from nexttick.options import EventOptions, LabelOptions, Recipe, SplitOptions
from nexttick.prepare.dataset import Prepared, prepare_ticks, resolve_max_gap_ns
from nexttick.prepare.labels import MISSING
from nexttick.ticks.gaps import usual_max_gap_ns
from nexttick.ticks.record import TickError, fingerprint

N = 1200
every_kind = pytest.mark.parametrize("kind", MODELS)
TIMING = ("ticks_per_s", "seconds")
Weights = dict[str, torch.Tensor]


pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def market() -> pl.DataFrame:
    """Simulated ticks, each an event of its own, with three gaps, one in each part."""
    ticks = simulated_ticks(N)
    gaps = sum((pl.col("id") >= row).cast(pl.Int64) for row in (300, 900, 1100))
    return ticks.with_columns(time=pl.col("time") + gaps * 3600 * S_NS)


def trained(ticks: pl.DataFrame, recipe: Recipe) -> tuple[Prepared, Predictor, list[dict]]:
    """A training, and its records without their times."""
    records: list[EpochRecord] = []
    prepared = prepare_ticks(ticks, recipe)
    predictor = train_network(prepared, recipe, on_epoch=records.append)
    told = [{k: v for k, v in asdict(one).items() if k not in TIMING} for one in records]
    return prepared, predictor, told


def assert_equal_weights(a: Weights, b: Weights) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def assert_equally_prepared(a: Prepared, b: Prepared) -> None:
    assert a.spec == b.spec
    assert a.split == b.split
    np.testing.assert_array_equal(a.scaler.mean, b.scaler.mean)
    np.testing.assert_array_equal(a.scaler.scale, b.scaler.scale)


# No peeking


@pytest.mark.parametrize("how", FINITE_TAMPERINGS)
@every_kind
def test_the_test_part_moves_nothing_that_is_trained(kind: str, how: str) -> None:
    recipe = tiny_recipe(kind)
    prepared, predictor, records = trained(market(), recipe)
    other, others, retold = trained(tampered(market(), prepared.split.test, how), recipe)
    assert other.data_hash != prepared.data_hash
    assert_equally_prepared(prepared, other)
    assert retold == records
    assert_equal_weights(predictor.model.state_dict(), others.model.state_dict())
    assert others.provenance | {"data_hash": prepared.data_hash} == predictor.provenance


@pytest.mark.parametrize("how", FINITE_TAMPERINGS)
@every_kind
def test_the_validation_part_moves_neither_scaler_nor_steps(
    kind: str, how: str, tmp_path: Path
) -> None:
    """It may choose the epoch, and that is all: the weights after each epoch are the same."""
    recipe = tiny_recipe(kind, epochs=2)
    split = prepare_ticks(market(), recipe).split
    checkpoints, losses = [], []
    for name, ticks in (("a", market()), ("b", tampered(market(), split.valid, how))):
        prepared = prepare_ticks(ticks, recipe)
        records: list[EpochRecord] = []
        train_network(prepared, recipe, tmp_path / name, records.append)
        checkpoints.append((prepared, load_file(tmp_path / name)))
        losses.append([record.valid_loss for record in records])
    assert losses[0] != losses[1]
    assert_equally_prepared(checkpoints[0][0], checkpoints[1][0])
    for part in ("model.", "average.", "adam."):
        stepped = [
            {name: value for name, value in weights.items() if name.startswith(part)}
            for _, weights in checkpoints
        ]
        assert stepped[0]
        assert_equal_weights(stepped[0], stepped[1])


def test_the_training_part_does_move_the_weights() -> None:
    """Else the two tests above would say nothing."""
    recipe = tiny_recipe()
    prepared, predictor, _ = trained(market(), recipe)
    other, others, _ = trained(tampered(market(), prepared.split.valid - 100, "noise"), recipe)
    weights, moved = (one.model.state_dict()["head.weight"] for one in (predictor, others))
    assert not torch.equal(weights, moved)
    assert not np.array_equal(prepared.scaler.mean, other.scaler.mean)


def test_trained_rows_and_labels_lie_in_their_part() -> None:
    recipe = tiny_recipe()
    prepared = prepare_ticks(market(), recipe)
    model = train_network(prepared, replace(recipe, train=replace(recipe.train, epochs=1))).model
    data = training_data(prepared, model, torch.device("cpu"))
    split = prepared.split
    known_at = prepared.labels.known_at_NH
    for y_NH, ranges, start, stop in (
        (data.train_y_NH.numpy(), data.train, 0, split.valid),
        (data.valid_y_NH.numpy(), data.valid, split.valid, split.test),
    ):
        rows, _ = np.nonzero(y_NH != MISSING)
        assert start <= rows.min() <= rows.max() < stop
        assert (known_at[y_NH != MISSING] < stop).all()
        assert all(start <= first < last <= stop for first, last in ranges)


# Preparing


def test_events_features_labels_and_parts_fit_together() -> None:
    recipe = replace(tiny_recipe(), events=EventOptions(max_gap="10m"))
    prepared = prepare_ticks(market(), recipe)
    assert len(prepared.events) == len(prepared.features_NF) == len(prepared.labels.y_NH) == N
    assert prepared.features_NF.shape[1] == len(prepared.spec.names)
    assert prepared.labels.names == ("rise@1", "rise@5", "rise@5s", "rise@move")
    assert prepared.starts.tolist() == [0, 300, 900, 1100]
    assert (prepared.split.valid, prepared.split.test, prepared.split.end) == (840, 960, N)
    scaled = prepared.scaler(prepared.features_NF[:840])
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-3)


def test_raw_ticks_are_kept_apart_when_told() -> None:
    ticks = random_ticks(1, 400)
    recipe = replace(tiny_recipe(), events=EventOptions(raw_ticks=True))
    assert len(prepare_ticks(ticks, recipe).events) == 400
    assert len(prepare_ticks(ticks, tiny_recipe()).events) < 400


def test_the_gap_is_told_or_found_in_the_training_part() -> None:
    recipe = tiny_recipe()
    time_ns = market()["time"].to_numpy()
    assert prepare_ticks(market(), recipe).spec.max_gap_ns == usual_max_gap_ns(time_ns[:840])
    told = replace(recipe, events=EventOptions(max_gap="2h"))
    assert prepare_ticks(market(), told).spec.max_gap_ns == 7200 * S_NS
    assert prepare_ticks(market(), told).starts.tolist() == [0]
    with pytest.raises(ValueError, match="--max-gap 'long'"):
        resolve_max_gap_ns(time_ns, "long")


@pytest.mark.parametrize("name", ["time", "price", "amount", "side"])
def test_the_fingerprint_tells_any_change(name: str) -> None:
    ticks = random_ticks(1)
    assert fingerprint(ticks) == fingerprint(ticks.clone())
    more = pl.when(pl.int_range(pl.len()) == 7).then(1).otherwise(0).cast(ticks.schema[name])
    other = ticks.with_columns(pl.col(name) + more)
    assert fingerprint(other) != fingerprint(ticks)


def test_prepared_for_a_predictor_nothing_is_fitted_again() -> None:
    recipe = tiny_recipe(epochs=1)
    _, predictor, _ = trained(market(), recipe)
    other = prepare_ticks(random_ticks(2, 300), recipe, predictor)
    assert other.scaler is predictor.scaler
    assert other.spec == predictor.spec
    assert (other.split.valid, other.split.test) == (0, 0)
    assert other.split.end == len(other.events) == len(other.features_NF)
    assert other.labels.names == predictor.horizons


# What cannot be trained on


def test_too_few_ticks_are_refused_with_the_cure() -> None:
    with pytest.raises(TickError, match="give more ticks or a shorter --sequence-length"):
        prepare_ticks(market()[:30], tiny_recipe())


def test_a_price_that_never_changes_is_refused() -> None:
    still = market().with_columns(
        price=pl.when(pl.col("id") < 900).then(pl.lit(5.0)).otherwise(pl.col("price"))
    )
    with pytest.raises(TickError, match="all 840 prices of the training part are 5"):
        prepare_ticks(still, tiny_recipe())


@pytest.mark.parametrize("horizons", [("1000",), ("1", "1000"), ("1", "9h")])
def test_a_horizon_without_a_known_label_is_refused(horizons: tuple[str, ...]) -> None:
    recipe = replace(tiny_recipe(), labels=LabelOptions(horizons))
    with pytest.raises(TickError, match=f"rise@{horizons[-1]}.*shorter.*--horizon"):
        train_network(prepare_ticks(market(), recipe), recipe)


def test_segments_shorter_than_a_window_are_refused() -> None:
    time_ns = np.arange(N) * S_NS + np.arange(N) // 7 * 7200 * S_NS
    recipe = replace(tiny_recipe(), events=EventOptions(max_gap="1h"))
    prepared = prepare_ticks(market().with_columns(time=time_ns), recipe)
    with pytest.raises(TickError, match="no event of the training part has 8 events of history"):
        train_network(prepared, recipe)


# Training


@every_kind
def test_the_predictor_says_where_it_comes_from(kind: str) -> None:
    recipe = tiny_recipe(kind, epochs=1)
    prepared, predictor, _ = trained(market(), recipe)
    assert predictor.horizons == prepared.labels.names
    assert predictor.scaler is prepared.scaler
    told = predictor.provenance
    assert told["data_hash"] == fingerprint(market())
    assert (told["first_ns"], told["last_ns"]) == (market()["time"][0], market()["time"][959])
    assert told["epochs"] == 1
    assert told["recipe"]["model"]["type"] == kind


@every_kind
def test_the_same_recipe_gives_the_same_predictor(kind: str) -> None:
    runs = [trained(market(), tiny_recipe(kind, seed=seed))[1:] for seed in (1, 1, 2)]
    assert runs[0][1] == runs[1][1] != runs[2][1]
    assert_equal_weights(runs[0][0].model.state_dict(), runs[1][0].model.state_dict())
    assert not torch.equal(
        runs[0][0].model.state_dict()["head.weight"], runs[2][0].model.state_dict()["head.weight"]
    )


def test_ctrl_c_keeps_the_best_weights_once_there_is_an_epoch() -> None:
    recipe = tiny_recipe(epochs=4)
    prepared = prepare_ticks(market(), recipe)

    def stop(record: EpochRecord) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    interrupted = train_network(prepared, recipe, on_epoch=stop)
    two = train_network(prepared, replace(recipe, train=replace(recipe.train, epochs=2)))
    assert interrupted.provenance["epochs"] == 2
    assert_equal_weights(interrupted.model.state_dict(), two.model.state_dict())


def test_ctrl_c_before_the_first_epoch_ends_without_a_predictor() -> None:
    def stop(step: Step) -> None:
        raise KeyboardInterrupt

    recipe = tiny_recipe()
    with pytest.raises(KeyboardInterrupt):
        train_network(prepare_ticks(market(), recipe), recipe, on_step=stop)


def test_a_run_without_a_test_part_trains() -> None:
    recipe = replace(tiny_recipe(epochs=1), split=SplitOptions(valid=0.2, test=0.0))
    _, predictor, records = trained(market(), recipe)
    assert len(records) == 1
    assert predictor.provenance["last_ns"] == market()["time"][-1]
