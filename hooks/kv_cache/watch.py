"""Watch the KV cache of a run: its signature before and after each step, and the slots that were added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hooks.faults import is_ours
from hooks.kv_cache.proof import CacheProof, CacheReading
from hooks.kv_cache.view import (
    NO_CACHE,
    CacheSignature,
    CacheView,
    Slots,
    cache_signature,
    new_slot_norms,
    new_slots,
    view_cache,
)

_NAMES = ("past_key_values", "cache_params", "state", "past_buckets_states")


class CacheWatch:
    """Reads the cache between the steps; copies stay on its device.

    Args:
        statistics: whether to take norms and prove that old slots stay as they were.
        save: whether to store the new slots.

    Attributes:
        after: signature of the cache after the last step.
        reading: what was read of it to prove that it only grows, until :meth:`take`.
    """

    def __init__(self, *, statistics: bool, save: bool) -> None:
        self._statistics = statistics
        self._save = save
        self._proof = CacheProof()
        self._view: CacheView = view_cache(None)
        self.after = NO_CACHE
        self.reading: CacheReading | None = None

    def begin(self, inputs: Mapping[str, Any], positions: int) -> None:
        """The first step of a run begins; each later one begins with what the step before it left.

        Args:
            inputs: what will go into ``forward``.
            positions: tokens processed before.
        """
        self.after = signature_in(inputs, positions)

    def update(self, model_kwargs: Mapping[str, Any], positions: int) -> CacheSignature:
        """The forward pass of a step is over.

        Args:
            model_kwargs: arguments for the next step.
            positions: tokens processed so far.

        Returns:
            The signature of the cache now.
        """
        self._view = view_cache(_cache_in(model_kwargs))
        self.after = cache_signature(self._view, positions)
        return self.after

    def new_slots(self, before: CacheSignature) -> Slots | None:
        """Copies of the slots that the step wrote, if they are to be stored.

        Args:
            before: the cache before the step.
        """
        if not self._save or not self._view.layers:
            return None
        return new_slots(self._view, before.length, self.after.length)

    def norms(self, before: CacheSignature, slots: Slots | None) -> torch.Tensor | None:
        """Norms of the slots that the step wrote, if statistics are taken.

        Args:
            before: the cache before the step.
            slots: what :meth:`new_slots` returned.

        Returns:
            ``[2 · layers, batch, KV heads, new slots]`` float32, keys first.
        """
        if not self._statistics or not self._view.layers:
            return None
        return new_slot_norms(self._view, before.length, self.after.length, slots)

    def read(self, before: CacheSignature, fed: int) -> None:
        """Read what proves that the cache only grows, if statistics are taken.

        Args:
            before: the cache before the step.
            fed: tokens that went into the model.
        """
        if self._statistics and self._view.layers:
            self.reading = self._proof.read(self._view, self.after.length, before.length + fed)

    def take(self) -> CacheReading | None:
        """What was read in this step, which ends; the cache itself is released."""
        reading, self.reading = self.reading, None
        self._view = view_cache(None)
        return reading

    def set_baseline(self, reading: CacheReading, sums: Sequence[torch.Tensor]) -> None:
        """Compare the next step with this one.

        Args:
            reading: what :meth:`take` returned.
            sums: its checksums on the host.
        """
        self._proof.set_baseline(reading, sums)


def cached_positions(cache: object) -> int:
    """Positions that a cache holds before a run; 0 where it does not say.

    Args:
        cache: ``past_key_values`` as the decoding loop gets them.
    """
    try:
        known = getattr(cache, "get_seq_length", None)
        return view_cache(cache).length(0) if known is None else int(known())
    except Exception as error:
        if not is_ours(error):
            raise
        return 0


def signature_in(arguments: Mapping[str, Any], positions: int) -> CacheSignature:
    """The signature of the cache among arguments of a forward pass, or in what it returned.

    Args:
        arguments: arguments or results by name.
        positions: tokens processed so far.
    """
    return cache_signature(view_cache(_cache_in(arguments)), positions)


def _cache_in(arguments: Mapping[str, Any]) -> Any:
    return next((arguments[name] for name in _NAMES if arguments.get(name) is not None), None)
