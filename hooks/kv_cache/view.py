"""The tensors of the KV cache, whatever class holds them, and the slots that a step wrote."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers.cache_utils import EncoderDecoderCache

from hooks.known_models import KnownModel
from hooks.kv_cache.cache_layers import ROLLS, STATE, LayerSlots, slots_of
from hooks.kv_cache.layouts import OFFLOADED, CacheLayout, Layers, lasting_layers, layout_of, legacy_layers
from hooks.native import compiled

Slots = torch.Tensor | list[torch.Tensor]
"""A tensor a layer, keys of all layers, then values; stacked where they are alike."""

STACK_BYTES = 64 << 20
"""Largest cache that is copied on an accelerator in order to read all of its layers at once."""


_EMPTY = "it is empty"


@dataclass(frozen=True)
class CacheView:
    """The tensors of a cache at one moment; references, not copies.

    Attributes:
        kind: class of the cache object, ``none`` without a cache.
        layers: key and value tensor per layer; none where they cannot be read.
        numbers: the layers' numbers in the model.
        length: slots in use.
        positions: positions that the model has read.
        grows: each position that is read adds a slot to the tensors.
        lasting: places in ``layers`` of those whose slot i holds position i, so that old slots can be
            compared.
        why: why those of the others cannot be compared, if there are others.
    """

    kind: str
    layers: Layers
    numbers: tuple[int, ...] = ()
    length: int = 0
    positions: int = 0
    grows: bool = False
    lasting: tuple[int, ...] = ()
    why: str = ""

    @property
    def appends(self) -> bool:
        """Whether every layer of the model has slots here, and all are where they were written."""
        layers = len(self.layers)
        return 0 < layers == len(self.lasting) and self.numbers[-1] == layers - 1

    @cached_property
    def tensors(self) -> list[torch.Tensor]:
        """Keys of all layers, then values."""
        return [key for key, _ in self.layers] + [value for _, value in self.layers]

    @cached_property
    def alike(self) -> bool:
        """Whether all of them are of one size, dtype and device."""
        return compiled.alike(self.tensors)

    @cached_property
    def stack(self) -> torch.Tensor | None:
        """All of them as one tensor; None where reading each is quicker, or they are not alike.

        On an accelerator every operation costs its launch, and reading all of a short cache almost nothing.
        """
        tensors = self.tensors
        if not tensors or tensors[0].is_cpu or not self.alike:
            return None
        if tensors[0].nbytes * len(tensors) > STACK_BYTES:
            return None
        stacked: torch.Tensor = torch.stack(tensors)
        return stacked.detach()


NO_VIEW = CacheView("none", [], why="the model hands on no KV cache")


def view_cache(cache: Any, model: KnownModel, read: int) -> CacheView:
    """The view of a cache object, of the legacy tuple form, or of no cache at all.

    Args:
        cache: the cache.
        model: what is known of its model.
        read: positions that the model has read so far, if it keeps them.
    """
    if isinstance(cache, EncoderDecoderCache):
        cache = cache.self_attention_cache
    kind = type(cache).__name__
    if cache is None:
        if not model.state_in_modules:
            return NO_VIEW
        return CacheView("modules", [], length=read, positions=read, why=_why(model, ""))
    if isinstance(cache, tuple | list):
        return _legacy_view(kind, legacy_layers(cache, model.legacy), model, read)
    if isinstance(getattr(cache, "layers", None), list):
        return _layered_view(cache, model, read)
    return _cache_view(cache, model, read)


def _layered_view(cache: Any, model: KnownModel, read: int) -> CacheView:
    """Of a cache whose layers are objects of several kinds."""
    found = [slots_of(number, layer, read) for number, layer in enumerate(cache.layers)]
    slots = [each for each in found if isinstance(each, LayerSlots)]
    grows, length = _length_of_layers(slots, read if any(found) else 0)
    kind = type(cache).__name__
    return CacheView(
        kind,
        [(each.key, each.value) for each in slots],
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


def _cache_view(cache: Any, model: KnownModel, read: int) -> CacheView:
    kind: type = type(cache)
    layout = layout_of(kind)
    numbers, layers, room = _slotted(cache) if layout.readable else ((), [], [])
    length = _length(room, read, layout)
    limit = getattr(cache, "window_length", None)
    grows = layout.sized and (limit is None or length < limit)
    return CacheView(
        kind.__name__,
        layers,
        numbers,
        length,
        length if grows else read,
        grows,
        tuple(lasting_layers(layout, room, length, limit)),
        _why(model, f"{kind.__name__}: {layout.reason or _gap(numbers)}"),
    )


def _slotted(cache: Any) -> tuple[tuple[int, ...], Layers, list[int]]:
    """Numbers and tensors of the layers with slots, and their room; a state or nothing yet has none."""
    pairs = [*zip(cache.key_cache, cache.value_cache, strict=False)]
    if pairs and compiled.alike([each for pair in pairs for each in pair]):
        # The first tells for all; to ask each of them costs more than all else here.
        first, count = pairs[0][0], len(pairs) if pairs[0][0].dim() == 4 else 0
        return tuple(range(count)), pairs[:count], [first.shape[-2]] * count
    numbers = tuple(number for number, (key, _) in enumerate(pairs) if key.dim() == 4)
    layers = [pairs[number] for number in numbers]
    return numbers, layers, [key.shape[-2] for key, _ in layers]


def _legacy_view(kind: str, layers: Layers, model: KnownModel, read: int) -> CacheView:
    if not layers or (not model.ordinary and layers[0][0].shape[-2] != read):
        why = _why(model, f"{kind}: the layout of its tensors is not known")
        return CacheView(kind, [], length=read, positions=read, why=why)
    everything = tuple(range(len(layers)))
    length = layers[0][0].shape[-2]
    return CacheView(kind, layers, everything, length, length, True, everything, _why(model, ""))


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
    if not start < stop or not view.alike:
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
        return torch.from_numpy(norms)
    return _norms(new_slots(view, start, stop) if slots is None else slots)


def _norms(slots: Slots) -> torch.Tensor | None:
    if isinstance(slots, torch.Tensor):
        norms: torch.Tensor = torch.linalg.vector_norm(slots.float(), dim=-1)
        return norms
    if len({slot.shape for slot in slots}) != 1 or not slots[0].shape[-2]:
        return None
    # Layers on several devices: reduce where they are, gather the small results.
    return torch.stack([torch.linalg.vector_norm(slot.float(), dim=-1).cpu() for slot in slots])
