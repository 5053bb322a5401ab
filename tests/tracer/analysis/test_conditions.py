"""Conditions hold when they should, say why, and refuse everything that is not the language."""

from __future__ import annotations

import builtins
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.reports.records import header, steps, texts, with_head
from tests.support.models import SAMPLING, batch
from tests.tracer.analysis.runs import real_run
from tracer.analysis.conditions.condition import Condition, find_hits, parse_condition, value_of
from tracer.analysis.conditions.names import FUNCTIONS, NAMES
from tracer.analysis.conditions.step_row import StepRow
from tracer.errors import UsageError
from tracer.schema.changes import Intervention
from tracer.schema.checks import Check, Violation
from tracer.schema.faults import CaptureError
from tracer.schema.run import RunHeader
from tracer.schema.step import Step

RUN = header()
STEPS = steps(RUN, 3)
# The synthetic step n chooses token 10 + n over token 40 + n.
TOKENS = texts((11, " Large"), (41, "A"), (12, "Large"), (13, "\n"), (42, " large"), (500, "never"))


def holds(text: str, step: Step = STEPS[0], run: RunHeader = RUN) -> bool:
    return parse_condition(text).holds(step, run, TOKENS)


def refused(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_condition(text)
    message = str(caught.value)
    assert "\n" not in message
    assert "character " in message
    return message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p_chosen < 0.3", False),
        ("p_chosen > 0.8 and p < 0.81", True),
        ("0.8 < p_chosen <= 0.81", True),
        ("not p_chosen > 0.8", False),
        ("rank == 1", True),
        ("rank == 1 and raw_rank == 1 and candidates == 2", True),
        ("entropy > 4", False),
        ("raw_entropy < 0.9", True),
        ("raw_entropy < entropy or step == 1", True),
        ("step == 12", False),
        ("step in (1, 12)", True),
        ("step not in [1, 12]", False),
        ("prefill", True),
        ("length == 29 and new_tokens == 29 and cache_length == 29", True),
        ("cache_bytes == 28 * 2 * 4 * 128 * 29 * 2", True),
        ('token == "Large"', True),
        ('"Large" == token', True),
        ('token == " Large"', True),
        ('token == "large"', False),
        ('token == "Large "', False),
        ('token != "A"', True),
        ("token == 11", True),
        ('token in ("A", "Large")', True),
        ("token in (12, 11)", True),
        ("token_id == 11", True),
        ('text == "Large"', False),
        ('text == " Large"', True),
        ('"arg" in text', True),
        ('"arg" in token', True),
        ('"arg" not in text', False),
        ('runner_up == "A"', True),
        ("top == token and top != runner_up", True),
        ("p_top - p_runner_up == margin", True),
        ("margin > 0.61 and margin < 0.62", True),
        ("logit == 25.125 and score > 35", True),
        ('candidate(" Large")', True),
        ('candidate("A") and not candidate(40)', True),
        ('probability("A") > 0.19', True),
        ("probability(40) == 0", True),
        ('raw_logit("A") == 24.125', True),
        ('removed("Large")', True),
        ('removed(" Large")', False),
        ('removed("A")', False),
        ("removed(40)", True),
        ("removed_count > 2000 and mass_removed < 0.5", True),
        ("row == 0 and rows == 1 and run == 1", True),
        ("seconds == 0.25 and forward_seconds < seconds", True),
        ("largest > 1 and largest < 100", True),
        ("ended or ends", False),
        ("nonfinite or violation or cache_violation or position_violation", False),
        ("capture_error or intervention", False),
        ("step % 2 == 1 and step // 2 == 0 and -step == -1 and +step / 1 == 1", True),
        ("True", True),
        ("nonfinite == False", True),
    ],
)
def test_on_the_first_synthetic_step(text: str, expected: bool) -> None:
    assert holds(text) is expected


ONE_LOOP_ONLY = {
    *("beam_score", "group", "penalty_paid", "constraints_met"),
    *("proposed", "accepted", "similarity", "ranking_margin"),
}
"""Numbers that steps of one decoding loop have."""


