"""The lecture's convolutional network of 2018 with its faults, to show what they cost.

A baseline that nobody has to beat: it is here so that the difference can be seen. As the program
was, and wrong on purpose:

- Price and amount are z-scored over the whole file, its future included (a leak).
- The window ends one event before the event that the label starts from (an off-by-one): rows
  k … k+L-1 are asked whether price[k+L] < price[k+L+1]. So what is said of event i is said from
  the events i-L … i-1.
- Prices themselves, not changes, go in; windows run across gaps.
- Four times (convolution of width 64, kernel 5, padding 2; batch norm; leaky ReLU), flattened,
  one linear layer; SGD with learning rate 4 and weight decay 0.1, halved every 10 epochs; batches
  of 64; the loss weighs rises by negatives / positives, and what comes out is called a
  probability all the same. Nothing chooses an epoch, so the validation part is not used.

Deviations: rows are events where the program took ticks; it is asked about any horizon, with the
labels of the others; and training ends after `SAMPLES` windows, drawn at random where one epoch
has more, because its 300 epochs take hours and its loss explodes in the first.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from nexttick.learn.baselines.base import SURE, Baseline, Known, Rows, Seen

SEQUENCE_LENGTH = 32
SAMPLES = 32_000
_LAYERS, _WIDTH, _EPOCHS, _BATCH = 4, 64, 300, 64
_CHUNK = 4096  # windows predicted in one call
_WORST = 1e30  # a loss beyond this is told as this: JSON knows no infinity


@dataclass(frozen=True)
class Lecture2018(Baseline):
    """The lecture's network of 2018; see the module for its faults."""

    leaky: ClassVar[bool] = True

    mean: list[float]  # of price and amount over the whole file
    scale: list[float]
    rate: float  # of rises in training; said of the first 32 events, which have no window
    first_loss: float  # mean of the first epoch, nats, 1e30 at the most; a coin's is 0.69
    weights: str  # safetensors, in base 64

    @classmethod
    def fit(cls, seen: Seen, train: Known, valid: Known) -> Self:
        """Train until `SAMPLES` windows are seen; the same seed every time."""
        table = np.stack([seen.price_N, seen.amount_N], axis=1)
        mean, scale = table.mean(axis=0), table.std(axis=0)
        scale[scale == 0] = 1.0
        z_N2 = torch.from_numpy(((table - mean) / scale).astype(np.float32))
        full = train.rows >= SEQUENCE_LENGTH
        rows, y = torch.from_numpy(train.rows[full]), torch.from_numpy(train.y[full]).float()
        rises = int(train.y[full].sum())
        pos_weight = torch.tensor((len(y) - rises) / max(rises, 1))
        first = [0.0] if len(rows) == 0 else []  # nothing to train on, nothing lost
        with _alone():
            torch.manual_seed(0)
            network = _network().train()
            optimizer = torch.optim.SGD(network.parameters(), lr=4, weight_decay=0.1)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)
            for epoch, batches in enumerate(_epochs(len(rows))):
                for batch in batches:
                    optimizer.zero_grad()
                    logits = network(_windows(z_N2, rows[batch]))[:, 0]
                    loss = binary_cross_entropy_with_logits(logits, y[batch], pos_weight=pos_weight)
                    loss.backward()
                    optimizer.step()
                    if epoch == 0:
                        first.append(loss.item())
                scheduler.step()
        first_loss = min(float(np.nan_to_num(np.mean(first), nan=_WORST)), _WORST)
        weights = base64.b64encode(save(network.state_dict())).decode()
        return cls(mean.tolist(), scale.tolist(), float(train.y.mean()), first_loss, weights)

    @torch.inference_mode()
    def predict(self, seen: Seen, rows: Rows) -> NDArray[np.float64]:
        """The sigmoid of its logit, kept finite whatever the weights have become."""
        table = np.stack([seen.price_N, seen.amount_N], axis=1)
        z_N2 = torch.from_numpy(((table - self.mean) / self.scale).astype(np.float32))
        network = _network().eval()
        network.load_state_dict(load(base64.b64decode(self.weights)))
        p = np.full(len(rows), self.rate)
        (full,) = np.nonzero(rows >= SEQUENCE_LENGTH)
        with _alone():
            for k in range(0, len(full), _CHUNK):
                some = full[k : k + _CHUNK]
                logits = network(_windows(z_N2, torch.from_numpy(rows[some])))[:, 0]
                p[some] = torch.sigmoid(logits.nan_to_num(0.0).clamp(-SURE, SURE)).numpy()
        return p

    @property
    def exploded(self) -> bool:
        """Whether its loss was worse than ten coins' in the first epoch."""
        return not self.first_loss < 10 * math.log(2)


@contextmanager
def _alone() -> Iterator[None]:
    """One thread, as for all baselines, and random numbers that nobody else draws from."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def _network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (2, *[_WIDTH] * (_LAYERS - 1)):
        conv = nn.Conv1d(channels, _WIDTH, kernel_size=5, padding=2)
        layers += [conv, nn.BatchNorm1d(_WIDTH), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(_WIDTH * SEQUENCE_LENGTH, 1))


def _windows(z_N2: Tensor, rows_B: Tensor) -> Tensor:
    """What is seen before these events, of shape (B, 2, L): the event itself is left out."""
    steps = torch.arange(-SEQUENCE_LENGTH, 0)
    return z_N2[rows_B[:, None] + steps].transpose(1, 2)


def _epochs(count: int) -> Iterator[tuple[Tensor, ...]]:
    """Batches of each epoch, shuffled, until `SAMPLES` windows are seen or 300 epochs are over."""
    for _ in range(min(_EPOCHS, max(1, SAMPLES // count)) if count else 0):
        yield torch.randperm(count)[:SAMPLES].split(_BATCH)
