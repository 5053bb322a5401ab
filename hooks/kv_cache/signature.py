"""The signature of the KV cache: what it is and the specs of its tensors, of which its record is made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch

from hooks.kv_cache.view import CacheView
from hooks.tensors import info
from tracer.schema.cache import CacheGroup, CacheState

_Spec = tuple[torch.Size, torch.dtype, torch.device]


@dataclass(frozen=True)
class CacheSignature:
    """The specs of a cache's tensors; its record is made when it is needed, on the thread that writes.

    Attributes:
        kind: class of the cache object.
        length: slots in use.
        positions: positions that the model has read, of which it may have dropped some.
        state: it is not made of keys and values that can be read.
        groups: number of the first of some layers in a row that have the same specs, how many they are, and
            the specs of their keys and values.
    """

    kind: str
    length: int
    positions: int = 0
    state: bool = False
    groups: tuple[tuple[int, int, _Spec, _Spec], ...] = ()

    @cached_property
    def record(self) -> CacheState:
        """The record, equal layers folded."""
        groups = tuple(
            CacheGroup(first=first, last=first + count - 1, key=info(*key), value=info(*value))
            for first, count, key, value in self.groups
        )
        return CacheState(kind=self.kind, length=self.length, state=self.state, groups=groups)


NO_CACHE = CacheSignature(kind="none", length=0)


def cache_signature(view: CacheView) -> CacheSignature:
    """The signature of a cache.

    Args:
        view: the cache.
    """
    groups: list[tuple[int, int, _Spec, _Spec]] = []
    at = 0
    for count in _runs_of_layers(view):
        key, value = view.layers[at]
        groups.append((view.numbers[at], count, _spec(key), _spec(value)))
        at += count
    state = bool(view.length) and not view.layers
    return CacheSignature(view.kind, view.length, view.positions, state, tuple(groups))


def _spec(tensor: torch.Tensor) -> _Spec:
    return tensor.shape, tensor.dtype, tensor.device


def _runs_of_layers(view: CacheView) -> list[int]:
    """How many layers in a row have the same specs."""
    if view.layers and view.alike and view.numbers[-1] - view.numbers[0] == len(view.layers) - 1:
        return [len(view.layers)]
    return [sum(1 for _ in run) for _, run in groupby(enumerate(view.layers), lambda each: _run(view, *each))]


def _run(view: CacheView, at: int, layer: tuple[torch.Tensor, torch.Tensor]) -> tuple[object, ...]:
    """The same for all layers of one run: their specs, and how far their numbers are from their places."""
    key, value = layer
    return key.shape, value.shape, key.dtype, key.device, view.numbers[at] - at
