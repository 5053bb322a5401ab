"""Compiled code where it is available; elsewhere the rest of the package does the same in Python.

The sources are in ``native``. They need a torch that describes its tensors to C
(``Tensor.__dlpack_c_exchange_api__``, since torch 2.10).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hooks.native.team import share_out
from tracer.compiled_parts import load
from tracer.schema.tensors import MAX_RUNS

_native = load("hooks.native._native")

if _native is not None:
    share_out(_native.use_team)

use_direct_calls: Any = None if _native is None else _native.use_direct_calls
"""Tells compiled code what it has to know of torch before a ``DirectCall`` is made
(:mod:`hooks.modules.direct_call`): the method of ``nn.Module``, what is called in its place, and the address
of ``torch::jit::tracer::getTracingState``. None without compiled code."""

_WORDS = 6
"""Numbers of four bytes in the note of a call."""


class TapeParts(NamedTuple):
    """The compiled forms of what :mod:`hooks.modules.tape` defines."""

    tape: Any
    watched: Any
    active: Any
    direct: Any = None


tape_parts = (
    None if _native is None else TapeParts(_native.Tape, _native.Watched, _native.tapes, _native.DirectCall)
)
"""None without compiled code."""


def gather(keys: Sequence[Tensor], values: Sequence[Tensor], slot: int) -> list[Tensor] | None:
    """The keys of all layers, then the values, if all are of one size, dtype and device.

    Args:
        keys: ``[batch, KV heads, slots, head dim]`` of each layer.
        values: likewise.
        slot: one that will be read next. To find a tensor takes as long as to bring one of its slots into the
            processor's cache, so compiled code has that done meanwhile.

    Returns:
        The tensors; None where they differ, or where there are none.
    """
    found: Any = None if _native is None else _native.gather(keys, values, slot)
    if found is None:
        found = [*keys, *values]
        specs = {(tensor.shape, tensor.dtype, tensor.device) for tensor in found}
        return found if len(specs) == 1 and len(keys) == len(values) else None
    return found or None


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


def samples(tensors: list[Tensor], whole: int, count: int, step: int) -> list[bytes | None]:
    """Samples of the values of parameters; ``hooks.loop.weights`` says which elements are taken.

    Args:
        tensors: any tensors.
        whole: tensors of at most so many elements are read whole.
        count: how many elements are read of a larger one.
        step: moves the places of the elements.

    Returns:
        The values, one after the other, of each tensor; None for one that is not read here: its values are
        elsewhere than in the host's memory, not one after the other, complex or float8, or do not begin their
        storage, or it is neither a plain tensor nor a plain parameter.
    """
    if _native is None:
        return [None] * len(tensors)
    found: list[bytes | None] = _native.samples(tensors, whole, count, step)
    return found


def slot_norms(tensors: list[Tensor], start: int, stop: int) -> Tensor | None:
    """Euclidean norms of slots ``start`` to ``stop`` of key and value tensors.

    Args:
        tensors: m tensors ``[batch, KV heads, slots, head dim]``.
        start: the first slot.
        stop: one past the last.

    Returns:
        ``[m, batch, KV heads, stop - start]`` float32; None where it is not done here: tensors that differ in
        size or are neither float32 nor bfloat16 in the host's memory.
    """
    norms: Tensor | None = None if _native is None else _native.slot_norms(tensors, start, stop)
    return norms


def slot_sums(tensors: list[Tensor], layers: tuple[int, ...], before: int, length: int) -> Tensor | None:
    """Checksums over slots of key and value tensors; ``hooks.kv_cache.proof`` says of which kind.

    Args:
        tensors: ``[batch, KV heads, slots, head dim]``, the keys of all layers, then the values.
        layers: places of those that are read.
        before: slots there were before.
        length: slots there are.

    Returns:
        ``[2, layers, 2, batch, KV heads]`` int64 of keys and values, over the slots there were and over all;
        None where it is not done here: tensors that differ in size or are not in the host's memory.
    """
    sums: Tensor | None = None if _native is None else _native.slot_sums(tensors, layers, before, length)
    return sums
