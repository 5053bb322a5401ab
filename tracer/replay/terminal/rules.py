"""Halts at the last stop of a step in which a condition holds."""

from __future__ import annotations

from collections.abc import Iterable

from tracer.analysis.conditions.condition import Condition, find_hits
from tracer.replay.moment import Moment
from tracer.replay.timeline import Timeline
from tracer.replay.travel import Standstill
from tracer.schema.run import StopName


class ConditionRules:
    """Halts where one of some conditions holds.

    Args:
        conditions: the conditions.
    """

    def __init__(self, conditions: Iterable[Condition]) -> None:
        self._conditions = tuple(conditions)

    def concerns(self, stop: StopName) -> bool:
        """Any stop may be the last of its step."""
        return bool(self._conditions)

    def pass_by(self, moment: Moment, timeline: Timeline) -> Standstill | None:
        """Halt at the end of a step in which a condition holds."""
        position = moment.position
        if position.stop != timeline.stops_of(position.step)[-1]:
            return None
        hits = find_hits(self._conditions, moment.step, moment.header, moment.tokens)
        return Standstill("breakpoint", "\n".join(map(str, hits))) if hits else None
