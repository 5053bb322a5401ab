"""Contrastive search: traced as untraced, and the records rebuild what ``generate()`` returns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList, StaticCache
from transformers.generation import utils
from transformers.generation.streamers import BaseStreamer

from tests.hooks.test_unchanged import attributes
from tests.support.decoding import CONTRASTIVE, contrastive, fail_in_pass
from tests.support.models import EOS, VOCAB, CollectedRun, batch, collected, tiny_model
from tracer import open_trace, trace
from tracer.analysis.ranking import winner
from tracer.errors import UsageError
from tracer.schema.ranking import RowRanking
from tracer.tracefile.reading.wholeness import Wholeness

pytestmark = pytest.mark.reference_only


def assert_same(traced: Any, untraced: Any) -> None:
    """Everything that it returns, the cache too, is the same."""
    assert torch.equal(traced.sequences, untraced.sequences)
    for name in ("scores", "logits"):
        pairs = zip(getattr(traced, name), getattr(untraced, name), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    for a, b in zip(traced.hidden_states, untraced.hidden_states, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert type(traced.past_key_values) is type(untraced.past_key_values)
    for a, b in zip(traced.past_key_values, untraced.past_key_values, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def rows_of(run: CollectedRun, step: int) -> tuple[RowRanking | None, ...]:
    found = run.steps[step].head.contrastive
    assert found is not None
    return found.rows


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("mode", CONTRASTIVE)
@pytest.mark.parametrize("name", ["qwen2", "llama", "gpt2"])
def test_a_traced_search_is_the_untraced_one(name: str, mode: str, rows: int) -> None:
    model, inputs = tiny_model(name), batch(rows)
    untraced = contrastive(model, inputs, **CONTRASTIVE[mode])
    before = attributes(model)
    with collected(model, level="tensors", save=("logits", "kv")) as run:
        assert_same(contrastive(model, inputs, **CONTRASTIVE[mode]), untraced)
    assert attributes(model) == before
    assert run.problems() == []
    assert run.header.loop == "_contrastive_search"
    assert len(run.steps) == len(untraced.scores)
    for step, saved, logits in zip(run.steps, run.saved, untraced.logits, strict=True):
        checks = {check.name for check in step.head.checks if check.held}
        assert checks >= {"ranking", "selection", "cache", "positions"}
        assert torch.equal(saved["logits"], logits)
        # One token ahead of what `_sample` has: the candidate taken has been read already.
        assert step.head.cache_after.length == batch()["input_ids"].shape[1] + step.number
        assert step.head.cache_after.groups[0].key.shape[0] == rows


def test_a_cache_of_the_programs_own_and_plain_tuples_go_through_it() -> None:
    for name, cache, kind in (
        ("qwen2", DynamicCache, "DynamicCache"),
        ("gpt2", lambda: None, "tuple"),
    ):
        model, inputs = tiny_model(name), batch(3)
        how = CONTRASTIVE["plain"]
        untraced = contrastive(model, inputs, **how, past_key_values=cache())
        with collected(model) as run:
            assert_same(contrastive(model, inputs, **how, past_key_values=cache()), untraced)
        assert run.problems() == []
        assert {step.head.cache_after.kind for step in run.steps} == {kind}


def test_the_librarys_own_refusal_of_a_cache_stays_the_programs_error() -> None:
    model, inputs = tiny_model(), batch(2)

    def generate() -> None:
        cache = StaticCache(model.config, 2, 32, device="cpu", dtype=torch.float32)
        contrastive(model, inputs, **CONTRASTIVE["plain"], past_key_values=cache)

    with pytest.raises(Exception) as untraced:  # noqa: PT011 - whatever it is, it is the same
        generate()
    with collected(model) as run, pytest.raises(type(untraced.value)) as traced:
        generate()
    assert str(traced.value) == str(untraced.value)
    assert run.ends[0].status.value == "failed"


def test_the_prompt_and_the_candidates_are_both_in_the_first_step() -> None:
    model, inputs = tiny_model(), batch(3)
    with collected(model) as run:
        contrastive(model, inputs, **CONTRASTIVE["plain"])
    first, second = run.steps[:2]
    prompt = first.head.prompt_pass
    assert prompt is not None
    assert second.head.prompt_pass is None
    fed = prompt.inputs.tensor("input_ids")
    assert fed is not None
    assert fed.values is not None
    assert fed.values.decode().tolist() == inputs["input_ids"].flatten().tolist()
    assert (prompt.inputs.new_start, prompt.inputs.sequence_length) == (0, 6)
    assert prompt.cache.length == 6
    assert prompt.forward is not None
    assert prompt.forward.hidden_states is not None
    assert prompt.forward.hidden_states.shape == (3, 6, 32)
    for number, step in enumerate((first, second)):
        head, found = step.head, step.head.contrastive
        assert head.forward is not None
        assert head.forward.hidden_states is not None
        assert head.forward.hidden_states.shape == (12, 1, 32)
        assert head.forward.next_logits.shape == (3, VOCAB)
        assert (head.inputs.new_start, head.inputs.sequence_length) == (6 + number, 7 + number)
        assert found is not None
        assert (found.repeated.length, found.grown.length) == (6 + number, 7 + number)
        assert found.repeated.groups[0].key.shape[0] == found.grown.groups[0].key.shape[0] == 12
    assert first.layout is not None
    assert second.layout is not None
    assert len(first.layout.modules) == prompt.calls + len(second.layout.modules)
    assert first.cache is not None
    assert first.cache.key_norm.shape[-1] == 7  # the prompt's slots and that of the candidate taken


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_the_records_rebuild_what_is_returned(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["qwen2", "gpt2"]))
    model, rows = tiny_model(name, seed=data.draw(st.integers(0, 3))), data.draw(st.sampled_from([1, 3]))
    alpha, top_k = data.draw(st.floats(0.05, 1)), data.draw(st.integers(2, 8))
    ends = data.draw(st.integers(0, 60))
    inputs = batch(rows)
    with collected(model) as run:
        found = contrastive(
            model,
            inputs,
            penalty_alpha=alpha,
            top_k=top_k,
            eos_token_id=[EOS, *range(VOCAB - 2, VOCAB - 2 - ends, -1)],
            max_new_tokens=data.draw(st.integers(1, 8)),
        )
    assert run.problems() == []
    context = found.hidden_states[0][-1]
    ids = inputs["input_ids"]
    ended = torch.zeros(rows, dtype=torch.bool)
    for number, step in enumerate(run.steps):
        rebuilt = []
        for row, ranking in enumerate(rows_of(run, number)):
            if ranking is None:
                assert ended[row]
                rebuilt.append(0)
                continue
            each = ranking.candidates
            assert len(each) == top_k
            probabilities = found.scores[number][row].softmax(-1).topk(top_k)
            assert [one.token for one in each] == probabilities.indices.tolist()
            assert [one.probability for one in each] == pytest.approx(probabilities.values.tolist(), rel=1e-5)
            for one in each:
                expected = (1 - alpha) * one.probability - alpha * one.penalty
                assert one.score == pytest.approx(expected, abs=1e-5)
                assert one.similar == int(ids[row, one.position])
            best = max(range(top_k), key=lambda place: each[place].score)
            assert ranking.taken == best
            rebuilt.append(each[best].token)
        ids = torch.cat([ids, torch.tensor(rebuilt)[:, None]], dim=-1)
        ended |= torch.tensor([row not in step.head.unfinished for row in range(rows)])
    assert torch.equal(ids, found.sequences)
    # The penalty of a candidate taken, from the states that generate() itself returns.
    for number in range(1, len(run.steps)):
        before = rows_of(run, number - 1)
        state = found.hidden_states[number][-1]
        cosine = torch.cosine_similarity(context, state, dim=2).max(dim=1)
        for row, ranking in enumerate(before):
            if ranking is not None:
                assert ranking.winner.penalty == pytest.approx(float(cosine.values[row]), abs=1e-5)
        context = torch.cat([context, state], dim=1)
    whole = Wholeness(run.header, run.ends[0])
    for step in run.steps:
        whole.add(step)
    assert whole.gaps() == ()


def test_another_choice_than_the_ranking_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    ranking = utils._ranking_fast

    def other(*args: Any) -> torch.Tensor:
        found: torch.Tensor = ranking(*args)
        return (found + 1) % 4

    monkeypatch.setattr(utils, "_ranking_fast", other)
    model = tiny_model()
    with collected(model) as run:
        contrastive(model, batch(3), **CONTRASTIVE["plain"])
    for step in run.steps:
        failed = {check.name for check in step.head.checks if check.failed}
        assert failed == {"ranking"}
        assert [each.row for each in step.head.violations] == [0, 1, 2]


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
@pytest.mark.parametrize("wrong", ["row", "candidate"])
def test_slots_of_another_candidate_are_seen(wrong: str, name: str) -> None:
    """The cache keeps a loser's slots, or those of another row of the batch."""
    model = tiny_model(name)
    extract = model._extract_past_from_model_output
    step = 4 if wrong == "row" else 1

    def other(outputs: Any) -> Any:
        kind, cache = extract(outputs)
        if cache[0][0].shape[0] != 12:
            return kind, cache  # the arguments of the next step are made
        if isinstance(cache, tuple):
            return kind, tuple((key.roll(step, 0), value.roll(step, 0)) for key, value in cache)
        cache.key_cache = [key.roll(step, 0) for key in cache.key_cache]
        cache.value_cache = [value.roll(step, 0) for value in cache.value_cache]
        return kind, cache

    model._extract_past_from_model_output = other
    with collected(model) as run:
        contrastive(model, batch(3), **CONTRASTIVE["plain"])
    first = run.steps[0].head
    assert {each.check for each in first.violations} == {"selection"}
    assert {each.message for each in first.violations} == {"its new slot is not that of the candidate taken"}
    later = {each.check for step in run.steps[1:] for each in step.head.violations}
    assert later >= ({"selection", "cache"} if wrong == "row" else {"selection"})


