"""Between the hooks and the trace file: build the records of each run on the writer's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from hooks.caught_step import CaughtStep
from hooks.loop.step_builder import StepBuilder
from hooks.printing import printed_error
from hooks.saved_tensors import stored_tensors
from hooks.token_texts import TokenTexts
from tracer.analysis.conditions.breaks import BreakWatch
from tracer.errors import CheckFailedError
from tracer.schema.faults import CaptureError
from tracer.schema.run import RunEnd, RunHeader
from tracer.schema.step import Step
from tracer.tracefile import EndWrite, Job, Recorder, SavedTensor, StepWrite


class RecordingSink:
    """Receives what the hooks catch and passes it to the recorder as jobs.

    Args:
        recorder: writes the records.
        texts: looks up token texts.
        mentioned: tokens whose texts the trace shall hold from the start.
        ends_run: listener of the recorder; the run ends after a step in which it found something.
        between_steps: called after each step; what it raises ends the generation.

    Attributes:
        faults: runs that could not be recorded, one line each.
    """

    def __init__(
        self,
        recorder: Recorder,
        texts: TokenTexts,
        *,
        mentioned: tuple[int, ...] = (),
        ends_run: BreakWatch | None = None,
        between_steps: Callable[[], None] | None = None,
    ) -> None:
        self.faults: list[str] = []
        self.recorder = recorder
        self.texts = texts
        self._mentioned = mentioned
        self.ends_run = ends_run
        self.between_steps = between_steps
        self._counts: list[RunRecording] = []
        self.violated_event = threading.Event()

    @property
    def steps(self) -> int:
        """Steps passed on so far, over all runs."""
        return sum(run.steps for run in self._counts)

    @property
    def violated(self) -> bool:
        """Whether a check did not hold in any step built so far, or of what a run has returned."""
        return self.violated_event.is_set()

    def begin(self, header: RunHeader, decoder: int) -> RunRecording:
        """A run starts."""
        prompt = [token for row in header.prompt for token in row.token_ids]
        number = self.recorder.begin_run(header, lambda: self.texts.new((*prompt, *self._mentioned)))
        builder = StepBuilder(
            number,
            len(header.prompt),
            header.modules,
            self.texts,
            decoder=decoder,
            candidates=header.capture.candidates,
        )
        run = RunRecording(self, number, header, builder)
        self._counts.append(run)
        return run

    def lost(self, fault: Exception) -> None:
        """A run, or its end, could not be recorded."""
        self.faults.append(f"a run was not recorded: {printed_error(fault)}")


class RunRecording:
    """Passes the steps of one run to the recorder as jobs.

    Args:
        sink: the sink of all runs.
        number: number of the run.
        header: its header.
        builder: builds its records.

    Attributes:
        steps: steps passed on so far.
        number: the same number.
    """

    def __init__(self, sink: RecordingSink, number: int, header: RunHeader, builder: StepBuilder) -> None:
        self.steps = 0
        self._sink = sink
        self.number = number
        self._builder = builder
        self._prompt_length = len(header.prompt[0].token_ids)
        self._strict = header.capture.strict
        self._ended_by: str | None = None

    def put(self, caught: CaughtStep) -> bool:
        """A step is over.

        Returns:
            Whether the run shall end here, since a condition holds.

        Raises:
            CheckFailedError: with ``strict``, for the first check that does not hold.
        """
        sink = self._sink
        self.steps += 1
        caught.release_scores()
        sink.recorder.put(StepJob(self._builder, caught, sink.violated_event))
        if caught.failure is not None:
            return True  # the program's own exception ends the run
        if sink.between_steps is not None:
            sink.between_steps()
        # Only these two need to know, while the generation waits, what the step's record says.
        if self._strict or sink.ends_run is not None:
            sink.recorder.flush()
        if self._strict and sink.violated:
            raise CheckFailedError(f"A check did not hold in step {caught.number}; the trace says which.")
        if sink.ends_run is None or not sink.ends_run.last:
            return False
        self._ended_by = str(sink.ends_run.last[0])
        return True

    def end(self, end: RunEnd) -> None:
        """The run is over."""
        if end.violations:
            self._sink.violated_event.set()
        whole = end.model_copy(update={"ended_by": self._ended_by})
        self._sink.recorder.end_run(self.number, lambda: self._completed(whole))

    def _completed(self, end: RunEnd) -> EndWrite:
        """The end record with texts and figures; made on the writer's thread, after all steps."""
        recorder, token_texts = self._sink.recorder, self._sink.texts
        texts = tuple(token_texts.decode(row[self._prompt_length :]) for row in end.sequences)
        whole = end.model_copy(
            update={
                # A signal may have come between the end of a step and the queue.
                "steps": self._builder.steps,
                "texts": texts if any(texts) else (),
                "queue_peak_bytes": recorder.queue_peak_bytes,
                "queue_waits": recorder.queue_waits,
                "queue_wait_seconds": recorder.queue_wait_seconds,
                "tensors_stopped_at": recorder.tensors_stopped_at,
            }
        )
        return EndWrite(whole, token_texts.new(token for row in end.sequences for token in row))


@dataclass(frozen=True)
class StepJob:
    """A caught step on its way to the file."""

    builder: StepBuilder
    caught: CaughtStep
    violated: threading.Event

    @property
    def nbytes(self) -> int:
        """Memory that the step holds, in bytes."""
        return self.caught.nbytes

    def build(self) -> StepWrite:
        """Make the records."""
        step, new_tokens = self.builder.build(self.caught)
        if step.head.violations:
            self.violated.set()
        tensors = {name: SavedTensor(*values) for name, values in stored_tensors(self.caught)}
        return StepWrite(step, new_tokens, tensors)


def unbuilt_step(job: Job, error: Exception) -> StepWrite | None:
    """The write for a step whose records could not be made: that it happened, and the fault.

    Args:
        job: the step.
        error: the fault.
    """
    if not isinstance(job, StepJob):
        return None
    message = f"the step's records could not be made: {printed_error(error)}"
    head = job.builder.bare_head(job.caught, CaptureError(stop="stopping", message=message))
    return StepWrite(Step(head=head, scores=None))
