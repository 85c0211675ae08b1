"""Checks of a recipe: every bad value is told at once, each with its cure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from nexttick.options import (
    ARCHS,
    EvaluateOptions,
    LabelOptions,
    ModelOptions,
    Recipe,
    is_horizon,
    nearest,
    parse_duration_ns,
)

CALIBRATIONS = ("temperature", "platt", "isotonic", "none")
SCHEMES = ("expanding", "sliding")


def validate(recipe: Recipe) -> None:
    """Raise one ValueError that lists every bad value with its cure."""
    mistakes = list(_mistakes(recipe))
    if mistakes:
        raise ValueError("\n".join(mistakes))


def validate_evaluation(recipe: Recipe, options: EvaluateOptions) -> None:
    """The same for a recipe and how it is judged."""
    mistakes = [*_mistakes(recipe), *_evaluation_mistakes(options)]
    if mistakes:
        raise ValueError("\n".join(mistakes))


def _evaluation_mistakes(options: EvaluateOptions) -> Iterable[str]:
    if options.folds < 1:
        yield f"--folds {options.folds} must be at least 1"
    if options.jobs is not None and options.jobs < 1:
        yield f"--jobs {options.jobs} must be at least 1"
    if options.scheme not in SCHEMES:
        yield f"--scheme {options.scheme!r} is unknown: {nearest(options.scheme, SCHEMES)}"
    if not math.isfinite(options.fee_bps):
        yield f"--fee-bps {options.fee_bps} must be finite"
    if options.spread_bps is not None and not 0 <= options.spread_bps < math.inf:
        yield f"--spread-bps {options.spread_bps} must be at least 0 and finite"
    durations = {"--embargo": options.embargo, "--latency": options.latency}
    for name, text in durations.items():
        if text is not None and text != "0s" and parse_duration_ns(text) is None:
            yield f"{name} {text!r} is no duration: give a number and ms, s, m, h or d, e.g. 100ms"
    twice = [name for name in set(options.networks) if options.networks.count(name) > 1]
    if twice:
        yield f"--networks names {', '.join(sorted(twice))} twice"


def _mistakes(recipe: Recipe) -> Iterable[str]:
    yield from _word_mistakes(recipe)
    yield from _range_mistakes(recipe)
    yield from _label_mistakes(recipe.labels)
    gap = recipe.events.max_gap
    if gap is not None and parse_duration_ns(gap) is None:
        yield f"--max-gap {gap!r} is no duration: give a number and ms, s, m, h or d, e.g. 10m"
    yield from _model_mistakes(recipe.model)
    if recipe.split.valid + recipe.split.test >= 1:
        yield "--valid and --test together leave nothing to train on: give less than 1 in all"


def _word_mistakes(recipe: Recipe) -> Iterable[str]:
    choices = {
        "--ties": (recipe.labels.ties, ("down", "skip")),
        "--norm": (recipe.model.norm, ("none", "batch", "layer")),
        "--calibration": (recipe.train.calibration, CALIBRATIONS),
        "--time-unit": (recipe.read.time_unit or "s", ("s", "ms", "us", "ns")),
    }
    for option, (value, known) in choices.items():
        if value not in known:
            yield f"{option} {value!r} is unknown: {nearest(value, known)}"


def _model_mistakes(model: ModelOptions) -> Iterable[str]:
    if model.is_own:
        if model.arch is not None:
            yield f"--arch {model.arch!r} chooses among nexttick's networks: leave it out"
    elif model.type not in ARCHS:
        yield (
            f"--type {model.type!r} is unknown: {nearest(model.type, ARCHS)}; or give "
            f"MODULE:CLASS for a network of your own"
        )
    elif model.arch is not None and model.arch not in ARCHS[model.type]:
        of = [kind for kind, known in ARCHS.items() if model.arch in known]
        hint = f"it is one of --type {of[0]}. " if of else ""
        yield (
            f"--arch {model.arch!r} is unknown for {model.type}: "
            f"{hint}{nearest(model.arch, ARCHS[model.type])}"
        )


def _range_mistakes(recipe: Recipe) -> Iterable[str]:
    model, train, split = recipe.model, recipe.train, recipe.split
    at_least_one = {
        "--num-layers": model.num_layers,
        "--hidden-size": model.hidden_size,
        "--sequence-length": model.sequence_length,
        "--kernel-size": model.kernel_size,
        "--epochs": train.epochs,
        "--patience": train.patience,
        "--lr-step": train.lr_step,
        "--batch-size": 1 if train.batch_size is None else train.batch_size,
        "--threads": 1 if train.threads is None else train.threads,
        "--segment-length": 1 if train.segment_length is None else train.segment_length,
    }
    above_zero = {"--lr": train.lr, "--lr-gamma": train.lr_gamma, "--clip-norm": train.clip_norm}
    half_lives = recipe.features.half_lives_events + recipe.features.half_lives_s
    yield from (f"{k} {v} must be at least 1" for k, v in at_least_one.items() if v < 1)
    yield from (
        f"{k} {v} must be above 0 and finite"
        for k, v in above_zero.items()
        if not (v > 0 and math.isfinite(v))
    )
    if not 0 < split.valid < 1:
        yield f"--valid {split.valid} must lie between 0 and 1"
    if not 0 <= split.test < 1:
        yield f"--test {split.test} must be at least 0 and below 1"
    if not all(0 < half_life < math.inf for half_life in half_lives):
        yield "half-lives must be above 0 and finite"
    if train.seed < 0:
        yield f"--seed {train.seed} must not be negative"
    if model.bins < 0:
        yield f"--bins {model.bins} must not be negative"
    if not 0 <= model.dropout < 1:
        yield f"--dropout {model.dropout} must be at least 0 and below 1"
    if not 0 <= train.average < 1:
        yield f"--average {train.average} must be at least 0 and below 1"
    if not 0 <= train.weight_decay < math.inf:
        yield f"--weight-decay {train.weight_decay} must be at least 0 and finite"


def _label_mistakes(labels: LabelOptions) -> Iterable[str]:
    if not labels.horizon:
        yield "--horizon needs at least one horizon, e.g. 1 10 5s move"
    for text in labels.horizon:
        if not is_horizon(text):
            yield f"--horizon {text!r} is unknown: give events (10), a time (5s, 2m) or move"
        elif labels.smooth and not text.isdigit():
            yield f"--smooth takes horizons in events only, not {text!r}"
    meant = [parse_duration_ns(text) or text for text in labels.horizon]
    if len(set(meant)) < len(meant):
        yield "--horizon names one horizon twice"
