"""Group beam search: traced as untraced, and the records rebuild what ``generate()`` returns."""

from __future__ import annotations

import itertools
import pkgutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hooks.decoding.test_beam_search import assert_same, path
from tests.hooks.test_unchanged import attributes
from tests.support.decoding import GROUPS, fail_in_pass, search
from tests.support.models import EOS, VOCAB, CollectedRun, batch, collected, tiny_model
from tracer import open_trace, trace
from tracer.errors import UsageError
from tracer.schema.beams import Hypothesis
from tracer.schema.step import Step
from tracer.tracefile.reading.wholeness import Wholeness

pytestmark = pytest.mark.reference_only


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("mode", GROUPS)
@pytest.mark.parametrize("name", ["qwen2", "llama", "gpt2"])
def test_a_traced_search_is_the_untraced_one(name: str, mode: str, rows: int) -> None:
    model, inputs = tiny_model(name), batch(rows)
    untraced = search(model, inputs, **GROUPS[mode])
    before = attributes(model)
    with collected(model, level="tensors", save=("logits", "kv")) as run:
        assert_same(search(model, inputs, **GROUPS[mode]), untraced)
    assert attributes(model) == before
    assert run.problems() == []
    assert run.header.loop == "_group_beam_search"
    assert len(run.steps) == len(untraced.scores)
    for step, saved, logits, processed in zip(
        run.steps, run.saved, untraced.logits, untraced.scores, strict=True
    ):
        assert {check.name for check in step.head.checks if check.held} >= {"beams", "cache", "positions"}
        assert torch.equal(saved["logits"], logits.log_softmax(dim=-1))
        assert step.scores is not None
        tokens = torch.from_numpy(step.scores.tokens).long()
        parents = list(step.parents)
        for stage, whole in ((0, logits.log_softmax(dim=-1)), (-1, processed)):
            own = whole[parents].gather(1, tokens.clamp(0))
            assert torch.equal(torch.from_numpy(step.scores.scores[stage])[tokens >= 0], own[tokens >= 0])


