"""The demo model, loaded once in a process."""

from __future__ import annotations

import functools

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.support.network import demo_checkpoint


@functools.cache
def demo_model() -> PreTrainedModel:
    """The demo model in float32 with the attention of transformers' choice; nobody may change it."""
    return AutoModelForCausalLM.from_pretrained(demo_checkpoint(), torch_dtype=torch.float32).eval()
