"""Sources by the name that a command gives: archives, files, and every exchange that ccxt knows."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nexttick.config import nearest
from nexttick.sources.source import Source

Factory = Callable[..., Source]


def _binance_archive() -> Factory:
    from nexttick.sources.binance_archive import BinanceArchive

    return BinanceArchive


def _coinmarketcap() -> Factory:
    from nexttick.sources.coinmarketcap import CoinMarketCap

    return CoinMarketCap


def _bitcoincharts() -> Factory:
    from nexttick.sources.bitcoincharts import Bitcoincharts

    return Bitcoincharts


SOURCES: dict[str, Callable[[], Factory]] = {
    "binance-archive": _binance_archive,
    "coinmarketcap": _coinmarketcap,
    "bitcoincharts": _bitcoincharts,
}
"""Sources with a name of their own; each is imported when it is asked for."""


def open_source(name: str, symbol: str, options: Mapping[str, str] | None = None) -> Source:
    """The source of that name for one symbol.

    Args:
        name: one of `SOURCES`, a URL, a file or folder of ticks, or an exchange that ccxt knows.
        symbol: base and quote, as the source takes them: `BTC/USDT`.
        options: of the source, by name: `{"kind": "aggTrades"}`.

    Raises:
        ValueError: no such source, or it has no such option.
        SourceError: the source refuses what it was given.
    """
    given = dict(options or {})
    if name in SOURCES:
        return _made(SOURCES[name](), name, (symbol,), given)
    if "://" in name or Path(name).expanduser().exists():
        from nexttick.sources.files import Files

        return _made(Files, name, (name, symbol), given)
    if "/" in name or name.startswith((".", "~")):
        raise ValueError(f"{name}: no such file or folder; check the path")
    from ccxt import exchanges

    if name not in exchanges:
        close = difflib.get_close_matches(name.lower(), [*SOURCES, *exchanges], n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(
            f"source {name!r} is unknown: {hint}Known: {', '.join(SOURCES)}, URLs, files and "
            f"folders of ticks, and {len(exchanges)} exchanges by their ccxt names, as kraken"
        )
    from nexttick.sources.exchanges import open_exchange

    return _made(open_exchange, name, (name, symbol), given)


def _made(factory: Factory, name: str, first: tuple[str, ...], given: dict[str, str]) -> Source:
    """Call a factory with options that came as text.

    Raises:
        ValueError: an option is unknown, or its text is no value of its kind.
    """
    parameters = list(inspect.signature(factory).parameters.values())[len(first) :]
    kinds = {one.name: kind for one in parameters if (kind := _kind(one)) is not None}
    values: dict[str, Any] = {}
    for option, text in given.items():
        if option not in kinds:
            raise ValueError(f"source {name} has no option {option!r}: {nearest(option, kinds)}")
        try:
            values[option] = _PARSERS[kinds[option]](text)
        except (ValueError, KeyError) as error:
            what = _KINDS[kinds[option]]
            raise ValueError(f"option {option} of source {name}: {text!r} is no {what}") from error
    return factory(*first, **values)


_KINDS: dict[type, str] = {
    str: "text", int: "whole number", float: "number", bool: "yes or no"
}  # fmt: skip
_PARSERS: dict[type, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: lambda text: {"yes": True, "true": True, "no": False, "false": False}[text.lower()],
}
_SECRET = "key"  # a command line is seen by all: keys come from the environment


def _kind(parameter: inspect.Parameter) -> type | None:
    """The type of an option that can be given as text; None where it is no such option."""
    if parameter.name == _SECRET:
        return None
    if parameter.default is None and "str" in str(parameter.annotation):
        return str
    return type(parameter.default) if type(parameter.default) in _KINDS else None
