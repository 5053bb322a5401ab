"""One call of the command line: what commands need of it besides their options."""

from __future__ import annotations

from dataclasses import dataclass, field

from tracer.cli.starting_line import StartingLine
from tracer.interrupts import Interrupts


@dataclass
class Invocation:
    """One call of the command line.

    Attributes:
        interrupts: the signals that have arrived.
        starting_line: the sign of life; it is cleared before anything else is shown.
        closed: numbers of the standard streams that were closed when the command was started.
        debug: whether an error shows its traceback.
    """

    interrupts: Interrupts
    starting_line: StartingLine = field(default_factory=StartingLine)
    closed: frozenset[int] = frozenset()
    debug: bool = False
