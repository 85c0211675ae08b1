"""nexttick: does the price rise next? Learning it from trade ticks, and judging it honestly."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexttick.config import Recipe
    from nexttick.fetching import fetch
    from nexttick.formats import read_pandas, read_ticks, to_pandas
    from nexttick.job import prepare, train_network
    from nexttick.predictor import Predictor
    from nexttick.sources.registry import open_source
    from nexttick.sources.simulated import SimulatedMarket, simulate
    from nexttick.store import Store
    from nexttick.ticks import TickError
    from nexttick.writing import write_table

__version__ = "0.1.0"
__all__ = [
    "Predictor",
    "Recipe",
    "SimulatedMarket",
    "Store",
    "TickError",
    "fetch",
    "open_source",
    "prepare",
    "read_pandas",
    "read_ticks",
    "simulate",
    "to_pandas",
    "train_network",
    "write_table",
]
_MODULES = {
    "Predictor": "predictor",
    "Recipe": "config",
    "SimulatedMarket": "sources.simulated",
    "Store": "store",
    "TickError": "ticks",
    "fetch": "fetching",
    "open_source": "sources.registry",
    "prepare": "job",
    "read_pandas": "formats",
    "read_ticks": "formats",
    "simulate": "sources.simulated",
    "to_pandas": "formats",
    "train_network": "job",
    "write_table": "writing",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: `import nexttick` loads nothing heavy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
