"""Ticks of one time stamp and side merged into events, whole or in chunks.

A market order that eats through the book prints many ticks at one instant. Nobody can act
between them, so they are one event: its first, last and volume-weighted price, its summed
amount and its number of ticks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl
from numba import njit
from numpy.typing import NDArray


def merge_events(ticks: pl.DataFrame, *, raw_ticks: bool = False) -> pl.DataFrame:
    """Merge each run of ticks with one time stamp and one side into an event.

    With `raw_ticks` every tick is an event of its own. The columns are `time` (ns), `first`,
    `price` (the last of the event), `vwap`, `amount` (summed), `side`, `count` (ticks merged) and,
    from simulated markets, `truth` (of the last tick).
    """
    ends = _run_ends(ticks, raw_ticks)
    price, amount = ticks["price"].to_numpy(), ticks["amount"].to_numpy()
    first, vwap, total, count = _aggregate(price, amount, ends)
    columns = {
        "time": ticks["time"].to_numpy()[ends],
        "first": first,
        "price": price[ends],
        "vwap": vwap,
        "amount": total,
        "side": ticks["side"].to_numpy()[ends],
        "count": count,
    }
    if "truth" in ticks.columns:
        columns["truth"] = ticks["truth"].to_numpy()[ends]
    return pl.DataFrame(columns)


def merge_chunks(
    chunks: Iterable[pl.DataFrame], *, raw_ticks: bool = False
) -> Iterator[pl.DataFrame]:
    """`merge_events` over consecutive pieces of a long history, in bounded memory.

    A chunk is held back until the next one shows whether its last run goes on there.
    """
    held: pl.DataFrame | None = None
    for chunk in chunks:
        ticks = chunk
        if held is not None:
            ends = _run_ends(held, raw_ticks)
            complete = int(ends[-2]) + 1 if len(ends) > 1 else 0
            if complete:
                yield merge_events(held[:complete], raw_ticks=raw_ticks)
            ticks = pl.concat([held[complete:], chunk])
        held = ticks
    if held is not None:
        yield merge_events(held, raw_ticks=raw_ticks)


def merge_run(price: NDArray[np.float64], amount: NDArray[np.float64]) -> tuple[float, float]:
    """Volume-weighted price and summed amount of ticks that are one event, as above."""
    _, vwap, total, _ = _aggregate(price, amount, np.array([len(price) - 1]))
    return float(vwap[0]), float(total[0])


def _run_ends(ticks: pl.DataFrame, raw_ticks: bool) -> NDArray[np.int64]:
    """Index of the last tick of each run of one time stamp and side."""
    if raw_ticks:
        return np.arange(len(ticks))
    time, side = ticks["time"].to_numpy(), ticks["side"].to_numpy()
    changes = (time[1:] != time[:-1]) | (side[1:] != side[:-1])
    return np.append(np.flatnonzero(changes), len(time) - 1)[: len(time)]


@njit(cache=True, nogil=True)
def _aggregate(price, amount, ends):  # type: ignore[no-untyped-def]
    n = len(ends)
    first, vwap, total = np.empty(n), np.empty(n), np.empty(n)
    count = np.empty(n, np.int64)
    start = 0
    for i in range(n):
        stop = ends[i] + 1
        volume = amount[start:stop].sum()
        first[i] = price[start]
        # A single tick keeps its price to the last bit, which p·a/a would not.
        vwap[i] = (
            price[start]
            if stop == start + 1
            else ((price[start:stop] * amount[start:stop]).sum() / volume)
        )
        total[i], count[i] = volume, stop - start
        start = stop
    return first, vwap, total, count
