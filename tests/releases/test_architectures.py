"""Today's architectures: traced as untraced, nothing left behind, every check that can be made holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from hooks.known_models import known_model
from hooks.loop.model_arguments import takes_attention_mask
from tests.releases.architectures import ARCHITECTURES, INSTALLED, architecture
from tests.support.models import GREEDY, SAMPLING, batch, collected, generate
from tracer.library.release import RELEASES, installed_release


def _inputs(model: PreTrainedModel, rows: int = 1) -> dict[str, torch.Tensor]:
    inputs = batch(rows)
    return inputs if takes_attention_mask(model) else {"input_ids": inputs["input_ids"]}


def _class_state(model: PreTrainedModel) -> list[tuple[type, dict[str, Any]]]:
    return [(kind, dict(vars(kind))) for kind in type(model).__mro__]


def test_every_architecture_is_there_since_its_release() -> None:
    later = {"gemma3", "qwen3", "qwen3_moe", "qwen3_next", "gpt_oss"}
    assert {*ARCHITECTURES} - {*INSTALLED} == (later if installed_release() is RELEASES[0] else set())


@pytest.mark.parametrize("settings", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", INSTALLED)
def test_a_traced_run_is_the_untraced_one(name: str, rows: int, settings: dict[str, Any]) -> None:
    model = architecture(name)
    inputs = _inputs(model, rows)
    settings = {**settings, "max_new_tokens": 8, "output_scores": True}
    untraced = generate(model, inputs, **settings)
    before = _class_state(model), dict(vars(model))
    save = ("logits", "kv") if known_model(model).kv is None else ("logits",)
    with collected(model, level="tensors", save=save) as run:
        traced = generate(model, inputs, **settings)
    assert torch.equal(traced.sequences, untraced.sequences)
    for mine, theirs in (("logits", "logits"), ("scores", "scores")):
        pairs = zip(getattr(traced, mine), getattr(untraced, theirs), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert _class_state(model) == before[0]
    assert dict(vars(model)) == before[1]
    assert run.problems() == []
    assert len(run.steps) == len(traced.logits)
    for saved, logits in zip(run.saved, untraced.logits, strict=True):
        # A release that computes scores in float32 hands the processors a float32 copy.
        assert torch.equal(saved["logits"], logits.to(saved["logits"].dtype))


@pytest.mark.parametrize("name", INSTALLED)
def test_the_stops_are_in_the_order_of_the_loop(name: str) -> None:
    model = architecture(name)
    with collected(model) as run:
        generate(model, _inputs(model), **SAMPLING)
    header = run.header
    lines = [
        header.anchor(stop)
        for stop in header.stops
        if stop not in ("run-header", "layers", "model-call", "forward-result")
    ]
    assert all(lines)
    numbers = [anchor.line for anchor in lines if anchor is not None]
    assert numbers == sorted(numbers)
    for phase in ("prefill", "decode"):
        anchor = header.anchor("model-call", phase)
        assert anchor is not None
        assert "(**model_inputs, return_dict=True)" in anchor.text
