"""Saved tensors: values in their own dtype, lossless, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.schema.tensors import ITEM_SIZES

_NUMPY = {
    "bool": "|b1",
    "uint8": "|u1",
    "int8": "|i1",
    "int16": "<i2",
    "float16": "<f2",
    "int32": "<i4",
    "float32": "<f4",
    "int64": "<i8",
    "float64": "<f8",
    "complex64": "<c8",
    "complex128": "<c16",
}


@dataclass(frozen=True, eq=False)
class SavedTensor:
    """A saved tensor as bytes.

    Attributes:
        dtype: torch's name without the prefix, e.g. ``bfloat16``.
        shape: sizes of the dimensions, outermost first; empty for a scalar.
        data: the values, little-endian, row-major: any contiguous buffer.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes | bytearray | memoryview

    def __post_init__(self) -> None:
        expected = self.nbytes
        if memoryview(self.data).nbytes != expected:
            raise ValueError(
                f"{self.dtype} {list(self.shape)} needs {expected} bytes, not {memoryview(self.data).nbytes}"
            )

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes.

        Raises:
            ValueError: the dtype is unknown or a dimension is negative.
        """
        return tensor_bytes(self.dtype, self.shape)

    @property
    def raw(self) -> memoryview:
        """The values as bytes, without a copy."""
        view = memoryview(self.data)
        return view if view.format == "B" and view.ndim == 1 else view.cast("B")

    def array(self) -> npt.NDArray[Any]:
        """The values as a NumPy array of ``shape``, without loss.

        A dtype that NumPy lacks (bfloat16, float8_e5m2, float8_e4m3fn) is widened to float32, which
        represents each of its values exactly. All others share memory with ``data``.
        """
        if self.dtype in _NUMPY:
            flat: npt.NDArray[Any] = np.frombuffer(self.raw, dtype=_NUMPY[self.dtype])
        elif self.dtype == "bfloat16":
            # The upper half of a float32.
            flat = (np.frombuffer(self.raw, dtype="<u2").astype("<u4") << 16).view("<f4")
        elif self.dtype == "float8_e5m2":
            # The upper half of a float16.
            flat = (np.frombuffer(self.raw, dtype="|u1").astype("<u2") << 8).view("<f2").astype("<f4")
        else:
            flat = _float8_e4m3fn()[np.frombuffer(self.raw, dtype="|u1")]
        return flat.reshape(self.shape)

    def parts(self, size: int) -> Iterator[memoryview]:
        """The bytes in pieces; one empty piece for a tensor without elements.

        Args:
            size: largest piece in bytes.
        """
        raw = self.raw
        for start in range(0, max(raw.nbytes, 1), size):
            yield raw[start : start + size]


def tensor_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes that a tensor takes.

    Raises:
        ValueError: the dtype is unknown or a dimension is negative.
    """
    if dtype not in ITEM_SIZES or any(size < 0 for size in shape):
        raise ValueError(f"unknown kind of tensor: {dtype} {list(shape)}")
    return prod(shape) * ITEM_SIZES[dtype]


def _float8_e4m3fn() -> npt.NDArray[np.float32]:
    """Value of each of the 256 codes: 4 exponent bits (bias 7), 3 of mantissa, no infinity."""
    codes = np.arange(256)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    normal = (1 + mantissa / 8) * np.exp2(exponent - 7.0)
    values = np.where(exponent == 0, mantissa * 2.0**-9, normal)
    values[(codes & 127) == 127] = np.nan
    return np.where(codes & 128, -values, values).astype(np.float32)
