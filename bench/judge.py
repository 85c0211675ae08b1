"""Scores, intervals and backtest of a network against the time in which it scores the same events.

    python -m bench.judge [--json] [--events 200000] [--repeats 7] [--threads 1 2]

`scoring` is `Predictor.score` of the default CNN (untrained, which costs the same). `evaluate` are
all its scores at two horizons, 1000 resamples and their intervals, with the base rate that its bits
are over; `contest` are the same for it and three baselines, and every interval of a difference.
`backtest` is a backtest of the network at both horizons, with the
curves against fee and latency and the interval of the break-even fee; it acts on the highest and
the lowest twentieth of the predictions, the middle of what thresholds are chosen from. All are
timed in turn within one run, with the same number of threads, and medians are compared: absolute
times mean nothing on a shared machine. `share` is what `evaluate` and `backtest` cost of `scoring`,
`contest share` what `contest` and `backtest` do.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from threadpoolctl import threadpool_limits  # scikit-learn's

from bench import running
from nexttick.judge.costs.backtest import backtest
from nexttick.judge.costs.spread import estimate_spread
from nexttick.judge.costs.trading import MidPrices, Thresholds
from nexttick.learn.baselines import fit_on_training
from nexttick.learn.baselines.base import Seen
from nexttick.learn.predictor.predictor import Predictor
from nexttick.networks.models import build_model
from nexttick.networks.models.encoding import fit_encodings
from nexttick.options import Recipe, SplitOptions
from nexttick.prepare.dataset import Prepared, prepare_ticks
from nexttick.scores.bootstrap import draw
from nexttick.scores.intervals import evaluate
from nexttick.ticks.simulated import SimulatedMarket, simulate

NETWORK = "network"
BASELINES = ("base_rate", "last_moves", "logistic")
FEE_BPS, LATENCY_S = 0.02, 0.5


@dataclass(frozen=True)
class Contest:
    """Events, an untrained network, and what all contestants say of them."""

    prepared: Prepared
    predictor: Predictor
    p_by_H: list[dict[str, NDArray[np.floating]]]
    sign_NH: NDArray[np.int8]


def enter(events: int) -> Contest:
    recipe = Recipe(split=SplitOptions(test=0.0))
    prepared = prepare_ticks(simulate(SimulatedMarket(ticks=events, seed=0)), recipe)
    torch.manual_seed(0)
    horizons = prepared.labels.names
    model = build_model(recipe.model, len(prepared.spec.names), len(horizons))
    fit_encodings(model, prepared.x_NF[: prepared.split.valid])
    predictor = Predictor(prepared.spec, prepared.scaler, recipe.model, horizons, model)
    p_NH = predictor.score(prepared.x_NF, prepared.starts).p_NH
    fitted, rows = fit_on_training(prepared), np.arange(len(p_NH))
    p_by_H = [
        {NETWORK: p_NH[:, h]}
        | {name: fitted[name][h].predict(Seen.of(prepared, h), rows) for name in BASELINES}
        for h in range(len(horizons))
    ]
    labels = prepared.labels
    sign_NH = np.where(labels.tie_NH, 0, np.where(labels.y_NH == 1, 1, -1)).astype(np.int8)
    return Contest(prepared, predictor, p_by_H, sign_NH)


def scoring(contest: Contest) -> None:
    contest.predictor.score(contest.prepared.x_NF, contest.prepared.starts)


def judge_all(contest: Contest, baselines: tuple[str, ...]) -> None:
    draw.cache_clear()
    for h, p_by in enumerate(contest.p_by_H):
        y = contest.prepared.labels.y_NH[:, h]
        rows = np.flatnonzero((y >= 0) & np.isfinite(p_by[NETWORK]))
        judged = evaluate(
            y[rows],
            {name: p_by[name][rows] for name in (NETWORK, *baselines)},
            sign=contest.sign_NH[rows, h],
            threads=torch.get_num_threads(),
        )
        for name in (NETWORK, *baselines):
            judged.intervals(name)
        for name in baselines:
            judged.differences(NETWORK, name)


def trading(contest: Contest) -> None:
    events, labels = contest.prepared.events, contest.prepared.labels
    spread_bps = estimate_spread(events, contest.prepared.starts).bps
    market = MidPrices.of(events, contest.prepared.spec.max_gap_ns, spread_bps)
    for h, p_by in enumerate(contest.p_by_H):
        p_N, known_at_N = p_by[NETWORK], labels.known_at_NH[:, h]
        thresholds = Thresholds(*np.nanquantile(p_N[:20_000], [0.05, 0.95]).tolist())
        signals = (market, thresholds.signals(p_N), known_at_N)
        threads = torch.get_num_threads()
        backtest(*signals, latency_s=LATENCY_S, fee_bps=FEE_BPS, threads=threads).metrics()


def measure_threads(contest: Contest, threads: int, repeats: int) -> dict[str, float]:
    """Median seconds of each part, and what judging costs of scoring."""
    parts: dict[str, Callable[[], None]] = {
        "scoring": lambda: scoring(contest),
        "evaluate": lambda: judge_all(contest, ("base_rate",)),
        "contest": lambda: judge_all(contest, BASELINES),
        "backtest": lambda: trading(contest),
    }
    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        median = {f"{name}_s": s for name, s in running.in_turns(parts, repeats).items()}
    both = {
        share: (median[part] + median["backtest_s"]) / median["scoring_s"]
        for share, part in (("share", "evaluate_s"), ("contest_share", "contest_s"))
    }
    return median | both


def measure(args: argparse.Namespace) -> running.Result:
    contest = enter(args.events)
    return {str(n): measure_threads(contest, n, args.repeats) for n in args.threads}


def show(result: running.Result) -> Iterator[Table]:
    timed = ("scoring", "evaluate", "contest", "backtest")
    yield running.table(
        *("threads", *(f"{part}, ms" for part in timed), "share", "contest share"),
        rows=(
            (
                threads,
                *(f"{1000 * row[f'{part}_s']:,.0f}" for part in timed),
                *(f"{row[key]:.3f}" for key in ("share", "contest_share")),
            )
            for threads, row in result.items()
        ),
    )


def main(words: Sequence[str] | None = None) -> None:
    options = running.parser(__doc__, events=200_000, repeats=7, threads=[1, os.cpu_count() or 1])
    running.run(options, measure, show, words)


if __name__ == "__main__":
    main()
