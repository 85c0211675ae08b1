"""A process that keeps a journal of a made-up market, to be killed: python journal_writer.py …

Its predictions hang on every trade before them, so that a state that goes on wrongly shows. It
imports nothing heavy, because tests start it many times.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

from nexttick.live.journal.journal import Journal
from nexttick.live.journal.schema import Identity
from nexttick.live.records import Checkpoint, Outcome, Prediction
from nexttick.venues.messages import Trade

START_NS = 1_700_000_000_000_000_000
DELAYS = (1, 4)  # events until the outcome at each horizon
IDENTITY = Identity(
    fingerprint="f" * 64,
    source="made-up",
    symbol="BTC/USDT",
    horizons=("rise@1", "rise@4"),
    ties="down",
    smooth=False,
    max_gap_ns=60_000_000_000,
    raw_ticks=False,
    base_rates=(0.3, 0.4),
    run="runs/made-up",
)


def trade(i: int) -> Trade:
    return Trade(START_NS + i, 100 + i * 7919 % 13 / 10, 0.5, 1, 1000 + i, START_NS + i + 7)


class Stepper:
    """Two trades in three end an event; what is said of it is a number made of all trades."""

    def __init__(self, state: bytes = b"0 0 0"):
        self.trades, self.events, self.digest = map(int, state.split())

    def state(self) -> bytes:
        return f"{self.trades} {self.events} {self.digest}".encode()

    def step(self, one: Trade) -> Prediction | None:
        self.digest = (self.digest * 31 + one.id) % (2**61 - 1)
        self.trades += 1
        if self.trades % 3 == 0:
            return None
        p_H = ((self.digest % 997 + 1) / 999, (self.digest % 977 + 1) / 979)
        self.events += 1
        number = self.events - 1
        return Prediction(number, one.time_ns, one.price, self.trades - 1, one.time_ns + 9, p_H)


def outcomes_by(one: Prediction) -> Iterator[Outcome]:
    """What the event makes known of those before it; the answers are made up."""
    for h, delay in enumerate(DELAYS):
        if one.event >= delay:
            event = one.event - delay
            y = event * 5 % 7 % 2
            yield Outcome(event, h, y, y == 0 and event % 3 == 0, one.time_ns, 0.5)


def whole(trades: int) -> tuple[list[Prediction], list[Outcome]]:
    """What a writer that is never killed has written after so many trades."""
    stepper = Stepper()
    said = [one for one in map(stepper.step, map(trade, range(trades))) if one is not None]
    return said, [outcome for one in said for outcome in outcomes_by(one)]


def resumed(journal: Journal) -> Stepper:
    """The stepper where the last process stopped; what it says again must be what was said."""
    told = journal.resume()
    stepper = Stepper(told.checkpoint.state) if told.checkpoint else Stepper()
    again = [one for one in map(stepper.step, told.trades) if one is not None]
    if again != told.predictions or stepper.trades != journal.trades:
        raise AssertionError(f"{again} is not what was said: {told.predictions}")
    return stepper


def write(path: Path, seed: int, batches: int) -> None:
    """Write batches of a few trades, and print what was said once it is committed."""
    rng = random.Random(seed)
    with Journal(path, IDENTITY, sync_s=0.002, log_bytes=2**16) as journal:
        stepper = resumed(journal)
        for _ in range(batches):
            trades = [trade(stepper.trades + k) for k in range(rng.randint(1, 6))]
            said = [one for one in map(stepper.step, trades) if one is not None]
            outcomes = [outcome for one in said for outcome in outcomes_by(one)]
            checkpoint = None
            if rng.random() < 0.1:
                checkpoint = Checkpoint(stepper.trades, stepper.events, stepper.state())
            journal.append(trades, said, outcomes, checkpoint=checkpoint)
            for one in said:
                print(one.event, *one.p_H)
            sys.stdout.flush()


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
