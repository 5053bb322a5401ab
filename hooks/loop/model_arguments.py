"""Which arguments ``generate()`` of a model takes, besides the prompt and the settings."""

from __future__ import annotations

import inspect

from transformers import PreTrainedModel


def takes_attention_mask(model: PreTrainedModel) -> bool:
    """Whether a model takes an attention mask; one that does not, such as Mamba, refuses it.

    Args:
        model: the model that generates.
    """
    names = set(inspect.signature(model.prepare_inputs_for_generation).parameters)
    # As the library decides it: through these the argument reaches the forward pass.
    if names & {"kwargs", "model_kwargs"}:
        names |= set(inspect.signature(model.forward).parameters)
    return "attention_mask" in names
