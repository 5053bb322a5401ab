"""Records of a step's module calls; made on the thread that writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hooks.modules.nonfinite import NonFinite
from hooks.modules.reduction import ReducedCalls
from hooks.modules.signatures import InOut
from hooks.tensors import info
from tracer.schema.calls import CallLayout, CallShape
from tracer.schema.columns import ModuleColumns

_MANY = 128
"""After so many new shapes, those that are not in use are pruned."""


@dataclass(frozen=True)
class StepCalls:
    """All module calls of one step, ready to be recorded.

    Attributes:
        layout_number: number of the layout.
        layout: which modules were called.
        shapes: the call shapes in use, by number.
        columns: shape numbers and statistics per call.
        nonfinite: details of the calls whose outputs were not finite.
        unreadable: why calls have no statistics, by call, where that is not in the nature of the module.
    """

    layout_number: int
    layout: CallLayout
    shapes: dict[int, CallShape]
    columns: ModuleColumns
    nonfinite: Mapping[int, NonFinite]
    unreadable: Mapping[int, str]


@dataclass(frozen=True)
class _Sequence:
    """What follows from the order and the signatures of a step's calls; the next step often has the same."""

    calls: ReducedCalls
    numbers: npt.NDArray[np.int32]
    layout_number: int
    layout: CallLayout
    shapes: dict[int, CallShape]

    def has_the_order_of(self, calls: ReducedCalls) -> bool:
        """Whether the same modules were called in the same order."""
        return np.array_equal(self.calls.calls["module"], calls.calls["module"])

    def has_the_signatures_of(self, calls: ReducedCalls) -> bool:
        """Whether the calls have the same signatures."""
        same = self.calls.signatures == calls.signatures
        return same and np.array_equal(self.calls.calls["signature"], calls.calls["signature"])


class CallDescriber:
    """Makes the records of the calls of one step of a run after the other.

    Args:
        modules: how many are registered.
    """

    def __init__(self, modules: int) -> None:
        self._interned = InternedShapes(modules)
        self._last: _Sequence | None = None

    def describe(self, calls: ReducedCalls) -> StepCalls:
        """The records of a step's calls.

        Args:
            calls: the calls.
        """
        sequence = self._sequence(calls)
        mean, std, low, high = calls.statistics()
        # Where no values were counted, a mean says that all were finite.
        counts = -np.isnan(mean).astype(np.int32)
        counts[[*calls.nonfinite]] = [each.count for each in calls.nonfinite.values()]
        return StepCalls(
            layout_number=sequence.layout_number,
            layout=sequence.layout,
            shapes=sequence.shapes,
            nonfinite=calls.nonfinite,
            unreadable=_unreadable(calls),
            columns=ModuleColumns(sequence.numbers, mean, std, low, high, counts),
        )

    def _sequence(self, calls: ReducedCalls) -> _Sequence:
        last = self._last
        if last is not None and last.has_the_order_of(calls):
            if last.has_the_signatures_of(calls):
                return last
            layout = last.layout_number, last.layout
        else:
            layout = self._interned.layout(calls.calls["module"].tolist())
        numbers = np.array([self._interned.number(each.specs) for each in calls.signatures], dtype=np.int32)
        shapes = {number: self._interned.shape(number) for number in numbers.tolist()}
        order = replace(calls, reduced=())  # results are of this step alone
        self._last = _Sequence(order, numbers[calls.calls["signature"]], *layout, shapes)
        if self._interned.crowded:
            self._interned.prune(shapes.keys())
        return self._last


def _unreadable(calls: ReducedCalls) -> dict[int, str]:
    found = dict.fromkeys(calls.lost, "overwritten or freed within the step")
    for place, signature in enumerate(calls.signatures):
        if signature.unreadable is not None:
            of_signature = np.flatnonzero(calls.calls["signature"] == place).tolist()
            found.update(dict.fromkeys(of_signature, signature.unreadable))
    return found


class InternedShapes:
    """Gives every distinct call shape and every distinct layout a number, from 1.

    A step stores these small integers. Some shapes grow with the sequence and never come again; they are
    pruned, so that a long run takes no more memory than a short one. One that does come again gets another
    number.

    Args:
        modules: how many are registered.
    """

    def __init__(self, modules: int) -> None:
        self._modules = modules
        self._next = 1
        self._pruned_at = 1
        self._shapes: dict[int, CallShape] = {}
        self._numbers: dict[InOut, int] = {}
        self._layouts: dict[tuple[int, ...], tuple[int, CallLayout]] = {}

    @property
    def crowded(self) -> bool:
        """Whether many shapes were numbered since the last :meth:`prune`."""
        return self._next - self._pruned_at > _MANY

    def prune(self, used: Set[int]) -> None:
        """Drop all other shapes.

        Args:
            used: numbers that may be asked for again.
        """
        self._shapes = {number: shape for number, shape in self._shapes.items() if number in used}
        self._numbers = {specs: number for specs, number in self._numbers.items() if number in used}
        self._pruned_at = self._next

    def shape(self, number: int) -> CallShape:
        """The call shape with that number."""
        return self._shapes[number]

    def number(self, specs: InOut) -> int:
        """The number of a call's shape.

        Args:
            specs: of its tensors.
        """
        number = self._numbers.get(specs)
        if number is None:
            number = self._numbers[specs] = self._next
            self._next += 1
            inputs, outputs = (tuple(info(*spec) for spec in part) for part in specs)
            self._shapes[number] = CallShape(inputs=inputs, outputs=outputs)
        return number

    def layout(self, calls: Sequence[int]) -> tuple[int, CallLayout]:
        """The number and record of an order of calls.

        Args:
            calls: module index per call.
        """
        key = tuple(calls)
        known = self._layouts.get(key)
        if known is None:
            missing = tuple(sorted(set(range(self._modules)).difference(key)))
            known = (len(self._layouts) + 1, CallLayout(modules=key, not_called=missing))
            self._layouts[key] = known
        return known
