"""Watch recorded steps for conditions, during the run or later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from tracer.analysis.conditions.condition import Condition, Hit, find_hits
from tracer.schema.run import RunEnd, RunHeader, TokenText
from tracer.schema.step import Step

OnBreak = Literal["report", "stop", "exit"]
"""What to do when a condition holds: report it; end the generation after that step; end it in failure."""

MAX_HITS = 10_000
"""Hits that a watch records."""


class BreakWatch:
    """Evaluates conditions on every step, as a listener of the recorder (on the writer's thread).

    Args:
        conditions: the conditions.
        on_hit: called with each hit, before the later listeners get the step.
        since: the first step that is meant.

    Attributes:
        hits: what held, oldest first, at most :data:`MAX_HITS`.
        last: what held in the most recent step.
    """

    def __init__(
        self,
        conditions: Sequence[Condition],
        on_hit: Callable[[Hit], None] | None = None,
        *,
        since: int = 1,
    ) -> None:
        self.hits: list[Hit] = []
        self.last: tuple[Hit, ...] = ()
        self._conditions = tuple(conditions)
        self._on_hit = on_hit
        self._since = since
        self._header: RunHeader | None = None

    def on_run(self, number: int, header: RunHeader, tokens: Mapping[int, TokenText]) -> None:
        """Start watching a run; its header is what conditions are evaluated with."""
        self._header, self.last = header, ()

    def on_step(self, step: Step, tokens: Mapping[int, TokenText]) -> None:
        """Evaluate the conditions on a step."""
        self.last = ()
        if self._header is None or step.number < self._since:
            return
        self.last = find_hits(self._conditions, step, self._header, tokens)
        self.hits += self.last[: MAX_HITS - len(self.hits)]
        for hit in self.last:
            if self._on_hit is not None:
                self._on_hit(hit)

    def on_end(self, end: RunEnd | None) -> None:
        """Stop watching the run."""
        self._header = None
