"""A decoding loop as data: its stops in order, and the statement that each of them stands at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tracer.schema.run import LoopName, Phase, StopName

FORWARD = "forward"
"""As the function of a statement: the ``forward`` of the traced model's own class."""

PREFILL = "_prefill"
"""The method that some loops call for the first forward pass."""

Choice = Literal["sampling", "greedy", "speculative"]
"""How a loop chooses, where a statement belongs to one way only: speculative sampling compares probabilities
with those of a draft model."""


@dataclass(frozen=True)
class Statement:
    """A statement of the library, at whose line a stop is.

    Attributes:
        stop: the stop.
        start: how the stripped source line begins.
        function: the method of ``GenerationMixin`` that holds it, or :data:`FORWARD`; None: the loop.
        choice: the way of choosing that it belongs to; None for both.
        phase: the phase of a run that it belongs to; None for both.
        everywhere: whether every release of the family has it; the others have another one of that stop.
        occurrence: which of the lines of the function that begin so it is, from 1.
        low_memory: the value of the setting ``low_memory`` that it belongs to; None for both.
    """

    stop: StopName
    start: str
    function: str | None = None
    choice: Choice | None = None
    phase: Phase | None = None
    everywhere: bool = True
    occurrence: int = 1
    low_memory: bool | None = None

    def runs(self, *, do_sample: bool, speculative: bool = False) -> bool:
        """Whether a run comes to it.

        Args:
            do_sample: whether the run draws its tokens.
            speculative: whether it does so by comparing probabilities with a draft model's.
        """
        drawn: Choice = "speculative" if speculative else "sampling"
        return self.choice in (None, drawn if do_sample else "greedy")


@dataclass(frozen=True)
class Loop:
    """A decoding loop.

    Attributes:
        method: the method of ``GenerationMixin`` that is the loop.
        modes: the library's names of the decoding modes that run it.
        title: what messages call it.
        statements: its statements, in the order in which a step comes to them.
        helpers: methods of the model in which it decides, and whose results are watched.
        end: how the line begins at which a step is over; None: the one behind the stopping criteria.
        refuses: settings that it raises an error for.
    """

    method: LoopName
    modes: tuple[str, ...]
    title: str
    statements: tuple[Statement, ...]
    helpers: tuple[str, ...] = ()
    end: str | None = None
    refuses: tuple[str, ...] = ()

    def with_low_memory(self, low_memory: bool) -> Loop:
        """The loop of a run, with the statements that it comes to.

        Args:
            low_memory: whether the setting of that name is on.
        """
        there = tuple(each for each in self.statements if each.low_memory in (None, low_memory))
        return self if there == self.statements else replace(self, statements=there)

    @property
    def stops(self) -> tuple[StopName, ...]:
        """The stops of a run in order, the run header first; a stop's place is its number."""
        found = [*dict.fromkeys(statement.stop for statement in self.statements)]
        # Module calls have no line: they are within the forward pass, whose result is the next stop.
        found.insert(found.index("forward-result"), "layers")
        return ("run-header", *found)
