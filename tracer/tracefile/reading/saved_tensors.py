"""Read saved tensors from a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from tracer.tracefile.encoding.digests import digest
from tracer.tracefile.encoding.saved_tensor import SavedTensor, tensor_bytes
from tracer.tracefile.encoding.slots import SLOTS, is_slot_name, layers_in, place_of, slot_names, slots_named
from tracer.tracefile.encoding.validity import INT64, MAX_DIMENSIONS
from tracer.tracefile.reading.database import Database


class SavedTensors:
    """The tensors saved in the steps of a run, by the names under which they were saved.

    The new slots of all layers may be stored as one tensor (:mod:`tracer.tracefile.encoding.slots`).

    Args:
        database: where they are.
        run: number of the run.
    """

    def __init__(self, database: Database, run: int) -> None:
        self._database = database
        self._run = run
        self._slots: tuple[int, SavedTensor] | None = None

    def stored(self, step: int) -> tuple[str, ...]:
        """Names of the tensors as they are stored, sorted.

        Raises:
            TraceFileError: the file is damaged.
        """
        rows = self._database.rows(self._database.queries.tensor_names, (self._run, step), str)
        return tuple(name for (name,) in rows)

    def names(self, step: int) -> tuple[str, ...]:
        """Names of the tensors, sorted.

        Raises:
            TraceFileError: the file is damaged.
        """
        return tuple(sorted(self._names(step)))

    def layout(self, step: int, name: str) -> tuple[str, tuple[int, ...]]:
        """Dtype and shape of a tensor, without reading its values.

        Raises:
            KeyError: no such tensor was saved.
            TraceFileError: it is damaged.
        """
        if self._is_together(step, name):
            dtype, shape = self._stored_layout(step, SLOTS)
            with self._checking(step, SLOTS):
                place_of(name, layers_in(shape))
            return dtype, shape[1:]
        return self._stored_layout(step, name)

    def read(self, step: int, name: str) -> SavedTensor:
        """Read one tensor.

        Raises:
            KeyError: no such tensor was saved.
            TraceFileError: it is damaged.
        """
        if not self._is_together(step, name):
            return self._read(step, name)
        # Whoever wants one layer mostly wants the next one too.
        if self._slots is None or self._slots[0] != step:
            self._slots = step, self._read(step, SLOTS)
        with self._checking(step, SLOTS):
            return slots_named(name, self._slots[1])

    def _names(self, step: int) -> Iterator[str]:
        for name in self.stored(step):
            if name == SLOTS:
                _, shape = self._stored_layout(step, SLOTS)
                with self._checking(step, SLOTS):
                    yield from slot_names(layers_in(shape))
            else:
                yield name

    def _is_together(self, step: int, name: str) -> bool:
        """Whether a tensor is stored as a part of another one."""
        return is_slot_name(name) and bool(self._part_rows(step, SLOTS))

    def _stored_layout(self, step: int, name: str) -> tuple[str, tuple[int, ...]]:
        parts = self._parts(step, name)
        with self._checking(step, name):
            return _layout(parts)

    def _read(self, step: int, name: str) -> SavedTensor:
        parts = self._parts(step, name)
        with self._checking(step, name):
            dtype, shape = _layout(parts)
            shape_text = parts[0].shape
            if [part[:3] for part in parts] != [(number, dtype, shape_text) for number in range(len(parts))]:
                raise ValueError("its parts do not belong together")
            pieces = []
            for number in range(len(parts)):
                key = (self._run, step, name, number)
                row = self._database.row(self._database.queries.tensor_part, key, bytes, bytes)
                if row is None or digest(*key, dtype, shape_text, row[1]) != row[0]:
                    raise ValueError("it is not what was written")
                pieces.append(row[1])
            return SavedTensor(dtype, shape, pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _parts(self, step: int, name: str) -> list[_Part]:
        parts = self._part_rows(step, name)
        if not parts:
            raise KeyError(name)
        return parts

    def _part_rows(self, step: int, name: str) -> list[_Part]:
        statement, key = self._database.queries.tensor_parts, (self._run, step, name)
        return [_Part(*row) for row in self._database.rows(statement, key, int, str, str, int)]

    def _checking(self, step: int, name: str) -> AbstractContextManager[None]:
        return self._database.checking(f"tensor {name} of step {step}")


class _Part(NamedTuple):
    """A part of a tensor, without its values."""

    number: int
    dtype: str
    shape: str
    nbytes: int


def _layout(parts: Sequence[_Part]) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape, compared with the size of the values.

    The comparison comes before reading: a damaged shape must not allocate what the file does not hold.
    """
    shape = _parse_shape(parts[0].shape)
    if tensor_bytes(parts[0].dtype, shape) != sum(part.nbytes for part in parts):
        raise ValueError("its shape and its values differ in size")
    return parts[0].dtype, shape


def _parse_shape(text: str) -> tuple[int, ...]:
    shape = json.loads(text)
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise ValueError("its shape cannot be read")
    for size in shape:
        if type(size) is not int or not 0 <= size < INT64:
            raise ValueError("its shape cannot be read")
    return tuple(shape)
