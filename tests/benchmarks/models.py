"""What the benchmarks run on, and how it generates."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

Inputs: TypeAlias = dict[str, torch.Tensor]

_WALKTHROUGH: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 20,
    "top_p": 0.8,
    "repetition_penalty": 1.05,
}

_NEVER = 1 << 30
"""A token id that no model chooses."""

_GREEDY: dict[str, Any] = {
    "do_sample": False,
    "temperature": None,
    "top_k": None,
    "top_p": None,
    "repetition_penalty": 1.05,
}


_OF_7B: dict[str, Any] = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
}

_TINY: dict[str, Any] = {
    "vocab_size": 1000,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@dataclass(frozen=True)
class Mode:
    """A decoding mode.

    Attributes:
        settings: those of the walkthrough, or its greedy ones, and what leads to the mode.
        rows: of a forward pass for each prompt.
    """

    settings: Mapping[str, Any]
    rows: int = 1


MODES: dict[str, Mode] = {
    "sample": Mode(_WALKTHROUGH),
    "beams": Mode({**_WALKTHROUGH, "num_beams": 4}, rows=4),
    "groups": Mode({**_GREEDY, "num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5}, rows=4),
    "constrained": Mode({**_GREEDY, "num_beams": 4, "force_words_ids": [[14230]]}, rows=4),
    # Where there is no end-of-sequence token, torch.isin(…, None) ends the process in prompt lookup.
    "assisted": Mode({**_WALKTHROUGH, "prompt_lookup_num_tokens": 3, "eos_token_id": _NEVER}),
    "dola": Mode({**_WALKTHROUGH, "repetition_penalty": 1.2, "dola_layers": "high"}),
    "contrastive": Mode({**_GREEDY, "penalty_alpha": 0.6, "top_k": 4}, rows=4),
}


@dataclass(frozen=True)
class Subject:
    """A model to measure. It has no end-of-sequence token, so that every run is as long as asked for.

    Attributes:
        name: for the report.
        model: on its device, in eval mode.
        mode: how it generates.
    """

    name: str
    model: PreTrainedModel
    mode: Mode = MODES["sample"]

    def __post_init__(self) -> None:
        self.model.generation_config.eos_token_id = None

    def sharing_weights(self) -> Subject:
        """The same with another model, whose weights are those of this one."""
        tensors = (*self.model.parameters(), *self.model.buffers())
        return replace(self, model=deepcopy(self.model, {id(tensor): tensor for tensor in tensors}))

    def inputs(self, rows: int, length: int) -> Inputs:
        """Random prompts of one length; the ids stay clear of special tokens."""
        generator = torch.Generator().manual_seed(1)
        most = min(40_000, self.model.config.vocab_size)
        ids = torch.randint(100, most, (rows, length), generator=generator).to(self.model.device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def generate(self, inputs: Inputs, new_tokens: int, **settings: Any) -> Any:
        """Draw exactly ``new_tokens`` tokens a row, the same ones each time."""
        torch.manual_seed(0)
        return self.model.generate(
            **inputs, **self.mode.settings, **settings, max_new_tokens=new_tokens, pad_token_id=2
        )

    def wait(self) -> None:
        """Wait for the model's device."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()

    def random_state(self) -> torch.Tensor:
        """The state of the generator that draws."""
        cuda = self.model.device.type == "cuda"
        return torch.cuda.get_rng_state(self.model.device) if cuda else torch.get_rng_state()

    def set_random_state(self, state: torch.Tensor) -> None:
        """Go on drawing from a state."""
        if self.model.device.type == "cuda":
            torch.cuda.set_rng_state(state, self.model.device)
        else:
            torch.set_rng_state(state)


def random_subject(device: str) -> Subject:
    """A model with random weights: Qwen2-7B's shape in bfloat16 on CUDA, a tiny one in float32 on the CPU."""
    shape, dtype = (_OF_7B, torch.bfloat16) if device == "cuda" else (_TINY, torch.float32)
    config = Qwen2Config(**shape, tie_word_embeddings=False, attn_implementation="sdpa")
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = Qwen2ForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    what = "Qwen2-7B's shape" if device == "cuda" else "a tiny model"
    return Subject(f"{what}, {str(dtype)[6:]}, random weights, {device}", model)
