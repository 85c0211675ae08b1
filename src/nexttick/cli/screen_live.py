"""A table on the terminal of what is said now, drawn a few times a second."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from types import TracebackType

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from nexttick.live.market import Market
from nexttick.live.records import Prediction
from nexttick.venues.messages import Health

_PER_S = 4


class Watching:
    """The newest prediction of each market, and how its feed fares.

    Args:
        markets: each with the health of its feed.
        console: where it is drawn.
    """

    def __init__(self, markets: Sequence[tuple[Market, Health]], console: Console):
        self._markets = markets
        self._newest: dict[int, Prediction] = {}
        self._live = Live(
            get_renderable=self._table,
            console=console,
            refresh_per_second=_PER_S,
            redirect_stderr=sys.stderr.isatty(),  # above the table, unless it goes to a file
        )

    def __enter__(self) -> Watching:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, market: Market, predictions: Sequence[Prediction]) -> None:
        """Remember the newest; it is drawn with the next picture."""
        self._newest[id(market)] = predictions[-1]

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("market", "time, UTC", "price", *self._horizons(), "events", "feed"):
            table.add_column(heading, justify="left" if heading in ("market", "feed") else "right")
        for market, health in self._markets:
            newest = self._newest.get(id(market))
            cells = _said(newest) if newest else ["", "", *("" for _ in self._horizons())]
            table.add_row(market.board.name, *cells, f"{market.journal.events:,}", _fares(health))
        return table

    def _horizons(self) -> list[str]:
        names = (name for market, _ in self._markets for name in market.promises)
        return [f"p {name}" for name in dict.fromkeys(names)]


def _said(newest: Prediction) -> list[str]:
    time = str(np.datetime64(newest.time_ns, "ns"))[11:23]
    p_H = ("" if math.isnan(p) else f"{p:.3f}" for p in newest.p_H)
    return [time, f"{newest.price:.12g}", *p_H]


def _fares(health: Health) -> str:
    counts = {
        "gaps": health.gaps,
        "reconnects": health.reconnects,
        "filled in": health.backfilled,
        "duplicates": health.duplicates,
        "malformed": health.malformed,
    }
    told = [f"{count:,} {what}" for what, count in counts.items() if count]
    return ", ".join(["connected" if health.connected else "not connected", *told])
