"""Values of an integer tensor in one short line."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tracer.schema.tensors import IntValues, NamedTensor

_SHORTEST_RUN = 4
_HEAD, _TAIL = 10, 3


def row_values(tensor: NamedTensor, row: int, rows: int) -> npt.NDArray[np.int64] | None:
    """The recorded values of one row of the batch; all values where the tensor has no batch dimension.

    Args:
        tensor: the tensor.
        row: row of the batch.
        rows: rows of the batch.
    """
    if tensor.values is None:
        return None
    flat = tensor.values.decode()
    shape = tensor.info.shape
    if len(shape) < 2 or shape[0] != rows:
        return flat
    width = int(np.prod(shape[1:]))
    return flat[row * width : (row + 1) * width]


def values_text(values: IntValues | npt.NDArray[np.int64], omitted: int = 0) -> str:
    """Values in words: a run as its ends, equal values with their number, others listed.

    Args:
        values: the values, or an array of them.
        omitted: how many values at the end are not known.
    """
    if isinstance(values, IntValues):
        omitted = values.omitted
        values = values.decode()
    parts = list(_parts(IntValues.encode(values)))
    if len(parts) > _HEAD + _TAIL + 1:
        parts = [*parts[:_HEAD], "…", *parts[-_TAIL:]]
    if omitted:
        parts.append(f"… ({omitted:,} more not recorded)")
    return ", ".join(parts)


def _parts(values: IntValues) -> Iterator[str]:
    for start, step, count in values.runs:
        if count >= _SHORTEST_RUN and step == 0:
            yield f"{start} ({count} times)"
        elif count >= _SHORTEST_RUN and abs(step) == 1:
            yield f"{start} … {start + step * (count - 1)}"
        else:
            yield from (str(start + step * index) for index in range(count))
