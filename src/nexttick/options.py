"""Every option of a run, in one place and free of heavy imports, so that `--help` starts fast.

A recipe is a tree of frozen dataclasses. It is written to each run folder as `config.json` and
read back closed to unknown keys; all of a user's mistakes are reported at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

NS_PER = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9}
ARCHS: dict[str, tuple[str, ...]] = {
    "cnn": (
        "plain", "residual", "bottleneck", "dense", "condense", "dilated", "separable", "fcn",
        "deeplab",
    ),
    "rnn": ("lstm", "gru", "rnn", "pure"),
}  # fmt: skip
"""Architectures of each type of network; the first is the default."""
CALIBRATIONS = ("temperature", "platt", "isotonic", "none")
BASELINES = (
    "base_rate", "last_moves", "persistence", "logistic", "trees", "lecture_2018_leaky",
)  # fmt: skip


Check = Callable[[str, Any], Iterator[str]]
"""Tells the mistakes of a value, by its option's name; it stands beside the option's field."""


@dataclass(frozen=True)
class Words:
    """What the help calls the value of an option, or a group of options."""

    text: str
    hint: str = ""  # said after the option's own text, in the place of its default


@dataclass(frozen=True)
class Must:
    """A bound of an option, beside its field."""

    holds: Callable[[Any], bool]
    message: str  # said of a value that does not keep it, of `option` and `value`

    def __call__(self, option: str, value: Any) -> Iterator[str]:
        """Mistakes of a value."""
        if not self.holds(value):
            yield self.message.format(option=option, value=value)


@dataclass(frozen=True)
class OneOf:
    """The words that an option takes."""

    known: tuple[str, ...]

    def __call__(self, option: str, value: str) -> Iterator[str]:
        """Mistakes of a value."""
        if value not in self.known:
            yield f"{option} {value!r} is unknown: {nearest(value, self.known)}"


def mistakes(options: Any) -> Iterator[str]:
    """What is wrong with options, each looked at by itself; those of sections within, too."""
    for name, hint in get_type_hints(type(options), include_extras=True).items():
        value = getattr(options, name)
        if dataclasses.is_dataclass(value):
            yield from mistakes(value)
        elif value is not None and get_origin(hint) is Annotated:
            option = f"--{name.replace('_', '-')}"
            checks: Iterable[Check] = filter(callable, hint.__metadata__)
            for check in checks:
                yield from check(option, value)


def refuse(mistakes: Iterable[str]) -> None:
    """Raise one ValueError that lists all mistakes, where there are any."""
    if lines := list(dict.fromkeys(mistakes)):
        raise ValueError("\n".join(lines))


def parse_duration_ns(text: str) -> int | None:
    """`"5s"` to nanoseconds; None where the text is no duration."""
    if not (match := re.fullmatch(r"(\d{1,9}(?:\.\d+)?)(ms|s|m|h|d)", text)):
        return None
    duration_ns = round(float(match[1]) * NS_PER[match[2]])
    return duration_ns if 0 < duration_ns < 2**62 else None  # more overflows a time stamp


def is_horizon(text: str) -> bool:
    """Whether the text is a horizon: a count of events, a duration or `move`."""
    return bool(re.fullmatch(r"move|[1-9]\d{0,8}", text)) or _duration(text)


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: what was probably meant, and all that is known."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.3)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(known)}"


def _horizons(option: str, horizons: tuple[str, ...]) -> Iterator[str]:
    if not horizons:
        yield f"{option} needs at least one horizon, e.g. 1 10 5s move"
    for text in horizons:
        if not is_horizon(text):
            yield f"{option} {text!r} is unknown: give events (10), a time (5s, 2m) or move"
    meant = [parse_duration_ns(text) or text for text in horizons]
    if len(set(meant)) < len(meant):
        yield f"{option} names one horizon twice"


def _kind(option: str, kind: str) -> Iterator[str]:
    if ":" not in kind and kind not in ARCHS:
        yield (
            f"{option} {kind!r} is unknown: {nearest(kind, ARCHS)}; or give MODULE:CLASS for a "
            f"network of your own"
        )


def _networks(option: str, names: tuple[str, ...]) -> Iterator[str]:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield f"{option} names {', '.join(twice)} twice"


def _baselines(option: str, names: tuple[str, ...]) -> Iterator[str]:
    if names not in (("none",), ("all",)):
        unknown = (name for name in names if name not in BASELINES)
        yield from (f"baseline {name!r}: {nearest(name, BASELINES)}" for name in unknown)


def _symbols(option: str, symbols: tuple[str, ...]) -> Iterator[str]:
    if len(set(symbols)) < len(symbols):
        yield f"{option} names a market twice: {' '.join(symbols)}"


def _speed(text: str) -> bool:
    try:
        return text == "max" or 0 < float(text) < math.inf
    except ValueError:
        return False


def _duration(text: str) -> bool:
    return parse_duration_ns(text) is not None


# They stand here and not within the annotations: those are read as text, where a lambda would not
# see the names of this module.
_AT_LEAST_ONE = Must(lambda value: value >= 1, "{option} {value!r} must be at least 1")
_ABOVE_ZERO = Must(
    lambda value: 0 < value < math.inf, "{option} {value!r} must be above 0 and finite"
)
_NO_LESS = Must(
    lambda value: 0 <= value < math.inf, "{option} {value!r} must be at least 0 and finite"
)
_BELOW_ONE = Must(lambda value: 0 <= value < 1, "{option} {value!r} must be at least 0 and below 1")
_WITHIN = Must(lambda value: 0 < value < 1, "{option} {value!r} must lie between 0 and 1")
_FINITE = Must(math.isfinite, "{option} {value!r} must be finite")
_NOT_NEGATIVE = Must(lambda value: value >= 0, "{option} {value!r} must not be negative")
_HALF_LIVES = Must(
    lambda values: all(0 < one < math.inf for one in values),
    "half-lives must be above 0 and finite",
)
_NO_DURATION = "{option} {value!r} is no duration: give a number and ms, s, m, h or d, e.g. "
_MAX_GAP = Must(_duration, f"{_NO_DURATION}10m")
_MAY_BE_0S = Must(lambda text: text == "0s" or _duration(text), f"{_NO_DURATION}100ms")
_SETTLE = Must(_MAY_BE_0S.holds, "{option} {value!r} is no duration: give 10ms, say, or 0s")
_SPEED = Must(_speed, "{option} {value!r} must be a number above 0, or max")
_SOURCE = Must(bool, "{option} is missing: name binance, kraken, another exchange, replay or stdin")
_PORT = Must(lambda port: 0 < port < 65_536, "{option} {value}: a port is a number from 1 to 65535")

Count = Annotated[int, _AT_LEAST_ONE]
CountOrNone = Annotated[int | None, _AT_LEAST_ONE]
Positive = Annotated[float, _ABOVE_ZERO]
Share = Annotated[float, Words("SHARE"), _BELOW_ONE]
Folder = Annotated[Path | None, Words("FOLDER")]


@dataclass(frozen=True)
class ReadOptions:
    """How files become ticks."""

    columns: Annotated[str | None, Words("MAP")] = None
    """Which column is which, as time=NAME,price=NAME,amount=NAME; recognised when not given."""
    time_unit: Annotated[str | None, OneOf(("s", "ms", "us", "ns"))] = None
    """Unit of integer times: s, ms, us or ns; recognised from plausible dates when not given."""
    outliers: bool = True
    """Set isolated price outliers aside."""


@dataclass(frozen=True)
class EventOptions:
    """How ticks become events, and where a segment ends."""

    raw_ticks: bool = False
    """Keep the ticks of one time stamp apart instead of merging them into one event."""
    max_gap: Annotated[str | None, Words("DURATION"), _MAX_GAP] = None
    """A longer pause ends a segment, e.g. 10m; by default found from the training part."""


@dataclass(frozen=True)
class FeatureOptions:
    """How long the features remember."""

    half_lives_events: Annotated[tuple[float, ...], Words("NUMBER…"), _HALF_LIVES] = (
        2.0, 8.0, 32.0, 128.0,
    )  # fmt: skip
    """Half-lives of the exponential averages counted in events."""
    half_lives_s: Annotated[tuple[float, ...], Words("SECONDS…"), _HALF_LIVES] = (2.0, 20.0, 200.0)
    """Half-lives of the exponential averages counted in seconds."""


@dataclass(frozen=True)
class LabelOptions:
    """What the model is asked."""

    horizon: Annotated[tuple[str, ...], Words("HORIZON…"), _horizons] = ("1", "10")
    """Horizons: a number of events (10), a time (5s, 2m) or move (the next different price)."""
    ties: Annotated[str, OneOf(("down", "skip"))] = "down"
    """An unchanged price counts as no rise (down) or is left out (skip)."""
    smooth: bool = False
    """Compare the mean price of the next h events with the price now (event horizons only)."""


@dataclass(frozen=True)
class SplitOptions:
    """The parts of the ticks, in time order: training, validation, test."""

    valid: Annotated[float, Words("SHARE"), _WITHIN] = 0.1
    """Share of the events, or of each fold's past, that chooses the epoch; before the test part."""
    test: Share = 0.2
    """Share of the events, the last ones, that judges; folds are tested on parts of their own."""


