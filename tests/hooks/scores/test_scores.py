"""Processors, warpers, criteria and the draw, as they are recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from hooks.scores.stages import ScoreStages
from tests.support.models import (
    DEVICE,
    EOS,
    GREEDY,
    SAMPLING,
    VOCAB,
    batch,
    collected,
    generate,
    tiny_model,
)
from tracer import trace
from tracer.analysis.scores.native import compiled_summary
from tracer.tracefile import Recorder


class InPlace(LogitsProcessor):  # type: ignore[misc]
    """Edits the scores it is given, as some users' processors do."""

    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores[:, self.token] = -torch.inf
        scores[:, self.token + 1] += 2.0
        return scores


class StopAfter(StoppingCriteria):  # type: ignore[misc]
    """A user's own criterion: ends the rows one after the other."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        grown = input_ids.shape[1] - self.length
        return torch.arange(input_ids.shape[0], device=input_ids.device) < grown


def test_a_processor_that_edits_in_place_is_shown_and_keeps_working() -> None:
    model, inputs = tiny_model(), batch(2)
    settings = {**GREEDY, "logits_processor": LogitsProcessorList([InPlace(7)])}
    untraced = generate(model, inputs, **settings)
    with collected(model) as run:
        traced = generate(model, inputs, **settings)
    assert torch.equal(traced.sequences, untraced.sequences)
    described = run.header.processors[-1]
    assert (described.class_name, described.settings) == ("InPlace", {"token": "7"})
    for step in run.steps:
        assert step.scores is not None
        stage = len(run.header.processors)
        assert step.scores.changed[stage].tolist() == [2, 2]
        assert step.scores.removed[stage].tolist() == [1, 1]
        assert step.scores.removed_tokens[stage, :, 0].tolist() == [7, 7]
        assert step.scores.kept[stage].tolist() == [VOCAB - 1] * 2


def test_recorded_raw_logits_are_those_before_any_edit() -> None:
    model, inputs = tiny_model(), batch()
    with collected(model, level="tensors", save=("logits",)) as run:
        generate(model, inputs, **GREEDY, logits_processor=[InPlace(7)])
    plain = generate(model, inputs, **GREEDY).logits[0]
    assert torch.equal(run.saved[0]["logits"], plain.cpu())


def test_custom_criterion_is_shown_per_row() -> None:
    model, inputs = tiny_model(), batch(3)
    settings = {**GREEDY, "stopping_criteria": StoppingCriteriaList([StopAfter(8)]), "max_new_tokens": 9}
    untraced = generate(model, inputs, **settings)
    with collected(model) as run:
        traced = generate(model, inputs, **settings)
    assert torch.equal(traced.sequences, untraced.sequences)
    index = [criterion.class_name for criterion in run.header.criteria].index("StopAfter")
    fired = [step.head.criteria[index].fired for step in run.steps]
    assert fired == [(), (), (0,), (0, 1), (0, 1, 2)]
    assert [step.head.unfinished for step in run.steps] == [(0, 1, 2), (0, 1, 2), (1, 2), (2,), ()]


def test_finished_rows_are_marked_as_padding() -> None:
    model, inputs = tiny_model(), batch(2)
    first = generate(model, inputs, **GREEDY).sequences
    ending = int(first[0, inputs["input_ids"].shape[1] + 1])
    with collected(model) as run:
        generate(model, inputs, **GREEDY, eos_token_id=ending)
    choices = [step.choice(0) for step in run.steps]
    assert [choice.padding for choice in choices if choice] == [False, False] + [True] * (len(choices) - 2)
    assert all(choice.token == 0 for choice in choices if choice and choice.padding)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_summary_made_at_once_is_the_writers(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = tiny_model().to(dtype), batch(2)
    ending = int(generate(model, inputs, **GREEDY).sequences[0, -3])

    def columns() -> list[dict[str, Any]]:
        with collected(model) as run:
            generate(model, inputs, **GREEDY, eos_token_id=ending)
        assert not run.problems()
        return [vars(step.scores) for step in run.steps]

    by_default = columns()
    assert by_default[-1]["finished"].any()
    monkeypatch.setattr(ScoreStages, "summary", lambda *_: None)
    for mine, writers in zip(by_default, columns(), strict=True):
        for name, expected in writers.items():
            np.testing.assert_array_equal(mine[name], expected, err_msg=name)


@pytest.mark.skipif(DEVICE != "cpu" or not compiled_summary.available, reason="where it is made at once")
def test_scores_do_not_wait_for_the_writer_once_they_are_summarised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs, waiting = tiny_model(), batch(2), list[Any]()
    monkeypatch.setattr(Recorder, "put", lambda _, job: waiting.append(job))
    with trace(model, path=tmp_path / "run.trace"):
        generate(model, inputs, **SAMPLING)
    assert waiting
    for job in waiting:
        assert job.caught.summary is not None
        assert job.caught.tensors.scores is None


@pytest.mark.parametrize("settings", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
def test_stages_equal_what_the_library_computes(settings: dict[str, Any]) -> None:
    model, inputs = tiny_model(), batch(2)
    with collected(model, level="tensors", save=("logits",)) as run:
        output = generate(model, inputs, **settings, output_scores=True)
    for step, raw, final in zip(run.steps, output.logits, output.scores, strict=True):
        scores = step.scores
        assert scores is not None
        for row in range(2):
            tokens = scores.tokens[row][scores.tokens[row] >= 0]
            assert np.array_equal(scores.scores[0, row, : tokens.size], raw[row, tokens].cpu().numpy())
            assert np.array_equal(scores.scores[-1, row, : tokens.size], final[row, tokens].cpu().numpy())
            expected = final[row].softmax(-1)
            np.testing.assert_allclose(
                scores.probabilities[row, : tokens.size], expected[tokens].cpu().numpy(), rtol=1e-5
            )
            assert scores.candidates[row] == int((expected > 0).sum())
            chosen = scores.chosen[row]
            assert scores.chosen_rank[-1, row] == 1 + int((final[row] > final[row, chosen]).sum())


def test_ties_leave_a_capped_list_with_the_true_count_beside() -> None:
    model, inputs = tiny_model(), batch()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    with collected(model, candidates=8) as run:
        generate(model, inputs, do_sample=True, top_k=5, max_new_tokens=2)
    scores = run.steps[0].scores
    assert scores is not None
    assert scores.candidates[0] == VOCAB
    assert 8 <= len(run.steps[0].candidates) <= 9


def test_the_very_draw_can_be_repeated_from_its_state() -> None:
    model, inputs = tiny_model(), batch(2)
    # What a row that has ended draws is replaced by padding: none may end.
    settings = {**SAMPLING, "eos_token_id": None, "max_new_tokens": 10}
    with collected(model) as run:
        output = generate(model, inputs, **settings, output_scores=True)
    assert len(run.steps) == 10
    assert all(step.head.unfinished == (0, 1) for step in run.steps[:-1])
    generator = torch.Generator(DEVICE)
    for step, final in zip(run.steps, output.scores, strict=True):
        draw = step.head.draw
        assert draw is not None
        assert draw.follows == (step.number > 1)
        if draw.state is not None:
            generator.set_state(torch.frombuffer(bytearray.fromhex(draw.state), dtype=torch.uint8))
        drawn = torch.multinomial(final.softmax(-1), 1, generator=generator).squeeze(1)
        assert drawn.tolist() == step.scores.chosen.tolist()  # type: ignore[union-attr]


def test_a_state_that_does_not_follow_is_stored_whole() -> None:
    def draw_one(_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        torch.rand(1, device=DEVICE)
        return scores

    model, inputs = tiny_model(), batch()
    with collected(model) as run:
        generate(model, inputs, **SAMPLING, logits_processor=[draw_one])
    for step in run.steps:
        draw = step.head.draw
        assert draw is not None
        assert (draw.follows, draw.state is None) == (False, False)


def test_greedy_has_no_draw() -> None:
    with collected(tiny_model()) as run:
        generate(tiny_model(), batch(), **GREEDY)
    assert run.steps == []
    model = tiny_model()
    with collected(model) as run:
        generate(model, batch(), **GREEDY)
    assert all(step.head.draw is None for step in run.steps)
    anchor = run.header.anchor("choice")
    assert anchor is not None
    assert anchor.text.startswith("next_tokens = torch.argmax(")
    assert EOS < VOCAB
