"""Where a generation failed, read from its trace, for the one line that a command ends with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tracer.errors import TraceGenerateError
from tracer.schema.run import RunHeader
from tracer.schema.step import Step
from tracer.tracefile import TraceFile


def place_of_failure(path: Path) -> str:
    """The step and stop at which the last run of a trace failed, and its first non-finite output.

    Args:
        path: the trace, closed.

    Returns:
        E.g. ``step 3, at choice; first non-finite output: model.layers.1.mlp (step 3)``; empty where the
        trace does not say.
    """
    try:
        with TraceFile(path) as trace:
            run = trace.runs[-1]
            return "; ".join(_facts(run.header, run.steps))
    except (TraceGenerateError, IndexError):
        return ""


def _facts(header: RunHeader, steps: Sequence[Step]) -> list[str]:
    facts = []
    last, failure = steps[-1], steps[-1].head.failure
    if failure is not None:
        inside = "" if failure.module is None else f", in {_name(header, failure.module)}"
        facts.append(f"step {last.number}, at {failure.stop}{inside}")
    found = (
        (step.number, violation.module)
        for step in steps
        for violation in step.head.violations
        if violation.check == "finite" and violation.module is not None
    )
    number, first = next(found, (0, None))
    if first is not None:
        facts.append(f"first non-finite output: {_name(header, first)} (step {number})")
    return facts


def _name(header: RunHeader, module: int) -> str:
    return header.modules[module].name or header.model.class_name
