"""The journey through a recording: moves in both directions, and where they halt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from tracer.halting.stops import HALTS
from tracer.replay.moment import Moment
from tracer.replay.shelf import Shelf
from tracer.replay.timeline import Position, Timeline, passed_stops
from tracer.schema.run import StopName
from tracer.tracefile import TraceRun

Reason = Literal["entry", "step", "breakpoint", "exception", "goto", "beginning", "end"]
"""Why a journey halts."""


@dataclass(frozen=True)
class Standstill:
    """Why a journey halts at a moment.

    Attributes:
        reason: the kind of reason.
        text: it in words; empty where there is nothing to add.
        row: the row that it concerns; None for all.
        breakpoints: numbers of the breakpoints that were met.
        finding: the kind of finding; empty for anything else.
    """

    reason: Reason
    text: str = ""
    row: int | None = None
    breakpoints: tuple[int, ...] = ()
    finding: str = ""


class Rules(Protocol):
    """Where a journey halts."""

    def concerns(self, stop: StopName) -> bool:
        """Whether it may halt at a stop at all; nothing is read of positions where it cannot."""

    def pass_by(self, moment: Moment, timeline: Timeline) -> Standstill | None:
        """Come to a moment, and say whether the journey halts there."""


class NoRules:
    """Nothing halts the journey."""

    def concerns(self, stop: StopName) -> bool:
        """No stop halts it."""
        return False

    def pass_by(self, moment: Moment, timeline: Timeline) -> Standstill | None:
        """Go on."""
        return None


class Travel:
    """Moves through a run.

    Args:
        run: the run.
        stops: the stops that it halts at.
        standing: where a run in progress stands (:class:`~tracer.replay.timeline.Timeline`), to begin there.

    Attributes:
        timeline: the run's positions.
        position: where it stands.

    Raises:
        UsageError: the run has no step, or passes none of the stops.
    """

    def __init__(
        self, run: TraceRun, stops: tuple[StopName, ...] = HALTS, standing: Position | None = None
    ) -> None:
        self.timeline = Timeline(run, stops, standing)
        self.position = standing or self.timeline.first
        self._shelf = Shelf(run)
        self._passed = passed_stops(run.header)
        self._moment = self._at(self.position)

    @property
    def moment(self) -> Moment:
        """Where it stands, and what the recording holds there."""
        if self._moment.position != self.position:
            self._moment = self._at(self.position)
        return self._moment

    def begin(self) -> Standstill:
        """Go to the beginning."""
        return self.go(self.timeline.first, "entry")

    def go(self, position: Position, reason: Reason = "goto") -> Standstill:
        """Go to a position.

        Args:
            position: where to.
            reason: why it halts there.
        """
        self.position = position
        return Standstill(reason)

    def stop_by_stop(self, rules: Rules, *, back: bool) -> Standstill:
        """Go to the next stop, or to the one before.

        Args:
            rules: what else may halt there.
            back: towards the beginning.
        """
        move = self.timeline.before if back else self.timeline.after
        return self._move(move(self.position), rules, back=back)

    def token_by_token(self, rules: Rules, *, back: bool) -> Standstill:
        """Go to the first stop of the next step, or of the one before.

        Args:
            rules: what else may halt there.
            back: towards the beginning.
        """
        move = self.timeline.step_before if back else self.timeline.step_after
        return self._move(move(self.position), rules, back=back)

    def run(self, rules: Rules, *, back: bool) -> Standstill:
        """Go on until something halts, at the latest at the end or the beginning.

        Args:
            rules: what halts.
            back: towards the beginning.
        """
        for position in self.timeline.onwards(self.position, back=back):
            halt = self._come_to(position, rules)
            if halt is not None:
                self.position = position
                return halt
        self.position = self.timeline.first if back else self.timeline.last
        return Standstill("beginning" if back else "end")

    def _move(self, position: Position | None, rules: Rules, *, back: bool) -> Standstill:
        if position is None:
            return Standstill("beginning" if back else "end")
        halt = self._come_to(position, rules)
        self.position = position
        return halt or Standstill("step")

    def _come_to(self, position: Position, rules: Rules) -> Standstill | None:
        return rules.pass_by(self._at(position), self.timeline) if rules.concerns(position.stop) else None

    def _at(self, position: Position) -> Moment:
        return Moment(self._shelf, position, self._passed)
