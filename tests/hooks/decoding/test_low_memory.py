"""``low_memory``: a step has several forward passes, one beam or one candidate after the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from tests.hooks.decoding import test_beam_search, test_contrastive
from tests.hooks.test_unchanged import attributes
from tests.support.breadth import slow
from tests.support.decoding import BEAMS, CONSTRAINED, CONTRASTIVE, GROUPS, contrastive, fail_in_pass, search
from tests.support.models import batch, collected, tiny_model
from tracer import open_trace, trace
from tracer.tracefile import check_file

pytestmark = pytest.mark.reference_only

MODELS = ["qwen2", "gpt2", *slow("llama", "mistral")]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("mode", ["greedy", "several", "sampling", "ending"])
@pytest.mark.parametrize("name", MODELS)
def test_a_traced_beam_search_in_parts_is_the_untraced_one(name: str, mode: str, rows: int) -> None:
    model, inputs, how = tiny_model(name), batch(rows), {**BEAMS[mode], "low_memory": True}
    untraced = search(model, inputs, **how)
    before = attributes(model)
    with collected(model, level="tensors", save=("logits", "kv")) as run:
        test_beam_search.assert_same(search(model, inputs, **how), untraced)
    assert attributes(model) == before
    assert run.problems() == []
    assert len(run.steps) == len(untraced.scores)
    with collected(model) as whole:
        search(model, inputs, **BEAMS[mode])
    beams = how["num_beams"]
    for step, other, saved, logits in zip(run.steps, whole.steps, run.saved, untraced.logits, strict=True):
        assert {check.name for check in step.head.checks if check.held} >= {"beams", "cache", "positions"}
        assert torch.equal(saved["logits"], logits.log_softmax(dim=-1))
        assert (step.head.passes, other.head.passes, step.head.extra_forwards) == (beams, 1, 0)
        assert step.head.inputs == other.head.inputs
        assert step.head.forward == other.head.forward  # stacked, it is what one forward pass gives
        assert step.layout is not None
        assert other.layout is not None
        assert step.layout.modules == other.layout.modules * beams


@pytest.mark.parametrize("mode", CONTRASTIVE)
@pytest.mark.parametrize("name", MODELS)
def test_a_traced_contrastive_search_in_turn_is_the_untraced_one(name: str, mode: str) -> None:
    model, inputs, how = tiny_model(name), batch(), {**CONTRASTIVE[mode], "low_memory": True}
    untraced = contrastive(model, inputs, **how)
    before = attributes(model)
    with collected(model, level="tensors", save=("logits", "kv")) as run:
        test_contrastive.assert_same(contrastive(model, inputs, **how), untraced)
    assert attributes(model) == before
    assert run.problems() == []
    with collected(model) as whole:
        contrastive(model, inputs, **CONTRASTIVE[mode])
    for step, other, saved, logits in zip(run.steps, whole.steps, run.saved, untraced.logits, strict=True):
        checks = {check.name for check in step.head.checks if check.held}
        assert checks >= {"ranking", "selection", "cache", "positions"}
        assert torch.equal(saved["logits"], logits)
        assert (step.head.passes, step.head.extra_forwards) == (how["top_k"] + 1, 0)
        assert step.head.forward == other.head.forward
        found, same = step.head.contrastive, other.head.contrastive
        assert found is not None
        assert same is not None
        for row, expected in zip(found.rows, same.rows, strict=True):
            assert row is not None
            assert expected is not None
            assert row.taken == expected.taken
            for each, its in zip(row.candidates, expected.candidates, strict=True):
                assert (each.token, each.position) == (its.token, its.position)
                assert each.score == pytest.approx(its.score, abs=1e-5)
        assert found.repeated.groups[0].key.shape[0] == 1
        assert found.grown.length == found.repeated.length + 1


@pytest.mark.parametrize("settings", [GROUPS["two"], CONSTRAINED["two"]], ids=["groups", "constrained"])
def test_searches_that_take_no_notice_of_it_have_one_forward_pass(settings: dict[str, Any]) -> None:
    model, inputs = tiny_model(), batch(2)
    with collected(model) as run:
        search(model, inputs, **settings, low_memory=True)
    assert run.problems() == []
    assert {step.head.passes for step in run.steps} == {1}


def test_what_the_library_cannot_do_fails_as_it_does_untraced() -> None:
    """With several rows the library gives the candidates taken to a cache of other rows."""
    model, inputs, how = tiny_model(), batch(3), {**CONTRASTIVE["plain"], "low_memory": True}
    with pytest.raises(RuntimeError) as untraced:
        contrastive(model, inputs, **how)
    with collected(model) as run, pytest.raises(RuntimeError) as traced:
        contrastive(model, inputs, **how)
    assert str(traced.value) == str(untraced.value)
    assert run.ends[0].status.value == "failed"
    assert run.steps[0].head.errors == ()
    assert (run.header.passes, run.steps[0].head.passes) == (how["top_k"] + 1,) * 2


@pytest.mark.parametrize("number", range(1, 7))
def test_a_search_that_fails_in_any_of_its_passes_is_kept_as_far_as_it_went(
    number: int, tmp_path: Path
) -> None:
    in_parts: tuple[tuple[Callable[..., Any], int, dict[str, Any]], ...] = (
        (search, 2, BEAMS["greedy"]),
        (contrastive, 1, CONTRASTIVE["plain"]),
    )
    for generate, rows, how in in_parts:
        model, path = tiny_model(), tmp_path / generate.__name__
        fail_in_pass(model, number)
        with pytest.raises(RuntimeError, match="no more"), trace(model, path=path):
            generate(model, batch(rows), **how, low_memory=True)
        assert check_file(path).whole
        with open_trace(path) as recording:
            steps = [*recording.steps]
        assert len(steps) == ((number + 2) // 3 if generate is search else 1)
        assert steps[-1].head.failure is not None
        if generate is search:
            assert steps[-1].head.passes == (number - 1) % 3 + 1
        else:
            assert steps[-1].head.passes == max(1, number - 1)  # the prompt has one of its own
        assert not [each for step in steps for each in step.head.errors]


def test_a_cache_that_keeps_a_candidate_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    crop = DynamicCache.crop
    calls = list[int]()

    def forgotten(self: Any, length: int) -> None:
        calls.append(length)
        if len(calls) != 2:
            crop(self, length)

    monkeypatch.setattr(DynamicCache, "crop", forgotten)
    model = tiny_model()
    with collected(model) as run:
        contrastive(model, batch(), **CONTRASTIVE["plain"], low_memory=True, max_new_tokens=2)
    found = [each.message for each in run.steps[0].head.violations if each.check == "selection"]
    assert "the repeated cache holds 7 slots, expected 6" in found


def test_another_token_than_the_one_taken_is_seen() -> None:
    model = tiny_model()
    prepare, calls = model.prepare_inputs_for_generation, list[int]()

    def other(input_ids: torch.Tensor, **kwargs: Any) -> Any:
        calls.append(len(input_ids))
        again = len(calls) == 6  # the prompt, four candidates, and then the one taken
        return prepare((input_ids + 1) % 90 if again else input_ids, **kwargs)

    model.prepare_inputs_for_generation = other
    with collected(model) as run:
        contrastive(model, batch(), **CONTRASTIVE["plain"], low_memory=True, max_new_tokens=2)
    found = {each.message for each in run.steps[0].head.violations if each.check == "selection"}
    assert "the token that is read again is not the candidate taken" in found


def test_another_candidates_slot_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    update = model._update_model_kwargs_for_generation

    def other(outputs: Any, *args: Any, **kwargs: Any) -> Any:
        cache = outputs.past_key_values
        if cache is not None and cache.get_seq_length() > 6:
            cache.value_cache[1][:, :, -1] += 1
        return update(outputs, *args, **kwargs)

    model._update_model_kwargs_for_generation = other
    with collected(model) as run:
        contrastive(model, batch(), **CONTRASTIVE["plain"], low_memory=True, max_new_tokens=2)
    found = {each.message for step in run.steps for each in step.head.violations if each.check == "selection"}
    assert "its new slot is not that of the token that was read again" in found


def test_what_reads_the_middle_of_a_forward_pass_is_said_to_be_missing() -> None:
    model = tiny_model()
    with collected(model, level="tensors", save=("lens",)) as beams:
        search(model, batch(2), **BEAMS["greedy"], low_memory=True)
    with collected(model, level="tensors", save=("lens",)) as ranked:
        contrastive(model, batch(), **CONTRASTIVE["plain"], low_memory=True)
    for run in (beams, ranked):
        assert run.problems() == []
        assert [each.capture for each in run.steps[0].head.uncaptured] == ["lens"]


def nothing_but(model: Any, number: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the arguments of one forward pass of a model, by its number from 1."""
    prepare, calls = model.prepare_inputs_for_generation, list[int]()

    def other(input_ids: torch.Tensor, **kwargs: Any) -> Any:
        calls.append(len(input_ids))
        inputs = prepare(input_ids, **kwargs)
        if len(calls) == number:
            change(inputs)
        return inputs

    model.prepare_inputs_for_generation = other


