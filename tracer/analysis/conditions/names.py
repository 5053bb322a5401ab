"""The names and functions of the condition language, with their meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tracer.analysis.conditions.step_row import StepRow, Token, TokenQuery

ValueKind = Literal["number", "text", "token", "truth"]


@dataclass(frozen=True)
class Name:
    """A name that stands for a value of one row of a step.

    Attributes:
        kind: the kind of value, which says what it can be compared with.
        meaning: its description in the documentation.
        value: reads the value; None where the record lacks it.
        per_row: whether it can differ between rows of a batch.
    """

    kind: ValueKind
    meaning: str
    value: Callable[[StepRow], Any]
    per_row: bool = True


@dataclass(frozen=True)
class Function:
    """A function of one token, given by text or id.

    Attributes:
        kind: kind of its value.
        meaning: its description in the documentation.
        evaluate: gives the value; None where the record lacks what it needs.
    """

    kind: ValueKind
    meaning: str
    evaluate: Callable[[StepRow, TokenQuery], Any]


def _of_choice(attribute: str) -> Callable[[StepRow], Any]:
    return lambda row: None if row.choice is None else getattr(row.choice, attribute)


def _of_scores(read: Callable[[Any, int], Any]) -> Callable[[StepRow], Any]:
    return lambda row: None if row.scores is None else read(row.scores, row.index)


def _chance(found: tuple[int, float] | None) -> float:
    return 0.0 if found is None else found[1]


def _token(row: StepRow, found: tuple[int, float] | None) -> Token | None:
    return None if found is None else row.token(found[0])


NAMES: dict[str, Name] = {
    "token": Name(
        "token",
        'the chosen token: compare it with a text (`token == "Large"`) or an id',
        lambda row: row.chosen,
    ),
    "token_id": Name("number", "its id", _of_choice("token")),
    "text": Name("text", "its exact text, spaces included", lambda row: row.chosen and row.chosen.text),
    "p_chosen": Name("number", "its probability", _of_choice("probability")),
    "p": Name("number", "the same as `p_chosen`", _of_choice("probability")),
    "rank": Name("number", "its rank after all processors and warpers, from 1", _of_choice("rank")),
    "raw_rank": Name(
        "number", "its rank among the raw logits, from 1", _of_scores(lambda s, r: int(s.chosen_rank[0, r]))
    ),
    "logit": Name("number", "its raw logit", _of_scores(lambda s, r: float(s.chosen_scores[0, r]))),
    "score": Name(
        "number",
        "its score after all processors and warpers",
        _of_scores(lambda s, r: float(s.chosen_scores[-1, r])),
    ),
    "top": Name("token", "the most probable token", lambda row: _token(row, row.placed(0))),
    "p_top": Name("number", "its probability", lambda row: row.scores and _chance(row.placed(0))),
    "runner_up": Name(
        "token", "the most probable token that was not chosen", lambda row: _token(row, row.runner_up)
    ),
    "p_runner_up": Name(
        "number", "its probability, 0 without one", lambda row: row.scores and _chance(row.runner_up)
    ),
    "margin": Name(
        "number", "probability of the most probable token less that of the second", lambda row: row.margin
    ),
    "entropy": Name(
        "number",
        "entropy in bits of the distribution chosen from",
        _of_scores(lambda s, r: float(s.entropy[-1, r])),
    ),
    "raw_entropy": Name(
        "number",
        "entropy in bits of the raw logits' softmax",
        _of_scores(lambda s, r: float(s.entropy[0, r])),
    ),
    "candidates": Name(
        "number",
        "how many tokens could have been chosen",
        _of_scores(lambda s, r: int(s.candidates[r])),
    ),
    "removed_count": Name(
        "number",
        "how many tokens processors and warpers removed",
        _of_scores(lambda s, r: int(s.removed[:, r].sum())),
    ),
    "mass_removed": Name(
        "number",
        "the largest probability that one of them removed",
        _of_scores(lambda s, r: float(s.mass_removed[:, r].max())),
    ),
    "beam_score": Name(
        "number",
        "in a beam search the sum of the row's log-probabilities",
        lambda row: row.beams and row.beams.scores[row.index],
    ),
    "beam_switched": Name(
        "truth",
        "in a beam search the row continues another one",
        lambda row: row.beams and row.step.parent(row.index) != row.index,
    ),
    "group": Name(
        "number",
        "in a group beam search the group that the row is in, from 0",
        lambda row: row.group,
    ),
    "penalty_paid": Name(
        "number",
        "what the row paid for going on with a token of earlier groups",
        lambda row: row.continuation and row.continuation.penalty,
    ),
    "constraints_met": Name(
        "number",
        "in a constrained beam search how many constraints the row has met",
        lambda row: row.constraints_met,
    ),
    "constraint_forced": Name(
        "truth",
        "the row goes on for advancing a constraint, and not for its score",
        lambda row: row.constraint_forced,
    ),
    "proposed": Name(
        "number",
        "in assisted decoding how many tokens were proposed",
        lambda row: row.step.head.assisted and len(row.step.head.assisted.proposals),
        per_row=False,
    ),
    "accepted": Name(
        "number",
        "in assisted decoding how many of them were accepted",
        lambda row: row.step.head.assisted and row.step.head.assisted.accepted,
        per_row=False,
    ),
    "similarity": Name(
        "number",
        "in contrastive search how much the token repeats: the penalty of the candidate taken",
        lambda row: row.ranking and row.ranking.winner.penalty,
    ),
    "ranking_margin": Name(
        "number",
        "in contrastive search by how much the candidate taken is ahead of the next",
        lambda row: row.ranking and row.ranking.margin,
    ),
    "penalty_decided": Name(
        "truth",
        "in contrastive search another candidate than the most probable one was taken",
        lambda row: row.ranking and row.ranking.penalty_decided,
    ),
    "ended": Name("truth", "the row had ended before this step", lambda row: row.ended),
    "ends": Name("truth", "the row ends in this step", lambda row: row.ends),
    "row": Name("number", "row of the batch, from 0", lambda row: row.index),
    "rows": Name("number", "rows of the batch", lambda row: row.step.rows, per_row=False),
    "step": Name("number", "number of the step, from 1", lambda row: row.step.number, per_row=False),
    "run": Name("number", "number of the run, from 1", lambda row: row.step.head.run, per_row=False),
    "prefill": Name("truth", "step 1, the whole prompt", lambda row: row.step.number == 1, per_row=False),
    "length": Name(
        "number",
        "tokens of the row before the step, padding included",
        lambda row: row.step.head.ids_before.shape[-1] + row.step.head.inputs.leading,
        per_row=False,
    ),
    "new_tokens": Name(
        "number",
        "how many of them the model has not seen before",
        lambda row: row.step.head.inputs.sequence_length - row.step.head.inputs.new_start,
        per_row=False,
    ),
    "cache_length": Name(
        "number",
        "slots of the KV cache after the step",
        lambda row: row.step.head.cache_after.length,
        per_row=False,
    ),
    "cache_bytes": Name(
        "number",
        "bytes of the KV cache after the step",
        lambda row: row.step.head.cache_after.nbytes,
        per_row=False,
    ),
    "seconds": Name("number", "duration of the step", lambda row: row.step.head.seconds, per_row=False),
    "forward_seconds": Name(
        "number", "duration of its forward pass", lambda row: row.step.head.forward_seconds, per_row=False
    ),
    "largest": Name(
        "number", "largest magnitude in any module's output", lambda row: row.largest, per_row=False
    ),
    "nonfinite": Name("truth", "a module returned NaN or infinite values", lambda row: row.nonfinite),
    "cache_violation": Name(
        "truth",
        "an old cache slot changed, or other than the new ones were added",
        lambda row: row.violated("cache"),
    ),
    "position_violation": Name(
        "truth", "positions, mask and cache length disagree", lambda row: row.violated("positions")
    ),
    "violation": Name("truth", "any check did not hold", lambda row: row.violated()),
    "unchecked": Name(
        "truth",
        "some check was not made, for a reason that the step says",
        lambda row: any(check.result == "not made" for check in row.step.head.checks),
        per_row=False,
    ),
    "capture_error": Name(
        "truth", "something could not be recorded", lambda row: bool(row.step.head.errors), per_row=False
    ),
    "intervention": Name(
        "truth", "the user changed something", lambda row: bool(row.step.head.interventions), per_row=False
    ),
}
"""All names, in the order of the documentation."""

FUNCTIONS: dict[str, Function] = {
    "removed": Function(
        "truth",
        "a processor or warper removed this token",
        lambda row, token: row.removed(token),
    ),
    "candidate": Function(
        "truth", "this token could have been chosen", lambda row, token: row.candidate(token)
    ),
    "probability": Function("number", "its probability", lambda row, token: row.probability(token)),
    "raw_logit": Function("number", "its raw logit", lambda row, token: row.raw_logit(token)),
}
"""All functions; each takes one token, by text or id."""


def known_names() -> str:
    """All names and functions in one line."""
    return ", ".join((*NAMES, *(f"{name}(TOKEN)" for name in FUNCTIONS)))
