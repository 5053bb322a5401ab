"""Generations of other decoding modes than ``_sample``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel
from transformers.generation import utils

from tests.support.models import tiny_model

SAMPLING: dict[str, Any] = {"do_sample": True, "temperature": 0.8, "top_k": 30, "repetition_penalty": 1.1}
GREEDY: dict[str, Any] = {"do_sample": False}
BEAMS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False, "num_beams": 3},
    "several": {"do_sample": False, "num_beams": 4, "num_return_sequences": 3, "repetition_penalty": 1.1},
    "sampling": {"do_sample": True, "num_beams": 3, "temperature": 0.8, "top_k": 20},
    "renormalized": {"do_sample": True, "num_beams": 2, "top_p": 0.8, "renormalize_logits": True},
    "ending": {"do_sample": False, "num_beams": 2, "eos_token_id": [*range(20, 60)], "early_stopping": True},
    "never": {
        "do_sample": False,
        "num_beams": 3,
        "eos_token_id": [*range(40, 60)],
        "early_stopping": "never",
    },
}

GROUPS: dict[str, dict[str, Any]] = {
    "two": {"do_sample": False, "num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.7},
    "single": {
        "do_sample": False,
        "num_beams": 3,
        "num_beam_groups": 3,
        "diversity_penalty": 1.5,
        "num_return_sequences": 3,
        "repetition_penalty": 1.1,
    },
    "ending": {
        "do_sample": False,
        "num_beams": 4,
        "num_beam_groups": 2,
        "diversity_penalty": 0.7,
        "eos_token_id": [*range(20, 60)],
        "early_stopping": True,
    },
}
CONSTRAINED: dict[str, dict[str, Any]] = {
    "phrase": {"do_sample": False, "num_beams": 3, "force_words_ids": [[30, 31, 32]]},
    "two": {
        "do_sample": False,
        "num_beams": 4,
        "force_words_ids": [[30, 31], [[40], [41, 42]]],
        "repetition_penalty": 1.1,
    },
    "ending": {
        "do_sample": False,
        "num_beams": 3,
        "force_words_ids": [[12]],
        "eos_token_id": [*range(20, 60)],
        "early_stopping": True,
    },
}


def search(model: PreTrainedModel, inputs: dict[str, torch.Tensor], seed: int = 1, **changed: Any) -> Any:
    """A beam search with everything that ``generate()`` can return."""
    torch.manual_seed(seed)
    return model.generate(
        **inputs,
        **{"max_new_tokens": 8, "pad_token_id": 0, **changed},
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
    )


def drafted(model: PreTrainedModel, spread: float = 0.02, seed: int = 5) -> PreTrainedModel:
    """A model that mostly agrees with another."""
    torch.manual_seed(seed)
    draft = tiny_model(model.config.model_type)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter.add_(torch.randn_like(parameter) * spread)
    return draft


def prompt(*ids: int) -> dict[str, torch.Tensor]:
    tensor = torch.tensor([ids or (5, 6, 7, 8, 9, 5, 6, 7, 8)])
    return {"input_ids": tensor, "attention_mask": torch.ones_like(tensor)}


def assisted(model: PreTrainedModel, inputs: Any, seed: int = 1, **changed: Any) -> Any:
    draft = changed.get("assistant_model")
    if draft is not None:
        draft.generation_config.num_assistant_tokens = 5  # a run leaves another number there
    torch.manual_seed(seed)
    return model.generate(
        **inputs,
        **{"max_new_tokens": 14, "pad_token_id": 0, **changed},
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
    )


def scorer_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let beam searches have a scorer that is not the library's, which is refused."""
    scorer = type("Scorer", (utils.BeamSearchScorer,), {})
    monkeypatch.setattr(utils, "BeamSearchScorer", scorer)


def fail_in_pass(model: PreTrainedModel, number: int) -> None:
    """Let a forward pass of a model fail with ``no more``."""
    calls = 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise RuntimeError("no more")

    model.lm_head.register_forward_hook(fail)


CONTRASTIVE: dict[str, dict[str, Any]] = {
    "plain": {"penalty_alpha": 0.6, "top_k": 4},
    "processed": {"penalty_alpha": 0.4, "top_k": 5, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    "ending": {"penalty_alpha": 0.8, "top_k": 3, "eos_token_id": [*range(20, 60)]},
    "penalty alone": {"penalty_alpha": 1.0, "top_k": 6},
}


def contrastive(model: PreTrainedModel, inputs: dict[str, torch.Tensor], **changed: Any) -> Any:
    """A contrastive search with everything that ``generate()`` can return."""
    return model.generate(
        **inputs,
        **{"max_new_tokens": 8, "pad_token_id": 0, "do_sample": False, **changed},
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        output_hidden_states=True,
    )
