"""Norms of all keys and values that a run wrote, slot by slot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracer.schema.arrays import F32, I32
from tracer.schema.step import Step


@dataclass(frozen=True, eq=False)
class CacheHistory:
    """Norms of P slots, L layers, B rows, H KV heads.

    Attributes:
        slots: ``[P]`` numbers of the collected slots, ascending.
        stride: every ``stride``-th slot is collected.
        key: ``[P, L, B, H]`` Euclidean norms of the keys.
        value: ``[P, L, B, H]`` and of the values.
    """

    slots: I32
    stride: int
    key: F32
    value: F32


class CacheHistoryBuilder:
    """Collects norms step by step.

    Args:
        stride: collect every ``stride``-th slot.
    """

    def __init__(self, stride: int = 1) -> None:
        self._stride = stride
        self._parts: list[tuple[I32, F32, F32]] = []

    def add(self, step: Step) -> None:
        """Collect the slots that a step wrote, unless their layout differs from that of the first step."""
        if step.cache is None:
            return
        start, count = step.head.inputs.new_start, step.cache.key_norm.shape[-1]
        slots = np.arange(start, start + count, dtype=np.int32)
        kept = slots % self._stride == 0
        key, value = (
            np.moveaxis(norms[..., kept], -1, 0) for norms in (step.cache.key_norm, step.cache.value_norm)
        )
        if self._parts and key.shape[1:] != self._parts[0][1].shape[1:]:
            return
        self._parts.append((slots[kept], key, value))

    def result(self) -> CacheHistory | None:
        """The slots collected so far; None where no norms were recorded."""
        if not self._parts:
            return None
        slots, key, value = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        # A slot that is written again holds what was written last.
        last = slots.size - 1 - np.unique(slots[::-1], return_index=True)[1]
        return CacheHistory(
            slots[last].astype(np.int32),
            self._stride,
            key[last].astype(np.float32),
            value[last].astype(np.float32),
        )
