"""Training: dense runs in, one record an epoch out, the best epoch's weights at the end."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.swa_utils import get_ema_multi_avg_fn

from nexttick.batches import Batch, Runs, cut_runs, gather, shuffled_batches
from nexttick.config import TrainOptions
from nexttick.health.monitor import Monitor
from nexttick.labels import MISSING
from nexttick.models.base import TickModel
from nexttick.writing import write_whole

Ranges = list[tuple[int, int]]
_ALL_THREADS = torch.get_num_threads()  # what PyTorch would take, OMP_NUM_THREADS included


class Step(NamedTuple):
    """One step: predictions trained, loss in nats, norm of the gradient before clipping."""

    ticks: int
    loss: float
    grad_norm: float


OnStep = Callable[[Step], None]


class DivergenceError(RuntimeError):
    """The loss or its gradient is not finite; no weight was touched by it."""


@dataclass(frozen=True)
class TrainingData:
    """What `fit` sees, on one device.

    Attributes:
        x_NF: scaled features of all events.
        train_y_NH: labels of the training part, purged; missing elsewhere.
        valid_y_NH: labels of the validation part, purged; missing elsewhere.
        train: ranges of events with enough history, training part.
        valid: the same, validation part.
    """

    x_NF: Tensor
    train_y_NH: Tensor
    valid_y_NH: Tensor
    train: Ranges
    valid: Ranges


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of training.

    Attributes:
        epoch: number, from 1.
        train_loss: mean of the batches' losses, nats.
        valid_loss: after the epoch, nats.
        stage: changes of the network itself that were done, e.g. by pruning.
        best: whether this is the lowest validation loss of this stage so far.
        lr: learning rate of the epoch.
        grad_norm: mean norm of the gradient before clipping.
        clipped: share of steps whose gradient was clipped.
        ticks_per_s: predictions trained a second.
        seconds: duration of the epoch, validation included.
        health: of the gradients, see `nexttick.health.monitor.Monitor.report`.
    """

    epoch: int
    train_loss: float
    valid_loss: float
    stage: int
    best: bool
    lr: float
    grad_norm: float
    clipped: float
    ticks_per_s: float
    seconds: float
    health: dict[str, Any] = field(default_factory=dict)


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one; anything else is PyTorch's own name."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        probe = torch.zeros(1, device=name)
        probe.item()  # the device `meta` holds no values
        return probe.device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {name!r} cannot be used ({reason}): try auto or cpu") from error


def set_threads(model: TickModel, threads: int | None) -> None:
    """Use so many CPU threads, or as many as one step of the model is worth."""
    torch.set_num_threads(threads or (_ALL_THREADS if model.shares_threads else 1))


def masked_loss(logits_BKH: Tensor, y_BKH: Tensor) -> Tensor:
    """Mean binary cross-entropy over the labels that are known, in nats."""
    known = y_BKH != MISSING
    loss = binary_cross_entropy_with_logits(logits_BKH, y_BKH.clamp(min=0), reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)


@dataclass
class Fitting:
    """The state of a training: everything that a checkpoint keeps.

    Attributes:
        model: what the optimizer steps.
        average: a running mean of its weights (Polyak & Juditsky 1992), less noisy than any one
            step's; this is what is judged and kept.
        optimizer: AdamW.
        scheduler: StepLR.
        best: weights of the average after the best epoch.
        records: of the epochs done.
        monitor: looks at the gradients; it keeps nothing from one epoch to the next.
    """

    model: TickModel
    average: TickModel
    optimizer: torch.optim.AdamW
    scheduler: torch.optim.lr_scheduler.StepLR
    best: dict[str, Tensor]
    records: list[EpochRecord]
    monitor: Monitor

    @classmethod
    def fresh(cls, model: TickModel, options: TrainOptions) -> Fitting:
        """A training that has not begun."""
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=options.lr, weight_decay=options.weight_decay, fused=True
        )
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, options.lr_step, options.lr_gamma)
        average, best = copy.deepcopy(model), _copy(model)
        return cls(model, average, optimizer, scheduler, best, [], Monitor(model))

    @cached_property
    def averaged(self) -> tuple[list[Tensor], list[Tensor]]:
        """The tensors of which there is a mean, and the model's own; both are changed in place."""
        pairs = [(mean, new) for mean, new in self._pairs() if mean.is_floating_point()]
        return [mean for mean, _ in pairs], [new for _, new in pairs]

    @cached_property
    def copied(self) -> list[tuple[Tensor, Tensor]]:
        """Counts and masks, of which there is no mean."""
        return [pair for pair in self._pairs() if not pair[0].is_floating_point()]

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        ours, theirs = self.average.state_dict().values(), self.model.state_dict().values()
        return list(zip(ours, theirs, strict=True))

    @property
    def best_loss(self) -> float:
        """Lowest validation loss so far of the network as it is now."""
        now = (r.valid_loss for r in self.records if r.stage == self.model.stage)
        return min(now, default=math.inf)

    def is_over(self, options: TrainOptions) -> bool:
        """Whether all epochs are done or the last `patience` of them brought nothing."""
        recent = self.records[-options.patience :]
        stale = len(recent) == options.patience and not any(record.best for record in recent)
        settled = self.model.stage == self.model.stages
        return len(self.records) >= options.epochs or (stale and settled)