def test_every_name_has_a_value_and_stands_in_some_condition() -> None:
    for name, known in NAMES.items():
        written = {"truth": name, "number": f"{name} > -9e15", "text": f'{name} != ""'}.get(known.kind)
        condition = parse_condition(written or f"{name} != 5000")
        hit = condition.find(STEPS[0], RUN, TOKENS)
        assert hit is not None or known.kind == "truth" or name in ONE_LOOP_ONLY, name
        assert known.value is not None
        assert known.meaning
    assert set(FUNCTIONS) == {"removed", "candidate", "probability", "raw_logit"}


def test_a_violation_is_told_apart_by_check_and_row() -> None:
    run = header(rows=2)
    step = with_head(steps(run, 1)[0], violations=(Violation(check="cache", message="slot 3", row=1),))
    hit = parse_condition("cache_violation").find(step, run, TOKENS)
    assert hit is not None
    assert hit.row == 1
    assert hit.reason == "cache_violation is true"
    assert str(hit) == "cache_violation holds in step 1, row 1: cache_violation is true"
    assert holds("violation", step, run)
    assert not holds("position_violation or nonfinite", step, run)
    assert not holds("cache_violation and row == 0", step, run)


def test_nonfinite_in_its_first_step_and_in_later_ones() -> None:
    check = Check.made("finite", holds=False, checked=3, total=3)
    first = with_head(STEPS[0], checks=(check,), violations=(Violation(check="finite", message="m"),))
    later = with_head(STEPS[1], checks=(check,))
    assert holds("nonfinite", first)
    assert holds("nonfinite", later)
    assert not holds("nonfinite")


def test_faults_and_interventions() -> None:
    step = with_head(
        STEPS[0],
        errors=(CaptureError(stop="layers", message="m"),),
        interventions=(Intervention(kind="ban", detail="ban Large"),),
    )
    assert holds("capture_error and intervention", step)


def test_unknown_values_never_make_a_condition_hold() -> None:
    bare = replace(STEPS[0], scores=None, modules=None)
    for text in ("p_chosen < 2", "not p_chosen < 2", "p_chosen >= 0 or p_chosen < 0", "largest > -1"):
        assert not holds(text, bare), text
    for text in ('removed("A")', 'not removed("A")', 'token != "A"', 'token not in ("A", 3)', "not ended"):
        assert not holds(text, bare), text
    assert holds("step == 1 or p_chosen < 2", bare)
    assert not holds("step == 2 and p_chosen < 2", bare)
    assert not holds("1 / (step - 1) > 0 or not 1 % (step - 1) > 0")
    # A token whose text the recording has never seen is neither removed nor not removed.
    assert not holds('removed("unheard of")')
    assert not holds('not removed("unheard of")')
    assert not holds("removed(5000) or not removed(5000) or not candidate(9999)")


def test_texts_that_become_known_later_are_found() -> None:
    condition, tokens = parse_condition('removed("forty")'), dict(TOKENS)
    assert not condition.holds(STEPS[0], RUN, tokens)
    tokens.update(texts((40, " forty")))
    assert condition.holds(STEPS[0], RUN, tokens)


def test_a_row_that_had_ended_is_left_out() -> None:
    run = header(rows=2)
    step = steps(run, 2)[1]
    assert step.scores is not None
    ended = replace(step, scores=replace(step.scores, finished=np.array([True, False])))
    hit = parse_condition("p_chosen > 0.5").find(ended, run, TOKENS)
    assert hit is not None
    assert hit.row == 1
    over = replace(step, scores=replace(step.scores, finished=np.array([True, True])))
    assert not holds("p_chosen > 0.5 or not p_chosen > 0.5", over, run)
    assert holds("ended and step == 2", ended, run)


def test_the_reason_names_the_values() -> None:
    hit = parse_condition('p_chosen > 0.3 and token == "Large"').find(STEPS[0], RUN, TOKENS)
    assert hit is not None
    assert hit.row is None
    assert hit.reason == "p_chosen is 0.8067, token is ' Large' (11)"
    hits = find_hits([parse_condition("step == 1"), parse_condition("nonfinite")], STEPS[0], RUN, TOKENS)
    assert [hit.reason for hit in hits] == ["step is 1"]


