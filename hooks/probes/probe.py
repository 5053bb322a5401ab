"""An optional capture of the forward pass."""

from __future__ import annotations

from typing import Protocol

from hooks.caught_step import CaughtStep


class Probe(Protocol):
    """Records more of each step's own forward pass; faults in its methods become capture errors."""

    def begin(self) -> None:
        """The forward pass starts."""

    def end(self) -> None:
        """The forward pass is over."""

    def finish(self, step: CaughtStep) -> None:
        """The step is over; results go into ``step.tensors.saved``, faults into ``step.errors``."""
