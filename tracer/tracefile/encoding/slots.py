"""The slots that a step adds to the KV cache, which are stored as one tensor where they are small."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from tracer.tracefile.encoding.saved_tensor import SavedTensor

SLOTS: Final = "kv"
"""Name of the tensor that holds the new slots of all layers, keys of all layers first, then values. What is
saved has the names of :func:`slot_names` all the same."""

MOST_TOGETHER: Final = 1 << 20
"""Bytes of slots that are stored as one tensor at most. A decode step adds some hundred bytes a layer, of
which each would cost a row with a digest of its own; whoever wants one layer of a long prompt shall not have
to read all of them."""

_MOST_LAYERS = 1 << 16
"""More than any model has; a few damaged bytes must not stand for millions of names."""

_NAME = re.compile(r"kv/(0|[1-9][0-9]{0,8})/(key|value)")


@lru_cache(maxsize=8)
def slot_names(layers: int) -> tuple[str, ...]:
    """Names of the new slots of the KV cache, keys of all layers, then values."""
    return tuple(f"{SLOTS}/{layer}/{part}" for part in ("key", "value") for layer in range(layers))


def is_slot_name(name: str) -> bool:
    """Whether a name is one of :func:`slot_names`, of a cache of some number of layers."""
    return _NAME.fullmatch(name) is not None


def layers_in(shape: tuple[int, ...]) -> int:
    """Number of layers whose slots a tensor of this shape holds.

    Raises:
        ValueError: it holds not as many keys as values.
    """
    if not shape or shape[0] % 2 or not 0 < shape[0] <= 2 * _MOST_LAYERS:
        raise ValueError("it is not made of the keys and values of layers")
    return shape[0] // 2


def slots_named(name: str, together: SavedTensor) -> SavedTensor:
    """The slots of one layer, without a copy.

    Args:
        name: one of :func:`slot_names`.
        together: those of all layers.

    Raises:
        KeyError: there is no such layer.
        ValueError: ``together`` is made in another way.
    """
    place = place_of(name, layers_in(together.shape))
    size = together.nbytes // together.shape[0]
    data = together.raw[place * size : (place + 1) * size]
    return SavedTensor(together.dtype, together.shape[1:], data)


def place_of(name: str, layers: int) -> int:
    """Place of the slots of one layer among those of all.

    Args:
        name: one of :func:`slot_names`.
        layers: number of layers.

    Raises:
        KeyError: there is no such layer.
    """
    found = _NAME.fullmatch(name)
    if found is None or int(found[1]) >= layers:
        raise KeyError(name)
    return int(found[1]) + (layers if found[2] == "value" else 0)