def fit(
    model: TickModel,
    data: TrainingData,
    options: TrainOptions,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
) -> Iterator[EpochRecord]:
    """Train a model; when the generator ends or is closed, it holds its best weights.

    Args:
        model: on the device of the data.
        data: features, labels and ranges.
        options: see `TrainOptions`.
        checkpoint: file to go on from, where it exists, and to keep up to date.
        on_step: called after each step.

    Yields:
        A record an epoch, those of an earlier session first.

    Raises:
        DivergenceError: the loss or its gradient is not finite.
    """
    fitting = Fitting.fresh(model, options)
    if checkpoint is not None and checkpoint.exists():
        load_checkpoint(fitting, checkpoint)
    try:
        yield from list(fitting.records)
        while not fitting.is_over(options):
            record = run_epoch(fitting, data, options, on_step)
            fitting.records.append(record)
            if record.best:
                fitting.best = _copy(fitting.average)
            if checkpoint is not None:
                save_checkpoint(fitting, checkpoint)
            yield record
    finally:
        fitting.monitor.close()
        model.load_state_dict(fitting.best)
        model.eval()


def run_epoch(
    fitting: Fitting, data: TrainingData, options: TrainOptions, on_step: OnStep | None = None
) -> EpochRecord:
    """One pass over the training part, then the validation loss."""
    epoch, start = len(fitting.records) + 1, time.perf_counter()
    fitting.model.begin_epoch(len(fitting.records) / options.epochs)
    # Each epoch has a seed of its own, so that a resumed training repeats what it would have done.
    rng = np.random.default_rng((options.seed, epoch))
    torch.manual_seed(int(rng.integers(2**63)))
    lr = fitting.optimizer.param_groups[0]["lr"]
    steps = []
    for step in train_steps(fitting, data, options, rng):
        steps.append(step)
        if on_step is not None:
            on_step(step)
    trained_s = time.perf_counter() - start
    fitting.scheduler.step()
    valid_loss = evaluate_loss(fitting.average, data)
    ticks, losses, norms = (np.array(column) for column in zip(*steps, strict=True))
    return EpochRecord(
        epoch=epoch,
        train_loss=float(np.average(losses, weights=ticks)),
        valid_loss=valid_loss,
        stage=fitting.model.stage,
        best=valid_loss < fitting.best_loss,
        lr=lr,
        grad_norm=float(norms.mean()),
        clipped=float((norms > options.clip_norm).mean()),
        ticks_per_s=float(ticks.sum()) / trained_s,
        seconds=time.perf_counter() - start,
        health=fitting.monitor.report(losses, norms, options.clip_norm),
    )


def train_steps(
    fitting: Fitting, data: TrainingData, options: TrainOptions, rng: np.random.Generator
) -> Iterator[Step]:
    """Step through the training part once, in runs drawn at random."""
    model = fitting.model
    length = options.segment_length or segment_length(model.context)
    size = options.batch_size or batch_size(data.train, length)
    model.train()
    for runs in shuffled_batches(data.train, length, size, rng):
        batch = gather(data.x_NF, data.train_y_NH, runs, model.context, length)
        loss, norm = train_step(fitting, batch, options.clip_norm)
        update_average(fitting, options.average)
        yield Step(runs.predictions(length), loss, norm)


def segment_length(context: int) -> int:
    """Predictions a run; its history costs context - 1 ticks, so long contexts want long runs."""
    return max(256, 4 * context)


