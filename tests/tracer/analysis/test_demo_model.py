"""Runs of the demo model compared: what is promised about them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from hooks.scores.replay import TorchReplayer
from tests.support.demo import demo_model
from tests.support.network import demo_checkpoint
from tests.tracer.analysis.runs import MemoryRun, real_run
from tracer.analysis.diff import diff
from tracer.analysis.draw import DrawStates, near_misses
from tracer.analysis.processors.settings import Settings
from tracer.analysis.whatif import whatif
from tracer.analysis.why import why_in_run

pytestmark = pytest.mark.demo

QUESTION = "Give me a short introduction to large language model."
LONGER = "Write a long poem about the sea and the mountains, and the sky above them all."
GREEDY: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
SAMPLING: dict[str, Any] = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}


def model(**options: Any) -> PreTrainedModel:
    options = {"torch_dtype": torch.float32, **options}
    return AutoModelForCausalLM.from_pretrained(demo_checkpoint(), **options).eval()


def prompts(*questions: str) -> dict[str, torch.Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(demo_checkpoint(), padding_side="left")
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        for question in questions
    ]
    encoded = tokenizer(texts, return_tensors="pt", padding=True)
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


@pytest.fixture(scope="module")
def base() -> MemoryRun:
    return real_run(demo_model(), prompts(QUESTION), max_new_tokens=12, **GREEDY)


def test_eager_against_sdpa(base: MemoryRun) -> None:
    eager = real_run(model(attn_implementation="eager"), prompts(QUESTION), max_new_tokens=12, **GREEDY)
    report = diff(base, eager)
    assert (report.same, report.reason) == (True, "rounding")
    assert report.first is not None
    assert report.first.module is not None
    # The attention itself may differ by too little to show in its mean, deviation and extremes.
    part = report.first.module.removeprefix("model.layers.0.")
    assert part.partition(".")[0] in {"self_attn", "post_attention_layernorm", "mlp"}
    assert part not in {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.rotary_emb"}
    assert max(distance.divergence for distance in report.logits) < 1e-8


def test_a_changed_weight_in_layer_17(base: MemoryRun) -> None:
    changed = model()
    with torch.no_grad():
        changed.get_submodule("model.layers.17.mlp.up_proj").weight[5, 7] += 0.5
    report = diff(base, real_run(changed, prompts(QUESTION), max_new_tokens=12, **GREEDY))
    assert (report.same, report.reason) == (False, "weights")
    assert report.first_beyond is not None
    assert report.first_beyond.module == "model.layers.17.mlp.up_proj"


def test_a_padded_batch_against_the_prompt_alone(base: MemoryRun) -> None:
    both = real_run(demo_model(), prompts(QUESTION, LONGER), max_new_tokens=12, **GREEDY)
    report = diff(base, both)
    padding = report.rows[0].padding_b
    assert padding > 0
    assert (report.same, report.reason) == (True, "rounding")
    assert f"padding row 0 0 / {padding}" in report.explanation


@pytest.mark.slow
def test_cache_off(base: MemoryRun) -> None:
    other = real_run(demo_model(), prompts(QUESTION), max_new_tokens=12, use_cache=False, **GREEDY)
    report = diff(base, other)
    assert (report.same, report.reason) == (True, "rounding")


def test_bfloat16(base: MemoryRun) -> None:
    half = model(torch_dtype=torch.bfloat16)
    report = diff(base, real_run(half, prompts(QUESTION), max_new_tokens=12, **GREEDY))
    assert report.first_beyond is None
    assert "dtype float32 / bfloat16" in report.explanation


def test_draws_and_other_settings() -> None:
    demo, inputs, replayer = demo_model(), prompts(QUESTION), TorchReplayer()
    run = real_run(demo, inputs, seed=3, max_new_tokens=16, **SAMPLING)
    states = DrawStates(run, replayer)
    assert all(near_misses(run, step.number, replayer, states=states).reproduced for step in run.steps)
    other = real_run(demo, inputs, seed=3, max_new_tokens=16, **{**SAMPLING, "temperature": 1.2})
    report = whatif(run.without(), Settings(temperature=1.2), replayer=replayer)
    assert report.exact
    found = diff(run, other).first_token
    assert report.first_step == (found.step if found else None)
    removed = why_in_run(run, 2, 0)
    assert removed.removed_by is not None
    assert removed.removed_by.class_name == "TopKLogitsWarper"
