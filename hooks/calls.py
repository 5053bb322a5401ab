"""Shapes and statistics of the module calls of a step, from what was noted while they happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hooks.shapebook import ShapeBook
from hooks.statistics import NonFinite, describe_nonfinite, group_alike, reduce_groups
from hooks.tensors import tensors_in, to_host
from tracer.schema.step import CallLayout, CallShape, ModuleColumns

Sizes = tuple[list[torch.Size], list[torch.Size]]


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


class KnownCall(NamedTuple):
    """What a call of a module looks like; the same object for every call that looks the same.

    Attributes:
        module: the module's index.
        number: number of its shape, 0 before the first call.
        kept: whether statistics are taken of its first output.
        size_in: size of the one tensor that goes in; None for a call with more or other arguments.
        size_out: size of the one tensor that comes out; None likewise.
        sizes: sizes of all tensors that go in, and that come out.
    """

    module: int
    number: int
    kept: bool
    size_in: torch.Size | None
    size_out: torch.Size | None
    sizes: Sizes


@dataclass(frozen=True)
class Look:
    """What was seen of an output that is not held.

    Attributes:
        statistics: ``[4, 1]`` on the tensor's device.
        nonfinite: details, where values are known not to be finite.
    """

    statistics: torch.Tensor
    nonfinite: NonFinite | None


@dataclass
class CallNotes:
    """Calls noted during a forward pass, to be handed to :meth:`CallReducer.reduce`.

    Flat lists on purpose: a container a call would feed the garbage collector.

    Attributes:
        early: whether outputs are looked at when they appear.
        calls: the calls in the order in which they returned.
        held: per kept call without a look two values: what went in (a tensor or a list of them) and the
            output, which nothing had written in place when it was noted.
        looks: what was seen of outputs that are not held, by call.
        saved: outputs to be stored, by tensor name.
        errors: faults in noting.
    """

    early: bool
    calls: list[KnownCall] = field(default_factory=list)
    held: list[Any] = field(default_factory=list)
    looks: dict[int, Look] = field(default_factory=dict)
    saved: dict[str, torch.Tensor] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def copy(self) -> CallNotes:
        """The same notes; what is noted later is not in them."""
        return CallNotes(
            self.early, [*self.calls], [*self.held], {**self.looks}, {**self.saved}, [*self.errors]
        )


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

    @cached_property
    def kept(self) -> list[int]:
        """Calls that have statistics."""
        return [place for place, call in enumerate(self.calls) if call.kept]


class CallReducer:
    """Describes the calls of one step after the other.

    Attributes:
        volatile: modules (by index) whose outputs turned out to be overwritten in place after the call.
    """

    def __init__(self, book: ShapeBook) -> None:
        """Prepare for the first step.

        Args:
            book: numbers shapes and layouts.
        """
        self.volatile: set[int] = set()
        self._book = book
        self._last: _Sequence | None = None
        self._groups: tuple[list[int], list[list[int]]] = ([], [])

    def reduce(self, notes: CallNotes) -> StepCalls:
        """Shapes and statistics of the noted calls. On a GPU this waits for the device.

        Args:
            notes: what was noted.
        """
        sequence = self._sequence(notes.calls)
        places, inputs, outputs = self._held(notes, sequence)
        columns = np.full((4, len(notes.calls)), np.nan, dtype=np.float32)
        reduce_groups(columns, places, outputs, self._grouped(sequence, places, outputs))
        for call, look in notes.looks.items():
            columns[:, call] = to_host(look.statistics)[:, 0]
        counts, first = _nonfinite(notes, columns, places, inputs, outputs)
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
            self._groups = ([], [])
        return self._last

    def _held(self, notes: CallNotes, sequence: _Sequence) -> tuple[list[int], list[Any], list[torch.Tensor]]:
        """Calls whose output is what it was when they returned, with inputs and output.

        Modules of the other calls are remembered: from now on they are looked at in time.
        """
        places = sequence.kept
        if notes.looks:
            places = [place for place in places if place not in notes.looks]
        inputs, outputs = notes.held[0::2], notes.held[1::2]
        written = {at for at, output in enumerate(outputs) if output._version}
        if not written:
            return places, inputs, outputs
        self.volatile.update(notes.calls[places[at]].module for at in written)
        whole = [at for at in range(len(outputs)) if at not in written]
        return [places[at] for at in whole], [inputs[at] for at in whole], [outputs[at] for at in whole]

    def _grouped(
        self, sequence: _Sequence, places: list[int], outputs: Sequence[torch.Tensor]
    ) -> list[list[int]]:
        """Outputs of the same looks; the grouping of one step serves the next."""
        if places is not sequence.kept:
            return group_alike(outputs)
        if self._groups[0] is not places:
            self._groups = places, group_alike(outputs)
        return self._groups[1]


def _nonfinite(
    notes: CallNotes,
    columns: npt.NDArray[np.float32],
    places: list[int],
    inputs: list[Any],
    outputs: list[torch.Tensor],
) -> tuple[npt.NDArray[np.int32], tuple[int, NonFinite] | None]:
    """Count per call, and the first call in order of return: the innermost culprit."""
    counts = np.full(columns.shape[1], -1, dtype=np.int32)
    taken = sorted([*places, *notes.looks])
    counts[taken] = 0
    bad = np.asarray(taken, dtype=np.intp)[~np.isfinite(columns[2:, taken]).all(axis=0)].tolist()
    first: tuple[int, NonFinite] | None = None
    for call in bad:
        look = notes.looks.get(call)
        if look is None:
            at = places.index(call)
            found = describe_nonfinite(outputs[at], tensors_in(inputs[at]))
        else:
            # From a GPU's prefill only the extremes are known: at least one value, rows unknown.
            found = look.nonfinite or NonFinite(1, (), inputs_finite=first is None)
        counts[call] = found.count
        first = first or (notes.calls[call].module, found)
    return counts, first
