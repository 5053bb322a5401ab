"""One row of a step as conditions see it; a value that was not recorded is None."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tracer.schema.beams import BeamStep, Continuation
from tracer.schema.checks import Violation
from tracer.schema.choice import Choice
from tracer.schema.columns import NO_TOKEN, ScoreColumns
from tracer.schema.ranking import RowRanking
from tracer.schema.run import RunHeader, TokenText
from tracer.schema.step import Step


@dataclass(frozen=True)
class Token:
    """A token as conditions see it.

    Attributes:
        id: its id.
        text: what it decodes to; None if the recording does not know the id.
        piece: the tokenizer's own spelling; None likewise.
    """

    id: int
    text: str | None
    piece: str | None

    def is_meant_by(self, wanted: int | str) -> bool:
        """Whether a condition that says ``wanted`` means this token.

        Args:
            wanted: an id; or a text, where white space around the token matters only if ``wanted`` itself
                begins or ends with some; or the tokenizer's own spelling.
        """
        if isinstance(wanted, int):
            return self.id == wanted
        if self.text is None:
            return False
        if wanted in (self.text, self.piece):
            return True
        return bool(wanted) and wanted == wanted.strip() and self.text.strip() == wanted

    def __str__(self) -> str:
        return str(self.id) if self.text is None else f"{self.text!r} ({self.id})"


class TokenQuery:
    """A token as a condition names it, resolved to the ids that it means in a recording.

    Args:
        wanted: an id; or a text, which means the tokens with exactly this text or spelling, else those with
            white space around it.
    """

    def __init__(self, wanted: int | str) -> None:
        self._wanted = wanted
        self._tokens: Mapping[int, TokenText] | None = None
        self._known = -1
        self._found: list[int] = []

    def ids(self, row: StepRow) -> list[int]:
        """Ids among the tokens of the recording; looked up again only when it has more tokens."""
        if isinstance(self._wanted, int):
            return [self._wanted] if 0 <= self._wanted < row.step.head.vocab_size else []
        tokens, known = row.tokens, len(row.tokens)
        if tokens is not self._tokens or known != self._known:
            self._found = _named(self._wanted, tokens)
            self._tokens, self._known = tokens, known
        return self._found


def _named(wanted: str, tokens: Mapping[int, TokenText]) -> list[int]:
    known = list(tokens.values())
    exact = [token.id for token in known if wanted in (token.text, token.piece)]
    if exact or wanted != wanted.strip() or not wanted:
        return exact
    return [token.id for token in known if token.text.strip() == wanted]


@dataclass(frozen=True)
class StepRow:
    """One row of a recorded step.

    Attributes:
        step: the step.
        header: header of its run.
        tokens: texts of token ids.
        index: row of the batch, from 0.
    """

    step: Step
    header: RunHeader
    tokens: Mapping[int, TokenText]
    index: int

    @cached_property
    def scores(self) -> ScoreColumns | None:
        """The scores; None where they were not recorded or the row had ended before the step."""
        scores = self.step.scores
        return None if scores is None or scores.finished[self.index] else scores

    @property
    def beams(self) -> BeamStep | None:
        """What a beam search decided; None like :attr:`scores`, and in any other run."""
        return None if self.scores is None else self.step.head.beams

    @property
    def continuation(self) -> Continuation | None:
        """The continuation that the row is after the step; None like :attr:`beams`."""
        return None if self.beams is None else self.beams.continuation_of(self.index)

    @property
    def group(self) -> int | None:
        """The group that the row is in, from 0; None like :attr:`beams`, and where there are no groups."""
        beams = self.beams
        return None if beams is None or beams.groups == 1 else beams.place(self.index)[1]

    @property
    def constraints_met(self) -> int | None:
        """How many constraints the row has met; None like :attr:`beams`, and where there are none."""
        beams = self.beams
        if beams is None or beams.constraints is None:
            return None
        return sum(each.status == "met" for each in beams.constraints.progress[self.index])

    @property
    def constraint_forced(self) -> bool | None:
        """Whether the row goes on for advancing a constraint; None like :attr:`constraints_met`."""
        return None if self.constraints_met is None or self.continuation is None else self.continuation.forced

    @property
    def ranking(self) -> RowRanking | None:
        """The candidates of a contrastive search; None where the row had ended, and in any other run."""
        found = self.step.head.contrastive
        return None if found is None or self.index >= len(found.rows) else found.rows[self.index]

    @property
    def choice(self) -> Choice | None:
        """The choice; None like :attr:`scores`."""
        return None if self.scores is None else self.step.choice(self.index)

    @property
    def ended(self) -> bool | None:
        """Whether the row had ended before this step."""
        scores = self.step.scores
        return None if scores is None else bool(scores.finished[self.index])

    @property
    def ends(self) -> bool | None:
        """Whether the row ends in this step."""
        return None if self.ended is None else not self.ended and self.index not in self.step.head.unfinished

    def token(self, number: int) -> Token:
        """A token by its id."""
        known = self.tokens.get(number)
        return Token(number, known.text if known else None, known.piece if known else None)

    @property
    def chosen(self) -> Token | None:
        """The chosen token."""
        return None if self.choice is None else self.token(self.choice.token)

    def placed(self, place: int) -> tuple[int, float] | None:
        """Id and probability of the candidate at a place (from 0); None if there are fewer candidates."""
        scores = self.scores
        if scores is None or scores.tokens.shape[1] <= place:
            return None
        number, chance = int(scores.tokens[self.index, place]), float(scores.probabilities[self.index, place])
        return None if number == NO_TOKEN or not chance > 0 else (number, chance)

    @property
    def runner_up(self) -> tuple[int, float] | None:
        """Id and probability of the most probable token that was not chosen; None without one."""
        found = (self.placed(0), self.placed(1))
        chosen = self.choice
        return next((each for each in found if each and chosen and each[0] != chosen.token), None)

    @property
    def margin(self) -> float | None:
        """Probability of the most probable candidate minus that of the second."""
        best, second = self.placed(0), self.placed(1)
        return None if best is None else best[1] - (second[1] if second else 0.0)

    @property
    def largest(self) -> float | None:
        """Largest magnitude in the output of any module."""
        modules = self.step.modules
        taken = modules.largest[modules.nonfinite >= 0] if modules is not None else np.empty(0)
        return None if not taken.size or np.isnan(taken).all() else float(np.nanmax(taken))

    def violated(self, check: str | None = None) -> bool:
        """Whether a check did not hold, for this row or for all.

        Args:
            check: which check; None for any.
        """
        return any(self._concerns(found) and check in (None, found.check) for found in self._violations)

    @property
    def nonfinite(self) -> bool:
        """Whether a module returned NaN or infinite values.

        The first such step of a run has a violation that names the rows; later ones have the check alone.
        """
        if any(found.check == "finite" for found in self._violations):
            return self.violated("finite")
        return any(check.name == "finite" and check.failed for check in self.step.head.checks)

    @property
    def _violations(self) -> tuple[Violation, ...]:
        return self.step.head.violations

    def _concerns(self, found: Violation) -> bool:
        return found.row is None or found.row == self.index

    # Functions of a token that need not have been chosen.

    def removed(self, wanted: TokenQuery) -> bool | None:
        """Whether a processor or warper removed a token."""
        return self._any(self._removed(number) for number in wanted.ids(self))

    def candidate(self, wanted: TokenQuery) -> bool | None:
        """Whether a token was among the candidates."""
        chances = [self._probability(number) for number in wanted.ids(self)]
        return self._any(None if chance is None else chance > 0 for chance in chances)

    def probability(self, wanted: TokenQuery) -> float | None:
        """Probability of a token; the sum where the query means several."""
        chances = [self._probability(number) for number in wanted.ids(self)]
        known = [chance for chance in chances if chance is not None]
        return math.fsum(known) if known and len(known) == len(chances) else None

    def raw_logit(self, wanted: TokenQuery) -> float | None:
        """Raw logit of a token; the highest where the query means several."""
        scores = self.scores
        places = [self._place(number) for number in wanted.ids(self)]
        found = [
            float(scores.scores[0, self.index, place])
            for place in places
            if scores is not None and place is not None
        ]
        return max(found, default=None)

    @staticmethod
    def _any(answers: Iterator[bool | None]) -> bool | None:
        """Kleene's "or"; unknown without any value."""
        given = list(answers)
        return True if True in given else None if None in given or not given else False

    def _place(self, number: int) -> int | None:
        scores = self.scores
        if scores is None:
            return None
        places = np.flatnonzero(scores.tokens[self.index] == number).tolist()
        return places[0] if places else None

    def _all_candidates_recorded(self, scores: ScoreColumns) -> bool:
        listed = (scores.tokens[self.index] != NO_TOKEN) & (scores.probabilities[self.index] > 0)
        return bool(np.count_nonzero(listed) >= scores.candidates[self.index])

    def _probability(self, number: int) -> float | None:
        scores, place = self.scores, self._place(number)
        if scores is None:
            return None
        if place is not None:
            return float(scores.probabilities[self.index, place])
        return 0.0 if self._all_candidates_recorded(scores) else None

    def _removed(self, number: int) -> bool | None:
        scores, place = self.scores, self._place(number)
        if scores is None:
            return None
        if place is not None:
            path = scores.scores[:, self.index, place]
            return bool(path[0] > -math.inf and path[-1] == -math.inf)
        if number in scores.removed_tokens[:, self.index]:
            return True
        if not scores.removed[:, self.index].any():
            return False
        # Long lists of removed tokens are not recorded; a token that is certainly no candidate was removed.
        return True if self._all_candidates_recorded(scores) else None
