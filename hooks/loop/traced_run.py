"""One run of one trace: from the call of ``_sample`` to its end record."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch

from hooks.caught_step import CaughtStep, Checked
from hooks.faults import is_ours, surely
from hooks.loop.run_capture import RunCapture
from hooks.printing import printed_error
from hooks.probes.probe import Probe
from hooks.user_modes import unseen_by_modes
from tracer.interrupts import LeftRun
from tracer.schema.checks import Check
from tracer.schema.faults import Failure
from tracer.schema.run import RunEnd, RunHeader, RunStatus


def failed_at_start(input_ids: torch.Tensor, error: BaseException) -> RunEnd:
    """The end record of a run that could not be watched, or was interrupted, before its first step.

    Args:
        input_ids: ``[batch, length]`` of the prompt.
        error: what was raised.
    """
    interrupted = isinstance(error, KeyboardInterrupt)
    return RunEnd(
        status=RunStatus.INTERRUPTED if interrupted else RunStatus.FAILED,
        error=None if interrupted else f"the run could not be watched: {printed_error(error)}",
        steps=0,
        seconds=0.0,
        sequences=tuple(map(tuple, input_ids.tolist())),
    )


class OpenRunSink(Protocol):
    """Receives the steps of one run. Its methods must be quick: they run inside the generation."""

    @property
    def number(self) -> int:
        """Number of the run in the trace, from 1."""

    def put(self, caught: CaughtStep) -> bool:
        """A step is over; returns whether the run shall end here."""

    def end(self, end: RunEnd) -> None:
        """The run is over; the writer adds texts and its own figures."""


class RunSink(Protocol):
    """Receives what is caught of runs, several at once where several threads generate."""

    def begin(self, header: RunHeader, decoder: int) -> OpenRunSink:
        """A run starts; ``decoder`` is the module whose output are the hidden states."""

    def lost(self, fault: Exception) -> None:
        """A run, or the end of one, could not be recorded; the generation went on."""


class TracedRun:
    """A run in progress, as one trace sees it.

    It ends once: when ``_sample`` returns or raises, or before that when its trace is closed.

    Args:
        capture: catches its steps.
        sink: receives them.
        probes: its probes.
        input_ids: ``[batch, length]`` of the prompt.
        tape: the tape of its module calls.
        on_end: called when it has ended.
        lost: called with a fault in recording its end.
        installation: the layers on the model that it runs.
        failure_of: finds where an exception came up, given its text.

    Attributes:
        output: what ``_sample`` returned; None until it has.
        thread: the thread that generates.
    """

    def __init__(
        self,
        capture: RunCapture,
        sink: OpenRunSink,
        probes: Sequence[Probe],
        input_ids: torch.Tensor,
        tape: Any,
        on_end: Callable[[TracedRun], None],
        lost: Callable[[Exception], None],
        installation: Any,
        failure_of: Callable[[BaseException, str], Failure],
    ) -> None:
        self.capture = capture
        self.output: Any = None
        self.installation = installation
        self.tape = tape
        self.thread = threading.get_ident()
        self._sink = sink
        self._probes = probes
        self._input_ids = input_ids
        self._on_end = on_end
        self._lost = lost
        self._failure_of = failure_of
        self._began = capture.clock.now()
        self._lock = threading.RLock()
        self._ended = False
        self._recorded = False

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._ended

    def enter_probes(self) -> None:
        """Put the probes on the model."""
        for probe in self._probes:
            probe.enter()

    def leave_probes(self) -> None:
        """Take the probes off the model, also where the forward pass raised; safe to call twice."""
        surely(*(action for probe in self._probes for action in (probe.end, probe.leave)))

    def end(self, error: BaseException | None) -> None:
        """The generation is over.

        Args:
            error: what it raised, None if it returned.
        """
        if error is None:
            self._end(RunStatus.COMPLETE)
        elif isinstance(error, KeyboardInterrupt):
            self._end(RunStatus.INTERRUPTED, str(error) if isinstance(error, LeftRun) else None)
        else:
            self._end(RunStatus.FAILED, printed_error(error), error)

    def interrupt(self) -> None:
        """The trace is closed while the generation goes on, which is no longer recorded."""
        self._end(RunStatus.INTERRUPTED, "the trace was closed while the generation went on")

    def _end(self, status: RunStatus, text: str | None = None, error: BaseException | None = None) -> None:
        # Held to the end: another thread that closes the trace waits until the end is recorded.
        with self._lock:
            self._ended = True
            surely(
                partial(self._record_end, status, text, error), self.leave_probes, partial(self._on_end, self)
            )

    @unseen_by_modes
    def _record_end(self, status: RunStatus, text: str | None, error: BaseException | None) -> None:
        if self._recorded:
            return
        self._guarded(lambda: self._stop_capture(status, text, error))
        # Whatever went wrong before: a run without an end record looks like one that still goes on.
        self._guarded(lambda: self._sink.end(self._end_record(status, text)))
        self._recorded = True

    def _stop_capture(self, status: RunStatus, text: str | None, error: BaseException | None) -> None:
        failure = None if error is None or text is None else self._failure_of(error, text)
        self.capture.stop(complete=status is RunStatus.COMPLETE, failure=failure)

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as fault:
            if not is_ours(fault):
                raise
            self._lost(fault)

    def _end_record(self, status: RunStatus, error: str | None) -> RunEnd:
        found = self._check_returned()
        return RunEnd(
            status=status,
            error=error,
            steps=self.capture.steps,
            seconds=self.capture.clock.now() - self._began,
            halted_seconds=self.capture.clock.halted,
            sequences=tuple(map(tuple, self._ids().tolist())),
            beams=self.capture.loop.ending(),
            checks=() if found is None else found[:1],
            violations=() if found is None else found[1],
        )

    def _check_returned(self) -> Checked | None:
        """The check of what the loop has returned, if it has returned anything that is to be checked."""
        if self.output is None:
            return None
        try:
            found = self.capture.loop.returned(self.output, self._input_ids)
        except Exception as fault:
            if not is_ours(fault):
                raise
            reason = f"what was returned could not be read: {printed_error(fault)}"
            return Check.not_made("returned", reason), ()
        if found is None or not self.capture.rewritten:
            return found
        return Check.not_made("returned", "a processor wrote into the ids of its rows"), ()

    def _ids(self) -> torch.Tensor:
        """The whole sequences: what the loop returned, else what was seen of them last."""
        returned = getattr(self.output, "sequences", self.output)
        if isinstance(returned, torch.Tensor):
            return returned
        seen = self.capture.input_ids
        return self._input_ids if seen is None else seen
