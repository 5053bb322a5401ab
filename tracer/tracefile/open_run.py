"""A run while it is being written: which of its parts the file has already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
        shapes: the call shapes that are stored, by number.
    """

    header: RunHeader
    chain: DigestChain
    last_step: int = 0
    layouts: dict[int, CallLayout] = field(default_factory=dict)
    shapes: dict[int, CallShape] = field(default_factory=dict)

    def new_layouts(self, step: Step) -> dict[int, CallLayout]:
        """The step's layout by number, if it has to be stored.

        Raises:
            ValueError: nobody has described the layout, or its number meant another one before.
        """
        number = step.head.layout
        if number is None:
            return {}
        return _unstored([number], {number: step.layout}, self.layouts, "layout")

    def new_shapes(self, step: Step) -> dict[int, CallShape]:
        """The call shapes that the step refers to and that have to be stored, by number.

        Raises:
            ValueError: nobody has described a shape, or its number meant another one before.
        """
        if step.modules is None:
            return {}
        found = _unstored(set(step.modules.shapes.tolist()), step.shapes, self.shapes, "call shape")
        for shape in found.values():
            check_call_shape(shape)
        return found


def _unstored(
    numbers: Iterable[int], described: Mapping[int, T | None], stored: Mapping[int, T], what: str
) -> dict[int, T]:
    """What is behind the numbers and not stored yet."""
    found = {}
    for number in numbers:
        record, known = described.get(number), stored.get(number)
        if known is None:
            if record is None:
                raise ValueError(f"{what} {number} is unknown")
            found[number] = record
        elif record is not None and record is not known and record != known:
            raise ValueError(f"{what} {number} was another one before")
    return found
