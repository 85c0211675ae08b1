"""The stepper: the numbers of `predict` for every network, across gaps, kills and restarts."""

from __future__ import annotations

import builtins
import threading
import tracemalloc
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load, save
from torch import nn

from helpers.markets import GAP_NS, S_NS, few, quick, random_events, seeds
from helpers.stepping import (
    CURVES,
    ENTRIES,
    OWN,
    as_rows,
    event_rows,
    name_of,
    predicted,
    seasoned,
    variants,
)
from nexttick.learn.predictor.compiled import compiling, machine
from nexttick.learn.predictor.compiled.compiling import NoProgramError, compile_predictor
from nexttick.learn.predictor.predictor import Predictor
from nexttick.learn.predictor.stepper import Stepper
from nexttick.networks.models.cnn import CNN
from nexttick.options import ModelOptions
from nexttick.prepare.events import merge_events
from nexttick.ticks.reading.read import read_ticks

# Windows are computed by a graph, which takes a second to draw: once is enough here.
STEPPED = [o for o in variants() if o.arch != "fcn" or o.bins == 0]
VARIANTS = [pytest.param(options, id=name_of(options)) for options in STEPPED]
every_variant = pytest.mark.parametrize("options", VARIANTS)
SMALL = ModelOptions("cnn", hidden_size=6, sequence_length=8, kernel_size=3, bins=2)
OWN_NAMES = list(OWN)

pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def predictor_of(options: ModelOptions, curves: str = "none") -> Predictor:
    return seasoned(options, curves)


@cache
def stepper_of(options: ModelOptions, engine: str | None = None) -> Stepper:
    return Stepper(predictor_of(options), engine)


def stepped(stepper: Stepper, events: pl.DataFrame) -> np.ndarray:
    return as_rows([stepper.step(event) for event in event_rows(events)])


def assert_same(p_NH: np.ndarray, q_NH: np.ndarray) -> None:
    assert p_NH.dtype == q_NH.dtype == np.float32
    np.testing.assert_allclose(p_NH, q_NH, rtol=0, atol=1e-5)
    assert np.isfinite(q_NH).any()
    assert np.nanstd(q_NH, axis=0).min() > 1e-3


# The numbers


@every_variant
def test_a_stepper_says_what_predict_says(options: ModelOptions) -> None:
    stepper, events = stepper_of(options), random_events(1, 200, gaps=3)
    stepper.reset()
    assert_same(stepped(stepper, events), predicted(predictor_of(options), events))


@pytest.mark.parametrize(("kind", "arch"), ENTRIES)
def test_every_entry_but_the_windowed_one_is_compiled(kind: str, arch: str) -> None:
    predictor = predictor_of(next(o for o in variants() if (o.type, o.arch) == (kind, arch)))
    if predictor.model.dense:
        compile_predictor(predictor)
    else:
        with pytest.raises(NoProgramError, match="Windowed is no layer"):
            compile_predictor(predictor)


@quick
@given(seeds, st.lists(st.integers(1, 99), max_size=12), st.sampled_from(["cnn", "rnn"]))
def test_gaps_begin_anew_wherever_they_are(seed: int, gaps: list[int], kind: str) -> None:
    options = ModelOptions(kind, hidden_size=6, sequence_length=8, kernel_size=3, bins=2)
    events = random_events(seed, 140, gaps=0)
    more_ns = np.zeros(len(events), np.int64)
    for late, gap in enumerate(gaps):  # some pauses are just longer than the longest that is none
        more_ns[min(gap, len(events) - 1) :] += GAP_NS + late
    events = events.with_columns(time=pl.col("time") + more_ns)
    stepper = stepper_of(options)
    stepper.reset()
    expected = predicted(predictor_of(options), events)
    np.testing.assert_allclose(stepped(stepper, events), expected, atol=1e-5)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.parametrize("curves", CURVES)
def test_every_calibration_is_applied(engine: str, curves: str) -> None:
    predictor, events = predictor_of(SMALL, curves), random_events(7, 150)
    expected = predicted(predictor, events)
    np.testing.assert_allclose(stepped(Stepper(predictor, engine), events), expected, atol=1e-5)
    if curves != "none":
        raw = predicted(predictor_of(SMALL), events)
        assert np.allclose(raw, expected, atol=1e-5, equal_nan=True) == (curves == "unchanged")


