"""What a run is told to choose: tokens that it is given, and changes to a single choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tracer.schema.fork import ForkOrigin


@dataclass(frozen=True)
class TokenChange:
    """A token to force or ban in the next choice.

    Attributes:
        kind: ``force`` or ``ban``.
        token: id of the token.
        row: row of the batch; None for all.
        detail: the token as reports show it.
    """

    kind: Literal["force", "ban"]
    token: int
    row: int | None
    detail: str


@dataclass(frozen=True)
class Course:
    """The course of a run that repeats another up to a step.

    Attributes:
        origin: the other run, for the header.
        given: the tokens of each step before that one, a token a row.
        changes: what is changed in the choice of that step.
        told: how the record calls the tokens that a step is given, by its number; left out is a step that
            chooses the same by itself, so that nothing is changed by giving them.
    """

    origin: ForkOrigin
    given: Sequence[tuple[int, ...]]
    changes: tuple[TokenChange, ...] = ()
    told: Mapping[int, str] = field(default_factory=dict)

    def tokens(self, step: int) -> tuple[int, ...] | None:
        """The tokens that a step is given, a token a row; None for a step that chooses.

        Args:
            step: number of the step, from 1.
        """
        return self.given[step - 1] if step <= len(self.given) else None

    def changes_in(self, step: int) -> tuple[TokenChange, ...]:
        """What is changed in the choice of a step.

        Args:
            step: number of the step, from 1.
        """
        tokens = self.tokens(step)
        if tokens is None:
            return self.changes if step == self.origin.step else ()
        return tuple(
            TokenChange("force", token, row, self.told.get(step, "given")) for row, token in enumerate(tokens)
        )
