"""Assisted decoding: traced as untraced, and the records rebuild what was accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import utils as library

from tests.hooks.test_unchanged import attributes
from tests.support.decoding import GREEDY, SAMPLING, assisted, drafted, fail_in_pass, prompt
from tests.support.models import EOS, VOCAB, CollectedRun, collected, tiny_model
from tracer import open_trace, trace
from tracer.errors import UsageError
from tracer.tracefile.reading.wholeness import Wholeness


def assert_same(traced: Any, untraced: Any) -> None:
    assert torch.equal(traced.sequences, untraced.sequences)
    for name in ("scores", "logits"):
        pairs = zip(getattr(traced, name), getattr(untraced, name), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("how", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
@pytest.mark.parametrize("proposer", ["draft", "itself", "lookup"])
@pytest.mark.parametrize("name", ["qwen2", "llama", "gpt2"])
def test_a_traced_run_is_the_untraced_one(name: str, proposer: str, how: dict[str, Any]) -> None:
    model = tiny_model(name)
    draft = drafted(model) if proposer == "draft" else model
    given = {"prompt_lookup_num_tokens": 3} if proposer == "lookup" else {"assistant_model": draft}
    untraced = assisted(model, prompt(), **given, **how)
    before = attributes(model), attributes(draft)
    with collected(model, level="tensors", save=("logits", "kv")) as run:
        assert_same(assisted(model, prompt(), **given, **how), untraced)
    assert (attributes(model), attributes(draft)) == before
    assert run.problems() == []
    assert run.header.loop == "_assisted_decoding"
    for step in run.steps:
        assert all(check.held for check in step.head.checks)
        assert {check.name for check in step.head.checks} >= {"assisted", "cache", "positions"}
    whole = Wholeness(run.header, run.ends[0])
    for step in run.steps:
        whole.add(step)
    assert whole.gaps() == ()


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_the_records_rebuild_the_run(data: st.DataObject) -> None:
    model = tiny_model(seed=data.draw(st.integers(0, 2)))
    draft = drafted(model, data.draw(st.sampled_from([0.0, 0.02, 0.2])))
    ids = data.draw(st.lists(st.integers(2, 12), min_size=3, max_size=12))
    arguments: dict[str, Any] = {
        **data.draw(st.sampled_from([GREEDY, SAMPLING])),
        **data.draw(st.sampled_from([{"assistant_model": draft}, {"prompt_lookup_num_tokens": 4}])),
        "max_new_tokens": data.draw(st.integers(1, 16)),
        "eos_token_id": [EOS, *range(VOCAB - 2, VOCAB - 2 - data.draw(st.integers(0, 40)), -1)],
    }
    with collected(model) as run:
        found = assisted(model, prompt(*ids), seed=data.draw(st.integers(0, 9)), **arguments)
    assert run.problems() == []
    tokens = [token for step in run.steps for token in step.appended()]
    assert found.sequences[0].tolist() == [*ids, *tokens]
    assert len(found.scores) == len(tokens)
    position = 0
    for step in run.steps:
        record = step.head.assisted
        assert record is not None
        assert step.head.ids_before.shape[1] == len(ids) + position
        final = [scores.softmax(dim=-1)[0] for scores in found.scores[position:]]
        for place, each in enumerate(record.proposals[: record.accepted]):
            assert each.target == pytest.approx(float(final[place][each.token]), abs=1e-6)
            assert each.accepted
        choice = step.choice()
        assert choice is not None
        position += len(record.appended)
        own = found.scores[position - 1].softmax(dim=-1)[0]
        assert choice.probability == pytest.approx(float(own[choice.token]), abs=1e-6)
        accepted = tuple(each.token for each in record.proposals[: record.accepted])
        assert record.appended[: record.accepted] == accepted
        assert len(record.appended) == record.accepted + record.own


@pytest.mark.reference_only
def test_slots_that_should_have_been_cropped_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    crop = library._crop_past_key_values

    def sloppy(owner: Any, cache: Any, length: int) -> Any:
        cropped = crop(owner, cache, length)
        if owner is model:
            cropped.key_cache[0][:, :, 0] += 1
        return cropped

    monkeypatch.setattr(library, "_crop_past_key_values", sloppy)
    with collected(model) as run:
        assisted(model, prompt(), assistant_model=drafted(model), **GREEDY)
    assert any(each.check == "cache" for step in run.steps for each in step.head.violations)


def test_another_acceptance_than_the_test_leads_to_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = library._speculative_sampling

    def other(*args: Any, **kwargs: Any) -> Any:
        valid, matches = sampling(*args, **kwargs)
        return (valid[:, :1], torch.zeros_like(matches)) if matches > 1 else (valid, matches)

    monkeypatch.setattr(library, "_speculative_sampling", other)
    model = tiny_model()
    with collected(model) as run:
        assisted(model, prompt(), assistant_model=model, **SAMPLING)
    assert any(each.check == "assisted" for step in run.steps for each in step.head.violations)


def summary(run: CollectedRun) -> list[tuple[int, int]]:
    found = [step.head.assisted for step in run.steps]
    return [(each.accepted, len(each.proposals)) for each in found if each is not None]


@pytest.mark.reference_only
def test_a_model_that_assists_itself_is_always_right() -> None:
    model = tiny_model()
    with collected(model) as run:
        assisted(model, prompt(), assistant_model=model, max_new_tokens=13, **GREEDY)
    assert summary(run) == [(5, 5), (6, 6)]
    assert [step.head.assisted.next_length for step in run.steps] == [7.0, 7.0 - 1]  # type: ignore[union-attr]


def test_prompt_lookup_says_what_was_found_and_where() -> None:
    model = tiny_model()
    with collected(model) as run:
        assisted(model, prompt(), prompt_lookup_num_tokens=3, max_new_tokens=2, **GREEDY)
    record = run.steps[0].head.assisted
    assert record is not None
    assert (record.matched, record.matched_at) == ((7, 8), 2)
    assert [each.token for each in record.proposals] == [9, 5, 6]
    assert (record.forwards, record.next_length) == (0, None)


def test_questions_that_need_one_token_a_step_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    with trace(model, path=tmp_path / "t"):
        assisted(model, prompt(), assistant_model=model, **GREEDY)
    with open_trace(tmp_path / "t") as recording:
        with pytest.raises(UsageError, match="assisted decoding"):
            recording.whatif(temperature=0.5)
        assert recording.why(step=1).verdict == "chosen"


def test_a_run_that_fails_in_the_draft_model_is_kept(tmp_path: Path) -> None:
    model = tiny_model()
    draft = drafted(model)
    fail_in_pass(draft, 8)
    with pytest.raises(RuntimeError, match="no more"), trace(model, path=tmp_path / "t"):
        assisted(model, prompt(), assistant_model=draft, **GREEDY)
    with open_trace(tmp_path / "t") as recording:
        (run,) = recording.runs
        assert run.end is not None
        assert run.end.status.value == "failed"
        assert [*run.end.sequences[0]] == [
            *prompt()["input_ids"][0].tolist(),
            *(token for step in run.steps for token in step.appended()),
        ]


def test_the_lens_looks_at_the_position_of_the_own_token() -> None:
    model = tiny_model()
    with collected(model, save=("lens",)) as run:
        assisted(model, prompt(), assistant_model=drafted(model), **GREEDY)
    assert run.problems() == []