def indices(run: CollectedRun) -> dict[tuple[int, int], list[int]]:
    """``beam_indices`` of each hypothesis, as ``_group_beam_search`` puts them together.

    It numbers the rows of each group by themselves, and looks for those of a hypothesis that has ended among
    all groups, where it finds those of the first.
    """
    end, first = run.ends[0].beams, run.steps[0].head.beams
    assert end is not None
    assert first is not None
    size, groups, batch_rows = first.beams, first.groups, len(end.rows)
    paths: list[list[tuple[int, ...]]] = [[()] * (batch_rows * size) for _ in range(groups)]
    found = {}
    for step in run.steps:
        for group in range(groups):
            rows = [row for row in range(step.rows) if row // size % groups == group]
            flat = [each for paths_of in paths for each in paths_of]
            for number, each in _ended(end.rows, step.number):
                if each.row // size % groups == group:
                    own = each.row // (size * groups) * size + each.row % size
                    found[each.row // (size * groups), number] = [*flat[own], own]
            parents = [step.parents[row] // (size * groups) * size + step.parents[row] % size for row in rows]
            paths[group] = [(*paths[group][parent], parent) for parent in parents]
    flat = [each for paths_of in paths for each in paths_of]
    for place, row in enumerate(end.rows):
        found |= {(place, each.number): [*flat[each.row]] for each in row.hypotheses if each.token is None}
    return found


def _ended(rows: Any, number: int) -> list[tuple[int, Hypothesis]]:
    return [
        (each.number, each)
        for each in itertools.chain(*(row.hypotheses for row in rows))
        if each.step == number and each.token is not None
    ]


def taken_before(step: Step, parent: int, token: int) -> tuple[int, ...]:
    """Rows of earlier groups of the same row of the batch that go on with a token."""
    beams = step.head.beams
    assert beams is not None
    mine = beams.place(parent)
    earlier = [row for row in range(step.rows) if beams.place(row) < mine and beams.place(row)[0] == mine[0]]
    return tuple(row for row in earlier if step.choice(row).token == token)  # type: ignore[union-attr]


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_the_records_rebuild_what_is_returned(data: st.DataObject) -> None:
    model, rows = tiny_model(seed=data.draw(st.integers(0, 3))), data.draw(st.sampled_from([1, 3]))
    groups, size = data.draw(st.integers(2, 3)), data.draw(st.integers(1, 2))
    ends = data.draw(st.integers(0, 60))
    strength = data.draw(st.sampled_from([0.1, 1.0, 5.0]))
    arguments: dict[str, Any] = {
        "num_beams": groups * size,
        "num_beam_groups": groups,
        "diversity_penalty": strength,
        "num_return_sequences": data.draw(st.integers(1, groups * size)),
        "do_sample": False,
        "length_penalty": data.draw(st.sampled_from([-1.0, 0.0, 1.0, 2.0])),
        "early_stopping": data.draw(st.sampled_from([True, False, "never"])),
        "eos_token_id": [EOS, *range(VOCAB - 2, VOCAB - 2 - ends, -1)],
        "max_new_tokens": data.draw(st.integers(1, 6)),
    }
    inputs = batch(rows)
    with collected(model) as run:
        found = search(model, inputs, **arguments)
    assert run.problems() == []
    end = run.ends[0].beams
    assert end is not None
    assert (end.beams, end.groups, len(end.rows)) == (groups * size, groups, rows)
    returned = [
        (place, row.hypotheses[number]) for place, row in enumerate(end.rows) for number in row.returned
    ]
    values = [each.value for _, each in returned]
    assert values == pytest.approx(found.sequences_scores.tolist(), rel=1e-6)
    length, expected = inputs["input_ids"].shape[1], indices(run)
    for place, (row, hypothesis) in enumerate(returned):
        tokens, before, steps = path(run, hypothesis)
        assert [each for each in found.beam_indices[place].tolist() if each >= 0] == expected[
            row, hypothesis.number
        ]
        known = tokens if hypothesis.token is None else tokens[:-1]
        assert found.sequences[place, length:].tolist()[: len(known)] == known
        total = 0.0
        for step, token, parent in zip(steps, tokens, before, strict=True):
            beams = run.steps[step].head.beams
            assert beams is not None
            (same,) = [
                each
                for each in beams.rows[parent // beams.beams].continuations
                if (each.parent, each.token) == (parent, token)
            ]
            assert same.log_probability == pytest.approx(float(found.scores[step][parent, token]), abs=1e-6)
            taken = taken_before(run.steps[step], parent, token)
            assert same.taken_by == taken
            assert same.penalty == pytest.approx(strength * len(taken), abs=1e-4)
            total += same.log_probability or 0.0
        assert total == pytest.approx(hypothesis.total, abs=1e-4)
    whole = Wholeness(run.header, run.ends[0])
    for step_record in run.steps:
        whole.add(step_record)
    assert whole.gaps() == ()


def failed_checks(run: CollectedRun) -> list[str]:
    return [check.name for step in run.steps for check in step.head.checks if check.failed]


@pytest.mark.parametrize("what", ["next_beam_scores", "next_beam_tokens", "next_beam_indices"])
@pytest.mark.parametrize("group", [0, 1])
def test_another_decision_than_the_rules_lead_to_is_seen(
    what: str, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import BeamSearchScorer  # other releases have none

    process = BeamSearchScorer.process

    def other(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = process(self, *args, **kwargs)
        if kwargs["group_index"] == group:
            result[what] = result[what].flip(0)
        return result

    monkeypatch.setattr(BeamSearchScorer, "process", other)
    model = tiny_model()
    with collected(model) as run:
        search(model, batch(), **GROUPS["two"], max_new_tokens=3)
    assert "beams" in failed_checks(run)
    wrong = {each.message for step in run.steps for each in step.head.violations if each.check == "beams"}
    assert any(f"group {group}:" in message for message in wrong)


def test_a_penalty_that_is_not_due_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.generation.logits_process import HammingDiversityLogitsProcessor as Diversity

    call = Diversity.__call__

    def other(self: Any, input_ids: Any, scores: Any, current_tokens: Any, beam_group_idx: int) -> Any:
        return call(self, input_ids, scores, current_tokens, beam_group_idx) - 0.25 * beam_group_idx

    monkeypatch.setattr(Diversity, "__call__", other)
    model = tiny_model()
    with collected(model) as run:
        search(model, batch(), **GROUPS["two"], max_new_tokens=3)
    wrong = {each.row for step in run.steps for each in step.head.violations if each.check == "beams"}
    assert wrong == {2}  # the first row of the second group


def test_slots_that_went_to_a_wrong_row_are_seen() -> None:
    model = tiny_model()
    reorder = model._temporary_reorder_cache
    model._temporary_reorder_cache = lambda cache, rows: reorder(cache, rows.flip(0))
    with collected(model) as run:
        search(model, batch(3), **GROUPS["two"])
    assert "cache" in failed_checks(run)


def test_a_search_that_fails_is_kept_as_far_as_it_went(tmp_path: Path) -> None:
    model = tiny_model()
    fail_in_pass(model, 3)
    with pytest.raises(RuntimeError, match="no more"), trace(model, path=tmp_path / "t"):
        search(model, batch(3), **GROUPS["two"])
    with open_trace(tmp_path / "t") as recording:
        assert [step.head.beams is None for step in recording.steps] == [False, False, True]


def test_a_processor_that_fails_for_a_later_group_leaves_what_there_is(tmp_path: Path) -> None:
    model = tiny_model()

    calls = itertools.count(1)

    def failing(_: Any, scores: torch.Tensor) -> torch.Tensor:
        if next(calls) == 4:
            raise RuntimeError("no more")
        return scores

    with pytest.raises(RuntimeError, match="no more"), trace(model, path=tmp_path / "t"):
        search(model, batch(), **GROUPS["two"], logits_processor=[failing])
    with open_trace(tmp_path / "t") as recording:
        last = recording.steps[-1]
        assert (last.number, last.head.beams, last.head.failure is None) == (2, None, False)
        assert last.head.errors == ()


def test_questions_that_a_row_cannot_answer_alone_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    with trace(model, path=tmp_path / "t"):
        search(model, batch(), **GROUPS["two"])
    with open_trace(tmp_path / "t") as recording, pytest.raises(UsageError, match="group beam search"):
        recording.whatif(temperature=0.5)


@pytest.mark.parametrize(
    "changed", [{"num_beams": 5}, {"do_sample": True}, {"diversity_penalty": 0.0}], ids=str
)
def test_impossible_settings_are_the_librarys_own_error(changed: dict[str, Any]) -> None:
    model = tiny_model()
    with collected(model) as run, pytest.raises(ValueError, match="group beam search"):
        search(model, batch(), **{**GROUPS["two"], **changed})
    assert run.headers == []


@pytest.mark.parametrize(
    "where", ["hooks.decoding.beam_book.Book.step", "hooks.scores.stages.GroupStages.put_group"]
)
def test_a_fault_of_the_watch_costs_the_records_alone(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = tiny_model(), batch(3)
    untraced = search(model, inputs, **GROUPS["two"])
    calls = itertools.count(1)
    owner, _, name = where.rpartition(".")
    original = getattr(pkgutil.resolve_name(owner), name)

    def failing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 9:
            raise KeyError("ours")
        return original(*args, **kwargs)

    monkeypatch.setattr(where, failing)
    with collected(model) as run:
        assert_same(search(model, inputs, **GROUPS["two"]), untraced)
    assert failed_checks(run) == []
    faults = [[error.message for error in step.head.errors] for step in run.steps]
    assert any("KeyError" in message for messages in faults for message in messages)
    assert len(run.steps) == len(untraced.scores)
    first = next(place for place, messages in enumerate(faults) if messages)
    for step in run.steps[:first]:
        assert step.head.beams is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_penalty_rounded_to_half_precision_is_the_one_that_is_due(dtype: torch.dtype) -> None:
    model = tiny_model("gpt2").to(dtype)  # which leaves its logits in it
    with collected(model) as run:
        search(model, batch(3), **GROUPS["two"])
    assert run.problems() == []