def test_a_cache_that_is_repeated_the_wrong_way_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def repeat(self: DynamicCache, count: int) -> None:
        self.key_cache = [key.repeat(count, 1, 1, 1) for key in self.key_cache]
        self.value_cache = [value.repeat(count, 1, 1, 1) for value in self.value_cache]

    monkeypatch.setattr(DynamicCache, "batch_repeat_interleave", repeat)
    model = tiny_model()
    with collected(model) as run:
        contrastive(model, batch(3), **CONTRASTIVE["plain"])
    messages = {each.message for each in run.steps[0].head.violations}
    assert messages == {"its candidates did not begin with the same old slots"}


def test_a_cache_that_does_not_grow_by_one_is_seen() -> None:
    """What the candidates' pass wrote is cut off again: nothing is one token ahead."""
    model = tiny_model()
    extract = model._extract_past_from_model_output

    def cropped(outputs: Any) -> Any:
        kind, cache = extract(outputs)
        if cache[0][0].shape[0] == 8:
            cache.crop(-1)
        return kind, cache

    model._extract_past_from_model_output = cropped
    with collected(model) as run:
        contrastive(model, batch(2), **CONTRASTIVE["plain"], max_new_tokens=1)
    head = run.steps[0].head
    assert {each.check for each in head.violations} == {"selection", "cache"}
    assert "the selected cache holds 6 slots, expected 7" in {each.message for each in head.violations}


