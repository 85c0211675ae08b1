"""Small random markets for the tests: bursts, ties, sweeps at one time stamp, and gaps."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
from hypothesis import settings
from hypothesis import strategies as st

from nexttick.options import FeatureOptions, LabelOptions, ModelOptions, Recipe, TrainOptions
from nexttick.prepare.events import merge_events
from nexttick.prepare.features import FeatureSpec
from nexttick.ticks.simulated import SimulatedMarket, simulate

S_NS = 1_000_000_000
GAP_NS = 60 * S_NS  # the pause that ends a segment in these markets
START_NS = 1_700_000_000 * S_NS + 123_456_789
SIDES = ("known", "unknown", "mixed")

# The same examples on every machine; deadlines would fail on a busy one.
quick = settings(max_examples=25, deadline=None, derandomize=True)
few = settings(max_examples=8, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def random_ticks(seed: int, n: int = 120, *, sides: str = "mixed", gaps: int = 2) -> pl.DataFrame:
    """Draw n ticks.

    Prices lie on a grid and often stay; times come in bursts, often several ticks at one; sweeps
    move the price within one time stamp; `gaps` pauses are longer than `GAP_NS`.
    """
    rng = np.random.default_rng(seed)
    busy = np.repeat(rng.random(n // 10 + 1) < 0.5, 10)[:n]
    pause_ns = (rng.exponential(np.where(busy, 0.2, 5.0)) * S_NS).astype(np.int64)
    pause_ns = np.minimum(pause_ns, GAP_NS // 2)
    pause_ns[rng.random(n) < 0.3] = 0
    pause_ns[rng.integers(1, n, gaps)] = GAP_NS + rng.integers(1, 10**13, gaps)
    time = START_NS + np.cumsum(pause_ns)
    if rng.random() < 0.5:  # some venues' clocks know whole seconds only
        time = time // S_NS * S_NS
    steps = rng.choice([-2, -1, 0, 0, 0, 1, 2], n)
    side = rng.choice(np.array([-1, 1], np.int8), n)
    # A sweep is one order: its ticks share time and side.
    for i in range(1, n):
        if time[i] == time[i - 1] and rng.random() < 0.7:
            side[i] = side[i - 1]
    if sides == "unknown":
        side[:] = 0
    elif sides == "mixed":
        side[rng.random(n) < 0.4] = 0
    return pl.DataFrame(
        {
            "time": time,
            "price": 100 + 0.1 * np.cumsum(steps),
            "amount": np.round(rng.lognormal(0, 1.5, n), 3) + 0.001,
            "side": side,
        }
    )


def random_events(seed: int, n: int = 120, *, sides: str = "mixed", gaps: int = 2) -> pl.DataFrame:
    """Events of random ticks."""
    return merge_events(random_ticks(seed, n, sides=sides, gaps=gaps))


def tampered(ticks: pl.DataFrame, start: int, how: str, seed: int = 0) -> pl.DataFrame:
    """The same ticks or events up to `start`, others from there on; as many, and still in order.

    Args:
        ticks: ticks or events.
        start: first row that changes.
        how: `noise`, `shuffle`, `scale`, `stretch` (times too), `huge` or `nan`.
        seed: of the noise and the shuffle.
    """
    rng = np.random.default_rng(seed)
    past, future = ticks[:start], ticks[start:]
    floats = [name for name, kind in ticks.schema.items() if kind == pl.Float64]
    if how == "noise":
        future = future.with_columns(pl.col(floats) * np.exp(rng.normal(size=len(future))))
        future = future.with_columns(side=-pl.col("side"))
    elif how == "shuffle":
        order = rng.permutation(len(future))
        future = future.with_columns(pl.exclude("time").gather(order))
    elif how == "scale":
        future = future.with_columns(pl.col(floats) * 1000.0)
    elif how == "stretch":
        first = ticks["time"][start - 1]
        future = future.with_columns(
            pl.col(floats) * 0.5, time=first + (pl.col("time") - first) * 3 + S_NS
        )
    else:
        value = {"nan": float("nan"), "huge": 1e300}[how]
        future = future.with_columns(pl.lit(value).alias(name) for name in floats)
    return pl.concat([past, future])


TAMPERINGS = ("noise", "shuffle", "scale", "stretch", "huge", "nan")
FINITE_TAMPERINGS = ("noise", "shuffle", "scale", "stretch")


@cache
def simulated_ticks(n: int, seed: int = 5) -> pl.DataFrame:
    """A market with something to learn, and its `truth`."""
    return simulate(SimulatedMarket(n, seed))


def tiny_spec() -> FeatureSpec:
    """Two half-lives in events, one in seconds."""
    return FeatureSpec(GAP_NS, (2.0, 16.0), (10.0,))


def tiny_recipe(kind: str = "cnn", **train: object) -> Recipe:
    """A recipe that trains in a blink."""
    given = {"epochs": 2, "batch_size": 4, "segment_length": 32, "device": "cpu", **train}
    return Recipe(
        features=FeatureOptions((2.0, 16.0), (10.0,)),
        labels=LabelOptions(("1", "5", "5s", "move")),
        model=tiny_model(kind),
        train=TrainOptions(**given),  # type: ignore[arg-type]
    )


def tiny_model(kind: str = "cnn", norm: str = "layer", dropout: float = 0.0) -> ModelOptions:
    """Two narrow layers over 8 ticks."""
    return ModelOptions(
        kind,
        num_layers=2,
        hidden_size=6,
        sequence_length=8,
        kernel_size=3,
        norm=norm,
        dropout=dropout,
    )
