"""The proof that the KV cache only grows: old slots stay as they are, exactly the new tokens' are added.

Every slot has a checksum, the sum of its 64-bit words; a layer has the sum of its slots' checksums, each
times an odd number of the slot's own (all modulo 2^64), so neither a changed slot nor two exchanged ones go
unnoticed. What a step computes over the slots in use is compared in a later step with the same slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hooks.kv_cache.layouts import places
from hooks.kv_cache.view import STACK_BYTES, CacheView, new_slots
from hooks.native import compiled
from tracer.schema.checks import Check, Violation

HOST_BUDGET = 256 << 10
"""Bytes of cache that one step reads on a CPU; the layers of a longer cache take turns."""

DEVICE_BUDGET = STACK_BYTES
"""The same on an accelerator, whose memory is a hundred times faster."""

_WORD = 8


Sums = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Baseline:
    """Checksums of layers that were read together.

    Attributes:
        length: slots they had.
        layers: which.
        read: ``[2, layers, 2, batch, KV heads]`` as in :class:`CacheReading`, on the host.
    """

    length: int
    layers: tuple[int, ...]
    read: torch.Tensor

    @property
    def sums(self) -> Sums:
        """``[layers, 2, batch, KV heads]`` of keys and values over all slots; made where it is compared."""
        sums: Sums = self.read[1].numpy()
        return sums

    def of(self, layers: tuple[int, ...]) -> Sums:
        """Checksums of some of the layers."""
        if layers == self.layers:
            return self.sums
        first = self.layers.index(layers[0])
        if self.layers[first : first + len(layers)] == layers:
            return self.sums[first : first + len(layers)]
        return self.sums[[self.layers.index(layer) for layer in layers]]


class CacheReading(NamedTuple):
    """The checksums that a step took of the cache, not yet on the host.

    Attributes:
        length: slots in use.
        expected: slots there should be; None where that is not known.
        total: layers of the cache.
        reason: why layers were not read, where none were.
        layers: places of those that were read together, and what was read of them before.
        sums: ``[2, layers, 2, batch, KV heads]`` for each of :attr:`layers`, on their device: checksums of
            keys and values over the slots that were read before, and over all.
        numbers: number of the layer at each place.
    """

    length: int
    expected: int | None
    total: int
    reason: str = ""
    layers: Sequence[tuple[tuple[int, ...], _Baseline | None]] = ()
    sums: Sequence[torch.Tensor] = ()
    numbers: Sequence[int] = ()

    def check(self, sums: Sequence[torch.Tensor], rows: int) -> tuple[Check, list[Violation]]:
        """Compare with what was read before.

        Args:
            sums: :attr:`sums` on the host.
            rows: rows of the batch.

        Returns:
            The check, with how many of the layers were read, and what did not hold.
        """
        violations = [*self._violations(sums, rows)]
        read = sum(len(layers) for layers, _ in self.layers)
        if not read and not violations:
            return Check.not_made("cache", self.reason, total=self.total), violations
        return Check.made("cache", holds=not violations, checked=read, total=self.total), violations

    def _violations(self, sums: Sequence[torch.Tensor], rows: int) -> Iterator[Violation]:
        if self.total and self.expected not in (None, self.length):
            message = f"the cache holds {self.length} slots, expected {self.expected}"
            yield Violation(check="cache", message=message)
        for (layers, known), both in zip(self.layers, sums, strict=True):
            if known is not None and min(known.length, self.length):
                yield from _differences(known, layers, self.numbers, both.numpy()[0], rows)


class CacheProof:
    """Takes checksums step by step, and compares each step's with those of an earlier one."""

    def __init__(self) -> None:
        self._last: dict[int, _Baseline] = {}
        self._next = 0
        self._weights: dict[torch.device, torch.Tensor] = {}

    def read(self, view: CacheView, expected: int) -> CacheReading:
        """Read what the budget allows, without waiting for an accelerator.

        Args:
            view: the cache after the forward pass.
            expected: slots there should be if each new token has one: those before plus the new tokens.
        """
        length = view.length
        together = self._read_together(view, self._turn(view))
        sums = [
            self._sums(view, layers, min(known.length, length) if known else 0, length)
            for layers, known in together
        ]
        return CacheReading(
            length=length,
            expected=expected if view.grows else None,
            total=view.total,
            reason=view.why,
            layers=together,
            sums=sums,
            numbers=view.numbers,
        )

    def set_baseline(self, reading: CacheReading, sums: Sequence[torch.Tensor]) -> None:
        """Compare with these checksums from now on.

        Args:
            reading: what :meth:`read` returned.
            sums: its checksums on the host.
        """
        for (layers, _), taken, both in zip(reading.layers, reading.sums, sums, strict=True):
            # What came from a GPU shares its memory with all results of the step.
            read = _Baseline(reading.length, layers, both if both is taken else both.clone())
            self._last.update(dict.fromkeys(layers, read))

    def reorder(self, parents: Sequence[int]) -> None:
        """Compare each row from now on with what was read of the row that it continues.

        Args:
            parents: that row, for each row. A cache of another number of rows says nothing about them, and is
                not compared with what was read before.
        """
        made: dict[int, _Baseline | None] = {}
        for layer, known in [*self._last.items()]:
            if id(known) not in made:
                fits = known.read.shape[3] == len(parents)
                made[id(known)] = replace(known, read=known.read[..., [*parents], :]) if fits else None
            baseline = made[id(known)]
            if baseline is None:
                del self._last[layer]
            else:
                self._last[layer] = baseline

    def old_slots(self, view: CacheView, layer: int, length: int) -> torch.Tensor:
        """``[2, batch, KV heads]`` checksums of the first slots of one layer, keys and values.

        Args:
            view: the cache.
            layer: place of the layer.
            length: how many slots.
        """
        return self._sums(view, (layer,), length, length)[0, 0]

    def _turn(self, view: CacheView) -> list[int]:
        """The layers whose turn it is: as many as the budget allows, at least one."""
        total = len(view.lasting)
        if not total or not view.length:
            return []
        key, value = view.layer(view.lasting[0])
        both = 2 * key.nbytes if view.spec is not None else key.nbytes + value.nbytes
        size = both * view.length // key.shape[-2]
        budget = HOST_BUDGET if key.is_cpu else DEVICE_BUDGET
        count = min(total, max(1, budget // max(1, size)))
        turn = [view.lasting[(self._next + offset) % total] for offset in range(count)]
        self._next = (self._next + count) % total
        return turn

    def _read_together(
        self, view: CacheView, layers: Sequence[int]
    ) -> list[tuple[tuple[int, ...], _Baseline | None]]:
        """Layers that are alike and were read together the last time, with what was read then."""
        groups: dict[tuple[object, _Baseline | None], list[int]] = {}
        for layer in layers:
            spec = None if view.spec is not None else _slots_of(*view.layer(layer))
            groups.setdefault((spec, self._last.get(layer)), []).append(layer)
        return [(tuple(members), known) for (_, known), members in groups.items()]

    def _sums(self, view: CacheView, layers: tuple[int, ...], before: int, length: int) -> torch.Tensor:
        """``[2, layers, 2, batch, KV heads]`` sums over the slots there were before, and over all slots."""
        sums = compiled.slot_sums(view.tensors, layers, before, length)
        if sums is not None:
            return sums
        if layers == places(view.total) and view.stack is not None:
            sums = self._weighted_sums(_slot_sums(view.stack, length), before)
            return sums.reshape(2, 2, len(layers), *sums.shape[2:]).transpose(1, 2)
        tensors = [tensor for layer in layers for tensor in view.layer(layer)]
        sums = self._sums_by_torch(tensors, before, length)
        return sums.reshape(2, len(layers), 2, *sums.shape[2:])

    def _sums_by_torch(self, tensors: Sequence[torch.Tensor], before: int, length: int) -> torch.Tensor:
        """``[2, m, batch, KV heads]`` sums over the slots known before, and over all slots."""
        return self._weighted_sums(torch.stack([_slot_sums(tensor, length) for tensor in tensors]), before)

    def _weighted_sums(self, slots: torch.Tensor, before: int) -> torch.Tensor:
        """Sums over the first slots and over all, of checksums ``[m, batch, KV heads, slots]``."""
        weighted = slots.mul_(self._slot_weights(slots.shape[-1], slots.device))
        return torch.stack((weighted[..., :before].sum(-1), weighted.sum(-1)))

    def _slot_weights(self, length: int, device: torch.device) -> torch.Tensor:
        weights = self._weights.get(device)
        if weights is None or weights.numel() < length:
            # Odd numbers from the golden ratio: fixed, so nothing is drawn from any random generator.
            index = torch.arange(2 * length, dtype=torch.int64, device=device)
            weights = self._weights[device] = (index * -7046029254386353131) | 1
        return weights[:length]


def written_slot_sums(view: CacheView, place: int) -> torch.Tensor | None:
    """Checksums of the slot that a forward pass of one position wrote.

    Args:
        view: the cache after the forward pass; it appends.
        place: the slot.

    Returns:
        ``[2 · layers, batch, KV heads]``, keys first; None where layers differ in shape.
    """
    slots = new_slots(view, place, place + 1)
    if isinstance(slots, torch.Tensor):
        return _slot_sums(slots, 1)[..., 0]
    if len({slot.shape[:-1] for slot in slots}) != 1:
        return None
    # Layers on several devices: reduce where they are, gather the small results, waiting for none of them.
    home = slots[0].device
    return torch.stack([_slot_sums(slot, 1)[..., 0].to(home) for slot in slots])


def _slot_sums(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """``[…, length]`` sums of the 64-bit words of each slot of ``[…, slots, head dim]``."""
    slots = tensor if tensor.shape[-2] == length else tensor.narrow(-2, 0, length)
    words = torch.int64
    if slots.stride(-1) != 1 or slots.shape[-1] * slots.element_size() % _WORD:
        slots, words = slots.contiguous(), torch.uint8
    elif slots.storage_offset() * slots.element_size() % _WORD or any(
        stride * slots.element_size() % _WORD for stride in slots.stride()[:-1]
    ):
        slots = slots.clone(memory_format=torch.contiguous_format)
    return slots.view(words).sum(-1, dtype=torch.int64)


def _slots_of(key: torch.Tensor, value: torch.Tensor) -> tuple[object, ...]:
    return key.shape[:3], value.device


def _differences(
    known: _Baseline, layers: tuple[int, ...], numbers: Sequence[int], now: Sums, rows: int
) -> list[Violation]:
    """The violations: layers whose old slots changed.

    Args:
        known: what was read the last time.
        layers: places of the layers that were read now.
        numbers: number of the layer at each place.
        rows: rows of the batch; a cache of another size says nothing about rows.
        now: ``[layers, 2, batch, KV heads]`` checksums over the slots there were then.
    """
    before = known.of(layers)
    if before.shape == now.shape and before.tobytes() == now.tobytes():
        return []
    numbers = [numbers[layer] for layer in layers]
    if before.shape != now.shape:
        message = "the shape of the cache changed"
        return [Violation(check="cache", layer=layer, message=message) for layer in numbers]
    return [
        Violation(
            check="cache",
            layer=numbers[at],
            row=row if now.shape[2] == rows else None,
            message=f"layer {numbers[at]}, KV head {head}: {('key', 'value')[part]} "
            f"slots 0 to {known.length - 1} changed",
        )
        for at, part, row, head in np.argwhere(before != now).tolist()
    ]
