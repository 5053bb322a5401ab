"""Records of a step's module calls; made on the thread that writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hooks.modules.nonfinite import NonFinite
from hooks.modules.reduction import ReducedCalls
from hooks.modules.signatures import InOut, Signature
from hooks.tensors import info
from tracer.schema.base import of_valid
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
        reduced: of how many calls it is known whether their outputs were finite.
    """

    layout_number: int
    layout: CallLayout
    shapes: dict[int, CallShape]
    columns: ModuleColumns
    nonfinite: Mapping[int, NonFinite]
    unreadable: Mapping[int, str]
    reduced: int


@dataclass(frozen=True)
class _Shapes:
    """What follows from the signatures of a step's calls; the next step often has the same.

    Attributes:
        signatures: the signatures, each once.
        numbers: number of the shape of each.
        shapes: the shapes by number.
    """

    signatures: list[Signature]
    numbers: dict[Signature, int]
    shapes: dict[int, CallShape]


@dataclass(frozen=True)
class _Order:
    """The order of a step's calls.

    Attributes:
        modules: ``[C]`` module of each call, as bytes.
        number: number of the layout.
        layout: which modules were called.
    """

    modules: bytes
    number: int
    layout: CallLayout


@dataclass(frozen=True)
class _Taken:
    """Of which calls statistics were taken; mostly of the same as in the step before.

    Attributes:
        missing: ``[C]`` a byte for each call: whether they were not taken.
        counts: ``[C]`` number of NaN and infinite values, where all values are finite.
    """

    missing: bytes
    counts: npt.NDArray[np.int32]


class CallDescriber:
    """Makes the records of the calls of one step of a run after the other.

    Args:
        modules: how many are registered.
    """

    def __init__(self, modules: int) -> None:
        self._interned = InternedShapes(modules)
        self._shapes = _Shapes([], {}, {})
        self._order: _Order | None = None
        self._taken = _Taken(b"", np.empty(0, dtype=np.int32))

    def describe(self, calls: ReducedCalls) -> StepCalls:
        """The records of a step's calls.

        Args:
            calls: the calls.
        """
        shapes = self._shapes_of(calls.signatures)
        modules, numbers, (mean, std, low, high) = calls.columns([*shapes.numbers.values()])
        order = self._order_of(modules)
        counts = self._counts(mean)
        missing = self._taken.missing.count(1)
        if calls.nonfinite:
            counts = counts.copy()
            found = calls.nonfinite.values()
            counts[[*calls.nonfinite]] = [1 if each.count is None else each.count for each in found]
            missing = int(np.count_nonzero(counts < 0))
        return StepCalls(
            layout_number=order.number,
            layout=order.layout,
            shapes=shapes.shapes,
            nonfinite=calls.nonfinite,
            unreadable=_unreadable(calls),
            reduced=len(counts) - missing,
            columns=ModuleColumns(numbers, mean, std, low, high, counts),
        )

    def _counts(self, mean: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
        """Where no values were counted, a mean says that all were finite."""
        absent = np.isnan(mean)
        missing = absent.tobytes()
        if missing != self._taken.missing:
            self._taken = _Taken(missing, -absent.astype(np.int32))
        return self._taken.counts

    def _shapes_of(self, signatures: list[Signature]) -> _Shapes:
        last = self._shapes
        if last.signatures == signatures:
            return last
        numbers = {each: last.numbers.get(each) or self._interned.number(each.specs) for each in signatures}
        shapes = {number: self._interned.shape(number) for number in numbers.values()}
        self._shapes = _Shapes(signatures, numbers, shapes)
        if self._interned.crowded:
            self._interned.prune(shapes.keys())
        return self._shapes

    def _order_of(self, modules: npt.NDArray[np.int32]) -> _Order:
        last, found = self._order, modules.tobytes()
        if last is None or last.modules != found:
            last = self._order = _Order(found, *self._interned.layout(modules.tolist()))
        return last


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
            self._shapes[number] = of_valid(CallShape, inputs=inputs, outputs=outputs)
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
