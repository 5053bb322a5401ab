"""Read saved tensors from a trace."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from tracer.tracefile.encoding.digests import digest
from tracer.tracefile.encoding.saved_tensor import SavedTensor, tensor_bytes
from tracer.tracefile.encoding.validity import INT64, MAX_DIMENSIONS
from tracer.tracefile.reading.database import Database


def tensor_names(database: Database, run: int, step: int) -> tuple[str, ...]:
    """Names of the tensors saved in a step, sorted.

    Raises:
        TraceFileError: the file is damaged.
    """
    return tuple(name for (name,) in database.rows(database.queries.tensor_names, (run, step), str))


def tensor_layout(database: Database, run: int, step: int, name: str) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape of a tensor, without reading its values.

    Raises:
        KeyError: no such tensor was saved.
        TraceFileError: it is damaged.
    """
    parts = _parts(database, run, step, name)
    with database.checking(f"tensor {name} of step {step}"):
        return _layout(parts)


def read_tensor(database: Database, run: int, step: int, name: str) -> SavedTensor:
    """Read one tensor.

    Raises:
        KeyError: no such tensor was saved.
        TraceFileError: it is damaged.
    """
    parts = _parts(database, run, step, name)
    with database.checking(f"tensor {name} of step {step}"):
        dtype, shape = _layout(parts)
        shape_text = parts[0].shape
        if [part[:3] for part in parts] != [(number, dtype, shape_text) for number in range(len(parts))]:
            raise ValueError("its parts do not belong together")
        pieces = []
        for number in range(len(parts)):
            key = (run, step, name, number)
            row = database.row(database.queries.tensor_part, key, bytes, bytes)
            if row is None or digest(*key, dtype, shape_text, row[1]) != row[0]:
                raise ValueError("it is not what was written")
            pieces.append(row[1])
        return SavedTensor(dtype, shape, pieces[0] if len(pieces) == 1 else b"".join(pieces))


class _Part(NamedTuple):
    """A part of a tensor, without its values."""

    number: int
    dtype: str
    shape: str
    nbytes: int


def _parts(database: Database, run: int, step: int, name: str) -> list[_Part]:
    rows = database.rows(database.queries.tensor_parts, (run, step, name), int, str, str, int)
    parts = [_Part(*row) for row in rows]
    if not parts:
        raise KeyError(name)
    return parts


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
