"""Tensors of a step that the trace stores, as bytes; made on the thread that writes."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from hooks.caught_step import CaughtStep
from hooks.kv_cache.view import slot_names
from hooks.tensors import saved_bytes

Stored = tuple[str, tuple[int, ...], memoryview]
"""Name of the dtype, shape, and values: little-endian, row-major."""


def stored(caught: CaughtStep) -> Iterator[tuple[str, Stored]]:
    """Name and values of every tensor that the trace stores of a step.

    Args:
        caught: the step, on the host.
    """
    for name, tensor in caught.saved.items():
        yield name, (_dtype(tensor), tuple(tensor.shape), saved_bytes(tensor))
    slots = caught.held.get("slots")
    if slots is not None:
        yield from _by_layer(slots)


def _by_layer(slots: torch.Tensor) -> Iterator[tuple[str, Stored]]:
    """The slots of every layer, cut out of the bytes of all."""
    values, dtype, shape = saved_bytes(slots), _dtype(slots), tuple(slots.shape[1:])
    size = values.nbytes // len(slots)
    for place, name in enumerate(slot_names(len(slots) // 2)):
        yield name, (dtype, shape, values[place * size : (place + 1) * size])


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
