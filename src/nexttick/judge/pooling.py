"""What all contestants said of the same events, and all that is reported of it, as plain values.

One held-out part or the test parts of many folds: both are a table of answers (`Pooled`), and
`report` makes of it what `metrics.json` holds. The page draws the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from nexttick.learn.baselines import Fitted, is_leaky
from nexttick.learn.baselines.base import Seen
from nexttick.learn.predictor.predictor import Predictor
from nexttick.prepare.dataset import Prepared
from nexttick.prepare.labels import MISSING
from nexttick.scores.intervals import evaluate
from nexttick.scores.metrics import log_losses
from nexttick.scores.reliability import reliability_curve
from nexttick.ticks.gaps import segment_starts
from nexttick.ticks.record import TickError

ROC_POINTS = 101
_PAIRED = ("bits", "auc", "brier", "mcc", "accuracy")  # whose differences are reported


@dataclass(frozen=True)
class Pooled:
    """Out-of-sample answers of all contestants; the first network leads.

    The table has a row an event of any test part: `event`, `fold`, `time`, `price`, and for each
    horizon `y_h`, `tie_h` and `<contestant>_h`, and `raw_<network>_h`.
    """

    table: pl.DataFrame
    networks: tuple[str, ...]
    baselines: tuple[str, ...]
    horizons: tuple[str, ...]

    @classmethod
    def of(
        cls,
        table: pl.DataFrame,
        events: pl.DataFrame,
        networks: Sequence[str],
        horizons: tuple[str, ...],
    ) -> Pooled:
        """From answers alone: times and prices are those of the events, the rest are baselines."""
        at = table["event"].to_numpy()
        table = table.with_columns(time=events["time"].gather(at), price=events["price"].gather(at))
        others = {"y", "tie", *networks, *(f"raw_{name}" for name in networks)}
        first = f"_{horizons[0]}"
        named = [name.removesuffix(first) for name in table.columns if name.endswith(first)]
        baselines = tuple(name for name in named if name not in others)
        return cls(table, tuple(networks), baselines, horizons)

    @property
    def contestants(self) -> tuple[str, ...]:
        """Networks, then baselines."""
        return self.networks + self.baselines

    def rows(self, horizon: str) -> pl.DataFrame:
        """Events whose label is known and of which every contestant says something.

        Columns are `event`, `fold`, `y`, `tie`, each contestant and `raw_<network>`.
        """
        raw = [f"raw_{name}" for name in self.networks]
        names = ("y", "tie", *self.contestants, *raw)
        columns = {name: pl.col(f"{name}_{horizon}") for name in names}
        said = [pl.col(name).is_finite() for name in self.contestants]
        rows = self.table.select("event", "fold", **columns).filter(pl.col("y") != MISSING, *said)
        if rows.is_empty():
            raise TickError(f"no event of any fold can be scored at {horizon}: give more ticks")
        return rows


def ask_network(
    predictor: Predictor, prepared: Prepared, rows: NDArray[np.int64]
) -> dict[str, NDArray[np.generic]]:
    """What a network says of these events: columns `p_h` and, before calibration, `raw_h`."""
    p_NH, raw_NH, _ = predictor.score(prepared.x_NF, prepared.starts)
    columns: dict[str, NDArray[np.generic]] = {}
    for h, name in enumerate(predictor.horizons):
        columns[f"p_{name}"], columns[f"raw_{name}"] = p_NH[rows, h], raw_NH[rows, h]
    return columns


def ask_baselines(
    fitted: Fitted, prepared: Prepared, rows: NDArray[np.int64]
) -> dict[str, NDArray[np.generic]]:
    """What baselines say of these events: columns `<baseline>_h`, with `y_h` and `tie_h`."""
    columns: dict[str, NDArray[np.generic]] = {}
    labels = prepared.labels
    for h, horizon in enumerate(labels.names):
        columns[f"y_{horizon}"] = labels.y_NH[rows, h]
        columns[f"tie_{horizon}"] = labels.tie_NH[rows, h]
        seen = Seen.of(prepared, h)
        for name, ones in fitted.items():
            columns[f"{name}_{horizon}"] = ones[h].predict_all(seen, rows)
    return columns


def report(pooled: Pooled, events: pl.DataFrame, resamples: int = 1000) -> dict[str, Any]:
    """What `metrics.json` says of the answers; `report_data` says the rest.

    No costs and no audit are asked for here: `backtest` and `audit` say so. `events` are all of
    them, in which the answers' `event` counts. A horizon without an event is a `TickError`.
    """
    # Horizon by horizon, so that the rows of one only are held beside the table.
    at = {horizon: _report_horizon(pooled, horizon, resamples) for horizon in pooled.horizons}

    def of(part: str, name: Any) -> dict[str, Any]:
        return {horizon: one[part][name] for horizon, one in at.items()}

    networks = {name: of("scores", name) for name in pooled.networks}
    folds = pooled.table.group_by(number="fold", maintain_order=True).agg(
        events=pl.len(), from_ns=pl.col("time").first(), to_ns=pl.col("time").last()
    )
    return {
        "test": networks[pooled.networks[0]],
        "networks": networks,
        "baselines": {name: of("scores", name) for name in pooled.baselines},
        "leaky": [name for name in pooled.baselines if is_leaky(name)],
        "differences": {
            network: {
                other: of("differences", (network, other))
                for other in pooled.contestants
                if other != network
            }
            for network in pooled.networks
        },
        "bootstrap": {horizon: one["bootstrap"] for horizon, one in at.items()},
        **_report_truth(pooled, events, resamples),
        "folds": [fold | {"bits": of("bits", fold["number"])} for fold in folds.to_dicts()],
        "reliability": {name: of("reliability", name) for name in pooled.networks},
        "roc": {horizon: one["roc"] for horizon, one in at.items()},
        "backtest": None,
        "audit": {"passed": None},
    }


def _report_horizon(pooled: Pooled, horizon: str, resamples: int) -> dict[str, Any]:
    """Scores, differences, blocks, each fold's bits, reliability and ROC at one horizon."""
    # Imported here, for it takes a second and most commands do without.
    from sklearn.metrics import roc_curve

    rows = pooled.rows(horizon)
    y, tie, fold_N = (rows[name].to_numpy() for name in ("y", "tie", "fold"))
    p_by = {name: rows[name].to_numpy() for name in pooled.contestants}
    sign = np.where(y == 1, 1, np.where(tie, 0, -1)).astype(np.int8)
    scored = evaluate(y, p_by, sign=sign, resamples=resamples)
    scores, differences, reliability = {}, {}, {}
    for name in pooled.contestants:
        intervals = {key: [one.low, one.high] for key, one in scored.intervals(name).items()}
        scores[name] = {**scored.scores[name], "intervals": intervals}
    for network in pooled.networks:
        for other in pooled.contestants:
            paired = scored.differences(network, other)
            differences[network, other] = {key: list(paired[key]) for key in _PAIRED}
        said = {"before": rows[f"raw_{network}"].to_numpy(), "after": p_by[network]}
        reliability[network] = {
            when: reliability_curve(y, p, scored.resampler).to_dict(as_series=False)
            for when, p in said.items()
        }
    losses, bits = {name: log_losses(y, p) for name, p in p_by.items()}, {}
    for number in pooled.table["fold"].unique():
        own = fold_N == number
        means = {name: float(loss[own].mean()) for name, loss in losses.items() if own.any()}
        bits[number] = {name: (means["base_rate"] - x) / math.log(2) for name, x in means.items()}
    grid = np.linspace(0, 1, ROC_POINTS)
    # Of one class there is no curve. Of two all thresholds are kept, or it would be cut short.
    roc = {name: np.full(ROC_POINTS, math.nan) for name in p_by}
    if 0 < y.mean() < 1:
        for name, p in p_by.items():
            roc[name] = np.interp(grid, *roc_curve(y, p, drop_intermediate=False)[:2])
    return {
        "scores": scores,
        "differences": differences,
        "bootstrap": {
            "block_events": scored.resampler.block,
            "blocks": scored.resampler.blocks,
            "long_enough": bool(scored.resampler.long_enough),
        },
        "bits": bits,
        "reliability": reliability,
        "roc": {k: curve.tolist() for k, curve in {"false_positive_rate": grid, **roc}.items()},
    }


