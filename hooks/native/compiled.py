"""Compiled code where it is available; elsewhere the rest of the package does the same in Python.

The sources are in ``native``. They need a torch that describes its tensors to C
(``Tensor.__dlpack_c_exchange_api__``, since torch 2.10).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tracer.compiled_parts import load

_native = load("hooks.native._native")


class TapeParts(NamedTuple):
    """The compiled forms of what :mod:`hooks.modules.tape` defines."""

    tape: Any
    watched: Any
    active: Any


tape_parts = None if _native is None else TapeParts(_native.Tape, _native.Watched, _native.tapes)
"""None without compiled code."""


def alike(tensors: list[Tensor]) -> bool:
    """Whether tensors are of one size, dtype and device."""
    same: bool | None = None if _native is None else _native.alike(tensors)
    if same is None:
        return len({(tensor.shape, tensor.dtype, tensor.device) for tensor in tensors}) <= 1
    return same


def put(stack: Tensor, place: int, tensor: Tensor) -> bool:
    """Copy the values of a tensor to their place in a stack of such tensors.

    Args:
        stack: ``[m, …]`` whose values lie one after the other.
        place: which of the m.
        tensor: ``[…]`` of the same dtype.

    Returns:
        Whether it was done; it is not for values elsewhere than in the host's memory, or not one after the
        other.
    """
    return _native is not None and bool(_native.put(stack, place, tensor))


def samples(tensors: list[Tensor], whole: int, count: int, step: int) -> list[bytes | None]:
    """Samples of the values of parameters; ``hooks.loop.weights`` says which elements are taken.

    Args:
        tensors: any tensors.
        whole: tensors of at most so many elements are read whole.
        count: how many elements are read of a larger one.
        step: moves the places of the elements.

    Returns:
        The values, one after the other, of each tensor; None for one that is not read here: its values are
        elsewhere than in the host's memory, not one after the other, complex or float8, or it is neither a
        plain tensor nor a plain parameter.
    """
    if _native is None:
        return [None] * len(tensors)
    found: list[bytes | None] = _native.samples(tensors, whole, count, step)
    return found


def slot_norms(tensors: list[Tensor], start: int, stop: int) -> npt.NDArray[np.float32] | None:
    """Euclidean norms of slots ``start`` to ``stop`` of key and value tensors.

    Args:
        tensors: m tensors ``[batch, KV heads, slots, head dim]``.
        start: the first slot.
        stop: one past the last.

    Returns:
        ``[m, batch, KV heads, stop - start]``; None where it is not done here: tensors that differ in size or
        are neither float32 nor bfloat16 in the host's memory.
    """
    norms = None if _native is None else _native.slot_norms(tensors, start, stop)
    if norms is None:
        return None
    return np.frombuffer(norms, dtype=np.float32).reshape(len(tensors), *tensors[0].shape[:2], stop - start)


def slot_sums(tensors: list[Tensor], before: int, length: int) -> npt.NDArray[np.int64] | None:
    """Checksums over slots of key and value tensors; ``hooks.kv_cache.proof`` says of which kind.

    Args:
        tensors: m tensors ``[batch, KV heads, slots, head dim]``.
        before: slots there were before.
        length: slots there are.

    Returns:
        ``[2, m, batch, KV heads]`` over the slots there were, and over all; None where it is not done here:
        tensors that differ in size or are not in the host's memory.
    """
    sums = None if _native is None else _native.slot_sums(tensors, before, length)
    if sums is None:
        return None
    return np.frombuffer(sums, dtype=np.int64).reshape(2, len(tensors), *tensors[0].shape[:2])
