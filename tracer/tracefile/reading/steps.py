"""The steps of a run as a sequence that reads each step when it is accessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import overload

from tracer.schema.calls import CallLayout, CallShape
from tracer.schema.run import RunHeader
from tracer.schema.step import Step
from tracer.tracefile.encoding.digests import digest
from tracer.tracefile.encoding.native.compiled import distinct
from tracer.tracefile.encoding.packing import PackedStep, unpack_step
from tracer.tracefile.encoding.validity import check_call_shape, check_layout, check_step
from tracer.tracefile.format import MAX_BLOB
from tracer.tracefile.reading.database import OPTIONAL_BYTES, OPTIONAL_INT, Database


class StepSequence(Sequence[Step]):
    """Steps of one run, by index from 0; :meth:`number` takes the step's own number.

    Reading a step takes the same time for every index; steps are not cached.

    Args:
        database: where they are.
        run: number of the run.
        header: the run's header.
    """

    def __init__(self, database: Database, run: int, header: RunHeader) -> None:
        self._database = database
        self._run = run
        self._header = header
        self._layouts: dict[int, CallLayout] = {}
        self._shapes: dict[int, CallShape] = {}
        self._numbers: Sequence[int] = ()
        self._seen = -1

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        numbers = self.numbers
        if isinstance(index, slice):
            return [self._listed(number) for number in numbers[index]]
        try:
            number = numbers[index]
        except IndexError:
            raise IndexError(f"step index {index} is out of range ({len(numbers)} steps)") from None
        return self._listed(number)

    def __iter__(self) -> Iterator[Step]:
        for number in self.numbers:
            yield self._listed(number)

    def __repr__(self) -> str:
        return f"<{len(self)} steps of run {self._run} in {self._database.path.name}>"

    @property
    def numbers(self) -> Sequence[int]:
        """Numbers of the recorded steps, rising; usually 1, 2, 3 and so on without a gap."""
        changes = self._database.changes()
        if changes != self._seen:
            self._numbers, self._seen = self._read_numbers(), changes
        return self._numbers

    def number(self, number: int) -> Step:
        """A step by its number, from 1.

        Raises:
            KeyError: there is no such step.
            TraceFileError: it is damaged.
        """
        return self.unpack(*self.packed(number))

    def unpack(self, packed: PackedStep, stored: bytes) -> Step:
        """A step from its stored form (see :meth:`packed`).

        Raises:
            TraceFileError: it is damaged.
        """
        where = f"step {packed.step} of run {self._run}"
        if packed.digest != stored:
            raise self._database.damaged(f"{where} is not what was written")
        with self._database.checking(where):
            step = unpack_step(packed, self._database.queries.upgrade_head)
            step = replace(step, layout=self._layout(step), shapes=self._shapes_of(step))
            check_step(step, self._header)
        return step

    def packed(self, number: int) -> tuple[PackedStep, bytes]:
        """The stored form of a step and its digest as stored, unchecked.

        Raises:
            KeyError: there is no such step.
            TraceFileError: its row is damaged.
        """
        if not 0 < number < 1 << 63:
            raise KeyError(number)
        database, key = self._database, (self._run, number)
        sizes = database.row(database.queries.step_size, key, *(OPTIONAL_INT,) * 4)
        if sizes is None:
            raise KeyError(number)
        if sum(size or 0 for size in sizes) > MAX_BLOB:
            raise database.damaged(f"step {number} of run {self._run} is too large")
        row = database.row(database.queries.step, key, int, bytes, bytes, *(OPTIONAL_BYTES,) * 3)
        if row is None:
            raise KeyError(number)
        tensors, stored, head, scores, modules, cache = row
        return PackedStep(self._run, number, tensors, head, scores, modules, cache), stored

    def _listed(self, number: int) -> Step:
        """A step that the table lists; if it is missing, the file is damaged."""
        try:
            return self.number(number)
        except KeyError:
            raise self._database.damaged(f"step {number} of run {self._run} is missing") from None

    def _read_numbers(self) -> Sequence[int]:
        database = self._database
        found = database.row(database.queries.step_range, (self._run,), int, OPTIONAL_INT, OPTIONAL_INT)
        count, first, last = found or (0, None, None)
        if (first, last) == (1, count):
            return range(1, count + 1)
        return [number for (number,) in database.rows(database.queries.step_numbers, (self._run,), int)]

    def _layout(self, step: Step) -> CallLayout | None:
        number = step.head.layout
        if number is None:
            return None
        if number not in self._layouts:
            text = self._interned(self._database.queries.layout, number, "layout")
            layout = CallLayout.model_validate_json(text)
            check_layout(layout, self._header)
            self._layouts[number] = layout
        return self._layouts[number]

    def _shapes_of(self, step: Step) -> dict[int, CallShape]:
        if step.modules is None:
            return {}
        numbers = sorted(distinct(step.modules.shapes))
        for number in numbers:
            if number not in self._shapes:
                text = self._interned(self._database.queries.call_shape, number, "call shape")
                shape = CallShape.model_validate_json(text)
                check_call_shape(shape)
                self._shapes[number] = shape
        return {number: self._shapes[number] for number in numbers}

    def _interned(self, statement: str, number: int, what: str) -> str:
        if not -(1 << 63) <= number < 1 << 63:
            raise ValueError(f"{what} {number} is missing")
        row = self._database.row(statement, (self._run, number), str, bytes)
        if row is None:
            raise ValueError(f"{what} {number} is missing")
        text, stored = row
        if digest(self._run, number, text) != stored:
            raise ValueError(f"{what} {number} is not what was written")
        return str(text)