def test_positions_of_both_passes_are_checked() -> None:
    for wrong, rows in ((0, {0, 1}), (1, {0, 1})):
        model = tiny_model("gpt2")
        prepare, calls = model.prepare_inputs_for_generation, 0

        def shifted(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            found = prepare(*args, **kwargs)  # noqa: B023
            if calls == wrong:  # noqa: B023
                found["position_ids"] = found["position_ids"] + 1
            calls += 1
            return found

        model.prepare_inputs_for_generation = shifted
        with collected(model) as run:
            contrastive(model, batch(2), **CONTRASTIVE["plain"], max_new_tokens=1)
        head = run.steps[0].head
        assert [check.name for check in head.checks if check.failed] == ["positions"]
        assert {each.row for each in head.violations} == rows


class _Asks(LogitsProcessor):  # type: ignore[misc]
    """Runs the model itself, as a processor for guidance does."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        inputs = self.model.prepare_inputs_for_generation(input_ids, use_cache=False)
        return scores + 0.01 * self.model(**inputs, return_dict=True).logits[:, -1]


def test_forward_passes_of_a_processor_are_none_of_the_steps_own() -> None:
    model, inputs = tiny_model(), batch(2)
    how = {**CONTRASTIVE["plain"], "logits_processor": LogitsProcessorList([_Asks(model)])}
    untraced = contrastive(model, inputs, **how)
    with collected(model) as run:
        assert_same(contrastive(model, inputs, **how), untraced)
    assert run.problems() == []
    assert [step.head.extra_forwards for step in run.steps] == [1] * 8


class _Streamer(BaseStreamer):  # type: ignore[misc]
    def __init__(self) -> None:
        self.got: list[int] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.got += value.flatten().tolist()

    def end(self) -> None:
        self.ended = True


def test_a_streamer_gets_each_token() -> None:
    model, inputs, streamer = tiny_model(), batch(), _Streamer()
    with collected(model) as run:
        contrastive(model, inputs, **CONTRASTIVE["plain"], streamer=streamer)
    assert streamer.ended
    assert streamer.got[6:] == [step.choice().token for step in run.steps]  # type: ignore[union-attr]


def test_in_half_precision_the_ranking_is_the_librarys() -> None:
    model = tiny_model().to(torch.bfloat16)
    untraced = contrastive(model, batch(3), **CONTRASTIVE["plain"])
    with collected(model) as run:
        assert_same(contrastive(model, batch(3), **CONTRASTIVE["plain"]), untraced)
    assert run.problems() == []
    assert all("ranking" in {c.name for c in step.head.checks if c.held} for step in run.steps)


def test_without_statistics_the_cache_is_not_checked_with_the_reason() -> None:
    model = tiny_model()
    with collected(model, level="shapes") as run:
        contrastive(model, batch(), **CONTRASTIVE["plain"])
    for step in run.steps:
        (check,) = [check for check in step.head.checks if check.name == "selection"]
        assert (check.result, check.reason) == ("not made", "no checksums of the cache were taken")


def test_lens_and_attention_are_missed_with_the_reason() -> None:
    model = tiny_model()
    with collected(model, level="tensors", save=("lens",)) as run:
        contrastive(model, batch(), **CONTRASTIVE["plain"])
    assert [each.capture for each in run.steps[0].head.uncaptured] == ["lens"]
    assert "several candidates" in run.steps[0].head.uncaptured[0].reason
    assert not any(each.head.uncaptured for each in run.steps[1:])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_search_that_fails_is_kept_as_far_as_it_went(number: int, tmp_path: Path) -> None:
    model = tiny_model()
    fail_in_pass(model, number)
    with pytest.raises(RuntimeError, match="no more"), trace(model, path=tmp_path / "t"):
        contrastive(model, batch(3), **CONTRASTIVE["plain"])
    with open_trace(tmp_path / "t") as recording:
        (run,) = recording.runs
        last = run.steps[-1].head
        assert len(run.steps) == max(1, number - 1)
        assert last.failure is not None
        assert last.failure.stop == ("prefill" if number == 1 else "layers")
        assert (last.contrastive is None) == (number == 1)
        assert last.contrastive is None or not last.contrastive.rows
        assert (last.prompt_pass is None) == (number != 2)


class _Fails(LogitsProcessor):  # type: ignore[misc]
    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if input_ids.shape[1] > 7:
            raise RuntimeError("not this one")
        return scores


def test_a_processor_that_fails_does_so_in_its_own_step(tmp_path: Path) -> None:
    model = tiny_model()
    with pytest.raises(RuntimeError, match="not this one"), trace(model, path=tmp_path / "t"):
        contrastive(model, batch(), **CONTRASTIVE["plain"], logits_processor=LogitsProcessorList([_Fails()]))
    with open_trace(tmp_path / "t") as recording:
        assert len(recording.steps) == 3
        failure = recording.steps[-1].head.failure
        assert failure is not None
        assert failure.stop == "processors"


def test_the_cache_is_put_together_step_by_step(tmp_path: Path) -> None:
    model, inputs = tiny_model(), batch(3)
    with trace(model, path=tmp_path / "t", capture="tensors", save=["kv"]):
        found = contrastive(model, inputs, **CONTRASTIVE["plain"])
    with open_trace(tmp_path / "t") as recording:
        cache = recording.cache_at(recording.steps[-1].number)
        for layer, (key, value) in enumerate(found.past_key_values):
            # What is returned has the candidate read last taken off again.
            assert np.array_equal(cache.key(layer)[..., :-1, :], key.numpy())
            assert np.array_equal(cache.value(layer)[..., :-1, :], value.numpy())


def test_questions_that_a_row_cannot_answer_alone_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    with trace(model, path=tmp_path / "t"):
        contrastive(model, batch(), **CONTRASTIVE["plain"])
    with open_trace(tmp_path / "t") as recording, pytest.raises(UsageError, match="contrastive search"):
        recording.whatif(temperature=0.5)


def test_logits_of_another_candidate_than_the_one_taken_are_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stack = torch.stack

    def other(tensors: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        found = stack(tensors, *args, **kwargs)
        return found.roll(1, 1) if found.dim() == 3 and found.shape[-1] == VOCAB else found

    monkeypatch.setattr(torch, "stack", other)
    model = tiny_model()
    with trace(model, path=tmp_path / "run.trace") as session:
        contrastive(model, batch(3), **CONTRASTIVE["plain"])
    assert session.violated
    with open_trace(tmp_path / "run.trace") as recording:
        found = {(each.check, each.row) for step in recording.steps for each in step.head.violations}
        assert not recording.steps[0].head.violations
    assert {check for check, _ in found} == {"selection"}


def test_candidates_that_are_not_the_most_probable_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    topk = torch.topk

    def worse(scores: torch.Tensor, *, dim: int, k: int) -> Any:
        values, places = topk(scores, dim=dim, k=k + 1)
        return torch.return_types.topk((values[:, 1:].contiguous(), places[:, 1:].contiguous()))

    monkeypatch.setattr(torch, "topk", worse)
    model = tiny_model()
    with collected(model) as run:
        contrastive(model, batch(3), **CONTRASTIVE["plain"])
    assert {*run.problems()} == {"the candidates are not the most probable tokens"}


def test_a_score_that_is_nan_wins_as_it_does_in_torch() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[60] = torch.nan
    with collected(model) as run:
        contrastive(model, batch(1), **CONTRASTIVE["plain"])
    rankings = [step.head.contrastive.rows[0] for step in run.steps if step.head.contrastive]
    known = [each for each in rankings if each is not None]
    assert any(math.isnan(each.score) for row in known for each in row.candidates)
    assert [winner(row, 0.6) for row in known] == [row.taken for row in known]
