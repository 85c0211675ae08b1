"""The state of a training, written whole and read back, so that a killed run goes on."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from nexttick.learn.formats import check_format
from nexttick.networks.gradients.monitor import Monitor
from nexttick.networks.models.base import TickModel
from nexttick.options import TrainOptions
from nexttick.ticks.writing import write_whole

FORMAT = 1


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of training, and the validation after it; losses are in nats."""

    epoch: int  # from 1
    train_loss: float  # mean of the batches' losses
    valid_loss: float
    stage: int  # changes of the network itself that were done, e.g. by pruning
    best: bool  # whether this is the lowest validation loss of this stage so far
    lr: float
    grad_norm: float  # mean over the steps, before clipping
    clipped: float  # share of steps whose gradient was clipped
    ticks_per_s: float  # predictions trained a second
    seconds: float  # validation included
    health: dict[str, Any] = field(default_factory=dict)  # see `gradients.monitor.Monitor.report`


@dataclass
class Fitting:
    """The state of a training: everything that a checkpoint keeps.

    `average` is a running mean of the model's weights (Polyak & Juditsky 1992), less noisy than
    any one step's; this is what is judged and kept.
    """

    model: TickModel
    average: TickModel
    optimizer: torch.optim.AdamW
    scheduler: torch.optim.lr_scheduler.StepLR
    best: dict[str, Tensor]  # weights of the average after the best epoch
    records: list[EpochRecord]
    monitor: Monitor  # of the gradients; it keeps nothing from one epoch to the next

    @classmethod
    def fresh(cls, model: TickModel, options: TrainOptions) -> Fitting:
        """A training that has not begun."""
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=options.lr, weight_decay=options.weight_decay, fused=True
        )
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, options.lr_step, options.lr_gamma)
        average, best = copy.deepcopy(model), copy_of(model)
        return cls(model, average, optimizer, scheduler, best, [], Monitor(model))

    @cached_property
    def averaged(self) -> tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Tensors of which there is a mean, the model's own, and pairs of those without: counts.

        All are changed in place, so that they are looked up once and not at every step.
        """
        ours, theirs = self.average.state_dict().values(), self.model.state_dict().values()
        pairs = list(zip(ours, theirs, strict=True))
        means = [mean for mean, _ in pairs if mean.is_floating_point()]
        values = [value for mean, value in pairs if mean.is_floating_point()]
        return means, values, [pair for pair in pairs if not pair[0].is_floating_point()]

    @property
    def best_loss(self) -> float:
        """Lowest validation loss so far of the network as it is now."""
        # Losses of two stages are those of two networks, and only the present one can be kept.
        now = (r.valid_loss for r in self.records if r.stage == self.model.stage)
        return min(now, default=math.inf)

    def is_over(self, options: TrainOptions) -> bool:
        """Whether all epochs are done or the last `patience` of them brought nothing."""
        recent = self.records[-options.patience :]
        stale = len(recent) == options.patience and not any(record.best for record in recent)
        settled = self.model.stage == self.model.stages
        return len(self.records) >= options.epochs or (stale and settled)

    def save(self, path: Path) -> None:
        """Write all of it as one safetensors file, whole."""
        # No pickle is ever loaded, so tensors go by name and all else as JSON in the file's head.
        # The monitor and random numbers are left out: an epoch begins with both anew.
        parts = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
        }
        for i, slots in self.optimizer.state_dict()["state"].items():
            parts[f"adam.{i}"] = slots
        description = {
            "format": json.dumps(FORMAT),
            "records": json.dumps([asdict(record) for record in self.records]),
            "scheduler": json.dumps(self.scheduler.state_dict()),
        }
        tensors = {
            f"{part}.{name}": value.contiguous()
            for part, values in parts.items()
            for name, value in values.items()
        }
        write_whole(path, lambda file: file.write(save(tensors, description)))

    def load(self, path: Path) -> None:
        """Put a fresh training where the one that wrote the file was, if that can be read."""
        try:
            with safe_open(path, framework="pt") as file:
                kept = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
            check_format(path, kept.get("format", 1), FORMAT)
            tensors = load_file(path, device=str(next(self.model.parameters()).device))
        except SafetensorError as error:
            raise ValueError(f"{path}: damaged ({error}): start a new run") from error
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "best": {}, "adam": {}}
        for name, value in tensors.items():
            part, key = name.split(".", 1)
            parts[part][key] = value
        self.model.load_state_dict(parts["model"])
        self.average.load_state_dict(parts["average"])
        self.best = parts["best"]
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["adam"].items():
            index, key = name.split(".")
            # The count of steps is handed over on the CPU; the optimizer moves it where it wants.
            slots.setdefault(int(index), {})[key] = value.cpu() if key == "step" else value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.records = [EpochRecord(**record) for record in kept["records"]]
        self.scheduler.load_state_dict(kept["scheduler"])
        # The scheduler restores its count, and not the rate that it has set in the optimizer.
        self.optimizer.param_groups[0]["lr"] = self.scheduler.get_last_lr()[0]


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    """The weights as they are now, which the next step changes in place."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
