"""Every option of a run, in one place and free of heavy imports, so that `--help` starts fast.

A recipe is a tree of frozen dataclasses. It is written to each run folder as `config.json` and
read back closed to unknown keys; all of a user's mistakes are reported at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

NS_PER: dict[str, int] = {
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}


ARCHS: dict[str, tuple[str, ...]] = {
    "cnn": (
        "plain", "residual", "bottleneck", "dense", "condense", "dilated", "separable", "fcn",
        "deeplab",
    ),
    "rnn": ("lstm", "gru", "rnn", "pure"),
}  # fmt: skip
"""Architectures of each type of network; the first is the default."""


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How files become ticks."""

    columns: str | None = None
    """Which column is which, as time=NAME,price=NAME,amount=NAME; recognised when not given."""
    time_unit: str | None = None
    """Unit of integer times: s, ms, us or ns; recognised from plausible dates when not given."""
    outliers: bool = True
    """Set isolated price outliers aside."""


@dataclasses.dataclass(frozen=True)
class EventOptions:
    """How ticks become events, and where a segment ends."""

    raw_ticks: bool = False
    """Keep the ticks of one time stamp apart instead of merging them into one event."""
    max_gap: str | None = None
    """A longer pause ends a segment, e.g. 10m; by default found from the training part."""


@dataclasses.dataclass(frozen=True)
class FeatureOptions:
    """How long the features remember."""

    half_lives_events: tuple[float, ...] = (2.0, 8.0, 32.0, 128.0)
    """Half-lives of the exponential averages counted in events."""
    half_lives_s: tuple[float, ...] = (2.0, 20.0, 200.0)
    """Half-lives of the exponential averages counted in seconds."""


@dataclasses.dataclass(frozen=True)
class LabelOptions:
    """What the model is asked."""

    horizon: tuple[str, ...] = ("1", "10")
    """Horizons: a number of events (10), a time (5s, 2m) or move (the next different price)."""
    ties: str = "down"
    """An unchanged price counts as no rise (down) or is left out (skip)."""
    smooth: bool = False
    """Compare the mean price of the next h events with the price now (event horizons only)."""


@dataclasses.dataclass(frozen=True)
class SplitOptions:
    """The parts of the ticks, in time order: training, validation, test."""

    valid: float = 0.1
    """Share of the events that chooses the epoch; it lies before the test part."""
    test: float = 0.2
    """Share of the events, the last ones, that judges."""


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The network."""

    type: str = "cnn"
    """The model: cnn or rnn, or MODULE:CLASS for a network of your own."""
    arch: str | None = None
    """cnn: plain, residual, bottleneck, dense, condense, dilated, separable, fcn or deeplab;
    rnn: lstm, gru, rnn or pure. By default plain and lstm."""
    num_layers: int = 2
    """Number of layers (the lecture takes 4)."""
    hidden_size: int = 64
    """Width of each layer."""
    sequence_length: int = 32
    """Ticks that one prediction looks at (cnn); burn-in and truncation of BPTT (rnn)."""
    bins: int = 8
    """Bins of the piecewise-linear encoding of each feature; 0 for the features as they are."""
    kernel_size: int = 5
    """Ticks that one convolution spans (cnn)."""
    norm: str = "layer"
    """Normalisation after each convolution: layer (over channels), batch or none (cnn)."""
    dropout: float = 0.0
    """Share of units dropped between layers while training (not in fcn)."""

    @property
    def name(self) -> str:
        """The type and, where it was chosen, the architecture: `cnn`, `cnn-residual`."""
        parts = self.type.replace(":", ".") if self.is_own else self.type
        return parts if self.arch is None else f"{parts}-{self.arch}"

    @property
    def is_own(self) -> bool:
        """Whether the type names a class of the user's own."""
        return ":" in self.type


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """How the network is trained."""

    epochs: int = 12
    """Passes over the training part at the most."""
    patience: int = 3
    """Epochs without a better validation loss before training stops."""
    lr: float = 4e-3
    """Learning rate of Adam (AdamW: the weight decay is decoupled)."""
    lr_step: int = 4
    """Epochs between two cuts of the learning rate (StepLR)."""
    lr_gamma: float = 0.5
    """Factor of each cut (StepLR)."""
    weight_decay: float = 0.0
    """Weight decay of AdamW."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    average: float = 0.995
    """Weights that are judged and kept: a running mean with this decay a step; 0 for none."""
    batch_size: int | None = None
    """Segments in one step; 8, or fewer where an epoch would have less than 64 steps."""
    segment_length: int | None = None
    """Predictions in one segment, history not counted; 256 or 4 x sequence_length, the longer."""
    calibration: str = "temperature"
    """Fitted on the validation part in the end: temperature, platt, isotonic or none."""
    seed: int = 0
    """Seed of weights, segments and dropout."""
    device: str = "auto"
    """auto, cpu, cuda, or any other device of PyTorch."""
    threads: int | None = None
    """CPU threads; by default all (cnn), or 1 (rnn: its steps are too small to share)."""


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """How a recipe is judged fold by fold, and what its predictions are worth."""

    networks: tuple[str, ...] = ()
    """Networks to judge side by side (cnn, rnn-gru, residual, ...); by default that of --type."""
    folds: int = 5
    """Folds of the walk-forward; each trains afresh on its past."""
    scheme: str = "expanding"
    """The past of a fold: all before it (expanding), or as many events as it has (sliding)."""
    embargo: str | None = None
    """Least time between what is learned from and what comes after it, e.g. 10m."""
    baselines: tuple[str, ...] = ("trees",)
    """Baselines beside the cheap ones: trees, lecture_2018_leaky, all, or none."""
    audit: bool = True
    """Look for leaks: tamper with the future, recompute labels, shift them, train on a placebo."""
    fee_bps: float = 5.0
    """Fee of one trade, in hundredths of a percent, for the backtest's main line."""
    spread_bps: float | None = None
    """Bid-ask spread; by default estimated from the ticks."""
    latency: str = "100ms"
    """Time from a prediction to its trade."""
    jobs: int | None = None
    """Processes that train folds; by default one a core."""


