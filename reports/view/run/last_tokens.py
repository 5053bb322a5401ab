"""The last tokens of each row while a run is read step by step: a character may be split over several."""

from __future__ import annotations

from collections.abc import Mapping

from reports.view.stops.values import row_values
from reports.view.tokens import ENOUGH, unfinished
from tracer.schema.run import RunHeader, TokenText
from tracer.schema.step import Step


class LastTokens:
    """Remembers what came before the next step.

    Args:
        header: the run's header.
    """

    def __init__(self, header: RunHeader) -> None:
        self._rows = [list(row.token_ids[-ENOUGH:]) for row in header.prompt]
        self._next = 1

    def before(self, step: Step, tokens: Mapping[int, TokenText]) -> tuple[bytes, ...]:
        """For each row, bytes of an unfinished character before the token that a step chooses.

        Args:
            step: the step; of one that does not follow the last one added, only its own inputs are known.
            tokens: the token texts that are known.
        """
        follows = step.number == self._next
        rows = self._rows if follows else [_inputs(step, row) for row in range(step.rows)]
        return tuple(unfinished(rows[step.parent(row)], tokens) for row in range(step.rows))

    def add(self, step: Step) -> None:
        """Remember what a step chose."""
        if step.number != self._next:
            self._rows = [_inputs(step, row) for row in range(step.rows)]
        self._next = step.number + 1
        before = [*self._rows]
        for row in range(len(before)):
            choice = step.choice(row) if row < step.rows else None
            # Without a record of the choice nothing is known of what the next token follows.
            kept = before[step.parent(row)] if choice is not None else []
            self._rows[row] = [*kept, *step.appended(row)][-ENOUGH:] if choice is not None else []


def _inputs(step: Step, row: int) -> list[int]:
    """The last ids that a step read."""
    ids = step.head.inputs.tensor("input_ids")
    if ids is None or ids.values is None or ids.values.omitted:
        return []
    values = row_values(ids, row, step.rows)
    return [] if values is None else [int(token) for token in values[-ENOUGH:]]
