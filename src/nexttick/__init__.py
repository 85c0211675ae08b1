"""nexttick: does the price rise next? Learning it from trade ticks, and judging it honestly."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexttick.learn.predictor.predictor import Predictor as Predictor
    from nexttick.learn.train import train_network as train_network
    from nexttick.options import Recipe as Recipe
    from nexttick.prepare.dataset import prepare_ticks as prepare_ticks
    from nexttick.ticks.reading.read import read_pandas as read_pandas
    from nexttick.ticks.reading.read import read_ticks as read_ticks
    from nexttick.ticks.reading.read import to_pandas as to_pandas
    from nexttick.ticks.record import TickError as TickError
    from nexttick.ticks.simulated import SimulatedMarket as SimulatedMarket
    from nexttick.ticks.simulated import simulate as simulate
    from nexttick.ticks.store import Store as Store
    from nexttick.ticks.store.fetch import fetch as fetch
    from nexttick.ticks.writing import write_table as write_table
    from nexttick.venues.opening import open_source as open_source

__version__ = "0.1.0"
_MODULES = {
    "Predictor": "learn.predictor.predictor",
    "Recipe": "options",
    "SimulatedMarket": "ticks.simulated",
    "Store": "ticks.store",
    "TickError": "ticks.record",
    "fetch": "ticks.store.fetch",
    "open_source": "venues.opening",
    "prepare_ticks": "prepare.dataset",
    "read_pandas": "ticks.reading.read",
    "read_ticks": "ticks.reading.read",
    "simulate": "ticks.simulated",
    "to_pandas": "ticks.reading.read",
    "train_network": "learn.train",
    "write_table": "ticks.writing",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: `import nexttick` loads nothing heavy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
