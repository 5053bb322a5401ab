"""Watch the recorded steps for conditions, while they are recorded or later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from tracer.analysis.conditions.condition import Condition, Hit, find_hits
from tracer.schema.run import RunEnd, RunHeader, TokenText
from tracer.schema.step import Step

OnBreak = Literal["report", "stop", "exit"]
"""What follows when a condition holds: say so; end the generation after that step; and end in failure."""

MAX_HITS = 10_000


class BreakWatch:
    """Asks conditions of every step; a listener of the recorder, so on the writer's thread.

    Attributes:
        hits: what held, oldest first, the first ten thousand.
        last: what held in the step seen last.
    """

    def __init__(self, conditions: Sequence[Condition], on_hit: Callable[[Hit], None] | None = None) -> None:
        """Prepare.

        Args:
            conditions: what to ask.
            on_hit: told about each condition that holds, before anyone else hears of the step.
        """
        self.hits: list[Hit] = []
        self.last: tuple[Hit, ...] = ()
        self._conditions = tuple(conditions)
        self._on_hit = on_hit
        self._header: RunHeader | None = None

    def on_run(self, number: int, header: RunHeader, tokens: Mapping[int, TokenText]) -> None:
        """A run begins."""
        self._header, self.last = header, ()

    def on_step(self, step: Step, tokens: Mapping[int, TokenText]) -> None:
        """A step is there."""
        self.last = ()
        if self._header is None:
            return
        self.last = find_hits(self._conditions, step, self._header, tokens)
        self.hits += self.last[: MAX_HITS - len(self.hits)]
        for hit in self.last:
            if self._on_hit is not None:
                self._on_hit(hit)

    def on_end(self, end: RunEnd | None) -> None:
        """The run is over."""
        self._header = None
