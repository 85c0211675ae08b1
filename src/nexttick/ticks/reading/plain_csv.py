"""A fast reader for the plainest CSV: unquoted decimal numbers, every line alike.

Why it is here. Files of millions of ticks are mostly of this kind, and a general reader spends its
time on what they do not have: quotes, blanks, signs, exponents, types to be guessed. This one reads
them, times to nanoseconds included, in the time that Polars takes for the bare columns
(`python -m bench.read`), and knows as it goes that no line is short and no number out of bounds.

Why its numbers are exact. A number that, its point left out, is below 2**53 and has at most 22
decimals is an integer divided by a power of ten: both are exact in a float64, and the division
rounds once (W. D. Clinger, "How to read floating point numbers accurately", PLDI 1990). Longer
numbers, which are few or the general reader is faster, are left to Python's `float`.

Why it has no errors of its own. At the first character that does not fit it gives up, and the
general reader says what is wrong with the line. So there is one place for messages, and nothing
that this one takes is read otherwise by the other: a test compares both, number for number.

Why it is built like this. The text is mapped, not copied, and cut into blocks of whole lines, which
threads parse without Python's lock. The first block is read before the others are handed out, for
most files that are not plain show it at once. The loop over a block never looks whether the text
has ended: the last byte is a line feed, where every field ends, or nothing is read at all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import polars as pl

_SKIP, _INTEGER, _FLOAT = 0, 1, 2
_BLOCK_BYTES = 1 << 20
_THREADS = max(1, min(os.cpu_count() or 1, 8))
_POWERS = 10.0 ** np.arange(23)
_EXACT = 2**53
_MOST_DIGITS = 18  # no more fit into an int64
_LONG_SHARE = 0.02  # with more long numbers than this, the general reader is faster
_COMMA, _POINT, _ZERO, _NINE, _FEED, _RETURN, _QUOTE = 44, 46, 48, 57, 10, 13, 34


@dataclass(frozen=True)
class Column:
    """What to do with a column of the file."""

    name: str | None = None  # what to call it; None to skip it
    whole: bool = False  # read int64, else float64
    scale: int = 1  # multiplies whole numbers
    lowest: int = 0  # the least whole number that is plain, before scaling
    highest: int = 10**_MOST_DIGITS - 1

    @property
    def kind(self) -> int:
        """Return the column's kind for the compiled loop."""
        return _SKIP if self.name is None else _INTEGER if self.whole else _FLOAT


def read_plain(
    body: bytes | Path, columns: Sequence[Column], *, has_header: bool
) -> pl.DataFrame | None:
    """Read the columns that have a name, of all that a text or file has; None if it isn't plain."""
    if isinstance(body, bytes):
        text = np.frombuffer(body, np.uint8)
    else:
        text = np.asarray(np.memmap(body, np.uint8, mode="r"))
    if len(text) == 0 or text[-1] != _FEED:
        return None
    blocks, start = [], text[:_BLOCK_BYTES].tobytes().find(b"\n") + 1 if has_header else 0
    while start < len(text):
        end = min(start + _BLOCK_BYTES, len(text))
        tail = text[end - min(4096, end - start) : end].tobytes()
        end -= len(tail) - 1 - tail.rfind(b"\n")
        # Text without a line feed for so long is not plain.
        if end <= start:
            return None
        blocks.append((start, end))
        start = end
    frames = [_read_block(text, block, columns) for block in blocks[:1]]
    if not frames or frames[0] is None:
        return None
    with ThreadPoolExecutor(_THREADS) as pool:
        frames += pool.map(lambda block: _read_block(text, block, columns), blocks[1:])
    read = [frame for frame in frames if frame is not None]
    return pl.concat(read, rechunk=False) if len(read) == len(frames) else None


def _read_block(
    text: np.ndarray, block: tuple[int, int], columns: Sequence[Column]
) -> pl.DataFrame | None:
    most = (block[1] - block[0]) // (2 * len(columns)) + 1
    plan = np.array([(c.kind, c.scale, c.lowest, c.highest) for c in columns])
    integers = np.empty(((plan[:, 0] == _INTEGER).sum(), most), np.int64)
    floats = np.empty(((plan[:, 0] == _FLOAT).sum(), most))
    long = np.empty((int(most * _LONG_SHARE) + 1, 4), np.int64)
    rows, n_long = _parse(text, *block, plan, integers, floats, long)
    if rows <= 0:
        return None
    for row, column, begin, end in long[:n_long]:
        floats[column, row] = float(text[begin:end].tobytes())
    values = {_INTEGER: iter(integers), _FLOAT: iter(floats)}
    return pl.DataFrame({c.name: next(values[c.kind])[:rows] for c in columns if c.name})


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _parse(text, begin, end, plan, integers, floats, long):  # type: ignore[no-untyped-def]
    """Parse a block; return its rows (-1: not plain), and how many numbers are left to `float`."""
    i, row, n_long, width = begin, 0, 0, len(plan)
    while i < end:
        integer, number = 0, 0
        for column in range(width):
            field, digits = i, 1
            if plan[column, 0] == _SKIP:
                while text[i] not in (_COMMA, _FEED, _RETURN, _QUOTE):
                    i += 1
            elif plan[column, 0] == _INTEGER:
                i, value, digits = _digits(text, i, 0)
                if digits > _MOST_DIGITS or not plan[column, 2] <= value <= plan[column, 3]:
                    return -1, 0
                integers[integer, row] = value * plan[column, 1]
                integer += 1
            else:
                i, value, digits, decimals = _decimal(text, i)
                if digits <= _MOST_DIGITS and value < _EXACT:
                    floats[number, row] = value / _POWERS[decimals]
                elif n_long < len(long):
                    long[n_long] = (row, number, field, i)
                    n_long += 1
                else:
                    return -1, 0
                number += 1
            is_last = column + 1 == width
            if is_last:
                i += text[i] == _RETURN
            if digits == 0 or text[i] != (_FEED if is_last else _COMMA):
                return -1, 0
            i += 1
        row += 1
    return row, n_long


@numba.njit(inline="always", error_model="numpy")
def _digits(text, start, value):  # type: ignore[no-untyped-def]
    i, c = start, text[start]
    while _ZERO <= c <= _NINE:
        value = value * 10 + (c - _ZERO)
        i += 1
        c = text[i]
    return i, value, i - start


@numba.njit(inline="always", error_model="numpy")
def _decimal(text, start):  # type: ignore[no-untyped-def]
    """Return a number's end, its digits as an integer, their count, and those after the point."""
    i, value, digits = _digits(text, start, 0)
    decimals = 0
    if text[i] == _POINT:
        i, value, decimals = _digits(text, i + 1, value)
        digits += decimals
        # Trailing zeros, as bitcoincharts writes them.
        while value >= _EXACT and value % 10 == 0 and decimals > 0:
            value //= 10
            decimals -= 1
    return i, value, digits, decimals