@given(st.floats(-120, 120, width=32), st.sampled_from(["lines", "points", "unchanged"]))
@quick
def test_logits_become_the_probabilities_of_the_calibrations(logit: float, curves: str) -> None:
    predictor = predictor_of(SMALL, curves)
    logits_H = np.full(3, logit, np.float32)
    said_H = np.empty(3, np.float32)
    machine._say(logits_H, said_H, compile_predictor(predictor).curves)
    p_H = torch.sigmoid(torch.from_numpy(logits_H)).numpy()
    np.testing.assert_allclose(said_H, predictor.calibrated(p_H[None])[0], atol=2e-5)
    assert ((said_H > 0) & (said_H < 1)).all()


def test_the_machines_tanh_is_numpys() -> None:
    x = np.concatenate([np.linspace(-12, 12, 20_001), [0.0, -1e30, np.inf, -np.inf]])
    said = np.array([machine._tanh(np.float32(one)) for one in x])
    np.testing.assert_allclose(said, np.tanh(x.astype(np.float32).astype(np.float64)), atol=3e-7)
    assert np.isnan(machine._tanh(np.float32(np.nan)))


@pytest.mark.real_ticks
@pytest.mark.parametrize("options", [ModelOptions("cnn"), ModelOptions("rnn")], ids=["cnn", "rnn"])
def test_recorded_ticks(options: ModelOptions, data_dir) -> None:  # type: ignore[no-untyped-def]
    file = sorted((data_dir / "bitflyer").glob("*.csv.gz"))[0]
    events = merge_events(read_ticks([str(file)])[0][:4000])
    assert_same(stepped(stepper_of(options), events), predicted(predictor_of(options), events))


# Networks of one's own, and engines


@pytest.mark.parametrize("name", OWN_NAMES)
def test_a_network_of_ones_own_takes_the_general_path(name: str) -> None:
    options, events = ModelOptions(name, sequence_length=8), random_events(3, 120, gaps=2)
    stepper = stepper_of(options)
    assert "is no layer that the machine knows" in stepper.why
    takes_graph = not name.endswith("Sorting")
    assert stepper.engine.name == ("onnx" if takes_graph else "torch")
    assert ("has no ONNX form" in stepper.why) != takes_graph
    expected = predicted(predictor_of(options), events)
    for engine in (stepper, stepper_of(options, "torch")):
        engine.reset()
        assert_same(stepped(engine, events), expected)


class Louder(CNN):
    """A subclass computes something else."""

    def step(self, x_BF, state):  # type: ignore[no-untyped-def]
        logits, state = super().step(x_BF, state)
        return 2 * logits, state


def test_a_subclass_of_a_known_network_is_not_taken_for_it() -> None:
    predictor = predictor_of(SMALL)
    predictor = Predictor(
        predictor.spec, predictor.scaler, SMALL, predictor.horizons,
        Louder(SMALL, len(predictor.spec.names), 3),
    )  # fmt: skip
    with pytest.raises(NoProgramError, match="Louder is no layer"):
        compile_predictor(predictor)


@pytest.mark.parametrize(
    "layers",
    [
        nn.LSTM(6, 6, bidirectional=True),
        nn.LSTM(6, 6, proj_size=2),
        nn.GRU(6, 6, bias=False),
        nn.RNN(6, 6, nonlinearity="relu"),
    ],
    ids=["both ways", "projected", "no bias", "relu"],
)
def test_recurrent_layers_of_another_make_have_no_program(layers: nn.RNNBase) -> None:
    options = ModelOptions("rnn", hidden_size=6, sequence_length=8, bins=2)
    predictor = seasoned(options)
    predictor.model.layers = layers
    with pytest.raises(NoProgramError, match="has what the machine's cells have not"):
        compile_predictor(predictor)


def test_a_network_too_large_for_the_machine_has_no_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiling, "_LARGEST", 100)
    with pytest.raises(NoProgramError, match="more than 100 numbers"):
        compile_predictor(predictor_of(SMALL))


