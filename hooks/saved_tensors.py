"""The bytes of the tensors that the trace stores of a step; made on the thread that writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import torch

from hooks.caught_step import CaughtStep
from hooks.tensors import saved_bytes
from tracer.tracefile.encoding.slots import MOST_TOGETHER, SLOTS, slot_names

SavedValues: TypeAlias = tuple[str, tuple[int, ...], memoryview]
"""Name of the dtype, shape, and values: little-endian, row-major."""


def saved_tensors(caught: CaughtStep) -> Iterator[tuple[str, SavedValues]]:
    """Name and values of every tensor that is saved of a step.

    Args:
        caught: the step, on the host.
    """
    yield from _named(caught)
    if caught.tensors.cache_slots is not None:
        yield from _by_layer(caught.tensors.cache_slots)


def stored_tensors(caught: CaughtStep) -> Iterator[tuple[str, SavedValues]]:
    """The same as the trace stores them: the new slots of all layers as one tensor, where they are small.

    Args:
        caught: the step, on the host.
    """
    slots = caught.tensors.cache_slots
    if slots is None or slots.nbytes > MOST_TOGETHER:
        yield from saved_tensors(caught)
        return
    yield from _named(caught)
    yield SLOTS, _values(slots)


def _named(caught: CaughtStep) -> Iterator[tuple[str, SavedValues]]:
    for name, tensor in caught.tensors.saved.items():
        yield name, _values(tensor)


def _values(tensor: torch.Tensor) -> SavedValues:
    return _dtype(tensor), tuple(tensor.shape), saved_bytes(tensor)


def _by_layer(slots: torch.Tensor) -> Iterator[tuple[str, SavedValues]]:
    """The slots of every layer, cut out of the bytes of all."""
    values, dtype, shape = saved_bytes(slots), _dtype(slots), tuple(slots.shape[1:])
    size = values.nbytes // len(slots)
    for place, name in enumerate(slot_names(len(slots) // 2)):
        yield name, (dtype, shape, values[place * size : (place + 1) * size])


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
