"""Prompts that are not token ids alone: embeddings, and a cache that is filled already."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel

from tests.support import causal_models
from tests.support.caches import cache_argument, cache_in
from tests.support.models import tiny_model
from tracer import open_trace, trace
from tracer.analysis.attention import read_attention

IDS = torch.tensor([[5, 9, 17, 33, 2, 8]])
SETTINGS: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None}


def filled(model: PreTrainedModel, ids: torch.Tensor) -> DynamicCache:
    with torch.no_grad():
        cache = cache_in(model(ids, use_cache=True, **cache_argument(DynamicCache())))
    assert isinstance(cache, DynamicCache)
    return cache


def from_embeddings(model: PreTrainedModel) -> dict[str, Any]:
    embeddings = model.get_input_embeddings()(IDS).detach()
    return {"inputs_embeds": embeddings, "attention_mask": torch.ones_like(IDS)}


def from_a_cache(model: PreTrainedModel) -> dict[str, Any]:
    return {
        "input_ids": IDS,
        "attention_mask": torch.ones_like(IDS),
        **cache_argument(filled(model, IDS[:, :4])),
    }


@pytest.mark.parametrize(
    ("given", "embedded", "cached", "leading", "positions"),
    [(from_embeddings, 6, 0, 6, (0, 6)), (from_a_cache, 0, 4, 0, (4, 6))],
)
def test_positions_are_counted_whatever_they_came_from(
    tmp_path: Path, given: Any, embedded: int, cached: int, leading: int, positions: tuple[int, int]
) -> None:
    model, path = tiny_model(), tmp_path / "run.trace"
    expected = model.generate(**given(model), **SETTINGS)
    with trace(model, path=path, capture="tensors", save=["attention", "kv"]):
        out = model.generate(**given(model), **SETTINGS)
    assert torch.equal(out, expected)
    with open_trace(path) as recording:
        header, run = recording.header, recording.runs[0]
        assert (header.embedded, header.cached) == (embedded, cached)
        heads = [step.head for step in run.steps]
        assert [(head.inputs.new_start, head.inputs.sequence_length) for head in heads] == [
            positions,
            (6, 7),
            (7, 8),
        ]
        assert {head.inputs.leading for head in heads} == {leading}
        assert not any(head.violations or head.errors for head in heads)
        context = read_attention(run, 2).context
        assert context == (*([None] * 6 if leading else IDS[0].tolist()), int(out[0, -3]))
    shown = subprocess.run(
        [sys.executable, "-m", "tracer", "show", str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert "new token, position 6 of the row's 7" in shown
    assert ("in place of token ids" in shown.split("Step 1")[0]) == bool(embedded)
    assert ("in it before this run" in shown.split("Step 1")[0]) == bool(cached)


def test_embeddings_of_a_model_without_positions(tmp_path: Path) -> None:
    model, path = causal_models.model_of("Mamba2ForCausalLM"), tmp_path / "run.trace"
    with trace(model, path=path):
        model.generate(inputs_embeds=model.get_input_embeddings()(IDS).detach(), **SETTINGS)
    with open_trace(path) as recording:
        checks = [check for step in recording.steps for check in step.head.checks]
        assert {check.result for check in checks if check.name == "positions"} == {"not made"}
        assert not any(check.failed for check in checks)


@pytest.mark.reference_only
def test_a_mask_that_the_model_does_not_get_is_not_compared(tmp_path: Path) -> None:
    model, path = causal_models.model_of("ReformerModelWithLMHead"), tmp_path / "run.trace"
    longer = torch.ones(1, IDS.shape[1] + 4, dtype=torch.long)
    with trace(model, path=path):
        model.generate(IDS, attention_mask=longer, **SETTINGS)
    with open_trace(path) as recording:
        assert not any(check.failed for step in recording.steps for check in step.head.checks)
        assert all(step.head.inputs.tensors for step in recording.steps)
