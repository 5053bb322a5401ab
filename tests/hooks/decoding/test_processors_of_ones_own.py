"""Logits processors of the program that write into ``input_ids`` or change the vocabulary, in every loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LogitsProcessor, PreTrainedModel

from tests.support.command import call_main
from tests.support.decoding import BEAMS, CONSTRAINED, CONTRASTIVE, GROUPS, prompt
from tests.support.models import batch, collected, tiny_model
from tracer import open_trace, trace
from tracer.library.release import installed_release
from tracer.tracefile import check_file

LOOKUP: dict[str, Any] = {"do_sample": False, "prompt_lookup_num_tokens": 3}
MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "sample": ("sample", {"do_sample": True, "top_k": 30}),
    "beams": ("beam_search", BEAMS["greedy"]),
    "groups": ("group_beam_search", GROUPS["two"]),
    "constrained": ("constrained_beam_search", CONSTRAINED["phrase"]),
    "contrastive": ("contrastive_search", CONTRASTIVE["plain"]),
    "dola": ("dola_generation", {"dola_layers": "high", "do_sample": False, "repetition_penalty": 1.2}),
    "lookup": ("assisted_generation", LOOKUP),
}
THERE = [name for name, (mode, _) in MODES.items() if installed_release().loop_of(mode) is not None]


class Writes(LogitsProcessor):  # type: ignore[misc]
    """Replaces the last id of every row, in one of its calls."""

    def __init__(self, call: int) -> None:
        self._call = call
        self._calls = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._calls += 1
        if self._calls == self._call:
            input_ids[:, -1] = 7
        return scores


class Width(LogitsProcessor):  # type: ignore[misc]
    """Leaves out the last tokens, or adds some that are unlikely."""

    def __init__(self, more: int) -> None:
        self._more = more

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._more < 0:
            return scores[:, : self._more]
        return torch.nn.functional.pad(scores, (0, self._more), value=-30.0)


def generate(model: PreTrainedModel, name: str, processor: Any) -> Any:
    torch.manual_seed(1)
    inputs = prompt() if name == "lookup" else batch(2)
    settings = {"max_new_tokens": 5, "pad_token_id": 0, **MODES[name][1]}
    return model.generate(**inputs, **settings, logits_processor=[processor])


# Prompt lookup of newer releases runs the processors itself before it proposes, where nobody looks.
WATCHED = [name for name in THERE if name != "lookup" or not installed_release().float32_scores]


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("call", [1, 3])
@pytest.mark.parametrize("name", WATCHED)
def test_ids_that_a_processor_wrote_are_said_and_no_gap(
    name: str, call: int, inference: bool, tmp_path: Path
) -> None:
    model, path = tiny_model(), tmp_path / "t"
    with torch.inference_mode(inference):
        untraced = generate(model, name, Writes(call))
        with trace(model, path=path) as session:
            traced = generate(model, name, Writes(call))
    assert torch.equal(traced, untraced)
    assert not session.violated
    assert check_file(path).runs[0].gaps == ()
    with open_trace(path) as recording:
        changes = [change for step in recording.steps for change in step.head.interventions]
        assert [(each.kind, each.detail) for each in changes] == [("ids", "Writes wrote into input_ids")]
        assert recording.end is not None
        for check in recording.end.checks:
            assert check.reason == "a processor wrote into the ids of its rows"


def test_what_a_processor_wrote_cannot_be_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, path = tiny_model(), tmp_path / "t"
    with trace(model, path=path):
        generate(model, "sample", Writes(2))
    shown = call_main(capsys, "show", path).stdout
    assert "changed by the user (ids): Writes wrote into input_ids" in shown
    done = call_main(capsys, "verify", path, "--rerun")
    assert "the user changed something in step 2" in done.stderr
    done = call_main(capsys, "fork", path, "--at", "4")
    assert "a processor wrote into the ids in step 2" in done.stderr


def test_ids_of_inference_mode_are_not_watched(tmp_path: Path) -> None:
    model = tiny_model()
    with torch.inference_mode():
        untraced = generate(model, "sample", Writes(2))
        with trace(model, path=tmp_path / "t") as session:
            assert torch.equal(generate(model, "sample", Writes(2)), untraced)
    assert session.faults == ()


# The beam search of 4.57 takes the width of the vocabulary from the configuration, and fails.
RESIZED = [
    name
    for name in THERE
    if name not in ("groups", "lookup") and (name, installed_release().name) != ("beams", "4.57")
]


@pytest.mark.parametrize("more", [-20, 5])
@pytest.mark.parametrize("name", RESIZED)
def test_another_vocabulary_is_recorded_as_tokens_without_a_score(
    name: str, more: int, tmp_path: Path
) -> None:
    model, path = tiny_model(), tmp_path / "t"
    untraced = generate(model, name, Width(more))
    with trace(model, path=path, capture="tensors", save=["logits"]) as session:
        traced = generate(model, name, Width(more))
    assert torch.equal(traced, untraced)
    assert not session.violated
    assert check_file(path).runs[0].gaps == ()
    with open_trace(path) as recording:
        stage = 1 + [each.class_name for each in recording.header.processors].index("Width")
        for step in recording.steps:
            assert step.head.vocab_size == 100 + max(more, 0)
            assert step.scores is not None
            before, after = step.scores.kept[stage - 1], step.scores.kept[stage]
            assert (before <= 100).all()
            assert (after == before + more).all() if more > 0 else (after <= before).all()
            listed = {token for token in step.scores.tokens[0].tolist() if token >= 80}
            for token in listed:
                report = recording.why(step=step.number, token=token)
                there = report.stages[stage - 1].score != float("-inf")
                gone = report.stages[stage].score == float("-inf")
                assert (there, gone) == (token < 100, more < 0) or (name, there) == ("dola", False)
                assert bool(report.stages[stage].removed) == (there and more < 0)


@pytest.mark.parametrize("more", [-20, 5])
@pytest.mark.parametrize("name", [name for name in THERE if name in ("groups", "lookup")])
def test_where_the_library_refuses_it_the_error_is_its_own(name: str, more: int) -> None:
    model = tiny_model()
    with pytest.raises(RuntimeError) as untraced:
        generate(model, name, Width(more))
    with collected(model), pytest.raises(RuntimeError) as traced:
        generate(model, name, Width(more))
    assert str(traced.value) == str(untraced.value)


def test_a_fault_of_ours_in_assisted_decoding_is_no_error_of_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("ours")

    model = tiny_model()
    settings = {**LOOKUP, "repetition_penalty": 1.1}
    untraced = model.generate(**prompt(), **settings, max_new_tokens=5, pad_token_id=0)
    monkeypatch.setattr("hooks.decoding.assisted.AssistedWatch.on_scores", broken)
    with collected(model) as run:
        traced = model.generate(**prompt(), **settings, max_new_tokens=5, pad_token_id=0)
    assert torch.equal(traced, untraced)
    assert any("ours" in message for message in run.problems())
