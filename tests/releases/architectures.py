"""Tiny random models of today's architectures, those that the installed transformers has."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

Sizes = dict[str, Any]

_GQA: Sizes = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
_TWO_KINDS = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

ARCHITECTURES: dict[str, tuple[str, Sizes]] = {
    "qwen2": ("Qwen2Config", _GQA),
    "llama": ("LlamaConfig", _GQA),
    "mistral": ("MistralConfig", {**_GQA, "sliding_window": 4}),
    "gemma2": ("Gemma2Config", {**_GQA, **_TWO_KINDS}),
    "gemma3": ("Gemma3TextConfig", {**_GQA, **_TWO_KINDS}),
    "gpt2": (
        "GPT2Config",
        {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "eos_token_id": None},
    ),
    "phi3": ("Phi3Config", _GQA),
    "qwen3": ("Qwen3Config", _GQA),
    "qwen3_moe": ("Qwen3MoeConfig", {**_GQA, **_MOE}),
    "qwen3_next": (
        "Qwen3NextConfig",
        {
            **_GQA,
            **_MOE,
            "shared_expert_intermediate_size": 16,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "layer_types": ["linear_attention", "full_attention"],
        },
    ),
    "gpt_oss": ("GptOssConfig", {**_GQA, **_TWO_KINDS, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "mamba": (
        "MambaConfig",
        {
            "vocab_size": 100,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "state_size": 4,
            "pad_token_id": 0,
            "eos_token_id": None,
        },
    ),
}
"""Class and settings of the configuration, by name."""

INSTALLED = [name for name, (kind, _) in ARCHITECTURES.items() if hasattr(transformers, kind)]


def architecture(name: str) -> PreTrainedModel:
    """A random model in eval mode.

    Args:
        name: one of :data:`INSTALLED`.
    """
    return copy.deepcopy(_made(name))


@functools.cache
def _made(name: str) -> PreTrainedModel:
    kind, sizes = ARCHITECTURES[name]
    config = getattr(transformers, kind)(**sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # The default spread gives nearly equal logits; wider weights give real choices.
        config.initializer_range = 0.3
        return AutoModelForCausalLM.from_config(config).eval()
