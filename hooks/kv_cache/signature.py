"""The signature of the KV cache: what it is and the specs of its tensors, of which its record is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch

from hooks.kv_cache.view import CacheView
from hooks.tensors import Spec, spec_of
from tracer.schema.cache import CacheGroup, CacheState


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
    groups: tuple[tuple[int, int, Spec, Spec], ...] = ()

    @cached_property
    def record(self) -> CacheState:
        """The record, equal layers folded."""
        groups = tuple(
            CacheGroup(first=first, last=first + count - 1, key=key.record, value=value.record)
            for first, count, key, value in self.groups
        )
        return CacheState(kind=self.kind, length=self.length, state=self.state, groups=groups)


NO_CACHE = CacheSignature(kind="none", length=0)


def cache_signature(view: CacheView) -> CacheSignature:
    """The signature of a cache.

    Args:
        view: the cache.
    """
    if view.spec is not None and view.numbers[-1] - view.numbers[0] == view.total - 1:
        groups = [(view.numbers[0], view.total, view.spec, view.spec)]
    else:
        groups = [*_groups(view)]
    state = bool(view.length) and not view.total
    return CacheSignature(view.kind, view.length, view.positions, state, tuple(groups))


def _groups(view: CacheView) -> Iterator[tuple[int, int, Spec, Spec]]:
    """Layers in a row that have the same specs."""
    layers = ((place, *view.layer(place)) for place in range(view.total))
    for _, group in groupby(layers, lambda layer: _run(view, *layer)):
        (place, key, value), *others = group
        yield view.numbers[place], 1 + len(others), spec_of(key), spec_of(value)


def _run(view: CacheView, place: int, key: torch.Tensor, value: torch.Tensor) -> tuple[object, ...]:
    """The same for all layers of one run: their specs, and how far their numbers are from their places."""
    return key.shape, value.shape, key.dtype, key.device, view.numbers[place] - place
