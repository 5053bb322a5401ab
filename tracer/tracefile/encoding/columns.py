"""Columnar blobs: the arrays of a record, back to back, with a header that describes them.

A blob starts with one byte, the number of arrays. For each array follow its stored type (one byte), a flag
(1: every element is the same and only one is stored), the number of dimensions (one byte) and the dimensions
(unsigned 32 bit each). Then come the values of all arrays in row-major order. Everything is little-endian.
Which array is which follows from its position: the order is that of the record's fields, which the file
also lists in ``meta``.

Stored types: ``b``, ``h``, ``i`` (signed integers of 1, 2, 4 bytes), ``f`` (float32), ``?`` (booleans).
Integers are stored as narrow as their values allow and read back as int32.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from tracer.schema.columns import CacheColumns, ModuleColumns, ScoreColumns
from tracer.tracefile.encoding.native.compiled import packed

AnyArray = npt.NDArray[Any]
_Columns = TypeVar("_Columns", ScoreColumns, ModuleColumns, CacheColumns)

_DTYPES = {"b": "<i1", "h": "<i2", "i": "<i4", "f": "<f4", "?": "|u1"}
_SIZES = {"b": 1, "h": 2, "i": 4, "f": 4, "?": 1}
_CODES: dict[str, bytes] = {"i": b"bhi", "f": b"f", "?": b"?"}
_RECORD_DTYPES = {kind: np.dtype(name) for kind, name in {"i": "<i4", "f": "<f4", "?": "|b1"}.items()}

MAX_REPEATED = 1 << 20
"""Most elements of an array that is stored as one value: a few bytes must not expand to gigabytes."""

FREE = 4 * MAX_REPEATED
_MAX_RATIO = 64
"""Repeated values may take so many times the bytes of their blob, beside what is free."""

_WORTH_NARROWING = 16
_INT8, _INT16 = np.iinfo(np.int8), np.iinfo(np.int16)


@dataclass(frozen=True)
class ColumnSet(Generic[_Columns]):
    """How one kind of record is laid out in a blob.

    Attributes:
        record: the dataclass.
        columns: field name, type (``i``, ``f`` or ``?``) and dimensions, one letter each; a letter stands for
            the same size everywhere in the record.
    """

    record: type[_Columns]
    columns: tuple[tuple[str, str, str], ...]

    def pack(self, record: _Columns, *, free: int = FREE) -> bytes:
        """Encode a record.

        Args:
            record: the record.
            free: bytes that repeated values may take in any case (see :meth:`unpack`).

        Raises:
            ValueError: an array has a shape that does not fit the others.
        """
        blob = packed(self.columns, record, free, _MAX_RATIO, MAX_REPEATED)
        return self._pack_plainly(record, free) if blob is None else blob

    def _pack_plainly(self, record: _Columns, free: int) -> bytes:
        """What ``native/pack.c`` does, for arrays of any type."""
        arrays = [
            (np.asarray(getattr(record, name), dtype=_RECORD_DTYPES[kind]), kind)
            for name, kind, _ in self.columns
        ]
        self._check_sizes([array.shape for array, _ in arrays])
        blob, repeats = _join(arrays, repeating=True)
        return blob if repeats <= free + _MAX_RATIO * len(blob) else _join(arrays, repeating=False)[0]

    def _check_sizes(self, shapes: Sequence[tuple[int, ...]]) -> None:
        sizes: dict[str, int] = {}
        for (name, _, letters), shape in zip(self.columns, shapes, strict=True):
            _agree(name, letters, shape, sizes)

    def unpack(self, blob: bytes, *, free: int = FREE) -> _Columns:
        """Decode a blob.

        Args:
            blob: what :meth:`pack` gave.
            free: bytes that repeated values may take in any case.

        Raises:
            ValueError: the blob is damaged, or stands for far more than it holds.
        """
        if not blob or blob[0] != len(self.columns):
            raise ValueError("wrong number of columns")
        found, position = self._heads(blob)
        repeats = sum(prod(shape) * 4 for *_, is_repeated, shape in found if is_repeated)
        if repeats > free + _MAX_RATIO * len(blob):
            raise ValueError("a few bytes stand for too many values")
        arrays = {}
        for name, kind, code, repeated_value, shape in found:
            arrays[name], position = _read_values(blob, position, kind, code, repeated_value, shape)
        if position != len(blob):
            raise ValueError("columns and their values differ in length")
        return self.record(**arrays)

    def _heads(self, blob: bytes) -> tuple[list[tuple[str, str, str, bool, tuple[int, ...]]], int]:
        """Name, kind, stored type, whether one value stands for all, shape; and where the values begin."""
        position, sizes, found = 1, dict[str, int](), []
        for name, kind, letters in self.columns:
            code, repeated, shape, position = _read_head(blob, position)
            if code not in _CODES[kind].decode() or repeated > 1:
                raise ValueError(f"column {name} has a wrong type")
            _agree(name, letters, shape, sizes)
            found.append((name, kind, code, repeated == 1, shape))
        return found, position


def _agree(name: str, letters: str, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    """Check a shape against the sizes so far, and add its own."""
    if len(shape) != len(letters):
        raise ValueError(f"column {name} has {len(shape)} dimensions instead of {len(letters)}")
    for letter, size in zip(letters, shape, strict=True):
        if sizes.setdefault(letter, size) != size:
            raise ValueError(f"column {name} has size {size} where others have {sizes[letter]}")


def _join(arrays: Sequence[tuple[AnyArray, str]], *, repeating: bool) -> tuple[bytes, int]:
    """The blob of arrays, and how many bytes its repeated values stand for."""
    heads, values, repeats = [bytes((len(arrays),))], list[bytes](), 0
    for array, kind in arrays:
        code, repeated, data = _squeeze(array, kind, repeating=repeating)
        heads.append(_array_head(code, repeated, array.shape))
        values.append(data)
        repeats += array.nbytes if repeated else 0
    return b"".join((*heads, *values)), repeats


def _squeeze(array: AnyArray, kind: str, *, repeating: bool) -> tuple[str, bool, bytes]:
    """Stored type, whether one value stands for all, and the bytes."""
    if array.size < _WORTH_NARROWING or kind == "?":
        return kind, False, array.tobytes()
    bits = array.reshape(-1).view("<i4")
    # Bits, not values: NaN equals NaN here, and 0.0 differs from -0.0.
    same = bits[0] == bits[-1] and array.size <= MAX_REPEATED
    if repeating and same and (bits == bits[0]).all():
        return kind, True, bits[:1].tobytes()
    if kind == "i":
        low, high = np.minimum.reduce(bits), np.maximum.reduce(bits)
        if _INT8.min <= low <= high <= _INT8.max:
            return "b", False, bits.astype("<i1").tobytes()
        if _INT16.min <= low <= high <= _INT16.max:
            return "h", False, bits.astype("<i2").tobytes()
    return kind, False, array.tobytes()


def _array_head(code: str, repeated: bool, shape: tuple[int, ...]) -> bytes:
    return struct.pack(f"<cBB{len(shape)}I", code.encode(), repeated, len(shape), *shape)


def _read_head(blob: bytes, position: int) -> tuple[str, int, tuple[int, ...], int]:
    try:
        code, repeated, dimensions = struct.unpack_from("<cBB", blob, position)
        shape = struct.unpack_from(f"<{dimensions}I", blob, position + 3)
    except struct.error:
        raise ValueError("the list of columns is cut off") from None
    return code.decode("latin-1"), repeated, shape, position + 3 + 4 * dimensions


def _read_values(
    blob: bytes, position: int, kind: str, code: str, repeated: bool, shape: tuple[int, ...]
) -> tuple[AnyArray, int]:
    """One array and the position behind its values."""
    count = prod(shape)
    stored = 1 if repeated else count
    end = position + stored * _SIZES[code]
    if end > len(blob) or (repeated and count > MAX_REPEATED):
        raise ValueError("the values of a column are cut off")
    # Little-endian types are NumPy's own names on the machines torch runs on, so this copies only to widen.
    values: AnyArray = np.frombuffer(blob, dtype=_DTYPES[code], count=stored, offset=position)
    values = values.astype(_RECORD_DTYPES[kind], copy=False)
    return (np.full(shape, values[0]) if repeated else values.reshape(shape)), end


SCORES = ColumnSet(
    ScoreColumns,
    (
        ("tokens", "i", "BT"),
        ("scores", "f", "SBT"),
        ("probabilities", "f", "BT"),
        ("kept", "i", "SB"),
        ("changed", "i", "SB"),
        ("removed", "i", "SB"),
        ("mass_removed", "f", "SB"),
        ("entropy", "f", "SB"),
        ("removed_tokens", "i", "SBR"),
        ("candidates", "i", "B"),
        ("chosen", "i", "B"),
        ("chosen_rank", "i", "SB"),
        ("chosen_scores", "f", "SB"),
        ("chosen_probability", "f", "B"),
        ("finished", "?", "B"),
    ),
)
"""S stages, B rows, T recorded tokens, R removed tokens."""

MODULES = ColumnSet(
    ModuleColumns,
    (
        ("shapes", "i", "C"),
        ("mean", "f", "C"),
        ("std", "f", "C"),
        ("low", "f", "C"),
        ("high", "f", "C"),
        ("nonfinite", "i", "C"),
    ),
)
"""C module calls."""

CACHE = ColumnSet(CacheColumns, (("key_norm", "f", "LBHN"), ("value_norm", "f", "LBHN")))
"""L layers, B rows, H KV heads, N new slots."""
