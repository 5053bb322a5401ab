"""Number the shapes and the layouts of module calls, so that a step stores small integers."""

from __future__ import annotations

from collections.abc import Sequence, Set

from hooks.modules.call_notes import ShapeKey
from hooks.tensors import info
from tracer.schema.step import CallLayout, CallShape

_MANY = 128
"""So many new shapes are a reason to forget those that are not in use."""


class ShapeBook:
    """Gives every distinct call shape and every distinct layout a number, from 1.

    Some shapes grow with the sequence and never come again; they are forgotten (:meth:`keep`), so that a long
    run takes no more memory than a short one. One that does come again gets another number.
    """

    def __init__(self, modules: int) -> None:
        self._modules = modules
        self._next = 1
        self._kept = 1
        self._shapes: dict[int, CallShape] = {}
        self._numbers: dict[ShapeKey, int] = {}
        self._layouts: dict[tuple[int, ...], tuple[int, CallLayout]] = {}

    @property
    def crowded(self) -> bool:
        """Whether many shapes have been numbered since the last :meth:`keep`."""
        return self._next - self._kept > _MANY

    def keep(self, numbers: Set[int]) -> None:
        """Forget all other shapes.

        Args:
            numbers: those that may be asked for again.
        """
        self._shapes = {number: shape for number, shape in self._shapes.items() if number in numbers}
        self._numbers = {key: number for key, number in self._numbers.items() if number in numbers}
        self._kept = self._next

    def shape(self, number: int) -> CallShape:
        """The call shape with that number."""
        return self._shapes[number]

    def number(self, key: ShapeKey) -> int:
        """The number of a call's shape.

        Args:
            key: looks of its tensors.
        """
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self._next
            self._next += 1
            inputs, outputs = (tuple(info(*item) for item in part) for part in key)
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