@dataclass(frozen=True)
class ModelOptions:
    """The network."""

    type: Annotated[str, Words("TYPE"), _kind] = "cnn"
    """The model: cnn or rnn, or MODULE:CLASS for a network of your own."""
    arch: Annotated[
        str | None,
        Words("ARCH", "; ".join(f"{kind}: {', '.join(archs)}" for kind, archs in ARCHS.items())),
    ] = None
    """Architecture of its type, the first by default."""
    num_layers: Count = 2
    """Number of layers (the lecture takes 4)."""
    hidden_size: Count = 64
    """Width of each layer."""
    sequence_length: Count = 32
    """Ticks that one prediction looks at (cnn); burn-in and truncation of BPTT (rnn)."""
    bins: Annotated[int, _NOT_NEGATIVE] = 8
    """Bins of the piecewise-linear encoding of each feature; 0 for the features as they are."""
    kernel_size: Count = 5
    """Ticks that one convolution spans (cnn)."""
    norm: Annotated[str, OneOf(("none", "batch", "layer"))] = "layer"
    """Normalisation after each convolution: layer (over channels), batch or none (cnn)."""
    dropout: Share = 0.0
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


@dataclass(frozen=True)
class TrainOptions:
    """How the network is trained."""

    epochs: Count = 12
    """Passes over the training part at the most."""
    patience: Count = 3
    """Epochs without a better validation loss before training stops."""
    lr: Positive = 4e-3
    """Learning rate of Adam (AdamW: the weight decay is decoupled)."""
    lr_step: Count = 4
    """Epochs between two cuts of the learning rate (StepLR)."""
    lr_gamma: Positive = 0.5
    """Factor of each cut (StepLR)."""
    weight_decay: Annotated[float, _NO_LESS] = 0.0
    """Weight decay of AdamW."""
    clip_norm: Positive = 1.0
    """Gradients are scaled down to this norm."""
    average: Share = 0.995
    """Weights that are judged and kept: a running mean with this decay a step; 0 for none."""
    batch_size: CountOrNone = None
    """Segments in one step; 8, or fewer where an epoch would have less than 64 steps."""
    # `learn/batches.py` calls it a run: a segment of events is all that lies between two gaps.
    segment_length: CountOrNone = None
    """Predictions in one segment, history not counted; 256 or 4 x sequence_length, the longer."""
    calibration: Annotated[str, OneOf(CALIBRATIONS)] = "temperature"
    """Fitted on the validation part in the end."""
    seed: Annotated[int, _NOT_NEGATIVE] = 0
    """Seed of weights, segments and dropout."""
    device: Annotated[str, Words("DEVICE")] = "auto"
    """auto, cpu, cuda, or any other device of PyTorch."""
    threads: CountOrNone = None
    """CPU threads; by default all (cnn), or 1 (rnn: its steps are too small to share)."""


