"""Shapes and statistics of the module calls of a step, from what was noted while they happened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hooks.call_notes import KnownCall, StepNotes
from hooks.shapebook import ShapeBook
from hooks.statistics import NonFinite, describe_nonfinite, gather, group_alike, reduce_groups
from hooks.tensors import tensors_in
from tracer.schema.step import CallLayout, CallShape, ModuleColumns


@dataclass(frozen=True)
class StepCalls:
    """All module calls of one step, ready to be recorded.

    Attributes:
        layout_number: number of the layout.
        layout: which modules were called.
        shapes: the call shapes in use, by number.
        columns: shape numbers and statistics per call.
        first_nonfinite: module index and details of the first call whose output was not finite.
    """

    layout_number: int
    layout: CallLayout
    shapes: dict[int, CallShape]
    columns: ModuleColumns
    first_nonfinite: tuple[int, NonFinite] | None


@dataclass(frozen=True)
class _Sequence:
    """What follows from the calls of a step alone; the next step often has the same."""

    calls: list[KnownCall]
    layout_number: int
    layout: CallLayout
    shapes: dict[int, CallShape]

    @cached_property
    def numbers(self) -> npt.NDArray[np.int32]:
        """Shape number per call."""
        return np.array([call.number for call in self.calls], dtype=np.int32)


class CallReducer:
    """Describes the calls of one step after the other.

    Args:
        book: numbers shapes and layouts.
        volatile: modules (by index) whose outputs turn out to be overwritten in place are added to it.
    """

    def __init__(self, book: ShapeBook, volatile: set[int]) -> None:
        self._book = book
        self._volatile = volatile
        self._last: _Sequence | None = None
        self._grouped_calls: list[KnownCall] = []
        self._groups: list[list[int]] = []

    def reduce(self, notes: StepNotes) -> StepCalls:
        """Shapes and statistics of the noted calls. On a GPU this waits for the device.

        Args:
            notes: what was noted.
        """
        sequence = self._sequence(notes.calls)
        notes = self._whole(notes)
        columns = np.full((4, len(notes.calls)), np.nan, dtype=np.float32)
        reduce_groups(columns, notes.places, notes.outputs, self._grouped(notes))
        gather(columns, [*notes.looks], [look.statistics for look in notes.looks.values()])
        counts, first = _nonfinite(notes, columns)
        return StepCalls(
            layout_number=sequence.layout_number,
            layout=sequence.layout,
            shapes=sequence.shapes,
            columns=ModuleColumns(
                sequence.numbers,
                mean=columns[0],
                std=columns[1],
                low=columns[2],
                high=columns[3],
                nonfinite=counts,
            ),
            first_nonfinite=first,
        )

    def _sequence(self, calls: list[KnownCall]) -> _Sequence:
        if self._last is None or self._last.calls != calls:
            number, layout = self._book.layout([call.module for call in calls])
            shapes = {number: self._book.shape(number) for number in {call.number for call in calls}}
            self._last = _Sequence(calls, number, layout, shapes)
        return self._last

    def _whole(self, notes: StepNotes) -> StepNotes:
        """The notes without the outputs that are no longer what they were when their calls returned.

        Their modules are remembered: from now on they are looked at in time.
        """
        if not notes.written:
            return notes
        self._volatile.update(notes.calls[notes.places[at]].module for at in notes.written)
        whole = [at for at in range(len(notes.places)) if at not in notes.written]
        return replace(
            notes,
            places=[notes.places[at] for at in whole],
            arguments=[notes.arguments[at] for at in whole],
            outputs=[notes.outputs[at] for at in whole],
        )

    def _grouped(self, notes: StepNotes) -> list[list[int]]:
        """Outputs of the same looks; the grouping of one step serves the next where its calls are known."""
        known = [notes.calls[place] for place in notes.places]
        if known != self._grouped_calls:
            self._grouped_calls, self._groups = known, group_alike(notes.outputs)
        return self._groups


def _nonfinite(
    notes: StepNotes, columns: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int32], tuple[int, NonFinite] | None]:
    """Count per call, and the first call in order of return: the innermost culprit."""
    counts = np.full(columns.shape[1], -1, dtype=np.int32)
    taken = sorted([*notes.places, *notes.looks]) if notes.looks else notes.places
    if not taken:
        return counts, None
    counts[taken] = 0
    bad = np.asarray(taken, dtype=np.intp)[~np.isfinite(columns[2:, taken]).all(axis=0)].tolist()
    first: tuple[int, NonFinite] | None = None
    for call in bad:
        look = notes.looks.get(call)
        if look is None:
            at = notes.places.index(call)
            found = describe_nonfinite(notes.outputs[at], tensors_in(notes.arguments[at]))
        else:
            # From a GPU's prefill only the extremes are known: at least one value, rows unknown.
            found = look.nonfinite or NonFinite(1, (), inputs_finite=first is None)
        counts[call] = found.count
        first = first or (notes.calls[call].module, found)
    return counts, first
