"""What beam search does in a step, and what it has in the end: continuations, beams, hypotheses."""

from __future__ import annotations

from typing import Literal

from tracer.schema.base import Record

Fate = Literal["beam", "hypothesis", "too late", "rejected", "closed", "unmet", "displaced", "cut"]
"""What became of a continuation: it goes on as a beam; it ended and is a hypothesis; it ended, but is not
among the best ``num_beams``, which alone may end; it ended, but all hypotheses kept are better; it ended, but
its row was done before, and only goes on because another one does; it ended before it met its constraints; it
was among the best that go on, but in constrained search others had met more in its place; it was not among
the best that go on."""


class Continuation(Record):
    """A beam with one token more, among those that the step decides about.

    Attributes:
        parent: row of the step that it continues.
        token: the token.
        before: score of that row before the step: the sum of its log-probabilities.
        log_probability: of the token, after all processors; None where it was not recorded.
        score: the two together, by which continuations are compared.
        fate: what became of it.
        row: row that goes on with it; None where none does. Where all continuations ended, rows are filled
            with those that did.
        criteria: the stopping criteria that ended it, by their numbers; none where the loop looks for the
            tokens that end a sequence by itself.
        penalty: in group search what it paid for a token that earlier groups have taken, which its
            log-probability contains already; None elsewhere, and where it was not recorded.
        taken_by: the rows of earlier groups that go on with that token in this step.
        bank: in constrained search how far the sequence with it has met its constraints, in tokens; None
            where that was of no account, and elsewhere.
        forced: whether it is there for advancing a constraint, and not for its score.
    """

    parent: int
    token: int
    before: float
    log_probability: float | None
    score: float
    fate: Fate
    row: int | None = None
    criteria: tuple[int, ...] = ()
    penalty: float | None = None
    taken_by: tuple[int, ...] = ()
    bank: int | None = None
    forced: bool = False


class Hypothesis(Record):
    """A sequence that has ended, or was still open when the run did.

    Attributes:
        number: its number among those of its batch row, from 0, in the order in which they ended.
        step: the step in which it ended; of one that was open, the last step.
        row: the row of that step that it is, before the step's own token; of one that was open, after it.
        token: the token that ended it; None for one that was open.
        total: sum of its log-probabilities.
        length: number of tokens that the length penalty counts.
        value: ``total / length ** length_penalty``, by which hypotheses are compared.
        unmet: whether it was taken although it does not meet its constraints, for want of others.
    """

    number: int
    step: int
    row: int
    token: int | None
    total: float
    length: int
    value: float
    unmet: bool = False


class BeamRow(Record):
    """One row of the batch that was given with its beams; in group search one group of it.

    Attributes:
        continuations: the best ones, or those drawn, in the order in which the loop has them; behind them
            those that are there for advancing a constraint; empty once it is done, unless its beams go on
            until all rows are.
        ended: hypotheses that ended in this step and are kept.
        pushed_out: numbers of hypotheses that better ones pushed out in this step.
        kept: how many hypotheses are kept after the step.
        worst: value of the worst of them; None where there is none.
        attainable: the best value that a beam is taken to come to at most; None where that decides nothing.
        done: whether it takes no further hypothesis, so that its beams are only filled up.
    """

    continuations: tuple[Continuation, ...]
    ended: tuple[Hypothesis, ...]
    pushed_out: tuple[int, ...]
    kept: int
    worst: float | None
    attainable: float | None
    done: bool

    @property
    def cut_below(self) -> float | None:
        """Score of the last continuation that its score alone lets go on; None where there is none."""
        scores = [
            each.score
            for each in self.continuations
            if each.fate in ("beam", "displaced") and not each.forced
        ]
        return min(scores, default=None)

    def last_of_bank(self, bank: int | None) -> float | None:
        """Score of the last continuation of a bank that goes on; None where there is none.

        Args:
            bank: how far it has met its constraints; None where that was of no account.
        """
        scores = [
            each.score
            for each in self.continuations
            if each.row is not None and each.bank == bank is not None
        ]
        return min(scores, default=None)


