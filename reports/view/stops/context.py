"""What a card is built from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reports.view.tokens import TokenView, token_view, token_views
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
    """

    header: RunHeader
    step: Step
    texts: Mapping[int, TokenText]
    row: int = 0

    def token(self, token: int) -> TokenView:
        """A token with its text."""
        return token_view(token, self.texts)

    def tokens(self, ids: Iterable[int]) -> tuple[TokenView, ...]:
        """Several tokens with their texts."""
        return token_views(ids, self.texts)

    @property
    def other_rows(self) -> tuple[int, ...]:
        """The rows of the batch that are not shown in full."""
        return tuple(row for row in range(self.step.rows) if row != self.row)

    @property
    def place(self) -> str:
        """``row 0: `` in a batch, nothing where there is only one row."""
        return f"row {self.row}: " if self.step.rows > 1 else ""
