"""What contrastive search does in a step: candidates weighed by how much they repeat what is there."""

from __future__ import annotations

from tracer.schema.base import Record
from tracer.schema.cache import CacheState


class RankedCandidate(Record):
    """A candidate with what it is ranked by.

    Attributes:
        token: its id.
        probability: by the model, after all processors: the confidence.
        penalty: the degeneration penalty: the largest cosine similarity of its hidden state with that of any
            position before it.
        position: that position, padding included.
        similar: id of the token there; None for a position without one.
        score: ``(1 - penalty_alpha) * probability - penalty_alpha * penalty``; the highest is taken.
    """

    token: int
    probability: float
    penalty: float
    position: int
    similar: int | None
    score: float


class RowRanking(Record):
    """The candidates of one row of the batch.

    Attributes:
        candidates: the most probable tokens, most probable first.
        taken: place of the one that the loop took.
    """

    candidates: tuple[RankedCandidate, ...]
    taken: int

    @property
    def winner(self) -> RankedCandidate:
        """The candidate that the loop took."""
        return self.candidates[self.taken]

    @property
    def runner_up(self) -> RankedCandidate | None:
        """The best of the others; None where there is one candidate only."""
        others = [each for place, each in enumerate(self.candidates) if place != self.taken]
        return max(others, key=lambda each: each.score, default=None)

    @property
    def margin(self) -> float | None:
        """By how much the winner's score is above that of the best other candidate."""
        second = self.runner_up
        return None if second is None else self.winner.score - second.score

    @property
    def penalty_decided(self) -> bool:
        """Whether another candidate than the most probable one was taken."""
        return self.taken != 0


class ContrastiveStep(Record):
    """A step of contrastive search.

    Attributes:
        penalty_alpha: the weight of the penalty.
        rows: one ranking for each row of the batch; None for a row that had ended. Empty in a step that did
            not come to its choice.
        repeated: the KV cache before the candidates' forward pass, each row as often as it has candidates.
        grown: the same after it, of which the rows of the candidates taken are the cache after the step; of
            kind ``none`` in a step that did not come to it.
    """

    penalty_alpha: float
    rows: tuple[RowRanking | None, ...]
    repeated: CacheState
    grown: CacheState
