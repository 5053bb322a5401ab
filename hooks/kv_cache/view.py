"""The tensors of the KV cache, whatever class holds them, and the slots that a step wrote."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.cache_utils import EncoderDecoderCache

from hooks.known_models import KnownModel
from hooks.kv_cache.cache_layers import GROWING, ROLLS, STATE, LayerSlots, layer_layout, slots_of
from hooks.kv_cache.layouts import (
    OFFLOADED,
    CacheLayout,
    Layers,
    lasting_layers,
    layout_of,
    legacy_layers,
    places,
)
from hooks.native import compiled
from hooks.tensors import Spec, spec_of

Slots = torch.Tensor | list[torch.Tensor]
"""A tensor a layer, keys of all layers, then values; stacked where they are alike."""

STACK_BYTES = 64 << 20
"""Largest cache that is copied on an accelerator in order to read all of its layers at once."""


_EMPTY = "it is empty"


class _View(NamedTuple):
    """The fields of a view. Between two forward passes a tuple is made in less time than a dataclass."""

    kind: str
    tensors: list[torch.Tensor]
    spec: Spec | None = None
    numbers: tuple[int, ...] = ()
    length: int = 0
    positions: int = 0
    grows: bool = False
    lasting: tuple[int, ...] = ()
    why: str = ""


class CacheView(_View):
    """The tensors of a cache at one moment; references, not copies.

    Attributes:
        kind: class of the cache object, ``none`` without a cache.
        tensors: keys of all layers, then values; none where they cannot be read.
        spec: size, dtype and device of all of them; None where they differ.
        numbers: the layers' numbers in the model.
        length: slots in use.
        positions: positions that the model has read.
        grows: each position that is read adds a slot to the tensors.
        lasting: places of those layers whose slot i holds position i, so that old slots can be
            compared.
        why: why those of the others cannot be compared, if there are others.
    """

    @property
    def appends(self) -> bool:
        """Whether every layer of the model has slots here, and all are where they were written."""
        layers = self.total
        return 0 < layers == len(self.lasting) and self.numbers[-1] == layers - 1

    @property
    def total(self) -> int:
        """How many layers there are."""
        return len(self.numbers)

    def layer(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a layer.

        Args:
            place: its place among those that are here.
        """
        return self.tensors[place], self.tensors[self.total + place]

    @cached_property
    def stack(self) -> torch.Tensor | None:
        """All of them as one tensor; None where reading each is quicker, or they are not alike.

        On an accelerator every operation costs its launch, and reading all of a short cache almost nothing.
        """
        tensors = self.tensors
        if self.spec is None or tensors[0].is_cpu:
            return None
        if tensors[0].nbytes * len(tensors) > STACK_BYTES:
            return None
        stacked: torch.Tensor = torch.stack(tensors)
        return stacked.detach()


NO_VIEW = CacheView("none", [], why="the model hands on no KV cache")


def view_cache(cache: Any, model: KnownModel, read: int, slot: int = 0) -> CacheView:
    """The view of a cache object, of the legacy tuple form, or of no cache at all.

    Args:
        cache: the cache.
        model: what is known of its model.
        read: positions that the model has read so far, if it keeps them.
        slot: the one that will be read next (see :func:`hooks.native.compiled.gather`).
    """
    if isinstance(cache, EncoderDecoderCache):
        cache = cache.self_attention_cache
    kind = type(cache).__name__
    if cache is None:
        if not model.state_in_modules:
            return NO_VIEW
        return CacheView("modules", [], length=read, positions=read, why=_why(model, ""))
    if isinstance(cache, tuple | list):
        return _legacy_view(kind, legacy_layers(cache, model.legacy), model, read, slot)
    if isinstance(_attribute(cache, "layers"), list):
        return _layered_view(cache, model, read, slot)
    return _cache_view(cache, model, read, slot)


def _attribute(cache: Any, name: str) -> Any:
    """An attribute of a cache, None without one; a module takes ten times as long to say that it has none."""
    kind: type = type(cache)
    if _is_variable(kind, name):
        return vars(cache).get(name)
    return getattr(cache, name, None)


