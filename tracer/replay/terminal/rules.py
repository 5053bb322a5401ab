"""Halts at the last stop of a step in which a condition holds."""

from __future__ import annotations

from collections.abc import Iterable

from tracer.analysis.conditions.condition import Condition, find_hits
from tracer.replay.moment import Moment
from tracer.replay.timeline import Timeline
from tracer.replay.travel import Halt
from tracer.schema.run import StopName


class ConditionRules:
    """Halts where one of some conditions holds.

    Args:
        conditions: the conditions.
        stop: the last stop of a step.
    """

    def __init__(self, conditions: Iterable[Condition], stop: StopName) -> None:
        self._conditions = tuple(conditions)
        self._stop = stop

    def concerns(self, stop: StopName) -> bool:
        """Only the end of a step is of interest."""
        return bool(self._conditions) and stop == self._stop

    def pass_by(self, moment: Moment, timeline: Timeline) -> Halt | None:
        """Halt where a condition holds."""
        hits = find_hits(self._conditions, moment.step, moment.header, moment.tokens)
        return Halt("breakpoint", "\n".join(map(str, hits))) if hits else None
