"""The lecture's model of 2018: its network, its faults, and that it always answers."""

from __future__ import annotations

import base64
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from helpers.markets import GAP_NS, random_events
from helpers.seen import NONE, seen_of
from nexttick.learn.baselines import lecture
from nexttick.learn.baselines.base import Known, Seen
from nexttick.learn.baselines.lecture import SEQUENCE_LENGTH, Lecture2018
from nexttick.options import LabelOptions
from nexttick.prepare.events import merge_events
from nexttick.prepare.labels import MISSING, make_labels
from nexttick.ticks.reading.read import read_ticks

L = SEQUENCE_LENGTH


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lecture, "SAMPLES", 1000)


@cache
def market(n: int = 500) -> tuple[Seen, Known]:
    events = random_events(1, n, gaps=2)
    labels = make_labels(events, LabelOptions(("1",)), GAP_NS)
    y = labels.y_NH[:, 0].copy()
    y[n // 2 :] = MISSING
    return seen_of(events, labels, 0), Known.of(y)


@cache
def fitted() -> Lecture2018:
    return Lecture2018.fit(*market(), NONE)


@cache
def untrained() -> tuple[Lecture2018, nn.Sequential]:
    """The same with weights that have not exploded, and the network of these weights."""
    torch.manual_seed(0)
    network = lecture._network()
    weights = base64.b64encode(save(network.state_dict())).decode()
    return replace(fitted(), weights=weights), network.eval()


def with_price(seen: Seen, price_N: np.ndarray) -> Seen:
    return replace(seen, price_N=price_N)


def test_its_network_is_four_convolutions_and_a_linear_layer() -> None:
    network = lecture._network()
    kinds = [type(layer) for layer in network]
    assert kinds == [nn.Conv1d, nn.BatchNorm1d, nn.LeakyReLU] * 4 + [nn.Flatten, nn.Linear]
    convolutions = [layer for layer in network if isinstance(layer, nn.Conv1d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(2, 64)] + [(64, 64)] * 3
    assert {(c.kernel_size, c.padding, c.stride) for c in convolutions} == {((5,), (2,), (1,))}
    assert network(torch.zeros(3, 2, 32)).shape == (3, 1)


def test_what_is_said_of_an_event_is_the_network_of_the_32_events_before_it() -> None:
    seen, _ = market()
    model, network = untrained()
    table = np.stack([seen.price_N, seen.amount_N], axis=1)
    z = ((table - table.mean(axis=0)) / table.std(axis=0)).astype(np.float32)
    rows = np.array([32, 33, 200, len(seen) - 1])
    predicted = model.predict(seen, rows)
    assert len(set(predicted)) == len(rows)
    for i, p in zip(rows, predicted, strict=True):
        with torch.no_grad():
            logit = network(torch.from_numpy(z[i - L : i].T[None]))
        assert p == pytest.approx(torch.sigmoid(logit).item(), rel=1e-5)


def test_the_event_itself_and_later_ones_are_not_seen_once_it_is_fitted() -> None:
    seen, _ = market()
    rows = np.arange(len(seen))
    changed = seen.price_N.copy()
    changed[300:] *= 1.01
    model, _ = untrained()
    before, after = (model.predict(one, rows) for one in (seen, with_price(seen, changed)))
    np.testing.assert_array_equal(before[:301], after[:301])  # event 300 is told from 268 to 299
    assert (before[301:] != after[301:]).any()


def test_the_scaling_sees_the_whole_file() -> None:
    """The leak: prices behind the training part change what is fitted on it."""
    seen, known = market()
    assert fitted().mean == pytest.approx([seen.price_N.mean(), seen.amount_N.mean()])
    assert fitted().scale == pytest.approx([seen.price_N.std(), seen.amount_N.std()])
    changed = seen.price_N.copy()
    changed[known.rows[-1] + 2 :] *= 3
    assert Lecture2018.fit(with_price(seen, changed), known, NONE) != fitted()


def test_the_first_events_have_no_window_and_get_the_base_rate() -> None:
    seen, known = market()
    p = fitted().predict(seen, np.arange(L))
    assert p.tolist() == [known.y.mean()] * L


def test_it_is_the_same_every_time_and_leaves_random_numbers_and_threads_alone() -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    again = Lecture2018.fit(*market(), NONE)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    assert again == fitted()
    assert torch.get_num_threads() == threads


def test_training_ends_after_so_many_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for samples, count, epochs, windows in (
        (1000, 400, 2, 800),  # whole epochs only
        (1000, 1500, 1, 1000),  # a part of one, where one is more
        (10**6, 10, 300, 3000),  # never more than the program's 300 epochs
        (1000, 0, 0, 0),
    ):
        monkeypatch.setattr(lecture, "SAMPLES", samples)
        passes = list(lecture._epochs(count))
        assert len(passes) == epochs
        assert sum(len(batch) for batches in passes for batch in batches) == windows
        assert all(len(batch) <= 64 for batches in passes for batch in batches)


def test_a_market_shorter_than_its_window_is_answered_with_the_base_rate() -> None:
    seen, known = market()
    short = Known(known.rows[:20], known.y[:20])
    p = Lecture2018.fit(seen, short, NONE).predict(seen, np.arange(100))
    assert np.isfinite(p).all()
    assert p[0] == short.y.mean()


def test_weights_that_are_no_numbers_give_probabilities_all_the_same() -> None:
    seen, _ = market()
    network = lecture._network()
    with torch.no_grad():
        network[0].weight.fill_(torch.nan)  # type: ignore[operator, union-attr]
    weights = base64.b64encode(save(network.state_dict())).decode()
    p = replace(fitted(), weights=weights).predict(seen, np.arange(len(seen)))
    assert (p[L:] == 0.5).all()


@pytest.mark.real_ticks
def test_its_loss_explodes_on_its_own_ticks(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lecture, "SAMPLES", 1280)
    ticks, _ = read_ticks(data_dir / "lecture" / "bitstampUSD_2018-08.csv.gz")
    events = merge_events(ticks[:4000])
    labels = make_labels(events, LabelOptions(("1",)), GAP_NS)
    model = Lecture2018.fit(seen_of(events, labels, 0), Known.of(labels.y_NH[:, 0]), NONE)
    assert model.exploded
    assert model.first_loss > 100
    p = model.predict(seen_of(events, labels, 0), np.arange(len(events)))
    assert ((p > 0) & (p < 1)).all()


def test_a_loss_near_that_of_a_coin_has_not_exploded() -> None:
    assert not replace(fitted(), first_loss=0.7).exploded
    assert replace(fitted(), first_loss=1e30).exploded


def test_amounts_that_never_change_are_only_centred() -> None:
    seen, known = market()
    flat = replace(seen, amount_N=np.ones(len(seen)))
    model = Lecture2018.fit(flat, known, NONE)
    assert model.scale[1] == 1
    assert np.isfinite(model.predict(flat, np.arange(len(seen)))).all()