@dataclass(frozen=True)
class EvaluateOptions:
    """How a recipe is judged fold by fold, and what its predictions gain after costs."""

    networks: Annotated[tuple[str, ...], Words("NETWORK…"), _networks] = ()
    """Networks to judge side by side (cnn, rnn-gru, residual, ...); by default that of --type."""
    folds: Count = 5
    """Folds of the walk-forward; each trains afresh on its past."""
    scheme: Annotated[str, OneOf(("expanding", "sliding"))] = "expanding"
    """The past of a fold: all before it (expanding), or as many events as it has (sliding)."""
    embargo: Annotated[str | None, Words("DURATION"), _MAY_BE_0S] = None
    """Least time between what is learned from and what comes after it, e.g. 10m."""
    baselines: Annotated[tuple[str, ...], Words("BASELINE…"), _baselines] = ("trees",)
    """Baselines beside the cheap ones: trees, lecture_2018_leaky, all, or none."""
    audit: bool = True
    """Look for leaks: tamper with the future, recompute labels, shift them, train on a placebo."""
    fee_bps: Annotated[float, _FINITE] = 5.0
    """Fee of one trade, in hundredths of a percent, for the backtest's main line."""
    spread_bps: Annotated[float | None, _NO_LESS] = None
    """Bid-ask spread; by default estimated from the ticks."""
    latency: Annotated[str, Words("DURATION"), _MAY_BE_0S] = "100ms"
    """Time from a prediction to its trade."""
    jobs: CountOrNone = None
    """Processes that train folds; by default one a core."""