ConstraintStatus = Literal["met", "in progress", "open"]
"""How far a beam has come with a constraint: all of it, a part, or nothing that counts."""


class Constraint(Record):
    """What a sequence has to contain.

    Attributes:
        name: its class.
        words: token sequences, one of which meets it; empty for a class of one's own, whose are not known.
    """

    name: str
    words: tuple[tuple[int, ...], ...]


class ConstraintProgress(Record):
    """How far a beam has come with one constraint.

    Attributes:
        constraint: number of the constraint among those of the run, from 0.
        status: whether it is met.
        so_far: the tokens of it that the beam ends with; of a constraint in progress, if they are known.
        next: the tokens that would advance it; of one that is not met, if they are known.
    """

    constraint: int
    status: ConstraintStatus
    so_far: tuple[int, ...] = ()
    next: tuple[int, ...] = ()


class ConstraintStep(Record):
    """What constrained search knows of the constraints in a step.

    Attributes:
        constraints: the constraints of the run.
        advancing: for each row before the step, the tokens that would have advanced it; nothing for one that
            has met all, or whose batch row was done.
        progress: for each row after the step, how far it has come with each; nothing where its batch row was
            done.
    """

    constraints: tuple[Constraint, ...]
    advancing: tuple[tuple[int, ...], ...]
    progress: tuple[tuple[ConstraintProgress, ...], ...]


class BeamStep(Record):
    """A step of beam search. Rows of the step are beams, those of one given row behind one another.

    Attributes:
        beams: beams that are searched together: those of each row of the batch, or of each group of it.
        rows: the rows of the batch, each with its groups behind one another.
        parents: for each row after the step, the row before it that it continues.
        before: for each row before the step, the sum of its log-probabilities; -1e9 if it has not begun.
        scores: the same for each row after it.
        groups: groups of each row of the batch; 1 where there are none.
        constraints: what constrained search knows of its constraints; None elsewhere.
    """

    beams: int
    rows: tuple[BeamRow, ...]
    parents: tuple[int, ...]
    before: tuple[float, ...]
    scores: tuple[float, ...]
    groups: int = 1
    constraints: ConstraintStep | None = None

    def continuation_of(self, row: int) -> Continuation | None:
        """The continuation that goes on as a row; None where that is only filled up.

        Args:
            row: the row.
        """
        return next((each for each in self.rows[row // self.beams].continuations if each.row == row), None)

    def place(self, row: int) -> tuple[int, int]:
        """The row of the batch and the group of it that a row of the step belongs to, both from 0.

        Args:
            row: the row.
        """
        return divmod(row // self.beams, self.groups)


class BeamOutcome(Record):
    """What a row of the batch has in the end, with all of its groups.

    Attributes:
        hypotheses: all that were ever kept, in the order in which they ended.
        kept: numbers of those that were kept to the end.
        returned: numbers of those that ``generate()`` returns, best first.
    """

    hypotheses: tuple[Hypothesis, ...]
    kept: tuple[int, ...]
    returned: tuple[int, ...]


EarlyStopping = Literal["True", "False", "never"]
"""When a batch row is done, as the setting says."""


class BeamEnd(Record):
    """The end of a beam search.

    Attributes:
        beams: beams of each row of the batch.
        length_penalty: the exponent of the length.
        early_stopping: when a row is done: ``True``, ``False`` or ``never``, as text.
        rows: one for each row of the batch.
        groups: groups that these beams are in; 1 where there are none.
    """

    beams: int
    length_penalty: float
    early_stopping: EarlyStopping
    rows: tuple[BeamOutcome, ...]
    groups: int = 1

    def group(self, hypothesis: Hypothesis) -> int:
        """The group that a hypothesis comes from, from 0.

        Args:
            hypothesis: the hypothesis.
        """
        return hypothesis.row % self.beams // (self.beams // self.groups)
