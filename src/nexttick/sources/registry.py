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
    known = list(inspect.signature(factory).parameters.values())[len(first) :]
    kinds = {one.name: type(one.default) for one in known if type(one.default) in (str, int, float)}
    values: dict[str, Any] = {}
    for option, text in given.items():
        if option not in kinds:
            raise ValueError(f"source {name} has no option {option!r}: {nearest(option, kinds)}")
        try:
            values[option] = kinds[option](text)
        except ValueError as error:
            kind = "whole number" if kinds[option] is int else "number"
            raise ValueError(f"option {option} of source {name}: {text!r} is no {kind}") from error
    return factory(*first, **values)