def test_a_real_run_agrees_with_its_own_record() -> None:
    run = real_run(inputs=batch(3), max_new_tokens=20, **SAMPLING)
    condition = parse_condition("p_chosen < 0.4 and rank > 1")
    found = 0
    for step in run.steps:
        expected = [
            row
            for row in range(step.rows)
            if (choice := step.choice(row))
            and choice.probability < 0.4
            and choice.rank > 1
            and not choice.padding
        ]
        hit = condition.find(step, run.header, run.tokens)
        assert (hit.row if hit else None) == (expected[0] if expected else None)
        found += hit is not None
        for row in range(step.rows):
            scores = step.scores
            assert scores is not None
            if scores.finished[row]:
                continue
            final = set(np.flatnonzero(run.tensor(step.number, "logits")[row] > -math.inf).tolist())
            kept = {each.token for each in step.candidates_of(row)}
            gone = next(iter(final - kept))
            assert parse_condition(f"removed({gone}) and row == {row}").holds(step, run.header, {})
            assert not parse_condition(f"removed({next(iter(kept))}) and row == {row}").holds(
                step, run.header, {}
            )
    assert 0 < found < len(run.steps)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ("p_chosn < 0.3", ["character 1:", "did you mean p_chosen?", "entropy", "removed(TOKEN)"]),
        ("step == 1 and stpe == 2", ["character 15:", "did you mean step?"]),
        ("p_chosen", ["number", "compare"]),
        ("step = 12", ["character 6:", "use == to compare"]),
        ("step == 1 && nonfinite", ["`and`"]),
        ("step == 1 || nonfinite", ["`or`"]),
        ("!nonfinite", ["`not`"]),
        ("token < 3", ["no order"]),
        ("step == 'a'", ["a number never equals a text"]),
        ("token == p_chosen", ["a token is compared with"]),
        ("token == True", ["a token is compared with"]),
        ("nonfinite < 3", ["yes-or-no value"]),
        ("not step", ["compare"]),
        ("step and nonfinite", ["character 1:", "compare"]),
        ("step in 3", ["list or a text"]),
        ("step in ()", ["empty"]),
        ("(1, 2) == step", ["a list can only follow `in`"]),
        ("step in (1, 2) in (3, 4)", ["cannot be followed"]),
        ("step is 3", ["use == to compare"]),
        ("removed", ['removed("Large")']),
        ("removed()", ["one token"]),
        ("removed(step)", ["one token"]),
        ("removed(token='a')", ["one token"]),
        ("removed('a', 'b')", ["one token"]),
        ("removed(True)", ["one token"]),
        ("step('a')", ["without parentheses"]),
        ("step ** 9 > 1", ["operator"]),
        ("~step == 1", ["operator"]),
        ("step + 'a' == 3", ["not a number"]),
        ("(step == 1", ["never closed"]),
        ("é == 1 and ü == 2", ["character 1:", "unknown name é"]),
        ("nonfinite and 'ü' == text and oops", ["character 31:", "unknown name oops"]),
        ("1e999 > step", ["too large"]),
        (f"step == {10**40}", ["too large"]),
        ("x" * 501, ["longer than 500"]),
    ],
)
def test_refusals_say_what_and_where(text: str, words: list[str]) -> None:
    message = refused(text)
    for word in words:
        assert word in message


HOSTILE = [
    "__import__('os').system('id')",
    "().__class__.__bases__[0].__subclasses__()",
    "token.__class__ == 1",
    "open('/etc/passwd')",
    "eval('1')",
    "(lambda: 1)() == 1",
    "[x for x in (1, 2)] == step",
    "{step for step in (1,)} == step",
    "step if nonfinite else step",
    "(step := 3) == 3",
    "f'{step}' == text",
    "b'a' == text",
    "... == step",
    "None == step",
    "1j == step",
    "text[0] == 'a'",
    "removed(*('a',))",
    "removed(**{})",
    "step @ step == 1",
    "step << 60 > 1",
    "await step",
    "yield",
    "*step",
    "'%s' % step == text",
    "'a' * 9 == text",
    "import os",
    "step; nonfinite",
    "\0",
    "\ud800 == 1",
    "not " * 100 + "nonfinite",
    "(" * 250 + "nonfinite" + ")" * 249,
    "-" * 480 + "1 > 0",
    "[" * 200,
    " and ".join(["nonfinite"] * 49) + " and x",
    "step" + "+1" * 200 + " > 0",
    "1 < " * 100 + "2",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_refused(text: str) -> None:
    refused(text)


def test_nothing_is_ever_run_as_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_args: object, **_kwargs: object) -> Any:
        raise AssertionError("a condition was run")

    condition = parse_condition('p_chosen > 0.3 and token == "Large"')
    monkeypatch.setattr(builtins, "eval", forbidden)
    monkeypatch.setattr(builtins, "exec", forbidden)
    assert condition.holds(STEPS[0], RUN, TOKENS)