@dataclass(frozen=True)
class LiveOptions:
    """What is followed live, and how it is shown."""

    source: Annotated[str, Words("SOURCE"), _SOURCE] = ""
    """binance, kraken, any exchange that ccxt streams, replay or stdin."""
    symbol: Annotated[tuple[str, ...], Words("SYMBOL", "(repeatable)"), _symbols] = ()
    """Market as BASE/QUOTE, e.g. BTC/USDT; several are followed at once."""
    file: Annotated[str | None, Words("FILE")] = None
    """Ticks that --source replay plays: a file, folder or pattern."""
    speed: Annotated[str, Words("PACE"), _SPEED] = "1"
    """Pace of a replay: 1 is that of the ticks' times, 10 ten times as fast, max as it comes."""
    settle: Annotated[str, Words("DURATION"), _SETTLE] = "10ms"
    """An event counts as finished so long after its last trade; 0s waits for the next event."""
    journal: Folder = None
    """Folder of the journals, one a market; by default live/ in the run folder."""
    json: bool = False
    """Print JSON lines on a terminal, too."""
    dashboard: bool = False
    """Serve the page."""
    host: Annotated[str, Words("ADDRESS")] = "127.0.0.1"
    """Address of the page; any other than this machine's own needs --token."""
    port: Annotated[int, _PORT] = 8765
    """Port of the page."""
    token: Annotated[str | None, Words("TOKEN")] = None
    """Who shows it may see the page; by default $NEXTTICK_TOKEN."""


@dataclass(frozen=True)
class OutputOptions:
    """Where a run goes; no part of the recipe."""

    out: Folder = None
    """Run folder to make; by default the first free one of runs/TYPE-FILE or, of an evaluation,
    runs/evaluate-TYPE-FILE."""
    overwrite: bool = False
    """Replace an earlier run in --out."""
    resume: bool = False
    """Go on with the run in --out where it stopped, with its own files and recipe."""
    quiet: bool = False
    """Print results only, no progress."""


