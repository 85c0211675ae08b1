"""Sources by the name that a command gives: archives, files, and every exchange that ccxt knows."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from nexttick.options import nearest
from nexttick.ticks.source import Source
from nexttick.venues import binance, kraken
from nexttick.venues.messages import Feed
from nexttick.venues.retrying import Waits

Factory = Callable[..., Source]


def _archive(module: str, name: str) -> Callable[[], Factory]:
    return lambda: getattr(import_module(f"nexttick.venues.archives.{module}"), name)


SOURCES: dict[str, Callable[[], Factory]] = {
    "binance-archive": _archive("binance_archive", "BinanceArchive"),
    "coinmarketcap": _archive("coinmarketcap", "CoinMarketCap"),
    "bitcoincharts": _archive("bitcoincharts", "Bitcoincharts"),
}
"""Sources with a name of their own; each is imported when it is asked for."""


def ccxt_names(part: str = "") -> list[str]:
    """Exchanges that ccxt has, or its part `pro`, by its files: importing them is slow."""
    spec = find_spec("ccxt")
    assert spec is not None
    assert spec.origin is not None
    return sorted(file.stem for file in (Path(spec.origin).parent / part).glob("[!_]*.py"))


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
    factory: Factory
    first: tuple[str, ...] = (name, symbol)
    if name in SOURCES:
        factory, first = SOURCES[name](), (symbol,)
    elif "://" in name or Path(name).expanduser().exists():
        from nexttick.venues.archives.files import Files

        factory = Files
    elif "/" in name or name.startswith((".", "~")):
        raise ValueError(f"{name}: no such file or folder; check the path")
    else:
        exchanges = ccxt_names()
        if name not in exchanges:
            close = get_close_matches(name.lower(), [*SOURCES, *exchanges], n=3)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise ValueError(
                f"source {name!r} is unknown: {hint}Known: {', '.join(SOURCES)}, URLs, files and "
                f"folders of ticks, and {len(exchanges)} exchanges by their ccxt names, as kraken"
            )
        from nexttick.venues.exchanges import open_exchange

        factory = open_exchange
    # Options come as text: what they are to be is what the factory has for a default.
    kinds: dict[str, type] = {}
    for one in list(inspect.signature(factory).parameters.values())[len(first) :]:
        text_or_none = one.default is None and "str" in str(one.annotation)
        kind = str if text_or_none else type(one.default)
        if kind in _PARSERS and one.name != _SECRET:
            kinds[one.name] = kind
    values: dict[str, Any] = {}
    for option, text in (options or {}).items():
        if option not in kinds:
            raise ValueError(f"source {name} has no option {option!r}: {nearest(option, kinds)}")
        try:
            what, parse = _PARSERS[kinds[option]]
            values[option] = parse(text)
        except (ValueError, KeyError) as error:
            raise ValueError(f"option {option} of source {name}: {text!r} is no {what}") from error
    return factory(*first, **values)


_YES_OR_NO = {"yes": True, "true": True, "no": False, "false": False}
_PARSERS: dict[type, tuple[str, Callable[[str], Any]]] = {
    str: ("text", str),
    int: ("whole number", int),
    float: ("number", float),
    bool: ("yes or no", lambda text: _YES_OR_NO[text.lower()]),
}
_SECRET = "key"  # a command line is seen by all: keys come from the environment


class OwnStream(NamedTuple):
    """A venue's own stream, its addresses, and what REST is to send."""

    stream: Callable[..., Feed]
    ws_url: str
    rest_url: str
    headers: Mapping[str, str] = {}
    key_header: str = ""  # that carries $NEXTTICK_<VENUE>_KEY, of a venue that may want one


STREAMS = {
    "binance": OwnStream(
        binance.BinanceStream,
        binance.WS_URL,
        binance.REST_URL,
        binance.MICROSECONDS,
        "X-MBX-APIKEY",
    ),
    "kraken": OwnStream(kraken.KrakenStream, kraken.WS_URL, kraken.REST_URL),
}
"""Venues with a stream of their own; others are followed through ccxt."""
OWN = (*STREAMS, "replay", "stdin")


def open_feed(
    source: str,
    symbol: str = "",
    *,
    file: str | Path | None = None,
    speed: float | None = 1.0,
    ws_url: str | None = None,
    rest_url: str | None = None,
    waits: Waits | None = None,
    options: Mapping[str, Any] | None = None,
) -> Feed:
    """Return a feed; nothing is connected before its batches are gone through.

    Args:
        source: `binance`, `kraken`, `replay`, `stdin`, or an exchange as ccxt names it.
        symbol: base and quote, `BTC/USDT`; of `replay` and `stdin` what to call the market.
        file: what `replay` plays: a file, folder or pattern that `read_ticks` takes.
        speed: of `replay`: 1, 10, …, None for full speed.
        ws_url: another address of `binance` or `kraken`, without the path (Binance.US, a testnet);
            otherwise $NEXTTICK_BINANCE_WS or $NEXTTICK_KRAKEN_WS, otherwise the venue's own.
        rest_url: likewise, $NEXTTICK_BINANCE_REST or $NEXTTICK_KRAKEN_REST.
        waits: how long for what.
        options: for ccxt's class, e.g. other `urls`.

    Raises:
        ValueError: no such source (with the nearest names), or an argument that it cannot use.
        TickError: `file` holds no ticks.
    """
    if source == "replay":
        if file is None:
            raise ValueError("source replay needs a file")
        from nexttick.venues.feeds.replay import Replay

        return Replay(file, speed, symbol)
    if source == "stdin":
        from nexttick.venues.feeds.stdin import Stdin

        return Stdin(symbol)
    if not all(symbol.partition("/")):
        raise ValueError(f"symbol={symbol!r}: give base and quote, e.g. BTC/USDT")
    if source in STREAMS and ":" not in symbol:  # BTC/USDT:USDT is a future
        from nexttick.venues.http import Rest

        live, named, waits = STREAMS[source], f"NEXTTICK_{source.upper()}", waits or Waits()
        ws_url = ws_url or os.environ.get(f"{named}_WS") or live.ws_url
        rest_url = rest_url or os.environ.get(f"{named}_REST") or live.rest_url
        for url, schemes in ((ws_url, ("ws://", "wss://")), (rest_url, ("http://", "https://"))):
            if not url.startswith(schemes):
                raise ValueError(f"address {url!r}: it begins with {' or '.join(schemes)}")
        key = os.environ.get(f"{named}_KEY") if live.key_header else None
        secrets = {live.key_header: key} if key else {}
        rest = Rest(rest_url, live.headers, waits.open_s, waits.first_s, waits.longest_s, secrets)
        return live.stream(symbol, ws_url, rest, waits)
    streamed = ccxt_names("pro")
    if source not in streamed:
        near = get_close_matches(source.lower(), {*OWN, *streamed}, 3)
        likely = ", ".join(near) or f"{', '.join(OWN)}, or an exchange that ccxt streams"
        raise ValueError(f"source={source!r} is not known; did you mean {likely}?")
    from nexttick.venues.feeds.ccxt_feed import CcxtFeed

    return CcxtFeed(source, symbol, waits or Waits(delay_s=0.1), options)