@dataclasses.dataclass(frozen=True)
class LiveOptions:
    """What is followed live, and how it is shown."""

    source: str = ""
    """binance, kraken, any exchange that ccxt streams, replay or stdin."""
    symbol: tuple[str, ...] = ()
    """Market as BASE/QUOTE, e.g. BTC/USDT; several are followed at once."""
    file: str | None = None
    """Ticks that --source replay plays: a file, folder or pattern."""
    speed: str = "1"
    """Pace of a replay: 1 is that of the ticks' times, 10 ten times as fast, max as it comes."""
    settle: str = "10ms"
    """An event counts as finished so long after its last trade; 0s waits for the next event."""
    journal: Path | None = None
    """Folder of the journals, one a market; by default live/ in the run folder."""
    json: bool = False
    """Print JSON lines on a terminal, too."""
    dashboard: bool = False
    """Serve the page."""
    host: str = "127.0.0.1"
    """Address of the page; any other than this machine's own needs --token."""
    port: int = 8765
    """Port of the page."""
    token: str | None = None
    """Who shows it may see the page; by default $NEXTTICK_TOKEN."""


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """Where a run goes; no part of the recipe."""

    out: Path | None = None
    """Run folder to make; by default the first free one of runs/TYPE-FILE."""
    overwrite: bool = False
    """Replace an earlier run in --out."""
    resume: bool = False
    """Go on with the run in --out where it stopped, with its own files and recipe."""
    quiet: bool = False
    """Print results only, no progress."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that decides a run, data apart."""

    read: ReadOptions = ReadOptions()
    events: EventOptions = EventOptions()
    features: FeatureOptions = FeatureOptions()
    labels: LabelOptions = LabelOptions()
    split: SplitOptions = SplitOptions()
    model: ModelOptions = ModelOptions()
    train: TrainOptions = TrainOptions()