@dataclass(frozen=True)
class Recipe:
    """All that decides a run, data apart."""

    read: Annotated[ReadOptions, Words("Reading")] = ReadOptions()
    events: Annotated[EventOptions, Words("Event")] = EventOptions()
    features: Annotated[FeatureOptions, Words("Feature")] = FeatureOptions()
    labels: Annotated[LabelOptions, Words("Label")] = LabelOptions()
    split: Annotated[SplitOptions, Words("Split")] = SplitOptions()
    model: Annotated[ModelOptions, Words("Network")] = ModelOptions()
    train: Annotated[TrainOptions, Words("Training")] = TrainOptions()


def named_model(what: str, options: ModelOptions) -> ModelOptions:
    """The options with the type and architecture that a word names: cnn, dense, rnn-gru."""
    entries = [(kind, arch) for kind, archs in ARCHS.items() for arch in archs]
    names: dict[str, tuple[str, str | None]] = {arch: (kind, arch) for kind, arch in entries}
    names |= {f"{kind}-{arch}": (kind, arch) for kind, arch in entries}
    names |= {kind: (kind, options.arch) for kind in ARCHS}  # `rnn` is the type, not the cell
    if what not in names and ":" not in what:
        raise ValueError(f"{what!r} is no finished run and no model: {nearest(what, names)}")
    kind, arch = names.get(what, (what, None))
    return dataclasses.replace(options, type=kind, arch=arch)


def network_recipes(recipe: Recipe, options: EvaluateOptions) -> dict[str, Recipe]:
    """The recipe of each network that is judged, by its name."""
    models = [named_model(name, recipe.model) for name in options.networks] or [recipe.model]
    return {model.name: dataclasses.replace(recipe, model=model) for model in models}


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON values."""
    return dataclasses.asdict(recipe)


SECTIONS: dict[str, Any] = {f.name: type(f.default) for f in dataclasses.fields(Recipe)}


def _read_sections(values: dict[str, Any], sections: dict[str, Any]) -> dict[str, Any]:
    """Sections of options from plain values; what is not given stays at its default."""
    unknown = (name for name in values if name not in sections)
    wrong = [f"unknown section {name!r}: {nearest(name, sections)}" for name in unknown]
    parts: dict[str, dict[str, Any]] = {}
    for name, section in sections.items():
        given, hints, parts[name] = values.get(name, {}), get_type_hints(section), {}
        if not isinstance(given, dict):
            wrong.append(f"section {name!r} is {given!r}: give keys and values")
            continue
        for key, read in given.items():
            value = parts[name][key] = tuple(read) if isinstance(read, list) else read
            if key not in hints:
                wrong.append(f"unknown key {key!r} in {name!r}: {nearest(key, hints)}")
            elif not _fits(value, hints[key]):
                wrong.append(f"{key} in {name!r} is {value!r}, which is no {hints[key]}")
    refuse(wrong)
    return {name: sections[name](**given) for name, given in parts.items()}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type that a field is declared with."""
    if get_origin(hint) is tuple:
        one = get_args(hint)[0]
        return isinstance(value, tuple) and all(_fits(part, one) for part in value)
    kinds = get_args(hint) or (hint,)
    return type(value) in kinds or (type(value) is int and float in kinds)


@dataclass(frozen=True)
class EvaluationRecipe:
    """A recipe, how it is judged, and on which files."""

    recipe: Recipe = Recipe()
    evaluate: EvaluateOptions = EvaluateOptions()
    files: tuple[str, ...] = ()


def read_recipe(path: Path) -> EvaluationRecipe:
    """Read a recipe from a TOML file, closed to unknown keys."""
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
    """A recipe from plain values; every unknown section and key is told with the nearest one."""
    files = values.pop("files", [])
    if not (isinstance(files, list) and all(isinstance(file, str) for file in files)):
        raise ValueError(f"files is {files!r}: give a list of files, folders or globs")
    read = _read_sections(values, {**SECTIONS, "evaluate": EvaluateOptions})
    evaluate = read.pop("evaluate")
    return EvaluationRecipe(Recipe(**read), evaluate, tuple(files))
