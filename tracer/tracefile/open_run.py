"""A run while it is being written: which of its parts the file has already."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from tracer.schema.run import RunHeader
from tracer.schema.step import CallLayout, CallShape, Step
from tracer.tracefile.digests import DigestChain
from tracer.tracefile.validity import check_call_shape

T = TypeVar("T", CallLayout, CallShape)


@dataclass
class OpenRun:
    """What the writer remembers of a run.

    Attributes:
        header: the run's header.
        chain: digests of header and steps so far.
        last_step: number of the last step.
        layouts: the layouts that are stored, by number.
        stored_shapes: numbers of the call shapes that are stored.
        shapes: those of them that the last step had, by number; many are of one step only.
    """

    header: RunHeader
    chain: DigestChain
    last_step: int = 0
    layouts: dict[int, CallLayout] = field(default_factory=dict)
    stored_shapes: set[int] = field(default_factory=set)
    shapes: dict[int, CallShape] = field(default_factory=dict)

    def new_layouts(self, step: Step) -> dict[int, CallLayout]:
        """The step's layout by number, if it has to be stored.

        Raises:
            ValueError: nobody has described the layout, or its number meant another one before.
        """
        number = step.head.layout
        if number is None:
            return {}
        return _unstored([number], {number: step.layout}, self.layouts, self.layouts, "layout")

    def new_shapes(self, step: Step) -> dict[int, CallShape]:
        """The call shapes that the step refers to and that have to be stored, by number.

        Raises:
            ValueError: nobody has described a shape, or its number meant another one before.
        """
        if step.modules is None:
            return {}
        numbers = set(step.modules.shapes.tolist())
        found = _unstored(numbers, step.shapes, self.stored_shapes, self.shapes, "call shape")
        for shape in found.values():
            check_call_shape(shape)
        return found

    def add(
        self, step: Step, digest: bytes, layouts: Mapping[int, CallLayout], shapes: Mapping[int, CallShape]
    ) -> None:
        """Take note that a step is stored.

        Args:
            step: the step.
            digest: its digest.
            layouts: what :meth:`new_layouts` gave.
            shapes: what :meth:`new_shapes` gave.
        """
        self.last_step = step.number
        self.chain.add(digest)
        self.layouts.update(layouts)
        self.stored_shapes.update(shapes)
        if step.modules is not None:
            known = {**self.shapes, **shapes}
            self.shapes = {number: known[number] for number in step.shapes if number in known}


def _unstored(
    numbers: Iterable[int],
    described: Mapping[int, T | None],
    stored: Container[int],
    known: Mapping[int, T],
    what: str,
) -> dict[int, T]:
    """What is behind the numbers and not stored yet."""
    found = {}
    for number in numbers:
        record, before = described.get(number), known.get(number)
        if number not in stored:
            if record is None:
                raise ValueError(f"{what} {number} is unknown")
            found[number] = record
        elif record is not None and before is not None and record is not before and record != before:
            raise ValueError(f"{what} {number} was another one before")
    return found