def hidden_position(inputs: dict[str, Any]) -> None:
    inputs["attention_mask"] = inputs["attention_mask"].clone()
    inputs["attention_mask"][:, 1] = 0


def another_token(inputs: dict[str, Any]) -> None:
    inputs["input_ids"] = (inputs["input_ids"] + 1) % 90


@pytest.mark.parametrize(
    ("number", "change", "check"),
    [
        *((number, hidden_position, "positions") for number in (2, 3, 6)),
        (3, another_token, "ranking"),
        (6, hidden_position, "selection"),
    ],
)
def test_every_pass_is_checked(number: int, change: Callable[[dict[str, Any]], None], check: str) -> None:
    model = tiny_model()
    nothing_but(model, number, change)
    with collected(model) as run:
        contrastive(model, batch(), **CONTRASTIVE["plain"], low_memory=True, max_new_tokens=1)
    assert check in {each.check for each in run.steps[0].head.violations}


@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize("mode", ["beams", "contrastive"])
def test_forward_passes_of_hooks_are_none_of_its_own(mode: str, low_memory: bool) -> None:
    model, of_beams = tiny_model(), mode == "beams"
    generate: Callable[..., Any] = search if of_beams else contrastive
    how = BEAMS["greedy"] if of_beams else CONTRASTIVE["plain"]
    calls, busy = list[int](), list[int]()

    def again(module: Any, *_: Any) -> None:
        if not busy:
            busy.append(1)
            calls.append(1)
            model(torch.tensor([[5, 6]]), output_hidden_states=True)
            busy.clear()

    with collected(model) as alone:
        generate(model, batch(), **how, low_memory=low_memory)
    for hooked in (model, model.model.layers[0]):  # behind a pass, and in the middle of one
        handle = hooked.register_forward_hook(again)
        calls.clear()
        with collected(model) as run:
            generate(model, batch(), **how, low_memory=low_memory)
        handle.remove()
        assert run.problems() == []
        assert sum(step.head.extra_forwards for step in run.steps) == len(calls) > 0
        for step, expected in zip(run.steps, alone.steps, strict=True):
            assert step.head.forward == expected.head.forward
            assert step.head.passes == expected.head.passes
            assert step.head.contrastive == expected.head.contrastive
            assert step.head.beams == expected.head.beams


@pytest.mark.parametrize("low_memory", [False, True])
def test_a_compiled_model_is_seen_from_outside(low_memory: bool) -> None:
    model = tiny_model(num_hidden_layers=1)
    how = {**CONTRASTIVE["plain"], "low_memory": low_memory, "max_new_tokens": 4}
    untraced = contrastive(model, batch(), **how)
    model.compile(backend="eager")
    before = attributes(model)
    with collected(model) as run:
        test_contrastive.assert_same(contrastive(model, batch(), **how), untraced)
    assert attributes(model) == before
    assert run.problems() == []
    assert len(run.steps) == 4
    assert all(step.head.contrastive and step.head.forward for step in run.steps)


def test_rounding_between_one_pass_and_several_is_not_put_down_to_the_model(tmp_path: Path) -> None:
    model = tiny_model()
    for name, low_memory in (("a", True), ("b", False)):
        with trace(model, path=tmp_path / name):
            search(model, batch(2), **BEAMS["greedy"], low_memory=low_memory)
    with open_trace(tmp_path / "a") as first, open_trace(tmp_path / "b") as second:
        found = first.diff(second)
    assert found.reason in ("identical", "rounding", "numerics")
    assert "low_memory" in found.explanation or found.reason == "identical"
