"""Opening a feed by its name. What a feed needs is imported when it is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexttick.live.messages import Feed
from nexttick.live.waits import Waits

if TYPE_CHECKING:
    from nexttick.live.stream import Venue

OWN = ("binance", "kraken", "replay", "stdin")


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
        from nexttick.live.replay import Replay

        return Replay(file, speed, symbol)
    if source == "stdin":
        from nexttick.live.stdin import Stdin

        return Stdin(symbol)
    if not all(symbol.partition("/")):
        raise ValueError(f"symbol={symbol!r}: give base and quote, e.g. BTC/USDT")
    if source in OWN and ":" not in symbol:  # BTC/USDT:USDT is a future
        from nexttick.live.stream import Stream

        waits = waits or Waits()
        return Stream(_venue(source, symbol, ws_url, rest_url, waits), symbol, waits)
    return _through_ccxt(source, symbol, waits or Waits(delay_s=0.1), options)


def _venue(
    source: str, symbol: str, ws_url: str | None, rest_url: str | None, waits: Waits
) -> Venue:
    from nexttick.live import binance, kraken
    from nexttick.live.rest import Rest

    module = {"binance": binance, "kraken": kraken}[source]
    name = source.upper()
    ws_url = ws_url or os.environ.get(f"NEXTTICK_{name}_WS") or module.WS_URL
    rest_url = rest_url or os.environ.get(f"NEXTTICK_{name}_REST") or module.REST_URL
    _check_url(ws_url, ("ws://", "wss://"))
    _check_url(rest_url, ("http://", "https://"))
    times = waits.open_s, waits.first_s, waits.longest_s
    if source == "kraken":
        return kraken.Kraken(symbol, ws_url, Rest(rest_url, {}, *times))
    headers = {"X-MBX-TIME-UNIT": "MICROSECOND"}
    if key := os.environ.get("NEXTTICK_BINANCE_KEY"):
        headers["X-MBX-APIKEY"] = key
    return binance.Binance(symbol, ws_url, Rest(rest_url, headers, *times))


def _check_url(url: str, schemes: tuple[str, ...]) -> None:
    if not url.startswith(schemes):
        raise ValueError(f"address {url!r}: it begins with {' or '.join(schemes)}")


def _through_ccxt(
    source: str, symbol: str, waits: Waits, options: Mapping[str, Any] | None
) -> Feed:
    import ccxt.pro

    if source not in ccxt.pro.exchanges:
        near = get_close_matches(source.lower(), {*OWN, *ccxt.pro.exchanges}, 3)
        likely = ", ".join(near) or f"{', '.join(OWN)}, or an exchange that ccxt streams"
        raise ValueError(f"source={source!r} is not known; did you mean {likely}?")
    from nexttick.live.ccxt_feed import CcxtFeed

    return CcxtFeed(source, symbol, waits, options)