def parse_duration_ns(text: str) -> int | None:
    """`"5s"` to nanoseconds; None where the text is no duration."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)(ms|s|m|h|d)", text)
    if match is None:
        return None
    duration_ns = round(float(match[1]) * NS_PER[match[2]])
    return duration_ns if 0 < duration_ns < 2**62 else None  # more overflows a time stamp


def is_horizon(text: str) -> bool:
    """Whether the text is a horizon: a count of events, a duration or `move`."""
    return (
        text == "move"
        or bool(re.fullmatch(r"[1-9]\d{0,8}", text))
        or parse_duration_ns(text) is not None
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: what was probably meant, and all that is known."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.3)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(known)}"


def named_model(what: str, options: ModelOptions) -> ModelOptions:
    """The options with the type and architecture that a word names: cnn, dense, rnn-gru.

    Raises:
        ValueError: the word names neither, nor a class of one's own.
    """
    entries = [(kind, arch) for kind, archs in ARCHS.items() for arch in archs]
    names: dict[str, tuple[str, str | None]] = {arch: (kind, arch) for kind, arch in entries}
    names |= {f"{kind}-{arch}": (kind, arch) for kind, arch in entries}
    names |= {kind: (kind, options.arch) for kind in ARCHS}  # `rnn` is the type, not the cell
    if what not in names and ":" not in what:
        raise ValueError(f"{what!r} is no finished run and no model: {nearest(what, names)}")
    kind, arch = names.get(what, (what, None))
    return dataclasses.replace(options, type=kind, arch=arch)


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON values."""
    return dataclasses.asdict(recipe)


def from_dict(values: dict[str, Any]) -> Recipe:
    """A recipe from plain values, closed to unknown keys.

    Raises:
        ValueError: every unknown section and key, each with the nearest known one.
    """
    return Recipe(**read_sections(values, SECTIONS))


SECTIONS: dict[str, Any] = {f.name: type(f.default) for f in dataclasses.fields(Recipe)}


def read_sections(values: dict[str, Any], sections: dict[str, Any]) -> dict[str, Any]:
    """Sections of options from plain values, closed to unknown keys.

    Args:
        values: plain values by section and key; what is not given stays at its default.
        sections: the dataclass of each section.

    Raises:
        ValueError: every unknown section and key, each with the nearest known one.
    """
    mistakes = [
        f"unknown section {name!r}: {nearest(name, sections)}"
        for name in values
        if name not in sections
    ]
    parts = {}
    for name, section in sections.items():
        given = values.get(name, {})
        if not isinstance(given, dict):
            mistakes.append(f"section {name!r} is {given!r}: give keys and values")
            continue
        parts[name] = {key: _tuples(value) for key, value in given.items()}
        mistakes += _section_mistakes(name, section, parts[name])
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return {name: sections[name](**given) for name, given in parts.items()}


def _section_mistakes(name: str, section: Any, given: dict[str, Any]) -> Iterable[str]:
    hints = get_type_hints(section)
    for key, value in given.items():
        if key not in hints:
            yield f"unknown key {key!r} in {name!r}: {nearest(key, hints)}"
        elif not _fits(value, hints[key]):
            yield f"{key} in {name!r} is {value!r}, which is no {hints[key]}"


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type that a field is declared with."""
    if get_origin(hint) is tuple:
        one = get_args(hint)[0]
        return isinstance(value, tuple) and all(_fits(part, one) for part in value)
    kinds = get_args(hint) or (hint,)
    return type(value) in kinds or (type(value) is int and float in kinds)


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class EvaluationRecipe:
    """A recipe, how it is judged, and on which files."""

    recipe: Recipe = Recipe()
    evaluate: EvaluateOptions = EvaluateOptions()
    files: tuple[str, ...] = ()


def read_recipe(path: Path) -> EvaluationRecipe:
    """Read a recipe from a TOML file, closed to unknown keys.

    Raises:
        ValueError: it cannot be read, is no TOML, or holds what a recipe does not know.
    """
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}): name a recipe") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no TOML ({error})") from error
    try:
        return from_values(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def from_values(values: dict[str, Any]) -> EvaluationRecipe:
    """A recipe from plain values.

    Raises:
        ValueError: every unknown section and key, each with the nearest known one.
    """
    files = values.pop("files", [])
    if not (isinstance(files, list) and all(isinstance(file, str) for file in files)):
        raise ValueError(f"files is {files!r}: give a list of files, folders or globs")
    read = read_sections(values, {**SECTIONS, "evaluate": EvaluateOptions})
    evaluate = read.pop("evaluate")
    return EvaluationRecipe(Recipe(**read), evaluate, tuple(files))
