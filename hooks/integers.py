"""The values of small integer tensors: as runs for a record, as an array for a rule, each made once."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hooks.native import compiled
from hooks.tensors import is_small_integer, to_host
from tracer.schema.base import of_valid
from tracer.schema.tensors import IntValues


class Integers:
    """The values of an argument that is given as integers, on the host.

    Args:
        tensor: the values, of any dtype: a mask may be one of floats.

    Attributes:
        shape: sizes of the dimensions.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self.shape: tuple[int, ...] = tensor.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @cached_property
    def record(self) -> IntValues | None:
        """The values as runs; None where they are not recorded."""
        return int_values(self._tensor) if is_small_integer(self._tensor) else None

    @cached_property
    def array(self) -> npt.NDArray[Any]:
        """The values with their shape."""
        return to_host(self._tensor)

    def count_from(self, start: int, rows: int = 1) -> bool:
        """Whether the values are ``start, start + 1, …`` in row-major order.

        Args:
            start: the first one.
            rows: into how many rows of one length they are parted, each of which begins with ``start``.
        """
        size = self._tensor.numel()
        each = size // max(rows, 1)
        if self.record is not None and (rows == 1 or each == 1):
            return self.record.runs == (((start, int(each > 1), size),) if size else ())
        expected = np.arange(start, start + each)
        return bool((self.array.reshape(rows, each) == expected).all())

    def are_all_set(self) -> bool:
        """Whether none of the values is zero."""
        runs = None if self.record is None else self.record.runs
        if runs is not None and len(runs) == 1 and not runs[0][1]:
            return runs[0][0] != 0
        return bool((self.array != 0).all())


def int_values(tensor: Tensor) -> IntValues:
    """The record of the values of an integer tensor on the host.

    Args:
        tensor: integers or booleans of any shape.
    """
    found = compiled.int_runs(tensor)
    return IntValues.encode(to_host(tensor)) if found is None else _recorded(*found)


@lru_cache(maxsize=8)
def _recorded(runs: tuple[tuple[int, int, int], ...], omitted: int) -> IntValues:
    """A step says several times at which position it is, and so does the one before."""
    return of_valid(IntValues, runs=runs, omitted=omitted)


def nonzero(tensor: Tensor) -> tuple[int, ...]:
    """Indices of the values that are not zero, in row-major order.

    Args:
        tensor: a few values, such as the answer of a criterion for each row.
    """
    values = tensor.tolist() if tensor.dim() == 1 else tensor.flatten().tolist()
    return tuple([index for index, value in enumerate(values) if value])
