"""What looks at a forward pass beyond the usual record, where it is asked for."""

from __future__ import annotations

from typing import Protocol

from hooks.caught_step import CaughtStep


class Probe(Protocol):
    """Looks at the step's own forward pass. Exceptions in its methods become capture errors."""

    def begin(self) -> None:
        """The forward pass starts."""

    def end(self) -> None:
        """It is over."""

    def finish(self, step: CaughtStep) -> None:
        """The step is over; what was seen goes into ``step.saved``, what went wrong into ``step.errors``."""
