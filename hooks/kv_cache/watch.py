"""Watch the KV cache of a run: its signature before and after each step, and the slots that were added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hooks.faults import is_ours
from hooks.known_models import KnownModel, reads_text_alone
from hooks.kv_cache.proof import CacheProof, CacheReading
from hooks.kv_cache.signature import NO_CACHE, CacheSignature, cache_signature
from hooks.kv_cache.view import (
    NO_VIEW,
    CacheView,
    Slots,
    new_slot_norms,
    new_slots,
    view_cache,
)

_NAMES = ("past_key_values", "cache", "mems", "cache_params", "state", "past_buckets_states")


class CacheWatch:
    """Reads the cache between the steps; copies stay on its device.

    Args:
        model: what is known of the model.
        statistics: whether to take norms and prove that old slots stay as they were.
        save: whether to store the new slots.

    Attributes:
        after: signature of the cache after the last step.
        reading: what was read of it to prove that it only grows, until :meth:`take`.
        ordinary: whether the model is known to take one slot and one position for each token of this run.
    """

    def __init__(self, model: KnownModel, *, statistics: bool, save: bool) -> None:
        self._model = model
        self._statistics = statistics
        self._save = save
        self._proof = CacheProof()
        self._view: CacheView = NO_VIEW
        self.after = NO_CACHE
        self.reading: CacheReading | None = None
        self.ordinary = model.ordinary

    def begin(self, inputs: Mapping[str, Any], positions: int) -> None:
        """The first step of a run begins; each later one begins with what the step before it left.

        Args:
            inputs: what will go into ``forward``.
            positions: tokens processed before.
        """
        given = [name for name, value in inputs.items() if value is not None]
        self.ordinary = self._model.ordinary and reads_text_alone(given)
        self.after = signature_in(inputs, self._model, positions)

    def update(self, model_kwargs: Mapping[str, Any], fed: int, length: int) -> CacheSignature:
        """The forward pass of a step is over.

        Args:
            model_kwargs: arguments for the next step.
            fed: positions that went into the model.
            length: tokens of each row before the step.

        Returns:
            The signature of the cache now.
        """
        # A model that feeds other positions than the new tokens' has still read all tokens.
        read = self.after.positions + fed if self._model.positions is None else length
        self._view = view_cache(_cache_in(model_kwargs), self._model, read, self.after.length)
        self.after = cache_signature(self._view)
        return self.after

    @property
    def unsaved(self) -> str | None:
        """Why the slots that the step wrote are not stored, though they should be."""
        return None if not self._save or self._view.appends else self._view.why

    def new_slots(self, before: CacheSignature) -> Slots | None:
        """Copies of the slots that the step wrote, if they are to be stored.

        Args:
            before: the cache before the step.
        """
        if not self._save or not self._view.appends:
            return None
        return new_slots(self._view, before.length, self.after.length)

    def norms(self, before: CacheSignature, slots: Slots | None, rows: int) -> torch.Tensor | None:
        """Norms of the slots that the step wrote, if statistics are taken.

        Args:
            before: the cache before the step.
            slots: what :meth:`new_slots` returned.
            rows: rows of the batch.

        Returns:
            ``[2 · layers, batch, KV heads, new slots]`` float32, keys first; None where the cache is not by
            rows, or old slots do not stay where they were.
        """
        if not self._statistics or not self._view.appends or self._view.tensors[0].shape[0] != rows:
            return None
        return new_slot_norms(self._view, before.length, self.after.length, slots)

    def read(self, before: CacheSignature, fed: int) -> None:
        """Read what proves that the cache only grows, if statistics are taken.

        Args:
            before: the cache before the step.
            fed: tokens that went into the model.
        """
        view = self._view
        if not self._statistics:
            return
        if self._model.cache is None:
            self.reading = self._proof.read(view, before.length + fed)
        else:
            total = view.total
            self.reading = CacheReading(view.length, None, total, reason=view.why)

    def take(self) -> CacheReading | None:
        """What was read in this step, which ends; the cache itself is released."""
        reading, self.reading = self.reading, None
        self._view = NO_VIEW
        return reading

    def set_baseline(self, reading: CacheReading, sums: Sequence[torch.Tensor]) -> None:
        """Compare the next step with this one.

        Args:
            reading: what :meth:`take` returned.
            sums: its checksums on the host.
        """
        self._proof.set_baseline(reading, sums)

    def reorder(self, parents: Sequence[int]) -> None:
        """The rows of the cache were exchanged: each has the slots of the row that it continues.

        Args:
            parents: that row, for each row; nothing where none was exchanged.
        """
        if parents:
            self._proof.reorder(parents)


def cached_positions(arguments: Mapping[str, Any], model: KnownModel) -> int:
    """Positions that the cache holds before a run; 0 where it does not say.

    Args:
        arguments: of the decoding loop.
        model: what is known of the model.
    """
    cache = _cache_in(arguments)
    try:
        known = getattr(cache, "get_seq_length", None)
        return view_cache(cache, model, 0).length if known is None else int(known())
    except Exception as error:
        if not is_ours(error):
            raise
        return 0


def signature_in(arguments: Mapping[str, Any], model: KnownModel, positions: int) -> CacheSignature:
    """The signature of the cache among arguments of a forward pass, or in what it returned.

    Args:
        arguments: arguments or results by name.
        model: what is known of the model.
        positions: tokens processed so far.
    """
    return cache_signature(view_in(arguments, model, positions))


def view_in(arguments: Mapping[str, Any], model: KnownModel, positions: int) -> CacheView:
    """The view of the cache among arguments of a forward pass, or in what it returned.

    Args:
        arguments: arguments or results by name.
        model: what is known of the model.
        positions: tokens processed so far.
    """
    return view_cache(_cache_in(arguments), model, positions)


def _cache_in(arguments: Mapping[str, Any]) -> Any:
    for name in _NAMES:
        cache = arguments.get(name)
        if cache is not None:
            return cache
    return None
