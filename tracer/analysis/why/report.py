"""The answer to why a token was chosen or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tracer.analysis.processors.processor import Cutoff
from tracer.schema.beams import Continuation
from tracer.schema.ranking import RowRanking
from tracer.schema.run import LoopName

Verdict = Literal[
    "chosen",
    "lost the draw",
    "not the highest score",
    "not continued",
    "outranked",
    "no candidate",
    "removed",
    "padding",
    "undecided",
    "unknown",
]
Source = Literal["saved logits", "recorded scores", "bounds"]
Goal = Literal["kept", "greedy"]

NEEDS_LOGITS = (
    "the step did not record this token: it was not among the highest raw logits, nor left at the end; "
    "its scores are known only with `--capture tensors --save logits`"
)

CONTINUED_ALONE = (
    "the step recorded the last score of this token alone, with which the beam was continued; the earlier "
    "ones are known only with `--capture tensors --save logits`"
)


@dataclass(frozen=True)
class Rank:
    """Rank of a token among the scores of a stage.

    Attributes:
        value: 1 + number of tokens known to score higher.
        exact: whether no other token can score higher; if not, ``value`` is the best possible rank.
        at_most: the worst possible rank, where the number of remaining tokens determines it.
    """

    value: int
    exact: bool
    at_most: int | None = None


@dataclass(frozen=True)
class TokenStage:
    """The token at one stage of the score pipeline.

    Attributes:
        stage: 0 for the raw logits, else the number of the processor.
        list_name: ``raw``, ``logits_processor`` or ``logits_warper``.
        class_name: the processor's class; empty for the raw logits.
        settings: the processor's settings.
        kept: tokens of the row that are left after this stage.
        score: the token's score; ``-inf`` once removed; None if it is not known.
        at_most: an upper bound where the score is not known.
        rank: its rank after this stage; None once removed or if nothing is known.
        changed: whether this processor changed its score, removal included; None if that is not known.
        removed: whether this processor removed it; None if that is not known.
        cut: how the token compared with the cutoff of this processor; None where it is no filter, or where
            the token had been removed before.
        cut_exact: whether the cutoff is exact; if not, tokens that were not recorded influence it.
    """

    stage: int
    list_name: str
    class_name: str
    settings: dict[str, str]
    kept: int
    score: float | None
    at_most: float | None = None
    rank: Rank | None = None
    changed: bool | None = None
    removed: bool | None = None
    cut: Cutoff | None = None
    cut_exact: bool = False


@dataclass(frozen=True)
class Change:
    """The smallest change of one setting alone that reaches a goal in this step.

    The text before the step is the recorded one: with the change in force from the start, it might have been
    different.

    Attributes:
        goal: ``kept``: the token could have been drawn; ``greedy``: it would have the highest final score.
        setting: name as in ``generate()``.
        now: value in force; the value that stands for "off" where the setting is not in use.
        needed: the nearest value that reaches the goal, found by running the processors again with it
            and with its neighbour, which does not reach it; None if no value does.
        probability: the token's probability then; None without ``needed``, or where it is not known.
        exact: whether neither unrecorded tokens nor rounding influence the result.
        reason: why there is no such value.
    """

    goal: Goal
    setting: str
    now: float
    needed: float | None
    probability: float | None = None
    exact: bool = True
    reason: str = ""


@dataclass(frozen=True)
class WhyReport:
    """A token's path through the score pipeline of one step, and what would have changed it.

    Attributes:
        step: number of the step.
        row: row of the batch.
        token: the token in question.
        text: its text; None if the recording has none.
        verdict: what became of it; ``not continued`` in a beam search, ``outranked`` and ``no candidate`` in
            a contrastive search. ``undecided``
            in a step that goes on and has not chosen; ``unknown`` where
            the recording does not say.
        source: what the answer is based on. ``bounds``: the token was not recorded and logits were not saved.
        chosen: the token that was appended; ``NO_TOKEN`` while undecided.
        chosen_text: its text.
        chosen_probability: its probability.
        probability: the token's own probability in the end, 0 once removed; None if it is not known.
        stages: one entry per stage.
        remover: stage that removed it first; None if none did or if it is not known.
        changes: per goal and setting the smallest change; empty where the goal is reached already.
        notes: what a reader must know about the answer, in full sentences.
        loop: the decoding loop of the run.
        continuation: what became of the row and the token as a continuation of a beam search; None where it
            was not among the best.
        last: score of the last continuation that goes on.
        last_of_bank: in constrained search that of the last of the continuation's own bank.
        ranking: the candidates of a contrastive search, whose ranking decided; None elsewhere.
        penalty_alpha: the weight of their penalty.
    """

    step: int
    row: int
    token: int
    text: str | None
    verdict: Verdict
    source: Source
    chosen: int
    chosen_text: str | None
    chosen_probability: float
    probability: float | None
    stages: tuple[TokenStage, ...]
    remover: int | None
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = field(default=())
    loop: LoopName = "_sample"
    continuation: Continuation | None = None
    last: float | None = None
    last_of_bank: float | None = None
    ranking: RowRanking | None = None
    penalty_alpha: float = 0.0

    @property
    def removed_by(self) -> TokenStage | None:
        """The stage that removed the token."""
        return None if self.remover is None else self.stages[self.remover]

    def changes_for(self, goal: Goal) -> tuple[Change, ...]:
        """The changes for one goal, those that reach it first."""
        return tuple(
            sorted(
                (change for change in self.changes if change.goal == goal),
                key=lambda each: each.needed is None,
            )
        )
