"""Tensors in records: their spec (shape, dtype, device) and, for small integer tensors, the values."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt

from tracer.schema.base import Record

ITEM_SIZES = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "float32": 4,
    "int64": 8,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}

MAX_VALUES = 1 << 16
"""Integer tensors with more elements are recorded without their values."""

MAX_RUNS = 4096
"""Arithmetic runs beyond this number are not recorded: such values are data, not positions or masks."""


class TensorInfo(Record):
    """The spec of one tensor.

    Attributes:
        shape: sizes of the dimensions, outermost first.
        dtype: torch's name without the prefix, e.g. ``bfloat16``.
        device: torch's name, e.g. ``cpu`` or ``cuda:0``.
    """

    shape: tuple[int, ...]
    dtype: str
    device: str

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes (0 for a dtype that this version does not know)."""
        return prod(self.shape) * ITEM_SIZES.get(self.dtype, 0)


class IntValues(Record):
    """Values of an integer tensor in row-major order, as arithmetic runs.

    Masks, positions and cache positions are a few runs whatever their length, so a step that attends
    to thousands of slots stays small on disk.

    Attributes:
        runs: ``(start, step, count)`` triples; a run stands for ``start, start + step, …``.
        omitted: number of values at the end that are not recorded.
    """

    runs: tuple[tuple[int, int, int], ...]
    omitted: int = 0

    @classmethod
    def encode(cls, values: npt.ArrayLike) -> IntValues:
        """Encode values as runs.

        Args:
            values: integers or booleans of any shape; read in row-major order.
        """
        flat = np.asarray(values).astype(np.int64, copy=False).ravel()
        if flat.size == 1:  # what a decode step mostly has
            return cls(runs=((int(flat[0]), 0, 1),))
        runs: list[tuple[int, int, int]] = []
        start, size = 0, flat.size
        # Ends of maximal stretches with one difference; a run may begin with the last element's successor.
        differences = flat[1:] - flat[:-1]
        breaks = np.flatnonzero(differences[1:] != differences[:-1]) + 2
        if size and not breaks.size:  # such as a mask without padding
            return cls(runs=((int(flat[0]), int(differences[0]), size),))
        while start < size and len(runs) < MAX_RUNS:
            later = breaks[np.searchsorted(breaks, start + 2) :]
            stop = int(later[0]) if later.size else size
            step = int(differences[start]) if stop - start > 1 else 0
            if stop - start == 2 and stop < size:
                stop, step = start + 1, 0  # two unrelated values are two single runs
            runs.append((int(flat[start]), step, stop - start))
            start = stop
        return cls(runs=tuple(runs), omitted=size - start)

    def decode(self) -> npt.NDArray[np.int64]:
        """All recorded values, flat, ``int64``."""
        if not self.runs:
            return np.empty(0, dtype=np.int64)
        return np.concatenate(
            [start + step * np.arange(count, dtype=np.int64) for start, step, count in self.runs]
        )

    @property
    def count(self) -> int:
        """Number of recorded values."""
        return sum(count for _, _, count in self.runs)


class NamedTensor(Record):
    """A tensor argument by name.

    Attributes:
        name: the argument's name, e.g. ``input_ids``.
        info: shape, dtype, device.
        values: the values where the tensor holds integers or booleans, else None.
    """

    name: str
    info: TensorInfo
    values: IntValues | None = None