def batch_size(ranges: Ranges, length: int) -> int:
    """Segments a step: 8, or fewer where a short history would leave less than 64 steps."""
    return min(8, max(1, len(cut_runs(ranges, length).first) // 64))


def train_step(fitting: Fitting, batch: Batch, clip_norm: float) -> tuple[float, float]:
    """One step of AdamW; the loss and the gradient's norm before clipping.

    Raises:
        DivergenceError: either is not finite; the weights are as before.
    """
    model = fitting.model
    fitting.monitor.before_step()
    fitting.optimizer.zero_grad()
    on_gpu = batch.x_BTF.device.type == "cuda"
    with torch.autocast(batch.x_BTF.device.type, dtype=torch.bfloat16, enabled=on_gpu):
        loss = masked_loss(model(batch.x_BTF).float(), batch.y_BKH)
    penalty = model.penalty()
    (loss if penalty is None else loss + penalty).backward()
    fitting.monitor.after_backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
        lr = fitting.optimizer.param_groups[0]["lr"]
        raise DivergenceError(
            f"the loss is {loss.item():g} and its gradient's norm {norm.item():g} in epoch "
            f"{len(fitting.records) + 1}: lower --lr (now {lr:g}) or --clip-norm ({clip_norm:g})"
        )
    fitting.optimizer.step()
    fitting.monitor.after_step()
    return loss.item(), norm.item()


@torch.no_grad()
def update_average(fitting: Fitting, decay: float) -> None:
    """Move the average a little towards the model; at first, when it is far, a lot."""
    steps = int(next(iter(fitting.optimizer.state.values()))["step"])
    decay = min(decay, (1 + steps) / (10 + steps))
    means, values = fitting.averaged
    get_ema_multi_avg_fn(decay)(means, values, steps)
    for kept, new in fitting.copied:
        kept.copy_(new)


@torch.inference_mode()
def evaluate_loss(model: TickModel, data: TrainingData, length: int = 1024) -> float:
    """Loss on the validation part, in nats a label."""
    model.eval()
    total, count = 0.0, 0
    runs = cut_runs(data.valid, length)
    for k in range(0, len(runs.first), 16):
        some = Runs(runs.first[k : k + 16], runs.last[k : k + 16])
        batch = gather(data.x_NF, data.valid_y_NH, some, model.context, length)
        known = int((batch.y_BKH != MISSING).sum())
        total += masked_loss(model(batch.x_BTF).float(), batch.y_BKH).item() * known
        count += known
    return total / count


def save_checkpoint(fitting: Fitting, path: Path) -> None:
    """Write all of `fitting` as one safetensors file, whole."""
    optimizer = fitting.optimizer.state_dict()["state"]
    tensors = {f"model.{name}": value for name, value in fitting.model.state_dict().items()}
    tensors |= {f"average.{name}": v for name, v in fitting.average.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in fitting.best.items()}
    tensors |= {f"adam.{i}.{key}": v for i, slots in optimizer.items() for key, v in slots.items()}
    told = {
        "records": json.dumps([asdict(record) for record in fitting.records]),
        "scheduler": json.dumps(fitting.scheduler.state_dict()),
    }
    whole = save({k: v.contiguous() for k, v in tensors.items()}, told)
    write_whole(path, lambda file: file.write(whole))


def load_checkpoint(fitting: Fitting, path: Path) -> None:
    """Put a fresh `fitting` where the one that wrote the file was.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        tensors = load_file(path, device=str(next(fitting.model.parameters()).device))
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged ({error}): start a new run") from error
    fitting.model.load_state_dict(_behind("model.", tensors))
    fitting.average.load_state_dict(_behind("average.", tensors))
    fitting.best = _behind("best.", tensors)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in _behind("adam.", tensors).items():
        index, key = name.split(".")
        slots.setdefault(int(index), {})[key] = value.cpu() if key == "step" else value
    groups = fitting.optimizer.state_dict()["param_groups"]
    fitting.optimizer.load_state_dict({"state": slots, "param_groups": groups})
    with safe_open(path, framework="pt") as file:
        told = {name: json.loads(text) for name, text in file.metadata().items()}
    fitting.records = [EpochRecord(**record) for record in told["records"]]
    fitting.scheduler.load_state_dict(told["scheduler"])
    fitting.optimizer.param_groups[0]["lr"] = fitting.scheduler.get_last_lr()[0]


def _behind(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
