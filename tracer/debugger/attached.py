"""Decide at each stop's line whether to halt there, and print the cards before the halt."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

from rich.console import Console

from hooks.loop.anchors import end_of_step
from reports.terminal import render_card, render_summary
from reports.view import summary
from tracer.analysis.conditions.condition import Hit, find_hits
from tracer.debugger.breakpoints import Breakpoints
from tracer.debugger.console import DebugConsole
from tracer.debugger.tensor_texts import TensorTexts
from tracer.forking.order import ForkDesk, Order
from tracer.halting.live_run import LiveRun
from tracer.halting.stops import Passes, StopPlan
from tracer.messages import named
from tracer.schema.run import Anchor, StopName

CONSOLE_WIDTH = 100


class AttachedDebugger:
    """A stop handler that halts the run in the debugger at each stop of the plan.

    A debugger that detaches does not hold up the run; when it attaches again, the run halts again.

    Args:
        plan: where to halt.
        say: receives a line when the debugger detaches and attaches again.
        desk: where a fork is ordered; None where the program itself has called ``generate()``.
    """

    def __init__(self, plan: StopPlan, say: Callable[[str], object], desk: ForkDesk | None = None) -> None:
        self._plan = self._here = plan
        self._desk = desk
        self._say = say
        self._live: LiveRun | None = None
        self._breakpoints: Breakpoints | None = None
        self._thread = 0
        self._passes = Passes()
        self._tensors = TensorTexts()
        self._there = True
        self._followed = True

    def begin(self, live: LiveRun) -> None:
        """Set the breakpoints for a run that starts."""
        assert live.header is not None
        self._live, self._thread, self._passes = live, threading.get_ident(), Passes()
        self._here = self._plan.from_step(live.first_own_step)
        self._breakpoints = Breakpoints(self._standing_still)
        for anchor in live.header.anchors:
            if anchor.stop in self._plan.stops:
                self._breakpoints.add(anchor.path, anchor.line, partial(self._at_stop, anchor))
            if anchor.stop == "stopping" and self._plan.breaks:
                end = end_of_step(live.header.loop) or (anchor.path, anchor.line + 1)
                self._breakpoints.add(*end, self._at_end_of_step)
        self._breakpoints.install()
        self._tensors.install()
        self._follow(_is_attached())

    def between_steps(self) -> None:
        """Follow the debugger between steps: without one the next steps run at full speed.

        A run for which a fork was ordered is left.
        """
        order = self._ordered
        if order is not None:
            raise order.leaving
        try:
            self._follow(self._notice())
        except Exception as error:  # noqa: BLE001 - a fault of the debugger never breaks the generation
            self._say(f"The debugger cannot be followed: {named(error)}")

    def end(self) -> None:
        """Remove the breakpoints of a run that is over."""
        if self._breakpoints is not None:
            if self._notice():
                self._show_end(self._breakpoints)
            self._tensors.remove()
            self._breakpoints.remove()
            # Code that runs afterwards can be debugged by whoever attaches then.
            self._follow(True)
        self._live = self._breakpoints = None

    def _follow(self, attached: bool) -> None:
        if self._breakpoints is not None and attached != self._followed:
            self._breakpoints.follow(attached)
            self._followed = attached

    def _at_stop(self, anchor: Anchor, frame: FrameType) -> bool:
        live = self._live
        if live is None or threading.get_ident() != self._thread or live.come_to(anchor.stop) is None:
            return False
        if not self._first(anchor.stop, live):
            return False
        if self._ordered or not self._here.halts(anchor.stop, live.step) or not self._notice():
            return False
        self._show(live, frame, f"\nStep {live.step}, before {anchor.file}:{anchor.line}: {anchor.text}")
        # Showing takes a while, and a halt without a debugger would last for ever.
        return self._notice()

    def _at_end_of_step(self, frame: FrameType) -> bool:
        live = self._live
        if live is None or not self._first("end", live) or self._ordered or not self._notice():
            return False
        hits = self._hits(live)
        if hits:
            self._show(live, frame, *(f"\nbreak: {hit}" for hit in hits))
        return bool(hits) and self._notice()

    def _hits(self, live: LiveRun) -> tuple[Hit, ...]:
        step = live.step_so_far()
        if step is None or live.header is None or step.number < live.first_own_step:
            return ()
        live.look_up(text for condition in self._plan.breaks for text in condition.texts)
        return find_hits(self._plan.breaks, step, live.header, live.tokens)

    @property
    def _ordered(self) -> Order | None:
        """The fork for which the run is to be left."""
        return None if self._desk is None else self._desk.order

    @contextmanager
    def _standing_still(self) -> Iterator[None]:
        """The run's clock stands still while the generating thread halts; other threads are none of it."""
        live = self._live
        if live is None or threading.get_ident() != self._thread:
            yield
            return
        with live.standing_still(), DebugConsole(live, self._desk).open():
            yield

    def _first(self, place: StopName | str, live: LiveRun) -> bool:
        """Whether the generating thread passes a place for the first time in this step."""
        return threading.get_ident() == self._thread and self._passes.first(place, live.step)

    def _notice(self) -> bool:
        """Report a debugger that has detached or attached since the last call.

        Returns:
            Whether one is attached.
        """
        there = _is_attached()
        if there != self._there:
            # The live run has no step number after its end.
            step = max(self._passes.step, self._live.step if self._live is not None else 0)
            self._say(
                f"Debugger attached again in step {step}."
                if there
                else f"The debugger has left (step {step}): the run goes on without halting; "
                "attach again to halt again."
            )
        self._there = there
        return there

    def _show_end(self, breakpoints: Breakpoints) -> None:
        """Print into the debug console what was generated, and where the trace is."""
        live = self._live
        if live is None or live.ending is None:
            return
        view = summary(
            live.ending, header=live.header, run=live.number, steps=live.ending.steps, path=str(live.path)
        )
        text = io.StringIO()
        try:
            _console(text).print(render_summary(view))
        except Exception as error:  # noqa: BLE001 - a fault of a report never breaks the generation
            text.write(f"The end cannot be shown: {named(error)}\n")
        breakpoints.write(text.getvalue())

    def _show(self, live: LiveRun, frame: FrameType, *lines: str) -> None:
        """Print the new cards and then the lines into the debug console."""
        text = io.StringIO()
        console = _console(text)
        try:
            for card in live.cards(frame.f_locals):
                console.print(render_card(card))
        except Exception as error:  # noqa: BLE001 - the halt itself is worth more than its card
            text.write(f"The card cannot be shown: {named(error)}\n")
        for line in lines:
            text.write(f"{line}\n")
        assert self._breakpoints is not None
        self._breakpoints.write(text.getvalue())


def _console(text: io.StringIO) -> Console:
    return Console(file=text, width=CONSOLE_WIDTH, color_system=None, highlight=False)


def _is_attached() -> bool:
    import debugpy

    return bool(debugpy.is_client_connected())
