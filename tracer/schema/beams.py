"""What beam search does in a step, and what it has in the end: continuations, beams, hypotheses."""

from __future__ import annotations

from typing import Literal

from tracer.schema.base import Record

Fate = Literal["beam", "hypothesis", "too late", "rejected", "closed", "cut"]
"""What became of a continuation: it goes on as a beam; it ended and is a hypothesis; it ended, but is not
among the best ``num_beams``, which alone may end; it ended, but all hypotheses kept are better; it ended, but
its row was done before, and only goes on because another one does; it was not among the best that go on."""


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
    """

    parent: int
    token: int
    before: float
    log_probability: float | None
    score: float
    fate: Fate
    row: int | None = None
    criteria: tuple[int, ...] = ()


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
    """

    number: int
    step: int
    row: int
    token: int | None
    total: float
    length: int
    value: float


class BeamRow(Record):
    """One row of the batch that was given, with its beams.

    Attributes:
        continuations: the best ones, or those drawn, in the order in which the loop has them; empty once it
            is done, unless its beams go on until all rows are.
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


class BeamStep(Record):
    """A step of beam search. Rows of the step are beams, those of one given row behind one another.

    Attributes:
        beams: beams of each row of the batch.
        rows: the rows of the batch.
        parents: for each row after the step, the row before it that it continues.
        before: for each row before the step, the sum of its log-probabilities; -1e9 if it has not begun.
        scores: the same for each row after it.
    """

    beams: int
    rows: tuple[BeamRow, ...]
    parents: tuple[int, ...]
    before: tuple[float, ...]
    scores: tuple[float, ...]


class BeamOutcome(Record):
    """What a row of the batch has in the end.

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
    """

    beams: int
    length_penalty: float
    early_stopping: EarlyStopping
    rows: tuple[BeamOutcome, ...]
