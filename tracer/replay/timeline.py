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
"""Lines that a greedy ``_sample`` jumps over; contrastive search draws nothing, and has the last of them."""


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
    greedy = not header.do_sample and not header.ranks
    skipped = _ONLY_WHEN_SAMPLING if greedy else ()
    if header.loop == "_assisted_decoding" and header.anchor("softmax") is None:
        skipped = (*skipped, "softmax")  # speculative sampling does it inside of its choice
    return tuple(stop for stop in header.stops if stop in HALTS and stop not in skipped)


def stops_in(header: RunHeader, stops: tuple[StopName, ...], phase: Phase) -> tuple[StopName, ...]:
    """The stops that a step of a phase passes: not those whose lines all belong to the other one.

    Args:
        header: the run's header.
        stops: the stops of both phases, in order.
        phase: the phase.
    """
    lines = {stop: [each.phase for each in header.anchors if each.stop == stop] for stop in stops}
    return tuple(stop for stop in stops if not lines[stop] or {None, phase} & {*lines[stop]})


class Timeline:
    """The positions of a run, first to last.

    Steps that are written meanwhile belong to it as soon as they are committed.

    Args:
        run: the run.
        wanted: the stops that are meant; all others are passed by.
        standing: where a run in progress stands in its last step; None for one that stands behind a step, and
            for a recorded one.

    Attributes:
        stops: those of them that steps pass, in order; a step in which the run failed passes the first, and
            one may lack those that belong to the first step.

    Raises:
        UsageError: the run has no step, or passes none of the stops.
    """

    def __init__(
        self, run: TraceRun, wanted: tuple[StopName, ...] = HALTS, standing: Position | None = None
    ) -> None:
        passed = passed_stops(run.header)
        self.stops = tuple(stop for stop in passed if stop in wanted)
        # A step that passes none of the chosen stops is shown at the first.
        phases: tuple[Phase, ...] = ("prefill", "decode")
        self._by_phase = {
            phase: stops_in(run.header, self.stops, phase) or self.stops[:1] for phase in phases
        }
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
        return self._begin_of(self.steps[0])

    @property
    def last(self) -> Position:
        """Where the recording ends."""
        return self._end_of(self.steps[-1])

    def stops_of(self, step: int) -> tuple[StopName, ...]:
        """The stops of a step, in order; fewer in the last, where the run failed or stands in it.

        Args:
            step: number of the step.
        """
        standing, stops = self._standing, self._by_phase["prefill" if step == 1 else "decode"]
        if standing is not None and step == standing.step:
            return stops[: stops.index(standing.stop) + 1]
        if step != self.steps[-1] or _went_well(self._run):
            return stops
        if self._last is None or self._last[0] != step:
            came_to = reached(self._run.steps.number(step), self._run.header, stops)
            # One that failed before the first of the chosen stops is shown there.
            self._last = step, came_to or stops[:1]
        return self._last[1]

    def _begin_of(self, step: int) -> Position:
        return Position(step, self.stops_of(step)[0])

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
        stops = self.stops_of(step)
        wanted = stop or stops[0]
        here = self._by_phase[Position(step, wanted).phase]
        if wanted in self.stops and wanted not in here:
            raise UsageError(f"step {step} has no {wanted}: the first step alone has it")
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
        stops = self.stops_of(position.step)
        place = stops.index(position.stop)
        if place:
            return Position(position.step, stops[place - 1])
        earlier = self.step_before(position)
        return earlier and self._end_of(earlier.step)

    def step_after(self, position: Position) -> Position | None:
        """The first stop of the next step, that is of the next token; None in the last step.

        Args:
            position: where to start.
        """
        steps = self.steps
        place = bisect_right(steps, position.step)
        return self._begin_of(steps[place]) if place < len(steps) else None

    def step_before(self, position: Position) -> Position | None:
        """The first stop of the step before; None in the first step.

        Args:
            position: where to start.
        """
        steps = self.steps
        place = bisect_left(steps, position.step)
        return self._begin_of(steps[place - 1]) if place else None

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
