"""Records of the module calls of a step, from what was taken of them; made on the thread that writes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hooks.modules.interned_shapes import ShapeBook
from hooks.modules.reduction import TakenCalls
from hooks.modules.statistics import NonFinite
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
    """What follows from the order and the looks of a step's calls; the next step often has the same."""

    taken: TakenCalls
    numbers: npt.NDArray[np.int32]
    layout_number: int
    layout: CallLayout
    shapes: dict[int, CallShape]

    def has_the_order_of(self, taken: TakenCalls) -> bool:
        """Whether the same modules were called in the same order."""
        return np.array_equal(self.taken.calls["module"], taken.calls["module"])

    def has_the_looks_of(self, taken: TakenCalls) -> bool:
        """Whether the calls look the same."""
        same = self.taken.known == taken.known
        return same and np.array_equal(self.taken.calls["known"], taken.calls["known"])


class CallDescriber:
    """Describes the calls of one step of a run after the other.

    Args:
        modules: how many are registered.
    """

    def __init__(self, modules: int) -> None:
        self._book = ShapeBook(modules)
        self._last: _Sequence | None = None

    def describe(self, taken: TakenCalls) -> StepCalls:
        """The records of a step's calls.

        Args:
            taken: what was taken of them.
        """
        sequence = self._sequence(taken)
        mean, std, low, high = taken.statistics()
        # Only values that are finite have a mean without having been looked at.
        nonfinite = -np.isnan(mean).astype(np.int32)
        nonfinite[[*taken.nonfinite]] = [*taken.nonfinite.values()]
        return StepCalls(
            layout_number=sequence.layout_number,
            layout=sequence.layout,
            shapes=sequence.shapes,
            first_nonfinite=taken.first_nonfinite,
            columns=ModuleColumns(sequence.numbers, mean, std, low, high, nonfinite),
        )

    def _sequence(self, taken: TakenCalls) -> _Sequence:
        last = self._last
        if last is not None and last.has_the_order_of(taken):
            if last.has_the_looks_of(taken):
                return last
            layout = last.layout_number, last.layout
        else:
            layout = self._book.layout(taken.calls["module"].tolist())
        numbers = np.array([self._book.number(call.key) for call in taken.known], dtype=np.int32)
        shapes = {number: self._book.shape(number) for number in numbers.tolist()}
        looks = replace(taken, looked_at=())  # what was looked at is of this step alone
        self._last = _Sequence(looks, numbers[taken.calls["known"]], *layout, shapes)
        if self._book.crowded:
            self._book.keep(shapes.keys())
        return self._last
