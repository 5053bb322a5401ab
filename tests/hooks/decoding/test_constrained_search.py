"""Constrained beam search: traced as untraced, constraints are asked no more, and the records hold."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.decoding.constraint_rules import ConstraintStates
from hooks.decoding.constraint_states import bank_of, constraint_record, progress
from tests.hooks.decoding.test_beam_search import assert_same, path
from tests.hooks.test_unchanged import attributes
from tests.support.decoding import CONSTRAINED, fail_in_pass, search
from tests.support.models import EOS, VOCAB, CollectedRun, batch, collected, tiny_model
from tracer import open_trace, trace
from tracer.errors import UsageError
from tracer.schema.beams import BeamStep
from tracer.tracefile.reading.wholeness import Wholeness

pytestmark = pytest.mark.reference_only


def constrained(model: Any, inputs: Any, **changed: Any) -> Any:
    """A constrained search; the library adds to the list of constraints that it is given."""
    given: dict[str, Any] = {**changed}
    if "constraints" in given:
        given["constraints"] = [*given["constraints"]]
    return search(model, inputs, **given)


def beams_of(run: CollectedRun) -> list[BeamStep]:
    found = [step.head.beams for step in run.steps]
    assert None not in found
    return [each for each in found if each is not None]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("mode", CONSTRAINED)
@pytest.mark.parametrize("name", ["qwen2", "llama", "gpt2"])
def test_a_traced_search_is_the_untraced_one(name: str, mode: str, rows: int) -> None:
    model, inputs = tiny_model(name), batch(rows)
    untraced = constrained(model, inputs, **CONSTRAINED[mode])
    before = attributes(model)
    with collected(model, level="tensors", save=("logits", "kv")) as run:
        assert_same(constrained(model, inputs, **CONSTRAINED[mode]), untraced)
    assert attributes(model) == before
    assert run.problems() == []
    assert run.header.loop == "_constrained_beam_search"
    assert len(run.steps) == len(untraced.scores)
    for step, saved, logits in zip(run.steps, run.saved, untraced.logits, strict=True):
        assert {check.name for check in step.head.checks if check.held} >= {
            "beams",
            "constraints",
            "cache",
            "positions",
        }
        assert torch.equal(saved["logits"], logits.log_softmax(dim=-1))


def states(ids: list[int], words: list[list[list[int]]]) -> list[tuple[str, tuple[int, ...]]]:
    """State and tokens so far of each constraint behind some ids, by going over them once.

    The first constraint that a token begins is in progress until it is met, or a token breaks it off.
    """
    met: dict[int, tuple[int, ...]] = {}
    begun: tuple[int, tuple[int, ...]] | None = None
    waiting = [*range(len(words))]
    for token in ids:
        tried = waiting if begun is None else [begun[0]]
        said = () if begun is None else begun[1]
        number = next((each for each in tried if _begins(words[each], (*said, token))), None)
        if begun is not None and number is None:
            waiting.append(begun[0])
        begun = None
        if number is not None:
            waiting = [each for each in waiting if each != number]
            if [*said, token] in words[number]:
                met[number] = (*said, token)
            else:
                begun = number, (*said, token)
    found = []
    for number in range(len(words)):
        if number in met:
            found.append(("met", met[number]))
        else:
            found.append(("in progress", begun[1]) if begun and begun[0] == number else ("open", ()))
    return found


def _begins(words: list[list[int]], said: tuple[int, ...]) -> bool:
    return any(tuple(word[: len(said)]) == said for word in words)


@settings(deadline=None, max_examples=12)
@given(st.data())
def test_the_records_rebuild_what_is_returned(data: st.DataObject) -> None:
    model, rows = tiny_model(seed=data.draw(st.integers(0, 3))), data.draw(st.sampled_from([1, 3]))
    beams, ends = data.draw(st.integers(2, 4)), data.draw(st.integers(0, 30))
    pool = st.integers(20, 40)
    # Of two alternatives the library loses count where one beam may go on with either: they have one token.
    words = data.draw(
        st.lists(
            st.one_of(
                st.lists(pool, min_size=1, max_size=2).map(lambda word: [word]),
                st.lists(pool, min_size=2, max_size=2, unique=True).map(lambda ids: [[each] for each in ids]),
            ),
            min_size=1,
            max_size=2,
        )
    )
    arguments = {
        "num_beams": beams,
        "do_sample": False,
        "force_words_ids": [each[0] if len(each) == 1 else each for each in words],
        "length_penalty": data.draw(st.sampled_from([0.0, 1.0, 2.0])),
        "early_stopping": data.draw(st.sampled_from([True, False, "never"])),
        "eos_token_id": [EOS, *range(VOCAB - 2, VOCAB - 2 - ends, -1)],
        "max_new_tokens": data.draw(st.integers(5, 7)),
    }
    inputs = batch(rows)
    try:
        untraced = constrained(model, inputs, **copy.deepcopy(arguments))
    except (RuntimeError, TypeError) as fault:
        # The library has no indices of a sequence that it takes although it does not meet its constraints.
        with collected(model) as run, pytest.raises(type(fault)):
            constrained(model, inputs, **copy.deepcopy(arguments))
        assert run.problems() == []
        return
    with collected(model) as run:
        found = constrained(model, inputs, **copy.deepcopy(arguments))
    assert torch.equal(found.sequences, untraced.sequences)
    assert run.problems() == []
    end = run.ends[0].beams
    assert end is not None
    returned = [row.hypotheses[number] for row in end.rows for number in row.returned]
    assert [each.value for each in returned] == pytest.approx(found.sequences_scores.tolist(), rel=1e-6)
    if found.beam_indices is None:
        assert any(each.unmet for each in returned)
        return
    sums = model.compute_transition_scores(found.sequences, found.scores, found.beam_indices)
    for place, hypothesis in enumerate(returned):
        tokens, before, steps = path(run, hypothesis)
        assert [row for row in found.beam_indices[place].tolist() if row >= 0] == before
        known = tokens if hypothesis.token is None else tokens[:-1]
        assert found.sequences[place, inputs["input_ids"].shape[1] :].tolist()[: len(known)] == known
        for step, token, parent in zip(steps, tokens, before, strict=True):
            continuations = beams_of(run)[step].rows[parent // beams].continuations
            *_, same = [each for each in continuations if (each.parent, each.token) == (parent, token)]
            if step < len(known):  # the library's scores are those of the beams, with all steps before
                assert same.score == pytest.approx(float(sums[place, step]), abs=1e-4)
    assert_states(run, inputs["input_ids"].tolist(), beams, words)
    whole = Wholeness(run.header, run.ends[0])
    for step_record in run.steps:
        whole.add(step_record)
    assert whole.gaps() == ()


def assert_states(run: CollectedRun, prompts: list[list[int]], beams: int, words: Any) -> None:
    """How far each beam has come is what going over its ids leads to."""
    ids = [[*prompt] for prompt in prompts for _ in range(beams)]
    for step in run.steps:
        found = step.head.beams
        assert found is not None
        assert found.constraints is not None
        chosen = [step.choice(row) for row in range(step.rows)]
        ids = [
            [*ids[parent], -1 if choice is None else choice.token]
            for parent, choice in zip(step.parents, chosen, strict=True)
        ]
        assert [list(map(list, each.words)) for each in found.constraints.constraints] == words
        for row, reached in enumerate(found.constraints.progress):
            if reached:
                assert [(each.status, each.so_far) for each in reached] == states(ids[row], words)


class Counted:
    """Makes constraints of one's own, and counts what is asked of them."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def constraint(self, token: int) -> Any:
        from transformers.generation.beam_constraints import Constraint  # other releases have none

        asked = self.asked

        class Own(Constraint):  # type: ignore[misc]
            def __init__(self, token: int) -> None:
                self.token, self.seqlen, self.completed = token, 1, False

            def advance(self) -> Any:
                asked.append("advance")
                return None if self.completed else self.token

            def does_advance(self, token_id: int) -> bool:
                asked.append(f"does_advance {token_id}")
                return token_id == self.token and not self.completed

            def update(self, token_id: int) -> Any:
                asked.append(f"update {token_id}")
                self.completed = token_id == self.token
                return self.completed, self.completed, not self.completed

            def reset(self) -> None:
                asked.append("reset")

            def remaining(self) -> int:
                asked.append("remaining")
                return 0 if self.completed else 1

            def copy(self, stateful: bool = False) -> Any:
                asked.append(f"copy {stateful}")
                new = Own(self.token)
                new.completed = self.completed and stateful
                return new

            def __repr__(self) -> str:
                asked.append("repr")
                return "Own"

        return Own(token)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_constraint_of_ones_own_is_asked_what_it_is_asked_untraced(rows: int) -> None:
    from transformers import PhrasalConstraint

    model, inputs, counted = tiny_model(), batch(rows), Counted()
    given = [counted.constraint(17), PhrasalConstraint([30, 31])]
    untraced = constrained(model, inputs, num_beams=3, constraints=given)
    asked, counted.asked[:] = [*counted.asked], []
    with collected(model) as run:
        assert_same(constrained(model, inputs, num_beams=3, constraints=given), untraced)
    assert run.problems() == []
    assert counted.asked == asked != []
    last = beams_of(run)[-1].constraints
    assert last is not None
    assert [(each.name, each.words) for each in last.constraints] == [
        ("Own", ()),
        ("PhrasalConstraint", ((30, 31),)),
    ]
    assert last.progress[0][0].status == "met"
    reasons = {
        check.reason for step in run.steps for check in step.head.checks if check.name == "constraints"
    }
    assert reasons == {"a constraint is of a class of one's own (Own), whose rules are not known"}
    assert run.header.generation_config["constraints"] == "[Own, PhrasalConstraint([30, 31])]"


