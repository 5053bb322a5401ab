"""A moment of a recorded run: a position, and what the recording holds there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from tracer.replay.shelf import Shelf
from tracer.replay.timeline import Position
from tracer.schema.run import RunHeader, StopName, TokenText
from tracer.schema.step import Step
from tracer.tracefile import TraceRun


@dataclass(frozen=True, eq=False)
class Moment:
    """A position of a run.

    Attributes:
        shelf: reads the run.
        position: where in the run.
        stops: the stops that each step passes, in order.
    """

    shelf: Shelf
    position: Position
    stops: tuple[StopName, ...]

    @property
    def run(self) -> TraceRun:
        """The run."""
        return self.shelf.run

    @property
    def header(self) -> RunHeader:
        """Its header."""
        return self.run.header

    @property
    def tokens(self) -> Mapping[int, TokenText]:
        """Texts of its tokens."""
        return self.run.tokens

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        return len(self.header.prompt)

    @cached_property
    def step(self) -> Step:
        """The step.

        Raises:
            TraceFileError: it is damaged.
        """
        return self.shelf.step(self.position.step)

    def passed(self, stop: StopName) -> bool:
        """Whether the line of a stop has run in this step.

        Args:
            stop: one of the run's stops.
        """
        return stop in self.stops and self.stops.index(stop) < self.stops.index(self.position.stop)
