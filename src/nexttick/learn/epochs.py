"""The loop over epochs: batches of runs in, a record an epoch out, the best weights at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.swa_utils import get_ema_multi_avg_fn

from nexttick.learn.batches import Batch, Ranges, Runs, cut_runs, gather, shuffled_batches
from nexttick.learn.checkpoint import EpochRecord, Fitting, copy_of
from nexttick.networks.models.base import TickModel
from nexttick.options import TrainOptions
from nexttick.prepare.labels import MISSING

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
    """What `fit` sees, on one device: scaled features of all events, and of each part the labels.

    Labels are purged, and missing outside of their part; `train` and `valid` are the parts' ranges
    of events with enough history.
    """

    x_NF: Tensor
    train_y_NH: Tensor
    valid_y_NH: Tensor
    train: Ranges
    valid: Ranges


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


def fit(
    model: TickModel,
    data: TrainingData,
    options: TrainOptions,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
) -> Iterator[EpochRecord]:
    """Train a model on the data's device; a record an epoch, those of an earlier start first.

    When the generator ends or is closed, the model holds its best weights. Training goes on from
    `checkpoint` where that file exists, and keeps it up to date.
    """
    fitting = Fitting.fresh(model, options)
    if checkpoint is not None and checkpoint.exists():
        fitting.load(checkpoint)
    # Whatever ends it, Ctrl-C in the caller's loop too, what is left is the best epoch's network.
    try:
        yield from list(fitting.records)
        while not fitting.is_over(options):
            record = run_epoch(fitting, data, options, on_step)
            fitting.records.append(record)
            if record.best:
                fitting.best = copy_of(fitting.average)
            if checkpoint is not None:
                fitting.save(checkpoint)
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
    # 8 segments a step, or fewer where a short history would leave less than 64 steps.
    most = min(8, max(1, len(cut_runs(data.train, length).first) // 64))
    size = options.batch_size or most
    model.train()
    for runs in shuffled_batches(data.train, length, size, rng):
        batch = gather(data.x_NF, data.train_y_NH, runs, model.context, length)
        loss, norm = train_step(fitting, batch, options.clip_norm)
        update_average(fitting, options.average)
        yield Step(runs.predictions(length), loss, norm)


def segment_length(context: int) -> int:
    """Predictions a run; its history costs context - 1 ticks, so long contexts want long runs."""
    return max(256, 4 * context)


def train_step(fitting: Fitting, batch: Batch, clip_norm: float) -> tuple[float, float]:
    """One step of AdamW; the loss and the gradient's norm before clipping.

    Where either is not finite it is a `DivergenceError`, and the weights are as before.
    """
    model = fitting.model
    fitting.monitor.before_step()
    fitting.optimizer.zero_grad()
    # bfloat16 has float32's range, so the loss needs no scaling; on CPUs all stays float32.
    on_gpu = batch.x_BTF.device.type == "cuda"
    with torch.autocast(batch.x_BTF.device.type, dtype=torch.bfloat16, enabled=on_gpu):
        loss = masked_loss(model(batch.x_BTF).float(), batch.y_BKH)
    penalty = model.penalty()
    (loss if penalty is None else loss + penalty).backward()
    fitting.monitor.after_backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    # Looked at before the optimizer touches a weight: a bad number would stay in its averages.
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
    # After few steps the mean forgets fast, for it began at weights that had learned nothing.
    steps = int(next(iter(fitting.optimizer.state.values()))["step"])
    decay = min(decay, (1 + steps) / (10 + steps))
    means, values, copied = fitting.averaged
    get_ema_multi_avg_fn(decay)(means, values, steps)
    for kept, new in copied:
        kept.copy_(new)


@torch.inference_mode()
def evaluate_loss(model: TickModel, data: TrainingData, length: int = 1024) -> float:
    """Loss on the validation part, in nats a label."""
    model.eval()
    total, count = 0.0, 0
    runs = cut_runs(data.valid, length)
    # A run counts by its known labels, so that how runs are cut makes no difference to the mean.
    for k in range(0, len(runs.first), 16):
        some = Runs(runs.first[k : k + 16], runs.last[k : k + 16])
        batch = gather(data.x_NF, data.valid_y_NH, some, model.context, length)
        known = int((batch.y_BKH != MISSING).sum())
        total += masked_loss(model(batch.x_BTF).float(), batch.y_BKH).item() * known
        count += known
    return total / count