def failed_checks(run: CollectedRun) -> list[str]:
    return [check.name for step in run.steps for check in step.head.checks if check.failed]


def _flipped(name: str) -> Callable[[Any], Any]:
    def change(result: Any) -> Any:
        result[name] = result[name].flip(0)
        return result

    return change


MUTATIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "scores": ("process", _flipped("next_beam_scores")),
    "tokens": ("process", _flipped("next_beam_tokens")),
    "parents": ("process", _flipped("next_beam_indices")),
    "arrangement": ("step_sentence_constraint", lambda found: tuple(each.flip(0) for each in found)),
    "met": ("check_completes_constraints", lambda met: not met),
}


@pytest.mark.parametrize("which", MUTATIONS)
def test_another_decision_than_the_rules_lead_to_is_seen(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import ConstrainedBeamSearchScorer

    name, change = MUTATIONS[which]
    original = getattr(ConstrainedBeamSearchScorer, name)
    monkeypatch.setattr(ConstrainedBeamSearchScorer, name, lambda *a, **k: change(original(*a, **k)))
    model = tiny_model()
    with collected(model) as run:
        model.generate(**batch(), **CONSTRAINED["ending"], max_new_tokens=4, pad_token_id=0)
    assert "beams" in failed_checks(run)


def test_a_bank_that_is_not_that_of_the_state_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.generation.beam_constraints import ConstraintListState

    monkeypatch.setattr(ConstraintListState, "get_bank", lambda self: len(self.pending_constraints))
    model = tiny_model()
    with collected(model) as run:
        constrained(model, batch(), **CONSTRAINED["phrase"], max_new_tokens=3)
    assert "beams" in failed_checks(run)


def one_less(advance: Any) -> Any:
    return lambda self: (advance(self) or [])[:-1]


def without_last(reset: Any) -> Any:
    return lambda self, ids: reset(self, ids[:-1])


def every_other(add: Any) -> Any:
    return lambda self, token: (False, False) if token % 2 else add(self, token)


def as_new(copy_state: Any) -> Any:
    return lambda self, **_: copy_state(self, stateful=False)


STATES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a token that advances left out": ("advance", one_less),
    "the last id passed over": ("reset", without_last),
    "a token passed over": ("add", every_other),
    "a copy without its state": ("copy", as_new),
}


