"""How each class of cache layer lays out its slots: a closed table, and what is unknown says so.

Since 4.54 a cache of transformers is a list of layers, each of a class of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch


@dataclass(frozen=True)
class LayerLayout:
    """What is known of a class of layers.

    Attributes:
        sized: the size of its tensors is the number of slots in use; else it is the room there is.
        window: it has slots for so many positions; when the last one is taken they roll.
        reason: why it has no slots that can be compared; None where it has.
    """

    sized: bool = False
    window: bool = False
    reason: str | None = None


ROLLS = "the slots of its window roll, and hold other positions than before"
QUANTISED = "its keys and values are quantised"
STATE = "some of its layers keep a state in place of slots"
GROWING = LayerLayout(sized=True)
"""Slots of all positions, no more and no fewer."""
_UNKNOWN = LayerLayout(reason="the layout of this class is not known")
_QUANTISED = LayerLayout(reason=QUANTISED)

LAYERS: Mapping[str, LayerLayout] = {
    "DynamicLayer": GROWING,
    "DynamicIndexedLayer": GROWING,
    "DynamicSlidingWindowLayer": LayerLayout(sized=True, window=True),
    "StaticLayer": LayerLayout(),
    "StaticIndexedLayer": LayerLayout(),
    "StaticSlidingWindowLayer": LayerLayout(window=True),
    "SlidingWindowLayer": LayerLayout(window=True),
    "ChunkedSlidingLayer": LayerLayout(window=True),
    "QuantizedLayer": _QUANTISED,
    "QuantoQuantizedLayer": _QUANTISED,
    "HQQQuantizedLayer": _QUANTISED,
    "Fp8QuantizedLayer": _QUANTISED,
    "LinearAttentionLayer": LayerLayout(reason=STATE),
    "LinearAttentionAndFullAttentionLayer": GROWING,
    "LinearAttentionAndSlidingWindowAttentionLayer": LayerLayout(sized=True, window=True),
    "LinearAttentionAndStaticFullAttentionLayer": LayerLayout(),
    "LinearAttentionAndStaticSlidingWindowAttentionLayer": LayerLayout(window=True),
}
"""By class of transformers. A class of one's own has the layout of the nearest of them that it derives from,
unless it stores or counts its slots in a way of its own."""

_OWN_WAYS = ("get_seq_length", "update", "crop")


@dataclass(frozen=True)
class LayerSlots:
    """The slots of a layer at one moment.

    Attributes:
        number: number of the layer.
        key: ``[batch, KV heads, slots, head dim]``.
        value: likewise.
        length: slots in use.
        lasting: slot i holds position i.
        grows: each position that is read adds a slot to the tensors.
    """

    number: int
    key: torch.Tensor
    value: torch.Tensor
    length: int
    lasting: bool
    grows: bool


@lru_cache(maxsize=64)
def layer_layout(kind: type) -> LayerLayout:
    """The layout of a class of layers.

    Args:
        kind: the class.
    """
    base = next((base for base in kind.__mro__ if base.__module__.startswith("transformers.")), None)
    if base is None or any(getattr(kind, name, None) is not getattr(base, name, None) for name in _OWN_WAYS):
        return _UNKNOWN
    return LAYERS.get(base.__name__, _UNKNOWN)


def slots_of(number: int, layer: Any, read: int) -> LayerSlots | str | None:
    """The slots of a layer.

    Args:
        number: its number.
        layer: the layer.
        read: positions that the model has read.

    Returns:
        The slots; why there are none to compare; or None for a layer that nothing was put into.
    """
    kind: type = type(layer)
    layout = layer_layout(kind)
    if layout.reason is not None:
        return layout.reason
    key, value = layer.keys, layer.values
    if key is None or key.dim() != 4:
        return None
    room = key.shape[-2]
    # A window counts what went through it, where a caller may have put positions into it before the run.
    passed = int(layer.cumulative_length) if layout.window and layout.sized else read
    if layout.sized:
        rolled = layout.window and passed > room
        return LayerSlots(number, key, value, room, lasting=not rolled, grows=not rolled)
    lasting = not layout.window or read < room
    return LayerSlots(number, key, value, min(read, room), lasting=lasting, grows=False)
