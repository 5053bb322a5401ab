"""What the first forward pass of a process imports, imported before the clock of a run starts."""

from __future__ import annotations

import importlib

from transformers import PreTrainedModel

from tracer.large_imports import large_imports


def import_for_forward(model: PreTrainedModel) -> None:
    """Import what the model's first forward pass would import, which takes seconds once in a process.

    With ``sdpa`` attention transformers asks whether it is being compiled
    (``modeling_attn_mask_utils.py`` 4.44.2), which makes torch import its compiler: hundreds of modules that
    would count into the prefill.

    Args:
        model: the model that is about to generate.
    """
    if getattr(model.config, "_attn_implementation", None) == "sdpa":
        with large_imports():
            importlib.import_module("torch._dynamo")
