"""What assisted decoding does in a step: the tokens proposed, and how many of them the model accepts."""

from __future__ import annotations

from tracer.schema.base import Record


class Proposal(Record):
    """A token that was proposed, and what became of it.

    Attributes:
        token: its id.
        accepted: whether it was accepted.
        draft: its probability by the draft model; None where the proposer has none.
        target: its probability by the model, after all processors.
        draw: the random number that was compared with ``target / draft``; None where tokens are compared.
        choice: what the model chose itself in its place; None where probabilities are compared.
    """

    token: int
    accepted: bool
    draft: float | None
    target: float
    draw: float | None
    choice: int | None


class AssistedStep(Record):
    """A step of assisted decoding.

    Attributes:
        proposer: class of what proposes tokens.
        proposals: the tokens proposed, in order; none where there was nothing to propose.
        appended: the tokens that the step appends: those accepted, and mostly one of the model's own behind.
        own: whether the last of them is the model's own, and no proposal that was accepted.
        seconds: time that it took to propose them.
        forwards: forward passes of a draft model.
        matched: the last tokens of the sequence that were found further up in it; of prompt lookup only.
        matched_at: position there of the first of them.
        next_length: how many tokens are to be proposed in the next step; None where that stays as it is.
    """

    proposer: str
    proposals: tuple[Proposal, ...]
    appended: tuple[int, ...]
    own: bool
    seconds: float
    forwards: int
    matched: tuple[int, ...] = ()
    matched_at: int | None = None
    next_length: float | None = None

    @property
    def accepted(self) -> int:
        """How many proposals were accepted."""
        return sum(each.accepted for each in self.proposals)
