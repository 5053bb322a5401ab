"""A token that could have been chosen, and the one that was."""

from __future__ import annotations

from dataclasses import dataclass, field

from tracer.schema.base import short_repr


def named_token(token: int, text: str | None) -> str:
    """A token as a line of Python shows it: its text, if it is known, and its id.

    Args:
        token: its id.
        text: its text.
    """
    return f"token {token}" if text is None else f"'{short_repr(text)}' ({token})"


@dataclass(frozen=True)
class Candidate:
    """One token that could have been chosen.

    Attributes:
        token: its id.
        raw: raw logit.
        score: score after all processors and warpers.
        probability: softmax of the scores.
        text: its text, in a step of an open recording; None where it is not known.
    """

    token: int
    raw: float
    score: float
    probability: float
    text: str | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        figures = f"p {self.probability:.4f}, score {self.score:.4f}, raw logit {self.raw:.4f}"
        return f"<candidate {named_token(self.token, self.text)}: {figures}>"


@dataclass(frozen=True)
class Choice:
    """The token appended to a row.

    Attributes:
        token: its id.
        probability: its probability in the distribution chosen from.
        rank: its rank there, from 1.
        padding: the row had ended before; the token only fills the batch.
        text: its text, in a step of an open recording; None where it is not known.
    """

    token: int
    probability: float
    rank: int
    padding: bool
    text: str | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        how = "padding" if self.padding else f"p {self.probability:.4f}, rank {self.rank}"
        return f"<choice {named_token(self.token, self.text)}: {how}>"
