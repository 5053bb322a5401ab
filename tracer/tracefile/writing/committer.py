"""Build, commit, notify: what the writer's thread does with the jobs.

No fault leaves this module. A step that cannot be built or contradicts itself is replaced or dropped; once
the file cannot be written any more, writing ends, but listeners are still notified.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

from tracer.errors import IncompleteTraceError, TraceGenerateError
from tracer.messages import one_line, shown
from tracer.schema.run import RunHeader, TokenText
from tracer.schema.step import Step
from tracer.tracefile.encoding.saved_tensor import SavedTensor
from tracer.tracefile.writing.jobs import BuildErrorHook, EndWrite, Job, Listener, StepWrite
from tracer.tracefile.writing.writer import TraceWriter

_MAX_ERRORS = 100

_Put: TypeAlias = Callable[[Step, Sequence[TokenText], Mapping[str, SavedTensor]], None]


@dataclass
class _Pending:
    """A step on its way into the file.

    Attributes:
        job: what it is made of.
        tokens: texts of the tokens that it mentions.
        write: what is written; None where the step is left out.
    """

    job: Job
    tokens: Sequence[TokenText] = ()
    write: StepWrite | None = None


class Committer:
    """Commits headers, steps and end records, then notifies the listeners; used by one thread.

    Args:
        writer: the new trace.
        listeners: called after each commit, in order.
        on_build_error: makes a replacement for a step that could not be built or written.
        max_trace_bytes: size of the trace beyond which saved tensors are skipped.
        discards_empty: remove the file at the end if no run was begun.

    Attributes:
        failure: why nothing more is written; None without a failure.
        dropped: steps that happened and are not in the trace.
        build_errors: faults in building records, as one line each (the first hundred).
        listener_errors: exceptions of listeners, as one line each (the first hundred).
        tensors_stopped_at: first step of the current run whose tensors were skipped.
    """

    def __init__(
        self,
        writer: TraceWriter,
        listeners: Sequence[Listener],
        on_build_error: BuildErrorHook | None,
        max_trace_bytes: int | None,
        *,
        discards_empty: bool,
    ) -> None:
        self._writer = writer
        self._discards_empty = discards_empty
        self._listeners = tuple(listeners)
        self._on_build_error = on_build_error
        self._max_trace_bytes = max_trace_bytes
        self._tokens: dict[int, TokenText] = {}
        self._texts = MappingProxyType(self._tokens)
        self.failure: TraceGenerateError | None = None
        self.dropped = 0
        self.build_errors: list[str] = []
        self.listener_errors: list[str] = []
        self.tensors_stopped_at: int | None = None
        self._ended: set[int] = set()

    def begin(self, number: int, header: RunHeader, build_tokens: Callable[[], Sequence[TokenText]]) -> None:
        """Commit the header of a run and notify the listeners."""
        self.tensors_stopped_at = None
        tokens: Sequence[TokenText] = ()
        with _noting(self.build_errors, "texts of the prompt: "):
            tokens = build_tokens()
        self._learn(tokens)
        if self.failure is None:
            with self.failing("the header could not be written"):
                self._writer.begin_run(header, tokens)
        self._notify("on_run", lambda listener: listener.on_run(number, header, self._texts))

    def record(self, jobs: Sequence[Job]) -> None:
        """Build steps, commit them together and notify the listeners of each."""
        # One after the other, so that each part of the work finds its code in the processor's caches.
        group = [self._built(job) for job in jobs]
        for each in group:
            self._put(each, self._writer.stage_step)
        self._commit(group)
        for each in group:
            self._learn(each.tokens)
            if each.write is not None:
                self._tell_of(each.write.step)

    def end(self, run: int, build_end: Callable[[], EndWrite]) -> None:
        """Build and commit the end record of a run and notify the listeners; a second one is left out."""
        if run in self._ended:
            return
        self._ended.add(run)
        write = build_end()
        self._learn(write.new_tokens)
        if self.failure is None:
            with self.failing("the end could not be written"):
                # All tokens: those of a dropped step are not in the file yet.
                self._writer.end_run(run, write.end, tuple(self._tokens.values()))
        self._notify("on_end", lambda listener: listener.on_end(write.end))

    def close(self) -> None:
        """Close the file; one without any run is of no use, and would be in the way of the next attempt."""
        with self.failing("the file could not be closed"):
            self._writer.discard() if self._discards_empty else self._writer.close()

    def _built(self, job: Job) -> _Pending:
        """Build a step."""
        try:
            write: StepWrite | None = job.build()
        except Exception as error:  # noqa: BLE001 - any fault in recording is recorded, none is raised
            write = self._replacement(job, error)
        if write is None:
            self.dropped += 1
            return _Pending(job)
        return _Pending(job, write.new_tokens, write)

    def _commit(self, group: Sequence[_Pending]) -> None:
        """Commit what is staged; if that fails, step by step, so that as many as possible are kept."""
        try:
            self._writer.commit()
        except Exception:  # noqa: BLE001 - what is wrong is found out below
            for each in group:
                self._put(each, self._writer.write_step)

    def _put(self, pending: _Pending, put: _Put) -> None:
        """Hand a step to the writer, or its replacement if that fails; none after the recorder's failure."""
        if pending.write is None:
            return
        if self.failure is not None:
            self.dropped += 1
            return
        pending.write = self._within_limit(pending.write)
        fault = self._try(pending.write, put)
        if fault is None:
            return
        pending.write = self._replacement(pending.job, fault)
        if pending.write is not None:
            pending.write = replace(pending.write, tensors={})
            fault = self._try(pending.write, put)
            if fault is None:
                return
            _note(self.build_errors, fault)
            pending.write = None
        self.dropped += 1

    def _try(self, write: StepWrite, put: _Put) -> Exception | None:
        """Hand a step to the writer.

        Returns:
            What is wrong with the step; None if nothing is, or if the file itself failed.
        """
        try:
            put(write.step, write.new_tokens, write.tensors)
        except TraceGenerateError as error:
            self.failure = error
            self.dropped += 1
        except Exception as error:  # noqa: BLE001 - see _built
            return error
        return None

    def _within_limit(self, write: StepWrite) -> StepWrite:
        limit = self._max_trace_bytes
        if limit is None or not write.tensors:
            return write
        size = self._writer.bytes_written + sum(tensor.nbytes for tensor in write.tensors.values())
        if self.tensors_stopped_at is None and size > limit:
            self.tensors_stopped_at = write.step.number
        return write if self.tensors_stopped_at is None else replace(write, tensors={})

    def _replacement(self, job: Job, error: Exception) -> StepWrite | None:
        _note(self.build_errors, error)
        if self._on_build_error is None:
            return None
        try:
            return self._on_build_error(job, error)
        except Exception as second:  # noqa: BLE001 - see _built
            _note(self.build_errors, second)
            return None

    def _learn(self, tokens: Sequence[TokenText]) -> None:
        self._tokens.update((token.id, token) for token in tokens)

    def _tell_of(self, step: Step) -> None:
        self._notify("on_step", lambda listener: listener.on_step(step, self._texts))

    def _notify(self, event: str, call: Callable[[Listener], None]) -> None:
        for listener in self._listeners:
            with _noting(self.listener_errors, f"{type(listener).__name__}.{event}: "):
                call(listener)

    @contextlib.contextmanager
    def failing(self, what: str) -> Iterator[None]:
        """Turn any exception into the recorder's failure: the thread must survive to empty the queue.

        Args:
            what: what failed, for the message about an unexpected exception.
        """
        try:
            yield
        except TraceGenerateError as error:
            self.failure = self.failure or error
        except BaseException as error:  # noqa: BLE001 - even SystemExit must not end the thread
            reason = one_line(f"{what}: {type(error).__name__}: {error}")
            failure = IncompleteTraceError(f"{shown(self._writer.path)} is incomplete: {reason}")
            self.failure = self.failure or failure


@contextlib.contextmanager
def _noting(errors: list[str], what: str) -> Iterator[None]:
    """Record an exception and continue: neither a listener nor a token text must cost a step.

    A display whose reader has gone away raises SystemExit (rich does for a closed pipe).
    """
    try:
        yield
    except (Exception, SystemExit) as error:  # noqa: BLE001 - see above
        _note(errors, error, what)


def _note(errors: list[str], error: BaseException, prefix: str = "") -> None:
    # Text, not the exception: its traceback would keep the step's tensors alive.
    if len(errors) < _MAX_ERRORS:
        errors.append(one_line(f"{prefix}{type(error).__name__}: {error}"))