def test_a_network_that_cannot_be_copied_is_computed_by_pytorch() -> None:
    predictor = seasoned(ModelOptions(OWN_NAMES[0], sequence_length=8))
    predictor.model.lock = threading.Lock()  # type: ignore[assignment]
    stepper = Stepper(predictor)
    assert stepper.engine.name == "torch"
    assert "cannot be copied" in stepper.why


def test_without_onnx_pytorch_serves_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    importing = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return importing(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert Stepper(predictor_of(SMALL)).engine.name == "compiled"
    stepper = Stepper(predictor_of(ModelOptions(OWN_NAMES[0], sequence_length=8)))
    assert stepper.engine.name == "torch"
    assert "pip install 'nexttick[onnx]'" in stepper.why


def test_engines_are_named_or_refused() -> None:
    assert Stepper(predictor_of(SMALL)).why == ""
    with pytest.raises(ValueError, match="did you mean 'onnx'"):
        Stepper(predictor_of(SMALL), "onix")


# States


def test_a_stepper_starts_as_if_it_had_seen_nothing_and_again_after_a_reset() -> None:
    stepper, events = stepper_of(SMALL), random_events(4, 60, gaps=0)
    stepper.reset()
    first = stepped(stepper, events)
    assert np.isnan(first[:7]).all()
    assert np.isfinite(first[7:]).all()
    assert stepper.seen == len(events)
    stepper.reset()
    assert stepper.seen == 0
    np.testing.assert_array_equal(stepped(stepper, events), first)


def test_an_answer_is_not_overwritten_by_the_next() -> None:
    stepper, events = stepper_of(SMALL), random_events(5, 60, gaps=0)
    stepper.reset()
    answers = [stepper.step(event) for event in event_rows(events)]
    kept = [None if answer is None else answer.copy() for answer in answers]
    stepped(stepper, random_events(6, 60, gaps=0))
    np.testing.assert_array_equal(as_rows(answers), as_rows(kept))


def test_whole_numbers_and_numpys_are_numbers_too() -> None:
    stepper = stepper_of(SMALL)
    events = random_events(8, 30, gaps=0).with_columns(
        pl.col("first", "price", "vwap", "amount").round(0) + 1
    )
    stepper.reset()
    expected = stepped(stepper, events)
    stepper.reset()
    compiled = len(machine.run.signatures)
    for row, want in zip(event_rows(events), expected, strict=True):
        whole = tuple(np.int64(value) if i % 2 else int(value) for i, value in enumerate(row))
        answer = stepper.step(whole)
        assert (answer is None) == np.isnan(want).all()
        if answer is not None:
            np.testing.assert_array_equal(answer, want)
    assert len(machine.run.signatures) == compiled


GENERAL = [(SMALL, "onnx"), (SMALL, "torch"), (ModelOptions("rnn", hidden_size=6, bins=0), "torch")]
EVERY_STATE = [(options, None) for options in variants() if options.arch != "fcn"] + GENERAL


@pytest.mark.parametrize(
    ("options", "engine"), EVERY_STATE, ids=[f"{name_of(o)}-{e}" for o, e in EVERY_STATE]
)
@settings(few, max_examples=4)
@given(st.integers(0, 60), st.integers(0, 60))
def test_a_snapshot_goes_on_exactly(
    options: ModelOptions, engine: str | None, first: int, later: int
) -> None:
    stepper, events = stepper_of(options, engine), event_rows(random_events(9, 80, gaps=2))
    stepper.reset()
    for event in events[:first]:
        stepper.step(event)
    snapshot = stepper.snapshot()
    whole = [stepper.step(event) for event in events[first:]]
    stepper.reset()
    for event in events[:later]:  # what it has seen since must leave no trace
        stepper.step(event)
    stepper.restore(snapshot)
    assert stepper.seen <= first
    assert stepper.snapshot() == snapshot
    again = [stepper.step(event) for event in events[first:]]
    np.testing.assert_array_equal(as_rows(again), as_rows(whole))


def test_a_new_process_goes_on_exactly(tmp_path) -> None:  # type: ignore[no-untyped-def]
    predictor, events = predictor_of(SMALL, "lines"), random_events(9, 120, gaps=2)
    stepper = Stepper(predictor)
    stepped(stepper, events[:50])
    predictor.save(tmp_path / "predictor")
    other = Stepper(Predictor.load(tmp_path / "predictor"))
    assert other.fingerprint == stepper.fingerprint
    other.restore(stepper.snapshot())
    np.testing.assert_array_equal(stepped(other, events[50:]), stepped(stepper, events[50:]))


def test_a_snapshot_holds_no_past_of_a_first_state_that_shares_memory() -> None:
    options = ModelOptions("rnn", "pure", hidden_size=6, sequence_length=8, bins=2)
    stepper = stepper_of(options, "torch")
    stepper.reset()
    snapshot = stepper.snapshot()
    stepper.restore(snapshot)
    events = random_events(2, 40, gaps=0)
    assert_same(stepped(stepper, events), predicted(predictor_of(options), events))


def test_foreign_and_damaged_snapshots_are_refused() -> None:
    stepper = stepper_of(SMALL)
    stepper.reset()
    stepped(stepper, random_events(1, 20))
    snapshot = stepper.snapshot()
    with pytest.raises(ValueError, match="another predictor"):
        Stepper(predictor_of(SMALL, "lines")).restore(snapshot)
    with pytest.raises(ValueError, match="another engine"):
        stepper_of(SMALL, "torch").restore(snapshot)
    for damaged in (b"", snapshot[:-1], b"x" + snapshot):
        with pytest.raises(ValueError, match="damaged"):
            stepper.restore(damaged)
    arrays = load(snapshot)
    for name in ("counts", "engine.memory", "features"):
        for other in ({name: arrays[name][1:]}, {name: arrays[name].astype(bool)}):
            with pytest.raises(ValueError, match=f"damaged \\({name}\\)"):
                stepper.restore(save({**arrays, **other}))
        rest = {key: array for key, array in arrays.items() if key != name}
        with pytest.raises(ValueError, match=f"damaged \\({name}\\)"):
            stepper.restore(save(rest))
    assert stepper.snapshot() == snapshot  # and nothing of them was taken over


@pytest.mark.parametrize("change", ["scaler", "weights", "spec", "horizons", "calibration"])
def test_all_that_decides_a_prediction_is_in_the_fingerprint(change: str) -> None:
    one, other = seasoned(SMALL), seasoned(SMALL)
    assert one.fingerprint() == other.fingerprint()
    other.provenance = {"trained": "elsewhere"}
    assert one.fingerprint() == other.fingerprint()
    if change == "weights":
        with torch.no_grad():
            next(other.model.parameters()).view(-1)[0] += 1e-6
    elif change == "scaler":
        other.scaler.mean[0] += 1
    elif change == "spec":
        other.spec = type(other.spec)(GAP_NS + S_NS, *((2.0, 16.0), (10.0,)))
    elif change == "horizons":
        other.horizons = ("rise@1", "rise@5s", "rise@7s")
    else:
        other.calibration = CURVES["lines"]
    assert one.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("engine", ["compiled", "onnx"])
def test_memory_does_not_grow(engine: str) -> None:
    """A leak grows with every round, and what piles up within one with its length.

    What else the process does (another thread, the collector) is in some rounds and not in all:
    the median of the rounds is the stepper's own.
    """
    events, longer = (500, 4) if engine == "compiled" else (150, 2)
    stepper, rows = stepper_of(SMALL, engine), event_rows(random_events(3, events, gaps=2))

    def go(times: int, grown: NDArray[np.int64]) -> None:
        """Write down the bytes that are left of a round, and that it held at most."""
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        stepper.reset()
        for _ in range(times):
            for row in rows:
                stepper.step(row)
        after, peak = tracemalloc.get_traced_memory()
        grown[:] = after - before, peak - before

    short, long = np.zeros((2, 5 if engine == "compiled" else 3, 2), np.int64)
    tracemalloc.start()
    try:
        go(1, short[0])  # what the first round makes for all
        for times, rounds in ((1, short), (longer, long)):
            for grown in rounds:
                go(times, grown)
    finally:
        tracemalloc.stop()
    (left, held), (left_long, held_long) = np.median(short, axis=0), np.median(long, axis=0)
    assert left < 50  # a round; one number that is kept has 32 bytes
    assert left_long - left < 0.1 * (longer - 1) * events
    assert held_long - held < 0.1 * (longer - 1) * events
