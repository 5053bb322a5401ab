"""How a recording ends, in words."""

from __future__ import annotations

from tracer.messages import one_line
from tracer.schema.run import RunStatus
from tracer.tracefile import TraceRun


def ending(run: TraceRun) -> str:
    """How the recording of a run ends: complete, cut off, failed.

    Args:
        run: the run.
    """
    steps, end = run.steps.numbers, run.end
    last = steps[-1] if steps else 0
    if end is None:
        return f"The recording is incomplete: it ends with step {last}, without its end record."
    if end.status is RunStatus.FAILED:
        failure = run.steps[-1].head.failure if steps else None
        where = f"in step {last}, at {failure.stop}" if failure else f"after step {last}"
        return f"The run failed {where}: {one_line(end.error or 'no reason was recorded')}"
    if end.status is RunStatus.INTERRUPTED:
        return f"The run was interrupted after step {last}{f': {one_line(end.error)}' if end.error else ''}."
    return f"The run ended with step {last}."
