"""Checks beyond the types of the fields: that records are consistent with each other.

The same checks run before writing and after reading, so a file never holds a step that cannot be read back,
and a reader of any file meets no index out of range and no loop of absurd length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tracer.schema.cache import CacheState
from tracer.schema.run import RunHeader
from tracer.schema.step import CallLayout, CallShape, Step, StepHead
from tracer.schema.tensors import IntValues, TensorInfo

MAX_POSITIONS = 1 << 24
"""Most positions of a row, and most values of an integer tensor that arithmetic runs may stand for."""

MAX_LAYERS = 100_000
MAX_DIMENSIONS = 64
INT64 = 1 << 63


def check_header(header: RunHeader) -> None:
    """Check a header by itself.

    Raises:
        ValueError: it contradicts itself.
    """
    layers = header.model.layers
    _require(layers is None or 0 <= layers <= MAX_LAYERS, "the header has an impossible number of layers")
    for row in header.prompt:
        _require(0 <= row.padding <= len(row.token_ids), "the header has an impossible padding")


def check_step(step: Step, header: RunHeader) -> None:
    """Check a step against its own arrays and its run's header.

    Raises:
        ValueError: it contradicts itself or the header.
    """
    head = step.head
    _check_head(head, header)
    scores, cache, modules, layout = step.scores, step.cache, step.modules, step.layout
    rows = head.ids_before.shape[0]
    if scores is not None:
        _require(scores.kept.shape == (head.stages, rows), "scores and head differ in stages or rows")
        _require(head.stages > 0, "the scores have no stage")
    if cache is not None:
        _require(cache.key_norm.shape[1] == rows, "cache columns and head differ in rows")
    if layout is not None:
        _check_layout(layout, len(header.modules))
    if modules is not None and layout is not None:
        _require(modules.shapes.shape == (len(layout.modules),), "module columns and layout differ in length")


def check_call_shape(shape: CallShape) -> None:
    """Check the tensors of a call shape.

    Raises:
        ValueError: a shape is impossible.
    """
    _check_tensors((*shape.inputs, *shape.outputs))


def _check_head(head: StepHead, header: RunHeader) -> None:
    _check_tensors(_tensors(head))
    rows = head.ids_before.shape[0] if head.ids_before.shape else -1
    _require(rows == len(header.prompt), "the step and the header's prompt differ in rows")
    _require(0 <= head.stages <= 1 + len(header.processors), "the step has more stages than processors")
    inputs = head.inputs
    _require(
        0 <= inputs.new_start <= inputs.sequence_length <= MAX_POSITIONS, "the step has impossible positions"
    )
    for tensor in inputs.tensors:
        if tensor.values is not None:
            _check_values(tensor.values)
    if head.update is not None and head.update.cache_position is not None:
        _check_values(head.update.cache_position)
    _check_cache(head.cache_before)
    _check_cache(head.cache_after)
    _check_rows(head.unfinished, rows)
    for criterion in head.criteria:
        _require(0 <= criterion.index < len(header.criteria), "the step names an unknown stopping criterion")
        _check_rows(criterion.fired, rows)
    for violation in head.violations:
        _check_optional(violation.row, rows)
        _check_optional(violation.module, len(header.modules))
        _check_optional(violation.layer, MAX_LAYERS)


def _tensors(head: StepHead) -> Iterator[TensorInfo]:
    """Every tensor that a head describes, except those of the cache."""
    yield head.ids_before
    if head.ids_after is not None:
        yield head.ids_after
    for tensor in head.inputs.tensors:
        yield tensor.info
    if head.update is not None and head.update.attention_mask is not None:
        yield head.update.attention_mask
    if head.forward is not None:
        yield head.forward.logits
        yield head.forward.next_logits
        if head.forward.hidden_states is not None:
            yield head.forward.hidden_states


def _check_tensors(tensors: Iterable[TensorInfo]) -> None:
    for tensor in tensors:
        shape = tensor.shape
        _require(len(shape) <= MAX_DIMENSIONS, "a tensor has too many dimensions")
        if shape:
            _require(min(shape) >= 0 and max(shape) < INT64, "a tensor has an impossible size")


def _check_values(values: IntValues) -> None:
    total = 0
    for start, step, count in values.runs:
        last = start + step * (count - 1)
        _require(
            count > 0 and -INT64 <= start < INT64 and -INT64 <= last < INT64, "an integer tensor is damaged"
        )
        total += count
    _require(total <= MAX_POSITIONS, "an integer tensor claims too many values")


def _check_cache(cache: CacheState) -> None:
    following = 0
    for group in cache.groups:
        _require(following <= group.first <= group.last < MAX_LAYERS, "the cache has impossible layers")
        following = group.last + 1
        _check_tensors((group.key, group.value))


def _check_layout(layout: CallLayout, modules: int) -> None:
    for indices in (layout.modules, layout.not_called):
        if indices:
            _require(min(indices) >= 0 and max(indices) < modules, "the layout names an unknown module")


def _check_rows(rows: tuple[int, ...], count: int) -> None:
    for row in rows:
        _require(0 <= row < count, "the step names an unknown row")


def _check_optional(index: int | None, count: int) -> None:
    _require(index is None or 0 <= index < count, "a violation names an unknown row, module or layer")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