@lru_cache(maxsize=64)
def _is_variable(kind: type, name: str) -> bool:
    """Whether only an object's own variables may hold an attribute: its class has none, nor finds them."""
    finds = getattr(kind, "__getattr__", nn.Module.__getattr__) is not nn.Module.__getattr__
    return not finds and not hasattr(kind, name) and kind.__dictoffset__ != 0


def _gathered(
    keys: Sequence[torch.Tensor], values: Sequence[torch.Tensor], slot: int
) -> tuple[list[torch.Tensor], Spec | None]:
    """Keys of all layers, then values, and their size, dtype and device if those are the same.

    The first tells for all then: to ask each of them costs more than all else here.
    """
    tensors = compiled.gather(keys, values, slot)
    return ([*keys, *values], None) if tensors is None else (tensors, spec_of(tensors[0]))


def _layered_view(cache: Any, model: KnownModel, read: int, slot: int) -> CacheView:
    """Of a cache whose layers are objects, of one kind or several."""
    return _growing_view(cache, model, slot) or _view_layer_by_layer(cache, model, read, slot)


def _growing_view(cache: Any, model: KnownModel, slot: int) -> CacheView | None:
    """Of a cache whose layers grow with each position and are alike, of which the first tells for all."""
    if not _all_grow(cache):
        return None
    keys, values = [layer.keys for layer in cache.layers], [layer.values for layer in cache.layers]
    if any(key is None for key in keys):
        return None  # nothing was put into it
    tensors, spec = _gathered(keys, values, slot)
    if spec is None or len(spec.shape) != 4:
        return None
    kind, length, everything = type(cache).__name__, spec.shape[-2], places(len(keys))
    why = _why(model, f"{kind}: {_EMPTY}")
    return CacheView(kind, tensors, spec, everything, length, length, True, everything, why)


def _all_grow(cache: Any) -> bool:
    kinds = {*map(type, cache.layers)}
    return not _offloaded(cache) and all(layer_layout(kind) == GROWING for kind in kinds)


def _view_layer_by_layer(cache: Any, model: KnownModel, read: int, slot: int) -> CacheView:
    found = [slots_of(number, layer, read) for number, layer in enumerate(cache.layers)]
    slots = [each for each in found if isinstance(each, LayerSlots)]
    grows, length = _length_of_layers(slots, read if any(found) else 0)
    kind = type(cache).__name__
    return CacheView(
        kind,
        *_gathered([each.key for each in slots], [each.value for each in slots], slot),
        tuple(each.number for each in slots),
        length,
        length if grows else read,
        grows,
        () if _offloaded(cache) else _lasting(slots),
        _why(model, f"{kind}: {_gap_in_layers(cache, found)}"),
    )


def _offloaded(cache: Any) -> bool:
    return bool(getattr(cache, "offloading", False))


def _lasting(slots: list[LayerSlots]) -> tuple[int, ...]:
    return tuple(place for place, each in enumerate(slots) if each.lasting)


def _length_of_layers(slots: list[LayerSlots], otherwise: int) -> tuple[bool, int]:
    """Whether the cache grows with each position, and its slots in use; layers may have fewer."""
    growing = [each.length for each in slots if each.grows]
    return bool(growing), max(growing or [each.length for each in slots], default=otherwise)


def _gap_in_layers(cache: Any, found: list[LayerSlots | str | None]) -> str:
    """Why some of the layers cannot be compared."""
    if _offloaded(cache):
        return OFFLOADED
    if any(isinstance(each, LayerSlots) and not each.lasting for each in found):
        return ROLLS
    return next((each for each in found if isinstance(each, str)), _EMPTY)


def _cache_view(cache: Any, model: KnownModel, read: int, slot: int) -> CacheView:
    kind: type = type(cache)
    layout = layout_of(kind)
    numbers, tensors, spec, room = _slotted(cache, slot) if layout.readable else _NO_SLOTS
    length = _length(room, read, layout)
    limit = _attribute(cache, "window_length")
    grows = layout.sized and (limit is None or length < limit)
    return CacheView(
        kind.__name__,
        tensors,
        spec,
        numbers,
        length,
        length if grows else read,
        grows,
        lasting_layers(layout, room, length, limit),
        _why(model, f"{kind.__name__}: {layout.reason or _gap(numbers)}"),
    )


