"""One breakpoint at the line of a stop."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tracer.analysis.conditions.condition import Condition
from tracer.replay.breaks.hit_condition import HitCondition
from tracer.replay.moment import Moment
from tracer.replay.timeline import Timeline
from tracer.schema.run import StopName

_EXPRESSION = re.compile(r"\{([^{}]+)\}")
"""What a log message evaluates."""


@dataclass(frozen=True)
class Met:
    """A breakpoint that a journey has come to, its conditions holding.

    Attributes:
        row: the row for which its condition holds; None without a condition, or where all rows are alike.
        why: the condition and the values that made it hold; empty without one.
    """

    row: int | None = None
    why: str = ""


class Breakpoint:
    """A breakpoint at the line of a stop.

    How often it was met is counted from the beginning of the recording, whichever way one comes to it.

    Args:
        number: its number, by which a client knows it.
        stop: the stop.
        condition: must hold for the step.
        hit_condition: must hold for the count.
        log: message to print in place of halting; expressions in it stand in braces.
    """

    def __init__(
        self,
        number: int,
        stop: StopName,
        condition: Condition | None = None,
        hit_condition: HitCondition | None = None,
        log: str = "",
    ) -> None:
        self.number = number
        self.stop = stop
        self.log = log
        self._condition = condition
        self._hit_condition = hit_condition
        self._held: dict[int, bool] = {}

    def meet(self, moment: Moment, timeline: Timeline) -> Met | None:
        """Whether it halts, or logs, at a moment.

        Args:
            moment: the moment.
            timeline: the run's positions.
        """
        if moment.position.stop != self.stop:
            return None
        met = Met()
        if self._condition is not None:
            hit = self._condition.find(moment.step, moment.header, moment.tokens)
            if hit is None:
                return None
            met = Met(hit.row, str(hit))
        if self._hit_condition is not None and not self._hit_condition.holds(
            self._count(moment, timeline), moment
        ):
            return None
        return met

    def message(self, evaluate: Callable[[str], str]) -> str:
        """The log message of this moment.

        Args:
            evaluate: gives the value of an expression in one line.
        """
        return _EXPRESSION.sub(lambda found: evaluate(found[1].strip()), self.log)

    def _count(self, moment: Moment, timeline: Timeline) -> int:
        condition = self._condition
        numbers = [number for number in timeline.steps if number <= moment.position.step]
        if condition is None:
            return len(numbers)
        for number in numbers:
            if number not in self._held:
                step = moment.shelf.step(number)
                self._held[number] = condition.holds(step, moment.header, moment.tokens)
        return sum(self._held[number] for number in numbers)
