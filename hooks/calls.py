"""Shapes and statistics of the module calls of a step, from what was noted while they happened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hooks.call_notes import CallNotes, HeldCalls, KnownCall
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

    order: list[int]
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

    def reduce(self, notes: CallNotes) -> StepCalls:
        """Shapes and statistics of the noted calls. On a GPU this waits for the device.

        Args:
            notes: what was noted.
        """
        sequence = self._sequence(notes)
        held = self._whole(notes)
        columns = np.ascontiguousarray(notes.statistics.T)
        # What the tape took is finite.
        counts = -np.isnan(columns[0]).astype(np.int32)
        reduce_groups(columns, held.places, held.outputs, self._grouped(notes.calls, held))
        gather(columns, [*notes.looks], [look.statistics for look in notes.looks.values()])
        return StepCalls(
            layout_number=sequence.layout_number,
            layout=sequence.layout,
            shapes=sequence.shapes,
            first_nonfinite=_count_nonfinite(counts, notes, held, columns),
            columns=ModuleColumns(
                sequence.numbers,
                mean=columns[0],
                std=columns[1],
                low=columns[2],
                high=columns[3],
                nonfinite=counts,
            ),
        )

    def _sequence(self, notes: CallNotes) -> _Sequence:
        last, calls = self._last, notes.calls
        if last is None or last.calls != calls or last.order != notes.order:
            if last is not None and last.order == notes.order:
                number, layout = last.layout_number, last.layout
            else:
                number, layout = self._book.layout(notes.order)
            shapes = {number: self._book.shape(number) for number in {call.number for call in calls}}
            self._last = last = _Sequence(notes.order, calls, number, layout, shapes)
        return last

    def _whole(self, notes: CallNotes) -> HeldCalls:
        """The held calls whose outputs are still what they were when the calls returned.

        The modules of others are remembered: from now on they are looked at in time.
        """
        held = notes.held
        pairs = zip(held.outputs, held.versions, strict=True)
        whole = [at for at, (output, version) in enumerate(pairs) if output._version == version]
        if len(whole) == len(held.places):
            return held
        gone = set(range(len(held.places))).difference(whole)
        self._volatile.update(notes.order[held.places[at]] for at in gone)
        return held.only(whole)

    def _grouped(self, calls: list[KnownCall], held: HeldCalls) -> list[list[int]]:
        """Outputs of the same looks; the grouping of one step serves the next where its calls are known."""
        known = [calls[place] for place in held.places]
        if known != self._grouped_calls:
            self._grouped_calls, self._groups = known, group_alike(held.outputs)
        return self._groups


def _count_nonfinite(
    counts: npt.NDArray[np.int32], notes: CallNotes, held: HeldCalls, columns: npt.NDArray[np.float32]
) -> tuple[int, NonFinite] | None:
    """Count per call that was looked at, and the first call in order of return: the innermost culprit."""
    taken = sorted([*held.places, *notes.looks])
    if not taken:
        return None
    counts[taken] = 0
    bad = np.asarray(taken, dtype=np.intp)[~np.isfinite(columns[2:, taken]).all(axis=0)].tolist()
    first: tuple[int, NonFinite] | None = None
    for call in bad:
        look = notes.looks.get(call)
        if look is None:
            at = held.places.index(call)
            found = describe_nonfinite(held.outputs[at], tensors_in(held.arguments[at]))
        else:
            # From a GPU's prefill only the extremes are known: at least one value, rows unknown.
            found = look.nonfinite or NonFinite(1, (), inputs_finite=first is None)
        counts[call] = found.count
        first = first or (notes.order[call], found)
    return first
