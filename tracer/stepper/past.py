"""What the stepper of a run in progress needs of its past."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from rich.console import Console

from tracer.analysis.conditions.condition import Condition
from tracer.halting.callback import Halt
from tracer.schema.run import StopName


class Past(Protocol):
    """The earlier stops of a run that stands still, and which of them the user looks at."""

    @property
    def away(self) -> bool:
        """Whether the user looks at an earlier stop, and not at the one where the run stands."""

    @property
    def step(self) -> int:
        """Number of the step that the user looks at."""

    @property
    def prompt(self) -> str:
        """The prompt while the user looks at an earlier stop."""

    def takes(self, name: str, argument: str) -> bool:
        """Whether a command is about the past: it goes back, or is asked there.

        Args:
            name: the command.
            argument: its argument.
        """

    def execute(self, name: str, argument: str, breaks: Iterable[Condition]) -> bool:
        """Execute a command that is about the past.

        Args:
            name: the command.
            argument: its argument.
            breaks: the conditions in force.

        Returns:
            Whether it led back to where the run stands.

        Raises:
            TraceGenerateError: it cannot be executed, with the reason.
        """

    def arguments(self, name: str) -> Iterable[str]:
        """What may follow a command there, to complete it."""

    def close(self) -> None:
        """The run goes on."""


OpenPast = Callable[[Halt, "tuple[StopName, ...]", Console], Past]
"""Gives the past of a halted run: the halt, the stops that the stepper halts at, and where to print."""
