"""Watches what only one decoding loop does; that of ``_sample``, which does nothing else, watches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import nn

from hooks.caught_step import CaughtStep
from hooks.modules.module_watch import Observer


class LoopWatch(Protocol):
    """Sees what is particular to the loop of one run. Faults in its methods become capture errors."""

    def observers(self) -> Mapping[nn.Module, Observer]:
        """Modules whose outputs it has to see, each with what is called with them."""

    def begin(self) -> None:
        """The forward pass of a step starts."""

    def forwarded(self, outputs: Any) -> None:
        """It is over.

        Args:
            outputs: what it returned.
        """

    def first_scores(self, local: Mapping[str, Any]) -> torch.Tensor | None:
        """The scores that the processors will begin with, while the loop stands still before them.

        Args:
            local: locals of the loop.

        Returns:
            ``[batch, vocab]``; None where they are not computed yet.
        """

    def put(self, step: CaughtStep) -> None:
        """Put what was seen into the step, which is over or stands still."""


_NOTHING: Mapping[nn.Module, Observer] = MappingProxyType({})


class PlainLoop:
    """The watch of ``_sample``: its processors begin with the model's own logits."""

    def observers(self) -> Mapping[nn.Module, Observer]:
        """None."""
        return _NOTHING

    def begin(self) -> None:
        """The forward pass of a step starts."""

    def forwarded(self, outputs: Any) -> None:
        """It is over."""

    def first_scores(self, local: Mapping[str, Any]) -> torch.Tensor | None:
        """The logits of the last position."""
        logits = getattr(local.get("outputs"), "logits", None)
        return None if logits is None else logits[:, -1, :]

    def put(self, step: CaughtStep) -> None:
        """There is nothing to put."""