_Slotted = tuple[tuple[int, ...], list[torch.Tensor], Spec | None, list[int]]
_NO_SLOTS: _Slotted = ((), [], None, [])


def _slotted(cache: Any, slot: int) -> _Slotted:
    """Numbers of the layers with slots, their tensors and room; a state or nothing yet has none."""
    keys, values = cache.key_cache, cache.value_cache
    tensors, spec = _gathered(keys, values, slot)
    if spec is not None:
        shape, count = spec.shape, len(tensors) // 2
        return (places(count), tensors, spec, [shape[-2]] * count) if len(shape) == 4 else _NO_SLOTS
    pairs = zip(keys, values, strict=False)
    slotted = {number: pair for number, pair in enumerate(pairs) if pair[0].dim() == 4}
    keys, values = [key for key, _ in slotted.values()], [value for _, value in slotted.values()]
    return tuple(slotted), *_gathered(keys, values, slot), [key.shape[-2] for key in keys]


def _legacy_view(kind: str, layers: Layers, model: KnownModel, read: int, slot: int) -> CacheView:
    if not layers or (not model.ordinary and layers[0][0].shape[-2] != read):
        why = _why(model, f"{kind}: the layout of its tensors is not known")
        return CacheView(kind, [], length=read, positions=read, why=why)
    everything = places(len(layers))
    length = layers[0][0].shape[-2]
    tensors = _gathered([key for key, _ in layers], [value for _, value in layers], slot)
    return CacheView(kind, *tensors, everything, length, length, True, everything, _why(model, ""))


def _length(room: list[int], read: int, layout: CacheLayout) -> int:
    """Slots in use, of a cache whose layers have room for so many."""
    if not layout.readable:
        return read
    if not room:
        return 0
    return room[0] if layout.sized else min(read, max(room))


def _why(model: KnownModel, otherwise: str) -> str:
    return otherwise if model.cache is None else f"{model.name}: {model.cache}"


def _gap(numbers: tuple[int, ...]) -> str:
    return STATE if numbers else _EMPTY


def new_slots(view: CacheView, start: int, stop: int) -> Slots:
    """Copies of the slots that a step wrote, keys of all layers, then values.

    Args:
        view: the cache after the forward pass.
        start: first new slot.
        stop: one past the last.

    Returns:
        Tensors ``[batch, KV heads, stop - start, head dim]``, as one tensor where all are alike; none where
        the cache does not append.
    """
    tensors = view.tensors
    if not tensors or not view.appends:
        return []
    if not start < stop or view.spec is None:
        return [tensor[..., start:stop, :].detach().clone() for tensor in tensors]
    if view.stack is not None:
        return view.stack.narrow(-2, start, stop - start)
    # A third of the time of an index with an ellipsis, which counts for dozens of tensors a step.
    slots: torch.Tensor = torch.stack([tensor.narrow(-2, start, stop - start) for tensor in tensors])
    return slots.detach()


def new_slot_norms(view: CacheView, start: int, stop: int, slots: Slots | None = None) -> torch.Tensor | None:
    """Euclidean norms of the slots that a step wrote.

    Args:
        view: the cache after the forward pass.
        start: first new slot.
        stop: one past the last.
        slots: what :func:`new_slots` returned, if it was called.

    Returns:
        ``[2 · layers, batch, KV heads, new slots]`` float32, keys first; None where there are none, or where
        layers differ in shape.
    """
    norms = compiled.slot_norms(view.tensors, start, stop) if view.appends else None
    if norms is not None:
        return norms
    return _norms(new_slots(view, start, stop) if slots is None else slots)


def _norms(slots: Slots) -> torch.Tensor | None:
    if isinstance(slots, torch.Tensor):
        norms: torch.Tensor = torch.linalg.vector_norm(slots.float(), dim=-1)
        return norms
    if len({slot.shape for slot in slots}) != 1 or not slots[0].shape[-2]:
        return None
    # Layers on several devices: reduce where they are, gather the small results, waiting for none of them.
    home = slots[0].device
    return torch.stack([torch.linalg.vector_norm(slot.float(), dim=-1).to(home) for slot in slots])
