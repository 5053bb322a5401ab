"""The stops of a recorded run in the order in which the library passed them, and the way between them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tracer.errors import UsageError
from tracer.halting.stops import HALTS
from tracer.schema.run import Phase, RunHeader, RunStatus, StopName
from tracer.schema.step import Step
from tracer.tracefile import TraceRun

_ONLY_WHEN_SAMPLING: tuple[StopName, ...] = ("warpers", "softmax")
"""Lines that a greedy ``_sample`` jumps over."""


@dataclass(frozen=True)
class Position:
    """A stop of a step: the library is about to run its line.

    Attributes:
        step: number of the step, from 1.
        stop: which stop.
    """

    step: int
    stop: StopName

    @property
    def phase(self) -> Phase:
        """The phase of the run that its step belongs to."""
        return "prefill" if self.step == 1 else "decode"


def reached(step: Step, header: RunHeader, stops: tuple[StopName, ...]) -> tuple[StopName, ...]:
    """The stops whose lines a step came to: all, unless the run failed in it.

    Args:
        step: the step.
        header: the run's header.
        stops: the stops of any other step, in order.
    """
    failure = step.head.failure
    if failure is None:
        return stops
    last = header.number(failure.stop)
    return tuple(stop for stop in stops if header.number(stop) <= last)


def passed_stops(header: RunHeader) -> tuple[StopName, ...]:
    """The stops that each step of a run passes, in order.

    Args:
        header: the run's header.
    """
    skipped = () if header.do_sample else _ONLY_WHEN_SAMPLING
    if header.loop == "_assisted_decoding" and header.anchor("softmax") is None:
        skipped = (*skipped, "softmax")  # speculative sampling does it inside of its choice
    return tuple(stop for stop in header.stops if stop in HALTS and stop not in skipped)


class Timeline:
    """The positions of a run, first to last.

    Steps that are written meanwhile belong to it as soon as they are committed.

    Args:
        run: the run.
        wanted: the stops that are meant; all others are passed by.
        standing: where a run in progress stands in its last step; None for one that stands behind a step, and
            for a recorded one.

    Attributes:
        stops: those of them that each step passes, in order; a step in which the run failed passes the first.

    Raises:
        UsageError: the run has no step, or passes none of the stops.
    """

    def __init__(
        self, run: TraceRun, wanted: tuple[StopName, ...] = HALTS, standing: Position | None = None
    ) -> None:
        passed = passed_stops(run.header)
        self.stops = tuple(stop for stop in passed if stop in wanted)
        self._run = run
        self._standing = standing
        self._last: tuple[int, tuple[StopName, ...]] | None = None
        if not self.stops:
            raise UsageError(
                f"A greedy run does not pass {', '.join(wanted)}; it passes {', '.join(passed)}."
            )
        if not self.steps:
            raise UsageError(f"Run {run.number} holds no step: it ended before its first token.")

    @property
    def header(self) -> RunHeader:
        """The run's header."""
        return self._run.header

    @property
    def steps(self) -> Sequence[int]:
        """Numbers of the recorded steps, rising."""
        return self._run.steps.numbers

    @property
    def first(self) -> Position:
        """Where the recording begins."""
        return Position(self.steps[0], self.stops[0])

    @property
    def last(self) -> Position:
        """Where the recording ends."""
        return self._end_of(self.steps[-1])

    def stops_of(self, step: int) -> tuple[StopName, ...]:
        """The stops of a step, in order; fewer in the last, where the run failed or stands in it.

        Args:
            step: number of the step.
        """
        standing = self._standing
        if standing is not None and step == standing.step:
            return self.stops[: self.stops.index(standing.stop) + 1]
        if step != self.steps[-1] or _went_well(self._run):
            return self.stops
        if self._last is None or self._last[0] != step:
            came_to = reached(self._run.steps.number(step), self._run.header, self.stops)
            # One that failed before the first of the chosen stops is shown there.
            self._last = step, came_to or self.stops[:1]
        return self._last[1]

    def _end_of(self, step: int) -> Position:
        return Position(step, self.stops_of(step)[-1])

    def at(self, step: int, stop: StopName | None = None) -> Position:
        """A stop of a step; by default its first.

        Args:
            step: number of the step.
            stop: which stop.

        Raises:
            UsageError: the step was not recorded.
        """
        steps = self.steps
        place = bisect_left(steps, step)
        if place == len(steps) or steps[place] != step:
            raise UsageError(
                f"step {step} was not recorded; the recording has the steps {steps[0]} to {steps[-1]}"
            )
        wanted, stops = stop or self.stops[0], self.stops_of(step)
        if wanted not in stops:
            raise UsageError(f"the run failed in step {step}, before {wanted}")
        return Position(step, wanted)

    def after(self, position: Position) -> Position | None:
        """The next stop; None at the end.

        Args:
            position: where to start.
        """
        stops = self.stops_of(position.step)
        place = stops.index(position.stop) + 1
        return Position(position.step, stops[place]) if place < len(stops) else self.step_after(position)

    def before(self, position: Position) -> Position | None:
        """The stop before; None at the beginning.

        Args:
            position: where to start.
        """
        place = self.stops.index(position.stop)
        if place:
            return Position(position.step, self.stops[place - 1])
        earlier = self.step_before(position)
        return earlier and self._end_of(earlier.step)

    def step_after(self, position: Position) -> Position | None:
        """The first stop of the next step, that is of the next token; None in the last step.

        Args:
            position: where to start.
        """
        steps = self.steps
        place = bisect_right(steps, position.step)
        return Position(steps[place], self.stops[0]) if place < len(steps) else None

    def step_before(self, position: Position) -> Position | None:
        """The first stop of the step before; None in the first step.

        Args:
            position: where to start.
        """
        steps = self.steps
        place = bisect_left(steps, position.step)
        return Position(steps[place - 1], self.stops[0]) if place else None

    def onwards(self, position: Position, *, back: bool) -> Iterator[Position]:
        """All positions behind one, in the order in which they are passed.

        Args:
            position: where to start; not among them.
            back: towards the beginning.
        """
        move = self.before if back else self.after
        found = move(position)
        while found is not None:
            yield found
            found = move(found)


def _went_well(run: TraceRun) -> bool:
    return run.end is not None and run.end.status is not RunStatus.FAILED
