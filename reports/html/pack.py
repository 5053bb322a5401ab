"""Sections of a page's data: JSON and arrays in one compressed, inert block of text.

A section is a little-endian ``uint32``, that many bytes of JSON (what is in it), then the arrays. The bytes
of an array are stored in planes, all first bytes, then all second ones: numbers of similar size then share
whole planes, which deflate shrinks to almost nothing. The page's ``data.js`` is the other end.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tracer.json_values import json_ready

Json: TypeAlias = "dict[str, Any]"
"""A JSON object."""

_KINDS = {"float32": "f4", "int32": "i4", "uint8": "u1"}
_EFFORT = 8


@dataclass(frozen=True, eq=False)
class Section:
    """One block of data.

    Attributes:
        name: its name in the page, e.g. ``run1-overview``.
        metadata: anything that JSON can hold; numbers that are not finite become text.
        arrays: float32, int32 or uint8 arrays by name.
        differences: per name of an array the axis along which neighbours are nearly equal; each value is
            then stored as its bits exclusive-or those of the one before, without loss.
    """

    name: str
    metadata: Any
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    differences: Mapping[str, int] = field(default_factory=dict)

    def packed(self) -> str:
        """The section as base64 of the compressed bytes."""
        listed, blobs = [], []
        for name, array in self.arrays.items():
            axis = self.differences.get(name, -1)
            listed.append([name, _KINDS[array.dtype.name], list(array.shape), axis])
            blobs.append(_planes(array if axis < 0 else _differences(array, axis)))
        head = json.dumps({"metadata": json_ready(self.metadata), "arrays": listed}, separators=(",", ":"))
        text = head.encode("ascii")
        whole = b"".join([len(text).to_bytes(4, "little"), text, *blobs])
        return base64.b64encode(zlib.compress(whole, _EFFORT)).decode("ascii")


def rounded(values: npt.NDArray[np.float32], digits: int = 12) -> npt.NDArray[np.float32]:
    """Float32 values with fewer binary digits: statistics for the eye, at half the size.

    Args:
        values: any shape; infinite values and NaN stay.
        digits: binary digits after the leading one; 12 give a relative error below 0.013 %.
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    dropped = 23 - digits
    nearest = (bits + np.uint32(1 << (dropped - 1))) & ~np.uint32((1 << dropped) - 1)
    return np.where(np.isfinite(values), nearest.view(np.float32), values)


def _differences(array: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    bits = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
    moved = np.moveaxis(bits, axis, 0)
    changed = moved.copy()
    changed[1:] ^= moved[:-1]
    return np.ascontiguousarray(np.moveaxis(changed, 0, axis))


def _planes(array: npt.NDArray[Any]) -> bytes:
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return little.view(np.uint8).reshape(-1, array.dtype.itemsize).T.tobytes()
