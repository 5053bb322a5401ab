"""Where a run branched off another, and what was changed there."""

from __future__ import annotations

from pydantic import Field

from tracer.schema.base import Record


class ForkOrigin(Record):
    """A run that repeats another up to a step, and goes on from there by itself.

    Attributes:
        trace: name of the file that holds the other run; None for the same file.
        run: number of the other run.
        step: the first step that is this run's own; the tokens of those before it were given.
        row: row of the batch in which the choice of that step was changed; None where it was not.
        token: id of the token that was forced there, if one was.
        banned: ids of tokens that were banned there.
        settings: generation settings that differ from the other run's, as text.
        seed: the seed that was set before the choice of that step; None to go on with the other run's draws.
    """

    trace: str | None = None
    run: int
    step: int
    row: int | None = None
    token: int | None = None
    banned: tuple[int, ...] = ()
    settings: dict[str, str] = Field(default_factory=dict)
    seed: int | None = None
