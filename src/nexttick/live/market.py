"""One market, live: trades in, predictions out, each in the journal before it is said.

Everything here is synchronous: a batch of messages is taken in, predicted, scored and committed
before the next one. What is said follows from the journal alone, so that a killed process goes on
as if nothing had been.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nexttick.learn.predictor.predictor import Predictor
from nexttick.learn.predictor.stepper import Stepper
from nexttick.live.drift import Drift
from nexttick.live.journal.journal import Journal
from nexttick.live.merging import Event, Merger
from nexttick.live.outcomes import OutcomeTracker
from nexttick.live.page.board import Board, Skill
from nexttick.live.promises import Band, Promise
from nexttick.live.records import Checkpoint, Outcome, Prediction, Reset, Resumed
from nexttick.live.scoring import LiveScores
from nexttick.options import LabelOptions
from nexttick.venues.messages import Gap, Message, Trade

CHECKPOINT_EVENTS = 5000  # between two states in the journal
QUIET_S = 60.0  # between two words on warnings, which may come and go
_log = logging.getLogger(__name__)


@dataclass
class _Batch:
    """What follows from a batch of messages."""

    predictions: list[Prediction] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    resets: list[Reset] = field(default_factory=list)


class Market:
    """A predictor that follows one market, and takes up what its journal, open for writing, holds.

    Promises are by horizon. `last_trade` is the last one known, for the feed to go on from.

    Raises:
        ValueError: the journal does not fit the predictor.
    """

    def __init__(
        self, predictor: Predictor, promises: dict[str, Promise], journal: Journal, board: Board
    ):
        identity = journal.identity
        horizons = tuple(name.removeprefix("rise@") for name in identity.horizons)
        options = LabelOptions(horizons, identity.ties, identity.smooth)
        self.journal, self.board, self.promises = journal, board, promises
        self.stepper, self.merger = Stepper(predictor), Merger(identity.raw_ticks)
        self._outcomes = OutcomeTracker(options, identity.max_gap_ns)
        self._scores = LiveScores(promises)
        shares = predictor.training_shares
        self._drift = None if shares is None else Drift(shares, predictor.spec.names)
        self._unknown = [float("nan")] * len(horizons)
        self._events, self._trades = journal.events, journal.trades
        # Trades in the state, events at the last checkpoint.
        self._included = self._kept_events = 0
        self.last_trade: Trade | None = None
        # Whether all that the state includes is in the journal.
        self._sound = True
        self._warned, self._quiet_until_s = False, 0.0
        self._resume()
        # The first time is slow: now, and not between two trades.
        self.report()

    # --- the newest messages

    def take(self, messages: Sequence[Message]) -> list[Prediction]:
        """Take messages in and commit what follows; gives the predictions that may be said now.

        Raises:
            OSError: the journal cannot be written; nothing of the batch is kept or said.
        """
        # Until the commit the state is ahead of the journal: a process that ends here must not
        # keep it.
        self._sound, batch = False, _Batch()
        for message in messages:
            if isinstance(message, Gap):
                self._cut(message, batch)
                continue
            event = self.merger.take(message, self._trades)
            if event is not None:
                self._predict(event, message.arrived_ns, batch)
            self._trades += 1
            self.last_trade = message
        return self._commit(messages, batch)

    def settle(self) -> list[Prediction]:
        """End the open event, of which no more trades are expected, and commit its prediction."""
        event = self.merger.end()
        if event is None:
            return []
        self._sound, batch = False, _Batch()
        self._predict(event, time.time_ns(), batch)
        return self._commit((), batch)

    def close(self) -> None:
        """Keep the state, and close the journal. An open event stays open."""
        try:
            if self._sound:
                self.journal.append(checkpoint=self._checkpoint())
        finally:
            self.journal.close()

    def report(self) -> None:
        """Bring scores, drift and warnings to the board, and log that warnings begin or end."""
        skill, unknown = {}, Band(*[float("nan")] * 3)
        for name, both in self._scores.scores().items():
            if scores := both["window"] or both["all"]:
                bits, loss, auc = (scores[key] for key in ("bits", "log_loss", "auc"))
                band = self.promises[name].bands.get("bits", unknown)
                skill[name] = Skill(bits, band.low, band.high, loss, int(scores["n"]), auc)
        self.board.scored(skill)
        warnings = self._scores.warnings()
        if self._drift is not None:
            self.board.drifted(self._drift.psi(), self._drift.limits)
            warnings += self._drift.warnings()
        self.board.warn(warnings)
        now_s = time.monotonic()
        if bool(warnings) == self._warned or now_s < self._quiet_until_s:
            return
        self._warned, self._quiet_until_s = bool(warnings), now_s + QUIET_S
        for words in warnings:
            _log.warning("%s: %s", self.board.name, words)
        if not warnings:
            _log.info("%s: scores and features are within their bands again", self.board.name)

    def _predict(self, event: Event, completed_ns: int, batch: _Batch) -> None:
        time_ns, price = event.values[0], event.values[2]
        p = self._step(event)
        said_ns = time.time_ns()
        p_H = self._unknown if p is None else p.tolist()
        said = Prediction(self._events, time_ns, price, event.trade, said_ns, p_H)
        batch.predictions.append(said)
        batch.outcomes += self._outcomes.take(said)
        self.board.predicted(time_ns, price, p_H, max(said_ns - completed_ns, 0))
        self._events += 1
        self._included = event.trade + 1

    def _step(self, event: Event) -> NDArray[np.float32] | None:
        p_H = self.stepper.step(event.values)
        if self._drift is not None:
            self._drift.take(self.stepper.engine.x_F)
        return p_H

    def _cut(self, gap: Gap, batch: _Batch) -> None:
        """Trades are missing: what is open ends here, and all is begun anew."""
        event = self.merger.end()
        if event is not None:
            self._predict(event, time.time_ns(), batch)
        batch.outcomes += self._outcomes.cut()
        self.stepper.reset()
        batch.resets.append(Reset(self._trades, self._events, gap.until_ns, gap.reason))
        self.board.gap(gap.since_ns, gap.until_ns, gap.reason)
        self.board.reset(gap.until_ns, gap.reason)

    def _commit(self, messages: Sequence[Message], batch: _Batch) -> list[Prediction]:
        # A state is kept in one transaction with the events that it includes.
        due = self._events - self._kept_events >= CHECKPOINT_EVENTS
        checkpoint = self._checkpoint() if due else None
        self.journal.append(messages, batch.predictions, batch.outcomes, batch.resets, checkpoint)
        self._sound = True
        self._scores.add(batch.outcomes)
        return batch.predictions

    def _checkpoint(self) -> Checkpoint:
        self._kept_events = self._events
        window = {} if self._drift is None else self._drift.state()
        return Checkpoint(self._included, self._events, self.stepper.snapshot(window))

    # --- what the journal holds

    def _resume(self, *, older: bool = False) -> None:
        """Take up where the last process stopped, by the journal alone."""
        resumed = self.journal.resume(older=older)
        if resumed.checkpoint is not None:
            self._included, self._kept_events, state = resumed.checkpoint
            try:
                window = self.stepper.restore(state)
                if self._drift is not None and window:
                    self._drift.load(window)
            except ValueError as error:
                if not older and self.journal.resume(older=True).checkpoint is not None:
                    _log.warning(
                        "%s: its newest state cannot be taken up (%s): going on from the one "
                        "before it, by the trades since",
                        self.journal.path,
                        error,
                    )
                    # The journal leads from there to just where the newest one stood.
                    self._resume(older=True)
                    return
                raise ValueError(
                    f"{self.journal.path}: its state cannot be taken up ({error}): go on with the "
                    f"version of nexttick that wrote it, or begin another with --journal FOLDER"
                ) from error
            self.merger.last_ns = resumed.last_event_ns  # which a reset leaves as it is
        self._repeat(resumed)
        self._outcomes.rebuild(resumed.waiting, resumed.known_H)
        # Scores are no part of a state: they are those of all that the journal holds.
        for horizon in range(len(self._unknown)):
            for y, p in self.journal.scored(horizon):
                self._scores.add_many(horizon, y, p)
        self.last_trade = resumed.last_trade

    def _repeat(self, resumed: Resumed) -> None:
        """Step through trades again, events ending where they ended then; nothing is said."""
        ends = {prediction.trade for prediction in resumed.predictions}
        anew = {reset.trade for reset in resumed.resets}
        for number, trade in enumerate(resumed.trades, self._included):
            if number in anew:
                self.stepper.reset()
            self.merger.take(trade, number)
            if number in ends and (event := self.merger.end()):
                self._step(event)
                self._included = number + 1
        if self._trades in anew:
            self.stepper.reset()
