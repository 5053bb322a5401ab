"""Write a trace on a background thread, so that the generation does not wait for it.

The generation passes on jobs: the copied data of a step, and how to build records from it. The thread builds
the records, commits them and then notifies the listeners. Faults there do not reach the generation; they are
kept for the end of the run.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TypeAlias

from tracer.errors import TraceGenerateError
from tracer.schema.run import RunHeader, TokenText
from tracer.tracefile.writing.byte_queue import ByteQueue
from tracer.tracefile.writing.committer import Committer
from tracer.tracefile.writing.jobs import BuildErrorHook, EndWrite, Job, Listener
from tracer.tracefile.writing.writer import TraceWriter

DEFAULT_QUEUE_BYTES = 64 << 20

LINGER = 0.95
"""Seconds that steps may wait for more steps before they are written."""

LINGER_WATCHED = 0.25
"""The same with listeners, which display the steps as they happen."""

_TOGETHER = 32
"""Most steps of a transaction."""

_BYTES_TOGETHER = 4 << 20
"""Bytes of jobs after which a transaction takes no further step, so that a full queue has room again soon."""

_Item: TypeAlias = "Callable[[], None] | Job"


class Recorder:
    """Builds and writes records on a background thread.

    Args:
        writer: the new trace; the recorder closes it.
        max_queue_bytes: most memory that waiting jobs may hold; :meth:`put` waits when it is exhausted.
        listeners: called after each commit, in order.
        on_build_error: builds a replacement for a step that could not be built.
        max_trace_bytes: size of the trace beyond which saved tensors are skipped.
        discards_empty: remove the file at the end if no run was begun.
    """

    def __init__(
        self,
        writer: TraceWriter,
        *,
        max_queue_bytes: int = DEFAULT_QUEUE_BYTES,
        listeners: Sequence[Listener] = (),
        on_build_error: BuildErrorHook | None = None,
        max_trace_bytes: int | None = None,
        discards_empty: bool = False,
    ) -> None:
        self._queue: ByteQueue[_Item] = ByteQueue(max_queue_bytes, LINGER_WATCHED if listeners else LINGER)
        self._committer = Committer(
            writer, listeners, on_build_error, max_trace_bytes, discards_empty=discards_empty
        )
        self._writer = writer
        self._run = writer.begun
        self._numbering = threading.Lock()
        self._closed = False
        self._process = os.getpid()
        self._finished = threading.Event()
        self._thread: threading.Thread | None = None
        # A program that exits without close() still gets everything that it recorded.
        atexit.register(self.close)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def last_run(self) -> int:
        """Number of the last run that was begun, or that the file had before."""
        return self._run

    @property
    def failure(self) -> TraceGenerateError | None:
        """Why nothing more is written; None without a failure."""
        return self._committer.failure

    @property
    def dropped(self) -> int:
        """Number of steps that happened and are not in the trace."""
        return self._committer.dropped

    @property
    def build_errors(self) -> tuple[str, ...]:
        """Faults in building records, as one line each (the first hundred)."""
        return tuple(self._committer.build_errors)

    @property
    def listener_errors(self) -> tuple[str, ...]:
        """Exceptions of listeners, as one line each (the first hundred)."""
        return tuple(self._committer.listener_errors)

    @property
    def tensors_stopped_at(self) -> int | None:
        """First step of the current run whose tensors were skipped for ``max_trace_bytes``."""
        return self._committer.tensors_stopped_at

    @property
    def queue_peak_bytes(self) -> int:
        """Largest number of bytes that waited or were being written at once."""
        return self._queue.peak_bytes

    @property
    def queue_waits(self) -> int:
        """Number of times the generation had to wait for the writer."""
        return self._queue.waits

    @property
    def queue_wait_seconds(self) -> float:
        """Seconds that it waited in total."""
        return self._queue.wait_seconds

    def begin_run(self, header: RunHeader, build_tokens: Callable[[], Sequence[TokenText]] = tuple) -> int:
        """Begin a run.

        Args:
            header: its header.
            build_tokens: looks up the texts of the prompt's tokens, on the writer's thread.

        Returns:
            The run's number, which its steps have to carry.
        """
        with self._numbering:
            self._start()
            self._run += 1
            self._submit(partial(self._committer.begin, self._run, header, build_tokens), 0, urgent=True)
            return self._run

    def put(self, job: Job) -> None:
        """Pass on a step; waits while the queue is full.

        Args:
            job: the copied data of the step.
        """
        self._submit(job, job.nbytes)

    def end_run(self, run: int, build_end: Callable[[], EndWrite]) -> None:
        """End a run.

        Args:
            run: its number.
            build_end: builds the end record, on the writer's thread and after all steps.
        """
        self._submit(partial(self._committer.end, run, build_end), 0, urgent=True)

    def flush(self) -> None:
        """Wait until everything passed on so far is written and the listeners are notified."""
        if threading.current_thread() is not self._thread and self._is_here():
            self._queue.join()

    def close(self) -> None:
        """Write what is queued, close the file and end the thread; safe to call twice.

        What a signal raises meanwhile (Ctrl-C, a timeout) is raised once everything is written; a second time
        it is raised at once.
        """
        if self._finished.is_set() or not self._is_here():
            return
        # Not Thread.join(): once interrupted, it considers the thread dead.
        try:
            self._closed = True
            self._let_finish()
        except BaseException:
            self._let_finish()
            raise
        finally:
            atexit.unregister(self.close)
            # Left to the garbage collector, it would be taken apart in the middle of somebody's code, where
            # Python drops what a signal handler raises.
            self._thread = None

    def _start(self) -> None:
        """Start the thread with the first run: a block that is interrupted before has none to end."""
        if self._thread is None and not self._closed:
            self._run = self._writer.catch_up()
            self._thread = _background_thread(self._work)
            self._thread.start()

    def _let_finish(self) -> None:
        self._queue.put(self._finish, 0, urgent=True)
        if self._thread is None or not self._thread.is_alive():
            self._finish()
        self._finished.wait()

    def _submit(self, item: _Item, nbytes: int, *, urgent: bool = False) -> None:
        if not self._closed and self._is_here():
            self._queue.put(item, nbytes, urgent=urgent)

    def _is_here(self) -> bool:
        """Whether this process records: a fork copies no threads, and the file is its parent's."""
        return os.getpid() == self._process

    def _work(self) -> None:
        """Process batches until the file is closed; the target of the thread."""
        while not self._finished.is_set():
            batch = deque(self._queue.take())
            while batch:
                item, nbytes = batch.popleft()
                sizes = [nbytes]
                with self._committer.failing("a defect in recording"):
                    if callable(item):
                        item()
                    else:
                        self._committer.record([item, *_following(batch, sizes)])
                # Releases the memory of the jobs before their bytes are returned to the queue.
                del item
                for nbytes in sizes:
                    self._queue.done(nbytes)

    def _finish(self) -> None:
        """Close the file and let the thread end."""
        try:
            if not self._finished.is_set():
                self._committer.close()
        finally:
            self._finished.set()


def _following(batch: deque[tuple[_Item, int]], sizes: list[int]) -> Iterator[Job]:
    """Take the jobs from a batch that are written together with one before them.

    Args:
        batch: what comes after it.
        sizes: bytes of the jobs so far, to which theirs are added.
    """
    while batch and len(sizes) < _TOGETHER and sum(sizes) < _BYTES_TOGETHER:
        item, nbytes = batch[0]
        if callable(item):
            return
        batch.popleft()
        sizes.append(nbytes)
        yield item


def _background_thread(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name="trace-writer", daemon=True)
    # A debugger that halts the generation would halt this thread too, and with it the display of the current
    # step. These two attributes exempt a thread from pydevd.
    thread.pydev_do_not_trace = True  # type: ignore[attr-defined]
    thread.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
    return thread