@pytest.mark.parametrize("which", STATES)
def test_states_of_constraints_that_the_ids_do_not_lead_to_are_seen(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.generation.beam_constraints import ConstraintListState

    name, change = STATES[which]
    monkeypatch.setattr(ConstraintListState, name, change(getattr(ConstraintListState, name)))
    model = tiny_model()
    with collected(model) as run:
        constrained(model, batch(), **CONSTRAINED["two"], max_new_tokens=5)
    assert "constraints" in failed_checks(run)
    assert "beams" not in failed_checks(run)


@pytest.mark.parametrize("kind", ["PhrasalConstraint", "DisjunctiveConstraint"])
def test_a_constraint_that_goes_on_with_another_token_is_seen(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.generation import beam_constraints

    monkeypatch.setattr(getattr(beam_constraints, kind), "does_advance", lambda _, token: token == 50)
    model = tiny_model()
    with collected(model) as run:
        constrained(model, batch(3), **CONSTRAINED["two"], max_new_tokens=5)
    assert "constraints" in failed_checks(run)


def test_open_beams_that_are_wrongly_taken_to_meet_their_constraints_are_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import ConstrainedBeamSearchScorer

    finalize, check = ConstrainedBeamSearchScorer.finalize, "check_completes_constraints"

    def wrong(self: Any, *args: Any, **kwargs: Any) -> Any:
        original = getattr(self, check)
        setattr(self, check, lambda ids: not original(ids))
        return finalize(self, *args, **kwargs)

    monkeypatch.setattr(ConstrainedBeamSearchScorer, "finalize", wrong)
    model = tiny_model()
    with collected(model) as run:
        model.generate(**batch(), **CONSTRAINED["phrase"], max_new_tokens=5, pad_token_id=0)
    assert [check.failed for check in run.ends[0].checks] == [True]


words_of = st.lists(
    st.one_of(
        st.lists(st.integers(20, 24), min_size=1, max_size=3).map(lambda word: [word]),
        st.lists(
            st.lists(st.integers(20, 24), min_size=2, max_size=2), min_size=2, max_size=3, unique_by=tuple
        ),
    ),
    min_size=1,
    max_size=3,
)


@settings(deadline=None, max_examples=200)
@given(words=words_of, ids=st.lists(st.integers(20, 24), max_size=12))
def test_the_rules_lead_to_the_states_of_the_library(words: list[list[list[int]]], ids: list[int]) -> None:
    """Also where copies of an alternative in progress share its tokens."""
    from transformers import DisjunctiveConstraint, PhrasalConstraint
    from transformers.generation.beam_constraints import ConstraintListState

    wanted = [PhrasalConstraint(each[0]) if len(each) == 1 else DisjunctiveConstraint(each) for each in words]
    library = ConstraintListState([each.copy() for each in wanted])
    library.reset(ids)
    state = ConstraintStates(tuple(map(constraint_record, wanted))).of(ids)
    assert state.progress() == progress(library, wanted)
    assert state.complete == library.completed
    assert state.advancing() == tuple(library.advance() or ())
    copies = [library.copy(stateful=True) for _ in state.advancing()]
    for each, token in zip(copies, state.advancing(), strict=True):
        each.add(token)
    assert [each.progress() for each in state.advanced()] == [progress(each, wanted) for each in copies]


def test_what_ends_before_its_constraints_are_met_is_refused() -> None:
    model = tiny_model()
    with collected(model) as run:
        constrained(model, batch(), **CONSTRAINED["ending"])
    found = [each for beams in beams_of(run) for row in beams.rows for each in row.continuations]
    assert {each.fate for each in found} >= {"unmet", "displaced", "beam"}
    forced = [each for each in found if each.forced and each.row is not None]
    assert forced
    assert all(each.bank for each in forced)


def test_too_few_that_meet_their_constraints_are_said() -> None:
    model = tiny_model()
    with collected(model) as run:
        model.generate(
            **batch(), num_beams=3, force_words_ids=[[30, 31, 32]], max_new_tokens=2, pad_token_id=0
        )
    assert run.problems() == []
    end = run.ends[0].beams
    assert end is not None
    assert all(each.unmet for each in end.rows[0].hypotheses)


def test_a_search_that_fails_is_kept_as_far_as_it_went(tmp_path: Path) -> None:
    model = tiny_model()
    fail_in_pass(model, 3)
    with pytest.raises(RuntimeError, match="no more"), trace(model, path=tmp_path / "t"):
        constrained(model, batch(3), **CONSTRAINED["phrase"])
    with open_trace(tmp_path / "t") as recording:
        assert [step.head.beams is None for step in recording.steps] == [False, False, True]


def test_a_constraint_that_fails_fails_as_untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import ConstrainedBeamSearchScorer, PhrasalConstraint

    def fail(self: Any) -> Any:
        raise RuntimeError("no more")

    monkeypatch.setattr(PhrasalConstraint, "advance", fail)
    model = tiny_model()
    made: list[Any] = []
    init = ConstrainedBeamSearchScorer.__init__

    def noted(self: Any, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        init(self, *args, **kwargs)

    monkeypatch.setattr(ConstrainedBeamSearchScorer, "__init__", noted)
    with collected(model) as run, pytest.raises(RuntimeError, match="no more"):
        constrained(model, batch(), **CONSTRAINED["phrase"])
    assert run.ends[0].error is not None
    assert {"process", "check_completes_constraints", "step_sentence_constraint"}.isdisjoint(vars(made[0]))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"do_sample": True}, "constrained beam search"),
        ({"num_beams": 1}, "num_beams"),
        ({"force_words_ids": [[-3]]}, "positive integers"),
        ({"force_words_ids": [[]]}, "list index out of range"),
    ],
    ids=str,
)
def test_impossible_settings_are_the_librarys_own_error(changed: dict[str, Any], said: str) -> None:
    model = tiny_model()
    with collected(model) as run, pytest.raises((ValueError, IndexError), match=said):
        constrained(model, batch(), **{**CONSTRAINED["phrase"], **changed})
    assert run.headers == []


def test_questions_that_a_row_cannot_answer_alone_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    with trace(model, path=tmp_path / "t"):
        constrained(model, batch(), **CONSTRAINED["phrase"])
    with open_trace(tmp_path / "t") as recording, pytest.raises(UsageError, match="constrained beam search"):
        recording.whatif(temperature=0.5)


def test_a_fault_of_the_watch_costs_the_records_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = tiny_model(), batch(3)
    untraced = constrained(model, inputs, **CONSTRAINED["phrase"])
    calls = itertools.count(1)

    def failing(state: Any) -> int:
        if next(calls) == 9:
            raise KeyError("ours")
        return bank_of(state) or 0

    monkeypatch.setattr("hooks.decoding.constrained_search.bank_of", failing)
    with collected(model) as run:
        assert_same(constrained(model, inputs, **CONSTRAINED["phrase"]), untraced)
    assert failed_checks(run) == []
    assert [bool(step.head.errors) for step in run.steps] == [step.head.beams is None for step in run.steps]
    assert any("KeyError" in error.message for step in run.steps for error in step.head.errors)
    assert run.ends[0].beams is None
