"""Make one ``generate()`` inside of a trace, and check that trace."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from hooks.probes.selection import TensorSelection
from tracer import open_trace, trace
from tracer.errors import TraceFileError, TraceGenerateError, UnsupportedError
from tracer.schema.run import CaptureSettings, RunEnd, RunStatus
from tracer.tracefile import TraceRun, check_file

from .outcomes import Attributes, Outcome, attributes, changed

_CAPTURES = ("logits", "hidden", "kv", "attention", "lens")


@dataclass(frozen=True)
class TracedCall:
    """A call that was made inside of a trace.

    Attributes:
        outcome: what it came to; None if the trace did not begin.
        refusal: why the tracer refused it; None if it did not.
        alarms: what is wrong with the trace, or with the model afterwards.
        steps: recorded steps.
        left_out: captures that the tracer refuses for the model.
    """

    outcome: Outcome | None
    refusal: UnsupportedError | None
    alarms: list[str]
    steps: int = 0
    left_out: tuple[str, ...] = ()


def traced_call(
    model: PreTrainedModel, generate: Callable[[], Any], path: Path, keeps: Set[str] = frozenset()
) -> TracedCall:
    """Make a call inside of a trace that captures all that the model allows.

    Args:
        model: the model.
        generate: calls its ``generate()``.
        path: the trace file; it is removed again.
        keeps: attributes in which the model itself keeps something of a call.
    """
    left = functools.partial(_left, model, attributes(model), keeps)
    allowed = [capture for capture in _CAPTURES if _allows(model, capture)]
    try:
        block = trace(model, path=path, capture="tensors", save=allowed, force=True)
        session = block.__enter__()
    except UnsupportedError as refusal:
        return TracedCall(None, refusal, left())
    try:
        outcome = Outcome.of(generate)
    finally:
        # The test may itself look at what is warned of, but not at this.
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            block.__exit__(None, None, None)
    if isinstance(outcome.error, UnsupportedError):
        path.unlink(missing_ok=True)
        return TracedCall(outcome, outcome.error, left())
    alarms = [*session.faults, *(f"the trace warns: {each.message}" for each in warned), *left()]
    try:
        # A call that is refused or fails before its first step leaves no file.
        if outcome.error is None or path.exists():
            alarms += _of_trace(path, outcome)
    except TraceFileError as damage:
        alarms.append(f"the trace cannot be read: {damage}")
    path.unlink(missing_ok=True)
    left_out = tuple(capture for capture in _CAPTURES if capture not in allowed)
    return TracedCall(outcome, None, alarms, session.steps, left_out)


def _allows(model: PreTrainedModel, capture: str) -> bool:
    """Whether the tracer does not refuse a capture for a model."""
    try:
        TensorSelection(CaptureSettings(level="tensors", save=(capture,)), model).probes(model)
    except TraceGenerateError:
        return False
    return True


def _left(model: PreTrainedModel, before: Attributes, keeps: Set[str]) -> list[str]:
    return [f"left on the model: {name}" for name in sorted(changed(before, attributes(model)) - keeps)]


def _of_trace(path: Path, outcome: Outcome) -> Iterator[str]:
    report = check_file(path)
    yield from report.problems
    if outcome.error is None and len(report.runs) != 1:
        yield f"{len(report.runs)} runs of one generate()"
    yield from (f"run {run.number} is not complete" for run in report.runs if not run.complete)
    with open_trace(path) as recording:
        for run in recording.runs:
            yield from _of_run(run, outcome)


def _of_run(run: TraceRun, outcome: Outcome) -> Iterator[str]:
    if run.end is not None:
        yield from _of_end(run.end, outcome)
    for step in run.steps:
        yield from (f"check {each.check} failed: {each.message}" for each in step.head.violations)
        yield from (f"capture error at {each.stop}: {each.message}" for each in step.head.errors)


def _of_end(end: RunEnd, outcome: Outcome) -> Iterator[str]:
    status = RunStatus.COMPLETE if outcome.error is None else RunStatus.FAILED
    if end.status is not status:
        yield f"the run ends as {end.status.value}, not {status.value}"
    if outcome.error is None:
        ids = outcome.result if isinstance(outcome.result, torch.Tensor) else outcome.result.sequences
        if [list(row) for row in end.sequences] != ids.tolist():
            yield "the end record has other token ids than the result"
