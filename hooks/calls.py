"""Shapes and statistics of the module calls of a step, from what was noted while they happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hooks.shapebook import ShapeBook
from hooks.statistics import GroupedReducer, NonFinite, describe_nonfinite
from hooks.tensors import tensors_in, to_host
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
class Look:
    """What was seen of an output that is not kept.

    Attributes:
        statistics: ``[4, 1]`` on the tensor's device.
        nonfinite: details, where values are known not to be finite.
    """

    statistics: torch.Tensor
    nonfinite: NonFinite | None


@dataclass
class CallNotes:
    """Calls noted during a forward pass, to be handed to :meth:`CallReducer.reduce`.

    Attributes:
        early: whether outputs are looked at when they appear.
        calls: :data:`PER_CALL` values a call in one flat list, since a container a call would feed the
            garbage collector: module index, shape number, what went in (a tensor or a list of them), the
            output that statistics are taken of (None without), and its version when it appeared.
        looks: what was seen of outputs that are not kept, by call.
        saved: outputs to be stored, by tensor name.
        errors: faults in noting.
    """

    early: bool
    calls: list[Any] = field(default_factory=list)
    looks: dict[int, Look] = field(default_factory=dict)
    saved: dict[str, torch.Tensor] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


PER_CALL = 5


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
        self._groups = GroupedReducer()

    def reduce(self, notes: CallNotes) -> StepCalls:
        """Shapes and statistics of the noted calls. On a GPU this waits for the device.

        Args:
            notes: what was noted.
        """
        modules, numbers, _, outputs, _ = (notes.calls[part::PER_CALL] for part in range(PER_CALL))
        number, layout = self._book.layout(modules)
        kept = self._unchanged(notes, outputs)
        columns = self._groups.reduce(kept, numbers)
        for call, look in notes.looks.items():
            columns[:, call] = to_host(look.statistics)[:, 0]
        counts, first = _nonfinite(notes, sorted([*kept, *notes.looks]), columns)
        return StepCalls(
            layout_number=number,
            layout=layout,
            shapes={shape: self._book.shape(shape) for shape in {*numbers}},
            columns=ModuleColumns(
                np.array(numbers, dtype=np.int32),
                mean=columns[0],
                std=columns[1],
                low=columns[2],
                high=columns[3],
                nonfinite=counts,
            ),
            first_nonfinite=first,
        )

    def _unchanged(self, notes: CallNotes, outputs: list[torch.Tensor | None]) -> dict[int, torch.Tensor]:
        """Outputs that are what they were when the call returned; modules of the others are remembered."""
        versions = notes.calls[4::PER_CALL]
        kept: dict[int, torch.Tensor] = {}
        for call, output in enumerate(outputs):
            if output is None:
                continue
            if output._version == versions[call]:
                kept[call] = output
            else:  # overwritten since: from now on it is looked at in time
                self.volatile.add(notes.calls[PER_CALL * call])
        return kept


def _nonfinite(
    notes: CallNotes, taken: list[int], columns: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int32], tuple[int, NonFinite] | None]:
    """Count per call, and the first call in order of return: the innermost culprit."""
    counts = np.full(columns.shape[1], -1, dtype=np.int32)
    counts[taken] = 0
    first: tuple[int, NonFinite] | None = None
    extremes = columns[2:, taken]
    for call in np.asarray(taken, dtype=np.intp)[~np.isfinite(extremes).all(axis=0)].tolist():
        look = notes.looks.get(call)
        if look is None:
            inputs, output = notes.calls[PER_CALL * call + 2 : PER_CALL * call + 4]
            found = describe_nonfinite(output, tensors_in(inputs))
        else:
            # From a GPU's prefill only the extremes are known: at least one value, rows unknown.
            found = look.nonfinite or NonFinite(1, (), inputs_finite=first is None)
        counts[call] = found.count
        first = first or (notes.calls[PER_CALL * call], found)
    return counts, first
