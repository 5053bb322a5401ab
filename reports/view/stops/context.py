"""What a card is built from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reports.view.tokens import TokenView, sequence_views
from tracer.library.first_scores import FIRST_SCORES, FirstScores
from tracer.schema.run import RunHeader, TokenText
from tracer.schema.step import Step


@dataclass(frozen=True)
class Context:
    """One step of one run, seen for one row of the batch.

    Attributes:
        header: the run's header.
        step: the step.
        texts: the token texts that are known.
        row: the row shown in full.
        before: for each row, bytes of an unfinished character at the end of what comes before the token that
            this step chooses; empty where nothing is known of it.
    """

    header: RunHeader
    step: Step
    texts: Mapping[int, TokenText]
    row: int = 0
    before: tuple[bytes, ...] = ()

    def token(self, token: int, row: int | None = None) -> TokenView:
        """A token that this step may choose, with the character that it would complete.

        Args:
            token: its id.
            row: row of the batch; the one shown in full by default.
        """
        row = self.row if row is None else row
        before = self.before[row] if row < len(self.before) else b""
        return sequence_views((token,), self.texts, before)[0]

    def tokens(self, ids: Iterable[int]) -> tuple[TokenView, ...]:
        """Several such tokens."""
        return tuple(self.token(token) for token in ids)

    def sequence(self, ids: Iterable[int]) -> tuple[TokenView, ...]:
        """Tokens that follow one another."""
        return sequence_views(ids, self.texts)

    @property
    def first_scores(self) -> FirstScores:
        """What the scores that the processors begin with are called."""
        return FIRST_SCORES[self.header.loop]

    @property
    def other_rows(self) -> tuple[int, ...]:
        """The rows of the batch that are not shown in full."""
        return tuple(row for row in range(self.step.rows) if row != self.row)

    @property
    def place(self) -> str:
        """``row 0: `` in a batch, nothing where there is only one row."""
        return f"row {self.row}: " if self.step.rows > 1 else ""
