"""Watch the KV cache of a run: what it looks like before and after each step, and what was added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hooks.cache import NO_CACHE, look_at_cache, new_slots, slot_norms, view_cache
from hooks.cache_proof import CacheProof, CacheReading
from hooks.step import CaughtStep
from hooks.stored import slot_names

_NAMES = ("past_key_values", "cache_params", "state", "past_buckets_states")


class CacheWatch:
    """Looks at the cache between the steps.

    Args:
        statistics: whether to take norms and prove that old slots stay as they were.
        save: whether to store the new slots.

    Attributes:
        after: what the cache looked like after the last step.
        reading: what was read of it to prove that it only grows, until :meth:`take`.
    """

    def __init__(self, *, statistics: bool, save: bool) -> None:
        self._statistics = statistics
        self._save = save
        self._proof = CacheProof()
        self.after = NO_CACHE
        self.reading: CacheReading | None = None

    def begin(self, step: CaughtStep, inputs: Mapping[str, Any]) -> None:
        """A step begins; its cache is the one that the step before left behind.

        Args:
            step: the step.
            inputs: what will go into ``forward``.
        """
        if step.number == 1:
            view = view_cache(_cache_in(inputs))
            self.after = look_at_cache(view, max(0, step.sequence_length - step.fed))
        step.cache_before = self.after

    def read(self, step: CaughtStep, model_kwargs: Mapping[str, Any]) -> None:
        """The step's forward pass is over; copies stay on the device.

        Args:
            step: the step.
            model_kwargs: arguments for the next step.
        """
        view = view_cache(_cache_in(model_kwargs))
        self.after = step.cache_after = look_at_cache(view, step.sequence_length)
        before, after = step.cache_before.length, step.cache_after.length
        if not view.layers:
            return
        slots = new_slots(view, before, after) if self._save else None
        if isinstance(slots, torch.Tensor):
            step.held["slots"] = slots
        elif slots:
            step.saved.update(zip(slot_names(len(view.layers)), slots, strict=True))
        if self._statistics:
            norms = slot_norms(view, before, after, slots)
            if norms is not None:
                step.held["norms"] = norms
            self.reading = self._proof.read(view, after, before + step.fed)

    def take(self) -> CacheReading | None:
        """What was read in this step, which ends."""
        reading, self.reading = self.reading, None
        return reading

    def keep(self, reading: CacheReading, sums: Sequence[torch.Tensor]) -> None:
        """Compare the next step with this one.

        Args:
            reading: what :meth:`take` gave.
            sums: its checksums on the host.
        """
        self._proof.keep(reading, sums)


def _cache_in(arguments: Mapping[str, Any]) -> Any:
    return next((arguments[name] for name in _NAMES if arguments.get(name) is not None), None)
