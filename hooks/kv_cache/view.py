"""The tensors of the KV cache, whatever class holds them, and the signature of the cache."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby

import torch
from transformers.cache_utils import (
    Cache,
    DynamicCache,
    HybridCache,
    OffloadedCache,
    QuantizedCache,
    SinkCache,
    SlidingWindowCache,
    StaticCache,
)

from hooks.native import compiled
from hooks.tensors import info
from tracer.schema.cache import CacheGroup, CacheState

Layers = list[tuple[torch.Tensor, torch.Tensor]]

Slots = torch.Tensor | list[torch.Tensor]
"""A tensor a layer, keys of all layers, then values; stacked where they are alike."""

STACK_BYTES = 64 << 20
"""Largest cache that is copied on an accelerator in order to read all of its layers at once."""


@dataclass(frozen=True)
class CacheView:
    """The tensors of a cache at one moment; references, not copies.

    Attributes:
        kind: class of the cache object.
        layers: key and value tensor per layer.
        grows: the tensors' second-to-last dimension is the number of slots in use.
        appends: slot i of every layer holds position i for ever, so old slots can be compared.
    """

    kind: str
    layers: Layers
    grows: bool
    appends: bool

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

    def length(self, positions: int) -> int:
        """Slots in use.

        Args:
            positions: tokens processed so far, which is the length of a cache of fixed size.
        """
        if not self.layers:
            return 0
        return self.layers[0][0].shape[-2] if self.grows else min(positions, self.layers[0][0].shape[-2])


def view_cache(cache: object) -> CacheView:
    """The view of a cache object, of the legacy tuple form, or of no cache at all."""
    kind = type(cache).__name__ if cache is not None else "none"
    if isinstance(cache, Cache):
        keys, values = getattr(cache, "key_cache", []), getattr(cache, "value_cache", [])
        evicts = isinstance(
            cache, OffloadedCache | QuantizedCache | SinkCache | SlidingWindowCache | HybridCache
        )
        return CacheView(
            kind,
            list(zip(keys, values, strict=False)),
            grows=not isinstance(cache, StaticCache | HybridCache),
            appends=not evicts and isinstance(cache, DynamicCache | StaticCache),
        )
    layers = _legacy_layers(cache)
    return CacheView(kind, layers, grows=True, appends=bool(layers))


def _legacy_layers(cache: object) -> Layers:
    """Layers of ``((key, value), …)`` where both are ``[batch, heads, slots, head dim]``."""
    if not isinstance(cache, tuple | list):
        return []
    layers: Layers = []
    for layer in cache:
        if not isinstance(layer, tuple | list) or len(layer) < 2:
            return []
        key, value = layer[0], layer[1]
        if not (isinstance(key, torch.Tensor) and isinstance(value, torch.Tensor)):
            return []
        if key.dim() != 4 or key.shape[:3] != value.shape[:3]:
            return []
        layers.append((key, value))
    return layers


_Spec = tuple[torch.Size, torch.dtype, torch.device]


@dataclass(frozen=True)
class CacheSignature:
    """The specs of a cache's tensors; its record is made when it is needed, on the thread that writes.

    Attributes:
        kind: class of the cache object.
        length: slots in use.
        groups: how many layers in a row have the same specs, and the specs of their keys and values.
    """

    kind: str
    length: int
    groups: tuple[tuple[int, _Spec, _Spec], ...] = ()

    @cached_property
    def record(self) -> CacheState:
        """The record, equal layers folded."""
        groups: list[CacheGroup] = []
        first = 0
        for count, key, value in self.groups:
            groups.append(CacheGroup(first=first, last=first + count - 1, key=info(*key), value=info(*value)))
            first += count
        return CacheState(kind=self.kind, length=self.length, groups=tuple(groups))


NO_CACHE = CacheSignature(kind="none", length=0)


def cache_signature(view: CacheView, positions: int) -> CacheSignature:
    """The signature of a cache.

    Args:
        view: the cache.
        positions: tokens processed so far.
    """
    groups: list[tuple[int, _Spec, _Spec]] = []
    first = 0
    for count in _runs_of_layers(view):
        key, value = view.layers[first]
        groups.append((count, _spec(key), _spec(value)))
        first += count
    return CacheSignature(view.kind, view.length(positions), tuple(groups))


def _spec(tensor: torch.Tensor) -> _Spec:
    return tensor.shape, tensor.dtype, tensor.device


def _runs_of_layers(view: CacheView) -> list[int]:
    """How many layers in a row have the same specs."""
    if view.layers and view.alike:
        return [len(view.layers)]
    return [sum(1 for _ in layers) for _, layers in groupby(view.layers, _layer_spec)]


def _layer_spec(layer: tuple[torch.Tensor, torch.Tensor]) -> tuple[object, ...]:
    key, value = layer
    return key.shape, value.shape, key.dtype, key.device


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


@lru_cache(maxsize=8)
def slot_names(layers: int) -> tuple[str, ...]:
    """Names of the new slots of the KV cache, keys of all layers, then values."""
    return tuple(f"kv/{layer}/{part}" for part in ("key", "value") for layer in range(layers))


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
