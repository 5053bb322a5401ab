"""An optional capture of the forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import nn

from hooks.caught_step import CaughtStep
from hooks.modules.module_watch import Observer
from tracer.schema.faults import ProbedCapture


class Probe(Protocol):
    """Records more of each step's own forward pass; belongs to one run.

    Faults in its methods become capture errors.

    Attributes:
        capture: what it records.
    """

    capture: ProbedCapture

    def observers(self) -> Mapping[nn.Module, Observer]:
        """Modules whose outputs it has to see, each with what is called with them."""

    def enter(self) -> None:
        """The run begins."""

    def leave(self) -> None:
        """The run is over: whatever the probe has put on the model is taken away."""

    def begin(self) -> None:
        """The forward pass starts."""

    def end(self) -> None:
        """The forward pass is over."""

    def finish(self, step: CaughtStep) -> None:
        """The step is over; results go into ``step.tensors.saved``, what is missing to ``step.miss``."""
