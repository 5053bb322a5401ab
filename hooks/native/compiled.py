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
from tracer.schema.tensors import MAX_RUNS

_native = load("hooks.native._native")


_WORDS = 6
"""Numbers of four bytes in the note of a call."""


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


def call_columns(notes: npt.NDArray[np.void], numbers: list[int]) -> npt.NDArray[np.int32]:
    """The notes of a step's module calls in columns.

    Args:
        notes: of C calls, laid out by :data:`hooks.modules.call_notes.NOTES`.
        numbers: a number for each signature of the step.

    Returns:
        ``[6, C]`` module, number of the signature, and the bits of four statistics.
    """
    if _native is not None:
        found = np.frombuffer(_native.call_columns(notes, numbers), dtype=np.int32)
        return found.reshape(_WORDS, len(notes))
    columns = notes.view(np.int32).reshape(len(notes), _WORDS).T.copy()
    columns[1] = np.array(numbers, dtype=np.int32)[columns[1]]
    return columns


def int_runs(tensor: Tensor) -> tuple[tuple[tuple[int, int, int], ...], int] | None:
    """The values of an integer tensor as arithmetic runs.

    Args:
        tensor: integers or booleans.

    Returns:
        What :meth:`~tracer.schema.tensors.IntValues.encode` makes of them: ``(start, step, count)`` triples,
        and how many values at the end are not among them. None where it is not done here: values elsewhere
        than in the host's memory, or not one after the other.
    """
    found: tuple[tuple[tuple[int, int, int], ...], int] | None
    found = None if _native is None else _native.int_runs(tensor, MAX_RUNS)
    return found


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
