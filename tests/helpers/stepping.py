"""Predictors for the tests of the live step: every network, as training could have left it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from helpers.markets import random_events, tiny_spec
from nexttick.learn.predictor.calibration import (
    Calibration,
    Isotonic,
    Platt,
    Temperature,
    Unchanged,
)
from nexttick.learn.predictor.predictor import Predictor
from nexttick.networks.layers.block import State
from nexttick.networks.models import build_model
from nexttick.networks.models.base import TickModel
from nexttick.networks.models.encoding import fit_encodings
from nexttick.options import ARCHS, ModelOptions
from nexttick.prepare.dataset import Scaler
from nexttick.prepare.features import EVENT, compute_features
from nexttick.ticks.gaps import segment_starts

HORIZONS = ("rise@1", "rise@5s", "move")
ENTRIES = [(kind, arch) for kind, archs in ARCHS.items() for arch in archs]
CURVES: dict[str, tuple[Calibration, ...]] = {
    "none": (),
    "unchanged": (Unchanged(),) * 3,
    "lines": (Temperature(0.7), Platt(1.3, -0.2), Temperature(2.0)),
    "points": (
        Isotonic([0.2, 0.45, 0.5, 0.55], [0.1, 0.4, 0.4, 0.8]),
        Isotonic([0.4, 0.6], [0.3, 0.3]),
        Isotonic([0.0, 1.0], [0.0, 1.0]),
    ),
}


class Linear(nn.Module):
    """A network of one's own, over windows."""

    def __init__(self, options: ModelOptions, num_features: int, num_horizons: int):
        super().__init__()
        self.linear = nn.Linear(options.sequence_length * num_features, num_horizons)

    def forward(self, x_BLF: Tensor) -> Tensor:
        return self.linear(x_BLF.flatten(1))


class Fading(TickModel):
    """A model of one's own with a step; its memory starts at one and not at zero."""

    def __init__(self, options: ModelOptions, num_features: int, num_horizons: int):
        super().__init__()
        self.context = options.sequence_length
        self.head = nn.Linear(num_features, num_horizons)

    def forward(self, x_BTF: Tensor) -> Tensor:
        state, logits = self.initial_state(len(x_BTF)), []
        for x_BF in x_BTF.unbind(1):
            logits_BH, state = self.step(x_BF, state)
            logits.append(logits_BH)
        return torch.stack(logits[self.context - 1 :], dim=1)

    def initial_state(self, batch: int) -> State:
        return (torch.ones(batch, self.head.in_features),)

    def step(self, x_BF: Tensor, state: State) -> tuple[Tensor, State]:
        memory_BF = 0.9 * state[0] + 0.1 * x_BF
        return self.head(memory_BF), (memory_BF,)


class Sorting(nn.Module):
    """A network of one's own that no graph can hold: it looks at the values as it goes."""

    def __init__(self, options: ModelOptions, num_features: int, num_horizons: int):
        super().__init__()
        self.linear = nn.Linear(num_features, num_horizons)

    def forward(self, x_BLF: Tensor) -> Tensor:
        rows = [max(window.tolist()) for window in x_BLF]
        return self.linear(torch.tensor(rows).to(x_BLF.dtype))


OWN = {f"helpers.stepping:{one.__name__}": one for one in (Linear, Fading, Sorting)}


def variants() -> Iterator[ModelOptions]:
    """Every entry of the zoo with each norm, deeper ones and such without bins."""
    small = {"num_layers": 2, "hidden_size": 8, "sequence_length": 14, "kernel_size": 3}
    for kind, arch in ENTRIES:
        yield ModelOptions(kind, arch, bins=3, norm="batch", **small)  # type: ignore[arg-type]
        yield ModelOptions(kind, arch, bins=0, norm="layer", **small)  # type: ignore[arg-type]
    for arch in ("plain", "separable", "deeplab", "residual"):
        yield ModelOptions("cnn", arch, bins=2, norm="none", **small)  # type: ignore[arg-type]


def name_of(options: ModelOptions) -> str:
    return f"{options.name}-{options.norm}-{options.bins}"


@torch.no_grad()
def seasoned(options: ModelOptions, curves: str = "none") -> Predictor:
    """Nothing is trained, but no weight, norm or encoding is as it was at its start."""
    torch.manual_seed(1)
    spec = tiny_spec()
    model = build_model(options, len(spec.names), len(HORIZONS))
    scaler = Scaler.fit(x_NF := compute_features(random_events(1, 400, gaps=0), spec))
    fit_encodings(model, scaler(x_NF))
    for weight in model.parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    model.train()(torch.from_numpy(scaler(x_NF))[None])
    model = model.finished().eval()
    return Predictor(spec, scaler, options, HORIZONS, model, calibration=CURVES[curves])


def event_rows(events: pl.DataFrame) -> list[tuple[object, ...]]:
    return list(events.select(EVENT).iter_rows())


def predicted(predictor: Predictor, events: pl.DataFrame) -> np.ndarray:
    """What the predictor says of a whole history, NaN where it is too short."""
    starts = segment_starts(events["time"].to_numpy(), predictor.spec.max_gap_ns)
    x_NF = predictor.scaler(compute_features(events, predictor.spec))
    return predictor.score(x_NF, starts).p_NH


def as_rows(answers: list[np.ndarray | None]) -> np.ndarray:
    """Answers of a stepper as `predicted` has them."""
    nothing = np.full(len(HORIZONS), np.nan, np.float32)
    return np.array([nothing if answer is None else answer for answer in answers])
