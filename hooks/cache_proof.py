"""Proof that the KV cache only grows: old slots keep their bytes, exactly the new tokens' slots are added.

Every slot has a checksum, the sum of its 64-bit words; a layer has the sum of its slots' checksums, each
times an odd number of the slot's own (all modulo 2^64), so neither a changed slot nor two exchanged ones go
unnoticed. What a step computes over the slots in use is compared in a later step with the same slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hooks import compiled
from hooks.cache import CacheView
from tracer.schema.step import Check, Violation

HOST_BUDGET = 256 << 10
"""Bytes of cache that one step reads on a CPU; of a longer cache some layers take turns each step."""

DEVICE_BUDGET = 256 << 20
"""The same on an accelerator, whose memory is a hundred times faster."""

_WORD = 8


Sums = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Reading:
    """Checksums of layers that were read together.

    Attributes:
        length: slots they had.
        layers: which.
        sums: ``[layers, 2, batch, KV heads]`` keys and values.
    """

    length: int
    layers: tuple[int, ...]
    sums: Sums

    def of(self, layers: tuple[int, ...]) -> Sums:
        """Checksums of some of them."""
        if layers == self.layers:
            return self.sums
        return self.sums[[self.layers.index(layer) for layer in layers]]


class CacheProof:
    """Keeps the checksums of a run and compares them step by step."""

    def __init__(self) -> None:
        self._last: dict[int, _Reading] = {}
        self._next = 0
        self._weights = torch.empty(0, dtype=torch.int64)

    def check(self, view: CacheView, length: int, expected: int) -> tuple[Check, list[Violation]]:
        """Check what the budget allows, and note the checksums for the next time. Waits for the device.

        Args:
            view: the cache after the forward pass.
            length: slots in use now.
            expected: slots there should be: those before plus the new tokens.

        Returns:
            The check, with how many of the layers were read, and what did not hold.
        """
        violations: list[Violation] = []
        if view.layers and length != expected:
            violations.append(
                Violation(check="cache", message=f"the cache holds {length} slots, expected {expected}")
            )
        if not view.appends:
            return Check(name="cache", ok=not violations, checked=0, total=len(view.layers)), violations
        layers = self._turn(view, length)
        for members, known in self._read_together(view, layers):
            before = min(known.length, length) if known else 0
            old, new = self._sums(view, members, before, length)
            if known is not None and before:
                violations += _differences(known, members, old)
            reading = _Reading(length, members, new)
            self._last.update(dict.fromkeys(members, reading))
        return (
            Check(name="cache", ok=not violations, checked=len(layers), total=len(view.layers)),
            violations,
        )

    def _turn(self, view: CacheView, length: int) -> list[int]:
        """The layers whose turn it is: as many as the budget allows, at least one."""
        total = len(view.layers)
        if not total or not length:
            return []
        key, value = view.layers[0]
        size = (key.numel() + value.numel()) * key.element_size() * length // key.shape[-2]
        budget = DEVICE_BUDGET if key.is_cuda else HOST_BUDGET
        count = min(total, max(1, budget // max(1, size)))
        turn = [(self._next + offset) % total for offset in range(count)]
        self._next = (self._next + count) % total
        return turn

    def _read_together(
        self, view: CacheView, layers: Sequence[int]
    ) -> Iterator[tuple[tuple[int, ...], _Reading | None]]:
        """Layers that are alike and were read together the last time, with what was read then."""
        groups: dict[tuple[object, _Reading | None], list[int]] = {}
        alike = compiled.alike([tensor for layer in layers for tensor in view.layers[layer]])
        for layer in layers:
            looks = None if alike else _looks(*view.layers[layer])
            groups.setdefault((looks, self._last.get(layer)), []).append(layer)
        for (_, known), members in groups.items():
            yield tuple(members), known

    def _sums(self, view: CacheView, layers: Sequence[int], before: int, length: int) -> Sums:
        """``[2, layers, 2, batch, KV heads]`` sums over the slots there were before, and over all slots."""
        tensors = [tensor for layer in layers for tensor in view.layers[layer]]
        sums = compiled.slot_sums(tensors, before, length)
        if sums is None:
            sums = self._sums_by_torch(tensors, before, length)
        return sums.reshape(2, len(layers), 2, *sums.shape[2:])

    def _sums_by_torch(self, tensors: Sequence[torch.Tensor], before: int, length: int) -> Sums:
        """``[2, m, batch, KV heads]`` sums over the slots known before, and over all slots."""
        self._grow_weights(length)
        weights = self._weights[:length].to(tensors[0].device)
        weighted = torch.stack([_slot_sums(tensor, length) for tensor in tensors]).mul_(weights)
        both: Sums = torch.stack((weighted[..., :before].sum(-1), weighted.sum(-1))).cpu().numpy()
        return both

    def _grow_weights(self, length: int) -> None:
        if self._weights.numel() < length:
            # Odd numbers from the golden ratio: fixed, so nothing is drawn from any random generator.
            index = torch.arange(2 * length, dtype=torch.int64)
            self._weights = (index * -7046029254386353131) | 1


def _slot_sums(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """``[batch, KV heads, length]`` sums of the 64-bit words of each slot."""
    slots = tensor if tensor.shape[-2] == length else tensor.narrow(-2, 0, length)
    words = torch.int64
    if slots.stride(-1) != 1 or slots.shape[-1] * slots.element_size() % _WORD:
        slots, words = slots.contiguous(), torch.uint8
    elif slots.storage_offset() * slots.element_size() % _WORD or any(
        stride * slots.element_size() % _WORD for stride in slots.stride()[:-1]
    ):
        slots = slots.clone(memory_format=torch.contiguous_format)
    return slots.view(words).sum(-1, dtype=torch.int64)


def _looks(key: torch.Tensor, value: torch.Tensor) -> tuple[object, ...]:
    return key.shape[:3], value.device


def _differences(known: _Reading, layers: tuple[int, ...], now: Sums) -> list[Violation]:
    """What is not as it was.

    Args:
        known: what was read the last time.
        layers: which layers were read now.
        now: ``[layers, 2, batch, KV heads]`` checksums over the slots there were then.
    """
    before = known.of(layers)
    if before.shape == now.shape and (before == now).all():
        return []
    if before.shape != now.shape:
        message = "the shape of the cache changed"
        return [Violation(check="cache", layer=layer, message=message) for layer in layers]
    return [
        Violation(
            check="cache",
            layer=layers[at],
            row=row,
            message=f"layer {layers[at]}, KV head {head}: {('key', 'value')[part]} "
            f"slots 0 to {known.length - 1} changed",
        )
        for at, part, row, head in np.argwhere(before != now).tolist()
    ]
