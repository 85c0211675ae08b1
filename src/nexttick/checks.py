"""Checks of options, each alone and together: all mistakes at once, each with its cure."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points

from nexttick.options import (
    ARCHS,
    EvaluateOptions,
    LiveOptions,
    ModelOptions,
    Recipe,
    is_horizon,
    mistakes,
    nearest,
    refuse,
)

_DEVICES = (
    "cpu", "cuda", "mps", "xpu", "hip", "hpu", "ipu", "xla", "mtia", "maia", "fpga", "meta",
    "mkldnn", "opengl", "opencl", "ideep", "ve", "ort", "lazy", "vulkan", "privateuseone",
)  # fmt: skip
PAST = ("replay", "stdin")  # live sources that end, and that nothing comes late from


def validate(recipe: Recipe) -> None:
    """Raise one ValueError that lists every bad value with its cure."""
    refuse(_recipe_mistakes(recipe))


def validate_evaluation(recipe: Recipe, options: EvaluateOptions) -> None:
    """The same for a recipe and how it is judged."""
    refuse([*_recipe_mistakes(recipe), *mistakes(options)])


def check_device(name: str) -> None:
    """Refuse a word that is no device of PyTorch's, without PyTorch, which takes seconds to load.

    Any word may be one where an extension of PyTorch's is installed.
    """
    known = ("auto", *_DEVICES)
    if name.partition(":")[0] not in known and not entry_points(group="torch.backends"):
        raise ValueError(
            f"--device {name!r} cannot be used ({nearest(name, known)}): try auto or cpu"
        )


def _recipe_mistakes(recipe: Recipe) -> Iterator[str]:
    yield from mistakes(recipe)
    yield from _arch_mistakes(recipe.model)
    yield from _length_mistakes(recipe.model)
    for text in recipe.labels.horizon if recipe.labels.smooth else ():
        if is_horizon(text) and not text.isdigit():
            yield f"--smooth takes horizons in events only, not {text!r}"
    if recipe.split.valid + recipe.split.test >= 1:
        yield "--valid and --test together leave nothing to train on: give less than 1 in all"


def _arch_mistakes(model: ModelOptions) -> Iterator[str]:
    if model.arch is None:
        return
    known = ARCHS.get(model.type, ())
    if model.is_own:
        yield f"--arch {model.arch!r} chooses among nexttick's networks: leave it out"
    elif known and model.arch not in known:
        of = [kind for kind, archs in ARCHS.items() if model.arch in archs]
        hint = f"it is one of --type {of[0]}. " if of else ""
        yield (
            f"--arch {model.arch!r} is unknown for {model.type}: {hint}{nearest(model.arch, known)}"
        )


def _length_mistakes(model: ModelOptions) -> Iterator[str]:
    """A window shorter than what its convolutions see, as far as a formula tells."""
    arch = model.arch or ARCHS["cnn"][0]
    if model.type != "cnn" or arch in ("fcn", "deeplab"):
        return
    # Dilations double from layer to layer: 64 of them see more than any window has.
    kernels = {"residual": 2 * model.num_layers, "dilated": 2 ** min(model.num_layers, 64) - 1}
    sees = 1 + kernels.get(arch, model.num_layers) * (model.kernel_size - 1)
    if 1 <= model.sequence_length < sees:
        yield too_short(model, sees)


def too_short(model: ModelOptions, least: int) -> str:
    """What is said of a window shorter than the least that its network takes."""
    return (
        f"--sequence-length {model.sequence_length} is shorter than what --num-layers "
        f"{model.num_layers} of --kernel-size {model.kernel_size} see: give at least {least}, or "
        f"fewer layers"
    )


def live_mistakes(options: LiveOptions, runs: int) -> Iterator[str]:
    """What is wrong with the options of a live run of so many run folders."""
    yield from mistakes(options)
    if options.source == "replay" and options.file is None:
        yield "--source replay needs --file, the ticks to play"
    if options.source != "replay" and options.file is not None:
        yield f"--file is for --source replay, not for {options.source or 'none'}"
    if options.source and options.source not in PAST and not options.symbol:
        yield "--symbol is missing: name a market, e.g. --symbol BTC/USDT"
    if options.source in PAST and len(options.symbol) > 1:
        yield f"--source {options.source} gives one market: name one --symbol at the most"
    if runs == 0:
        yield "no run folder was named: give the one that nexttick run or train made"
    if runs > 1 and runs != len(options.symbol):
        yield (
            f"{runs} run folders for {len(options.symbol)} symbols: give one folder for "
            f"all symbols, or one for each"
        )