def _report_truth(pooled: Pooled, events: pl.DataFrame, resamples: int) -> dict[str, Any]:
    """On a simulated market, how much of what can be known of the next price each one knows.

    By contestant the `share` of the attainable information, (loss of base rate - loss) / (loss of
    base rate - loss of truth), and `bits_over_truth` with its interval. Nothing where the market
    gives no true probabilities, or they answer another question.
    """
    asked, table = "rise@1", pooled.table
    if "truth" not in events.columns or asked not in pooled.horizons:
        return {}
    # They are those of a rise among all next prices: where ties are left out, they are no measure.
    if table.select((pl.col(f"tie_{asked}") & (pl.col(f"y_{asked}") == MISSING)).any()).item():
        return {}
    rows = pooled.rows(asked)
    p_by = {name: rows[name].to_numpy() for name in pooled.contestants}
    p_by["truth"] = events["truth"].gather(rows["event"]).to_numpy()
    scored = evaluate(rows["y"].to_numpy(), p_by, resamples=resamples)
    attainable = scored.scores["truth"]["bits"]
    return {
        "truth": {
            name: {
                "share": scored.scores[name]["bits"] / attainable if attainable else math.nan,
                "bits_over_truth": list(scored.differences(name, "truth")["bits"]),
            }
            for name in pooled.contestants
        }
    }


def report_data(
    pooled: Pooled, events: pl.DataFrame, data_hash: str, max_gap_ns: int, files: Sequence[str]
) -> dict[str, Any]:
    """`data` of `metrics.json`, of all events and of those that were held out."""
    table, time_ns = pooled.table, events["time"].to_numpy()
    return {
        "files": list(files),
        "hash": data_hash,
        "ticks": int(events["count"].sum()),
        "events": len(events),
        "segments": len(segment_starts(time_ns, max_gap_ns)),
        "max_gap_s": max_gap_ns / 1e9,
        "first_ns": int(time_ns[0]),
        "test_from_ns": table["time"][0],
        "last_ns": int(time_ns[-1]),
        "test_events": len(table),
        "ties": {name: float(table[f"tie_{name}"].to_numpy().mean()) for name in pooled.horizons},
    }