SIGNS = (
    "( ) [ ] , < > = . + - * / % ' \" ! & | : 0 1 == <= != in not and or is if 0.3 __class__ lambda \\x00 é"
)
pieces = st.sampled_from([*NAMES, *FUNCTIONS, *SIGNS.split(), " ", "'Large'", '("Large")'])


@given(st.one_of(st.text(max_size=60), st.lists(pieces, max_size=14).map(" ".join)))
@example("step == 1")
def test_any_text_is_parsed_or_refused_and_then_always_answers(text: str) -> None:
    try:
        condition = parse_condition(text)
    except UsageError:
        refused(text)
        return
    assert isinstance(condition, Condition)
    for step in (STEPS[0], replace(STEPS[1], scores=None, modules=None)):
        assert condition.holds(step, RUN, TOKENS) in (True, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("step", "1"),
        ("step * 2 + 1", "3"),
        ("step == 1", "true"),
        ("violation", "false"),
        ("text", repr(TOKENS[11].text)),
        ("raw_logit(41)", "24.125"),
        ("raw_logit(40)", "unknown"),
    ],
)
def test_parts_of_a_condition_have_values_of_their_own(text: str, expected: str) -> None:
    assert value_of(text, StepRow(STEPS[0], RUN, TOKENS, 0)) == expected


def test_a_value_has_the_digits_of_its_float32() -> None:
    shown = value_of("p_chosen", StepRow(STEPS[0], RUN, TOKENS, 0))
    assert STEPS[0].scores is not None
    assert np.float32(shown) == STEPS[0].scores.chosen_probability[0]


def test_names_for_numbers_can_be_added() -> None:
    condition = parse_condition("hits > 2 and step == 1", {"hits": 3})
    assert condition.holds(STEPS[0], RUN, TOKENS)
    assert not parse_condition("hits > 2", {"hits": 2}).holds(STEPS[0], RUN, TOKENS)
    with pytest.raises(UsageError, match="did you mean hits"):
        parse_condition("hit > 2", {"hits": 3})
    assert "unknown name hits" in refused("hits > 2")


numbers = st.sampled_from(["p_chosen", "step", "entropy", "rank", "0.5", "1", "2", "margin"])
comparisons = st.builds(
    lambda left, sign, right: f"{left} {sign} {right}",
    numbers,
    st.sampled_from(["<", "<=", "==", "!=", ">"]),
    numbers,
)
formulas = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(lambda part: f"not ({part})", inner),
        st.builds(
            lambda one, word, two: f"({one}) {word} ({two})", inner, st.sampled_from(["and", "or"]), inner
        ),
    ),
    max_leaves=6,
)


@given(formulas)
def test_logic_agrees_with_python(text: str) -> None:
    step = STEPS[1]
    choice = step.choice()
    assert choice is not None
    assert step.scores is not None
    best, second = step.candidates[:2]
    values = {
        "p_chosen": choice.probability,
        "step": 2,
        "entropy": float(step.scores.entropy[-1, 0]),
        "rank": 1,
        "margin": best.probability - second.probability,
    }
    assert holds(text, step) is bool(eval(text, {"__builtins__": {}}, values))


def test_a_check_that_was_not_made_is_told_apart_from_one_that_fails() -> None:
    step = with_head(STEPS[0], checks=(Check.not_made("cache", "it is a recurrent state"),))
    assert holds("unchecked", step)
    assert not holds("violation or cache_violation", step)
    assert not holds(
        "unchecked", with_head(step, checks=(Check.made("cache", holds=False, checked=1, total=1),))
    )
