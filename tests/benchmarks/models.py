"""What the benchmarks run on: the demo model, and on CUDA a model of Qwen2-7B's shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from tracer.loading.model_spec import ModelSpec
from tracer.loading.models import load_model

_WALKTHROUGH: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 20,
    "top_p": 0.8,
    "repetition_penalty": 1.05,
}

_GREEDY: dict[str, Any] = {"do_sample": False, "repetition_penalty": 1.05}

MODES: dict[str, dict[str, Any]] = {
    "sample": _WALKTHROUGH,
    "beams": {**_WALKTHROUGH, "num_beams": 4},
    "groups": {**_GREEDY, "num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    "constrained": {**_GREEDY, "num_beams": 4, "force_words_ids": [[14230]]},
    "assisted": {**_WALKTHROUGH, "prompt_lookup_num_tokens": 3},
    "dola": {**_WALKTHROUGH, "dola_layers": "high"},
}
"""Settings by decoding mode: those of the walkthrough, or its greedy ones, and what leads to the mode."""


@dataclass(frozen=True)
class Subject:
    """A model to measure. It has no end-of-sequence token, so that every run is as long as asked for.

    Attributes:
        name: for the report.
        model: on its device, in eval mode.
        mode: a key of :data:`MODES`.
    """

    name: str
    model: PreTrainedModel
    mode: str = "sample"

    def __post_init__(self) -> None:
        self.model.generation_config.eos_token_id = None

    def inputs(self, rows: int, length: int) -> dict[str, torch.Tensor]:
        """Random prompts of one length; the ids stay clear of special tokens."""
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(100, 40_000, (rows, length), generator=generator).to(self.model.device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def generate(self, inputs: dict[str, torch.Tensor], new_tokens: int) -> Any:
        """Draw exactly ``new_tokens`` tokens a row."""
        torch.manual_seed(0)
        output = self.model.generate(
            **inputs,
            **MODES[self.mode],
            max_new_tokens=new_tokens,
            pad_token_id=2,
        )
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
        return output


def demo_subject() -> Subject:
    """The demo model on the CPU."""
    return Subject("demo model (SmolLM2-135M), float32, CPU", load_model(ModelSpec(device_map="cpu")).model)


def cuda_subject() -> Subject:
    """Qwen2-7B's shape in bfloat16 with random weights, made on the device."""
    config = Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        max_position_embeddings=32768,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda"):
            model = Qwen2ForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    return Subject("Qwen2-7B shape, bfloat16, random weights, CUDA", model)
