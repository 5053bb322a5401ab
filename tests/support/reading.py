"""Recordings of which much is asked."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracer import open_trace
from tracer.reading.recording import Recording
from tracer.tracefile import TraceRun


def read_once(run: TraceRun) -> TraceRun:
    """Let an open run read, check and rebuild each of its steps once, however often it is asked for."""
    run.steps.number = functools.cache(run.steps.number)  # type: ignore[method-assign]
    return run


@contextmanager
def opened_once(path: Path) -> Iterator[Recording]:
    """An open recording for a test that asks a thousand questions and is about the answers."""
    with open_trace(path) as recording:
        for run in recording.runs:
            read_once(run)
        yield recording
