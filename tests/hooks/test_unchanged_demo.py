"""Tracing changes nothing on a real model: ids and logits, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedModel

from tests.support.breadth import slow
from tests.support.demo import demo_model
from tests.support.network import demo_checkpoint
from tracer import open_trace, trace

PROMPTS = ["Give me a short introduction to large language model.", "Hi", "Name three colours."]
MODES: dict[str, dict[str, Any]] = {"greedy": {"do_sample": False}, "sampling": {"do_sample": True}}

pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return demo_model()


def encoded(rows: int) -> dict[str, torch.Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(demo_checkpoint(), padding_side="left")
    return dict(tokenizer(PROMPTS[:rows], return_tensors="pt", padding=True))


def generate(model: PreTrainedModel, inputs: dict[str, torch.Tensor], mode: str) -> Any:
    torch.manual_seed(7)
    return model.generate(
        **inputs, **MODES[mode], max_new_tokens=8, output_logits=True, return_dict_in_generate=True
    )


@pytest.mark.parametrize("rows", [3, *slow(1)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore:.*do_sample.*:UserWarning")
def test_ids_and_logits_are_bit_identical(
    model: PreTrainedModel, mode: str, rows: int, tmp_path: Path
) -> None:
    inputs = encoded(rows)
    untraced = generate(model, inputs, mode)
    with trace(model, path=tmp_path / "run.trace", capture="tensors", save=("logits", "kv")):
        traced = generate(model, inputs, mode)
    assert torch.equal(traced.sequences, untraced.sequences)
    assert all(torch.equal(a, b) for a, b in zip(traced.logits, untraced.logits, strict=True))
    with open_trace(tmp_path / "run.trace") as recording:
        assert [row.padding > 0 for row in recording.header.prompt] == [False, True, True][:rows]
        for step, logits in zip(recording.steps, untraced.logits, strict=True):
            assert not step.head.violations
            assert not step.head.errors
            saved = recording.runs[0].tensor(step.number, "logits")
            assert (saved == logits.numpy()).all()
