"""What the writer does with the arrays of every step, compiled.

Each function returns None for what is not done here: without compiled code, or for anything but arrays of a
column's own type. NumPy then does the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.compiled_parts import load

_native = load("tracer.tracefile.encoding.native._native")


def packed(
    columns: tuple[tuple[str, str, str], ...], record: object, free: int, most_ratio: int, most_repeated: int
) -> bytes | None:
    """The blob of a record (:meth:`tracer.tracefile.encoding.columns.ColumnSet.pack`).

    Args:
        columns: name, type and dimensions of each column.
        record: has an array for each of them.
        free: bytes that repeated values may take in any case.
        most_ratio: times the blob's own bytes that they may take beside.
        most_repeated: most elements of an array that is stored as one value.
    """
    blob: bytes | None = None
    if _native is not None:
        blob = _native.pack(columns, record, free, most_ratio, most_repeated)
    return blob


def are_within(values: npt.NDArray[Any], low: int, high: int) -> bool | None:
    """Whether all values of an int32 array, of any shape, are in ``low … high``."""
    within: bool | None = None if _native is None else _native.are_within(values, low, high)
    return within


def distinct(values: npt.NDArray[np.int32]) -> set[int]:
    """The different values of an int32 array of any shape."""
    found: set[int] | None = None if _native is None else _native.distinct(values)
    return set(values.ravel().tolist()) if found is None else found
