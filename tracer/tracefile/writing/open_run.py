"""A run while it is being written: which of its interned records are in the file already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tracer.schema.calls import CallLayout, CallShape
from tracer.schema.run import RunHeader
from tracer.schema.step import Step
from tracer.tracefile.encoding.digests import DigestChain
from tracer.tracefile.encoding.native.compiled import distinct
from tracer.tracefile.encoding.validity import check_call_shape, check_layout
from tracer.tracefile.writing.statements import record_text

_Interned = TypeVar("_Interned", CallLayout, CallShape)


class Interned(Generic[_Interned]):
    """Records of one kind that steps refer to by number, each stored once.

    Many occur in a single step only, so records that are not in the last step are kept as the hash of their
    JSON alone.

    Args:
        what: the kind, for messages.
        check: raises ValueError for a record that contradicts itself or the run.
    """

    def __init__(self, what: str, check: Callable[[_Interned], None]) -> None:
        self._what = what
        self._check: Callable[[_Interned], None] = check
        self._hashes: dict[int, int] = {}
        self._last: Mapping[int, _Interned | None] = {}

    def new(self, numbers: Iterable[int], described: Mapping[int, _Interned | None]) -> dict[int, str]:
        """The records, as JSON, that a step refers to and that are not stored yet.

        Args:
            numbers: numbers that the step refers to.
            described: records by number; those that are stored already may be missing.

        Raises:
            ValueError: a record is missing or cannot be stored, or its number stood for another one before.
        """
        found = {}
        for number in numbers:
            record, stored = described.get(number), self._hashes.get(number)
            if stored is None:
                if record is None:
                    raise ValueError(f"{self._what} {number} is unknown")
                self._check(record)
                found[number] = record_text(record)
            elif record is None or record is self._last.get(number):
                continue
            elif hash(record_text(record)) != stored:
                raise ValueError(f"{self._what} {number} was another one before")
        return found

    def add(self, found: Mapping[int, str], described: Mapping[int, _Interned | None]) -> None:
        """Record that a step is to be stored.

        Args:
            found: what :meth:`new` gave.
            described: what it was given.
        """
        for number, text in found.items():
            self._hashes[number] = hash(text)
        self._last = described

    def forget(self, found: Iterable[int]) -> None:
        """Record that a step was not stored after all.

        Args:
            found: the numbers that :meth:`add` was given for it.
        """
        for number in found:
            del self._hashes[number]


@dataclass
class OpenRun:
    """What the writer keeps of a run in progress.

    Attributes:
        header: the run's header.
        chain: digests of header and steps so far.
        last_step: number of the last step, which may not be committed yet.
        layouts: the layouts that are stored.
        shapes: the call shapes that are stored.
    """

    header: RunHeader
    chain: DigestChain
    last_step: int = 0
    layouts: Interned[CallLayout] = field(init=False)
    shapes: Interned[CallShape] = field(init=False)

    def __post_init__(self) -> None:
        self.layouts = Interned("layout", lambda layout: check_layout(layout, self.header))
        self.shapes = Interned("call shape", check_call_shape)

    def new_layouts(self, step: Step) -> dict[int, str]:
        """The step's layout by number, if it has to be stored (see :meth:`Interned.new`)."""
        layouts = _layouts(step)
        return self.layouts.new(layouts, layouts)

    def new_shapes(self, step: Step) -> dict[int, str]:
        """The call shapes that the step refers to and that have to be stored (see :meth:`Interned.new`)."""
        if step.modules is None:
            return {}
        return self.shapes.new(distinct(step.modules.shapes), step.shapes)

    def add(self, step: Step, layouts: Mapping[int, str], shapes: Mapping[int, str]) -> None:
        """Record that a step is to be stored.

        Args:
            step: the step.
            layouts: what :meth:`new_layouts` gave.
            shapes: what :meth:`new_shapes` gave.
        """
        self.last_step = step.number
        self.layouts.add(layouts, _layouts(step))
        self.shapes.add(shapes, step.shapes)

    def take_back(self, last_step: int, layouts: Iterable[int], shapes: Iterable[int]) -> None:
        """Undo :meth:`add` of the last step.

        Args:
            last_step: number of the step before it.
            layouts: numbers of the layouts that came with it.
            shapes: numbers of the call shapes that came with it.
        """
        self.last_step = last_step
        self.layouts.forget(layouts)
        self.shapes.forget(shapes)


def _layouts(step: Step) -> dict[int, CallLayout | None]:
    return {} if step.head.layout is None else {step.head.layout: step.layout}
