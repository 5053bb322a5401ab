"""How each class of KV cache lays out its slots: a closed table, and what is unknown says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch

from hooks.known_models import LegacyForm
from hooks.kv_cache.cache_layers import QUANTISED, ROLLS

Layers = list[tuple[torch.Tensor, torch.Tensor]]

Lasting = Literal["all", "until full", "global layers", "none"]
"""In which layers slot i holds position i for ever: in all; in all until the last slot is taken, since then
they roll; likewise in every other layer, and for ever in the rest; or in none."""


@dataclass(frozen=True)
class CacheLayout:
    """What is known of a class of caches.

    Attributes:
        lasting: in which layers slots stay.
        sized: whether the size of its tensors is the number of slots in use; in others it is what was read
            so far, up to the room there is.
        readable: whether its tensors are keys and values as the model uses them.
        reason: why old slots cannot be compared, where they cannot.
    """

    lasting: Lasting = "none"
    sized: bool = False
    readable: bool = True
    reason: str | None = None


OFFLOADED = "its layers move between devices while it is in use"
_QUANTISED = CacheLayout(readable=False, reason=QUANTISED)
_STATE = CacheLayout(readable=False, reason="it is a recurrent state, without a slot for each token")

LAYOUTS: Mapping[str, CacheLayout] = {
    "DynamicCache": CacheLayout("all", sized=True),
    "StaticCache": CacheLayout("all"),
    "HybridCache": CacheLayout("global layers", reason=ROLLS),
    "SlidingWindowCache": CacheLayout("until full", reason=ROLLS),
    "SinkCache": CacheLayout(
        "until full", sized=True, reason="it drops old slots and turns others to new positions"
    ),
    "OffloadedCache": CacheLayout(sized=True, reason=OFFLOADED),
    "QuantizedCache": _QUANTISED,
    "QuantoQuantizedCache": _QUANTISED,
    "HQQQuantizedCache": _QUANTISED,
    "HybridMambaAttentionDynamicCache": CacheLayout("all", sized=True),
    "MambaCache": _STATE,
    "Mamba2Cache": _STATE,
}
"""By class of transformers. A class of one's own has the layout of the nearest of them that it derives from,
unless it counts its slots in a way of its own."""

_UNKNOWN = CacheLayout(readable=False, reason="the layout of this class is not known")
_COUNTING = ("get_seq_length", "get_max_length", "get_usable_length")


@lru_cache(maxsize=64)
def layout_of(kind: type) -> CacheLayout:
    """The layout of a class of cache objects.

    Args:
        kind: the class.
    """
    base = next((base for base in kind.__mro__ if base.__module__.startswith("transformers.")), None)
    if base is None or any(getattr(kind, name, None) is not getattr(base, name, None) for name in _COUNTING):
        return _UNKNOWN
    return LAYOUTS.get(base.__name__, _UNKNOWN)


@lru_cache(maxsize=64)
def places(count: int) -> tuple[int, ...]:
    """The places of so many layers.

    Args:
        count: how many.
    """
    return tuple(range(count))


def lasting_layers(layout: CacheLayout, slots: list[int], length: int, limit: int | None) -> tuple[int, ...]:
    """The layers whose slots in use are where they were written.

    Args:
        layout: of the cache.
        slots: slots that each layer has room for.
        length: slots in use.
        limit: slots of the window, where the cache has one for all layers.
    """
    if layout.lasting == "all":
        return places(len(slots))
    if layout.lasting == "until full":
        return tuple(at for at, room in enumerate(slots) if length < (room if limit is None else limit))
    if layout.lasting == "global layers":
        # Every other layer has the window, from the first on; the others have room for everything.
        return tuple(at for at, room in enumerate(slots) if at % 2 or length < room)
    return ()


def legacy_layers(cache: object, form: LegacyForm) -> Layers:
    """Keys and values ``[batch, KV heads, slots, head dim]`` of a cache of plain tuples.

    Args:
        cache: a tuple or list with an entry a layer.
        form: of the entries.

    Returns:
        A pair a layer; none where the entries are of another form.
    """
    if not isinstance(cache, tuple | list):
        return []
    layers = [_LEGACY[form](entry) for entry in cache]
    return [layer for layer in layers if layer is not None] if all(layers) else []


def _pair(entry: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    if not isinstance(entry, tuple | list) or len(entry) < 2:
        return None
    key, value = entry[0], entry[1]
    if not (isinstance(key, torch.Tensor) and isinstance(value, torch.Tensor)):
        return None
    return (key, value) if key.dim() == 4 and key.shape[:3] == value.shape[:3] else None


def _stacked(entry: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    if not isinstance(entry, torch.Tensor) or entry.dim() != 5 or len(entry) != 2:
        return None
    return entry[0], entry[1]


def _merged(entry: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Of one tensor ``[batch, slots, 2 · head dim]`` for all heads, or with a dimension of heads."""
    if not isinstance(entry, torch.Tensor) or entry.dim() not in (3, 4):
        return None
    key, value = (entry if entry.dim() == 4 else entry[:, None]).chunk(2, dim=-1)
    return key, value


_LEGACY: Mapping[LegacyForm, Callable[[Any], tuple[torch.Tensor, torch.Tensor] | None]] = {
    "pairs": _pair,
    "stacked": _stacked,
    "merged": _merged,
}
