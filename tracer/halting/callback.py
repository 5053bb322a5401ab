"""Halt a run at chosen stops and where conditions hold, and call back there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import FrameType
from typing import Any

from hooks.loop.anchors import end_of_step
from reports.view import StopCard
from tracer.analysis.conditions.condition import Hit, find_hits
from tracer.halting.line_tracer import LineTracer
from tracer.halting.live_run import LiveRun
from tracer.halting.stops import Passes, StopPlan
from tracer.schema.run import StopName
from tracer.schema.step import Step


@dataclass(frozen=True, eq=False)
class Halt:
    """A run that stands still, in the library's own frame.

    Attributes:
        stop: the stop whose line is about to run; None at the end of a step in which a condition held.
        step: number of the step, from 1.
        frame: the frame; its ``f_locals`` are the library's variables.
        live: the run.
        hits: conditions that held in this step.
        changes: locals of the frame to replace before it goes on.
    """

    stop: StopName | None
    step: int
    frame: FrameType
    live: LiveRun = field(repr=False)
    hits: tuple[Hit, ...] = ()
    changes: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def local(self) -> dict[str, Any]:
        """The frame's variables as they were when they were first asked for."""
        return dict(self.frame.f_locals)

    @cached_property
    def cards(self) -> tuple[StopCard, ...]:
        """Cards of the stops that have become known since the last halt, in order (:mod:`reports.view`)."""
        return self.live.cards(self.local)

    @cached_property
    def record(self) -> Step | None:
        """The record of the step as far as it has come; nothing of it goes into the trace."""
        return self.live.step_so_far(self.local)


OnHalt = Callable[[Halt], object]


class StopCallback:
    """A stop handler that calls back at the stops of a plan.

    Args:
        plan: where to halt.
        on_halt: called there, in the generating thread. What it raises is noted and the generation goes on,
            except ``KeyboardInterrupt`` and the like, which end it.

    Attributes:
        plan: where to halt; may be replaced at a halt.
        faults: what the callback raised, one line each; the generation went on.
    """

    def __init__(self, plan: StopPlan, on_halt: OnHalt) -> None:
        self.plan = plan
        self.faults: list[str] = []
        self._on_halt = on_halt
        self._live: LiveRun | None = None
        self._tracer: LineTracer | None = None
        self._passes = Passes()

    def beside(self) -> StopCallback:
        """A handler with the same plan and callback, for a run in another thread."""
        other = StopCallback(self.plan, self._on_halt)
        other.faults = self.faults
        return other

    def begin(self, live: LiveRun) -> None:
        """A run starts."""
        assert live.header is not None
        self._live, self._passes = live, Passes()
        self._tracer = LineTracer(live.header.anchors, self._line, end_of_step(live.header.loop))
        self._tracer.start()

    def between_steps(self) -> None:
        """A step is over: where no halt can come any more, the run goes on at full speed."""
        if self._live is not None and not self.plan.breaks and not self.plan.steps.after(self._live.step):
            self.detach()

    def end(self) -> None:
        """The run is over."""
        if self._tracer is not None:
            self._tracer.stop()
        self._tracer = self._live = None

    def detach(self) -> None:
        """Halt no more in this run, which goes on at full speed."""
        if self._tracer is not None:
            self._tracer.stop()

    def _line(self, stop: StopName | None, frame: FrameType) -> Mapping[str, Any] | None:
        live = self._live
        if live is None:
            return None
        try:
            halt = self._end_of_step(live, frame) if stop is None else self._at(stop, live, frame)
            if halt is not None:
                with live.standing_still():
                    self._on_halt(halt)
                return halt.changes
        except Exception as error:  # noqa: BLE001 - a fault of an onlooker never breaks the generation
            message = f"at a halt in step {live.step}: {type(error).__name__}: {error}"
            if len(self.faults) < 100:
                self.faults.append(message)
        return None

    def _at(self, stop: StopName, live: LiveRun, frame: FrameType) -> Halt | None:
        """A halt at a stop of the plan, once a step."""
        step = live.come_to(stop)
        if step is None:
            return None
        first = self._passes.first(stop, step)
        return Halt(stop, step, frame, live) if first and self.plan.halts(stop, step) else None

    def _end_of_step(self, live: LiveRun, frame: FrameType) -> Halt | None:
        plan, step = self.plan, live.step
        meant = plan.breaks and step >= live.first_own_step
        record = live.step_so_far() if meant else None
        if record is None or live.header is None:
            return None
        live.look_up(text for condition in plan.breaks for text in condition.texts)
        hits = find_hits(plan.breaks, record, live.header, live.tokens)
        return Halt(None, step, frame, live, hits) if hits else None
