"""The tick record, the one error that means "bad data", and cleaning.

A tick is one trade of a market. In memory ticks are a Polars DataFrame with the columns of
`SCHEMA`; every reader and every source ends here, and nothing downstream knows venues.
"""

from __future__ import annotations

import polars as pl

SCHEMA: dict[str, pl.DataType] = {
    "time": pl.Int64(),  # ns since 1970-01-01, UTC
    "price": pl.Float64(),
    "amount": pl.Float64(),
    "side": pl.Int8(),  # +1 the buyer took, -1 the seller took, 0 unknown
}
OPTIONAL: dict[str, pl.DataType] = {
    "id": pl.Int64(),  # the venue's own number of the trade
    "truth": pl.Float64(),  # simulated markets only: the true probability of `rise@1`
}


class TickError(ValueError):
    """Bad data: the message names what, where, the value and the cure."""
