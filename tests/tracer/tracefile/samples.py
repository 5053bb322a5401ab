"""Traces and comparisons that the tests of the trace file share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.synthetic import synthetic_end, synthetic_header, synthetic_steps, synthetic_tokens
from tracer.schema.changes import Intervention
from tracer.schema.checks import Check, Violation
from tracer.schema.faults import CaptureError
from tracer.schema.run import RunHeader, TokenText
from tracer.schema.step import Step
from tracer.tracefile import SavedTensor, TraceWriter

LAYERS = 3
_TOKENS = list(synthetic_tokens().values())


def header(rows: int = 1, layers: int = LAYERS) -> RunHeader:
    return synthetic_header(rows=rows, layers=layers)


def steps(count: int = 4, *, rows: int = 1, run: int = 1) -> list[Step]:
    return list(synthetic_steps(header(rows), count, run=run))


def some_tokens(count: int = 20) -> list[TokenText]:
    return _TOKENS[:count]


def tensors(number: int = 1) -> dict[str, SavedTensor]:
    values = np.arange(12, dtype=np.float32) + number
    return {
        "logits": SavedTensor("float32", (1, 12), values.tobytes()),
        "hidden/0": SavedTensor("bfloat16", (2, 3), (values[:6].view("<u4") >> 16).astype("<u2").tobytes()),
    }


def slots(number: int = 1, layers: int = 2) -> SavedTensor:
    """The slots that a step adds to the cache of some layers, as one tensor."""
    values = np.arange(2 * layers * 2 * 3 * 4, dtype=np.float32) + number
    return SavedTensor("float32", (2 * layers, 2, 3, 1, 4), values.tobytes())


def with_faults(step: Step) -> Step:
    """The step with a violated check, one that was not made, a capture error and changes by the user."""
    head = step.head.model_copy(
        update={
            "violations": (Violation(check="cache", message="slot 3 changed", row=0, layer=1),),
            "checks": (Check.not_made("positions", "its positions are relative", total=1),),
            "errors": (
                CaptureError(stop="softmax", message="ValueError: broken"),
                CaptureError(stop="layers", message="ValueError: no norm", capture="lens"),
            ),
            "interventions": (
                Intervention(kind="force", detail="' Red' (7)", token=7),
                Intervention(kind="set", detail="top_k 5", setting="top_k", value=5),
            ),
        }
    )
    return replace(step, head=head)


def write_trace(
    path: Path, count: int = 4, *, rows: int = 1, runs: int = 1, end: bool = True, saved: bool = False
) -> list[Step]:
    """A trace of one or more runs; the steps of the first."""
    first: list[Step] = []
    with TraceWriter(path) as writer:
        for _ in range(runs):
            number = writer.begin_run(header(rows))
            written = steps(count, rows=rows, run=number)
            for step in written:
                writer.write_step(step, some_tokens(step.number), tensors(step.number) if saved else {})
            if end:
                writer.end_run(number, synthetic_end(header(rows), count))
            first = first or written
    return first


def assert_same(found: object, expected: object) -> None:
    """Equality that looks into arrays, where NaN equals NaN, and at their types."""
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert isinstance(found, np.ndarray)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif is_dataclass(expected):
        for field in fields(expected):
            assert_same(getattr(found, field.name), getattr(expected, field.name))
    else:
        assert found == expected


def assert_same_steps(found: Iterable[Step], expected: Iterable[Step]) -> None:
    """Steps equal, but for shapes that no call refers to: those are not stored with a step."""
    for one, other in zip(found, expected, strict=True):
        used = set() if other.modules is None else set(other.modules.shapes.tolist())
        shapes: Mapping[int, Any] = other.shapes
        assert_same(one, replace(other, shapes={number: shapes[number] for number in sorted(used)}))
