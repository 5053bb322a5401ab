"""The names and questions of the condition language, with their meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tracer.analysis.conditions.step_row import StepRow, Token, TokenQuery

Kind = Literal["number", "text", "token", "truth"]


@dataclass(frozen=True)
class Name:
    """A name that stands for a value of a step's record.

    Attributes:
        kind: what it can be compared with.
        meaning: for people.
        value: reads it; None where the record has no such value.
        per_row: whether rows of a batch differ in it.
    """

    kind: Kind
    meaning: str
    value: Callable[[StepRow], Any]
    per_row: bool = True


@dataclass(frozen=True)
class Question:
    """A function of one token, given by text or id.

    Attributes:
        kind: kind of the answer.
        meaning: for people.
        answer: answers it; None where the record does not tell.
    """

    kind: Kind
    meaning: str
    answer: Callable[[StepRow, TokenQuery], Any]


def _of_choice(attribute: str) -> Callable[[StepRow], Any]:
    return lambda facts: None if facts.choice is None else getattr(facts.choice, attribute)


def _of_scores(read: Callable[[Any, int], Any]) -> Callable[[StepRow], Any]:
    return lambda facts: None if facts.scores is None else read(facts.scores, facts.row)


def _chance(found: tuple[int, float] | None) -> float:
    return 0.0 if found is None else found[1]


def _token(facts: StepRow, found: tuple[int, float] | None) -> Token | None:
    return None if found is None else facts.token(found[0])


NAMES: dict[str, Name] = {
    "token": Name(
        "token", 'the chosen token: compare it with a text (`token == "Large"`) or an id', lambda f: f.chosen
    ),
    "token_id": Name("number", "its id", _of_choice("token")),
    "text": Name("text", "its exact text, spaces included", lambda f: f.chosen and f.chosen.text),
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
    "top": Name("token", "the most probable token", lambda f: _token(f, f.placed(0))),
    "p_top": Name("number", "its probability", lambda f: f.scores and _chance(f.placed(0))),
    "runner_up": Name(
        "token", "the most probable token that was not chosen", lambda f: _token(f, f.runner_up)
    ),
    "p_runner_up": Name(
        "number", "its probability, 0 without one", lambda f: f.scores and _chance(f.runner_up)
    ),
    "margin": Name(
        "number", "probability of the most probable token less that of the second", lambda f: f.margin
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
    "ended": Name("truth", "the row had ended before this step", lambda f: f.ended),
    "ends": Name("truth", "the row ends in this step", lambda f: f.ends),
    "row": Name("number", "row of the batch, from 0", lambda f: f.row),
    "rows": Name("number", "rows of the batch", lambda f: f.step.rows, per_row=False),
    "step": Name("number", "number of the step, from 1", lambda f: f.step.number, per_row=False),
    "run": Name("number", "number of the run, from 1", lambda f: f.step.head.run, per_row=False),
    "prefill": Name("truth", "step 1, the whole prompt", lambda f: f.step.number == 1, per_row=False),
    "length": Name(
        "number",
        "tokens of the row before the step, padding included",
        lambda f: f.step.head.inputs.sequence_length,
        per_row=False,
    ),
    "new_tokens": Name(
        "number",
        "how many of them the model has not seen before",
        lambda f: f.step.head.inputs.sequence_length - f.step.head.inputs.new_start,
        per_row=False,
    ),
    "cache_length": Name(
        "number",
        "slots of the KV cache after the step",
        lambda f: f.step.head.cache_after.length,
        per_row=False,
    ),
    "cache_bytes": Name(
        "number",
        "bytes of the KV cache after the step",
        lambda f: f.step.head.cache_after.nbytes,
        per_row=False,
    ),
    "seconds": Name("number", "duration of the step", lambda f: f.step.head.seconds, per_row=False),
    "forward_seconds": Name(
        "number", "duration of its forward pass", lambda f: f.step.head.forward_seconds, per_row=False
    ),
    "largest": Name("number", "largest magnitude in any module's output", lambda f: f.largest, per_row=False),
    "nonfinite": Name("truth", "a module returned NaN or infinite values", lambda f: f.nonfinite),
    "cache_violation": Name(
        "truth",
        "an old cache slot changed, or other than the new ones were added",
        lambda f: f.violated("cache"),
    ),
    "position_violation": Name(
        "truth", "positions, mask and cache length disagree", lambda f: f.violated("positions")
    ),
    "violation": Name("truth", "any check did not hold", lambda f: f.violated()),
    "capture_error": Name(
        "truth", "something could not be recorded", lambda f: bool(f.step.head.errors), per_row=False
    ),
    "intervention": Name(
        "truth", "the user changed something", lambda f: bool(f.step.head.interventions), per_row=False
    ),
}
"""All names, in the order in which people read about them."""

QUESTIONS: dict[str, Question] = {
    "removed": Question(
        "truth",
        "a processor or warper removed this token",
        lambda facts, token: facts.removed(token),
    ),
    "candidate": Question(
        "truth", "this token could have been chosen", lambda facts, token: facts.candidate(token)
    ),
    "probability": Question("number", "its probability", lambda facts, token: facts.probability(token)),
    "raw_logit": Question("number", "its raw logit", lambda facts, token: facts.raw_logit(token)),
}
"""All functions; each takes one token, by text or id."""


def known_names() -> str:
    """All names and questions in one line."""
    return ", ".join((*NAMES, *(f"{name}(TOKEN)" for name in QUESTIONS)))
