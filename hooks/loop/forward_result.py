"""The record of a forward pass's results."""

from __future__ import annotations

from functools import lru_cache

import torch

from hooks.tensors import info
from tracer.schema.step import ForwardResult


def forward_result(logits: torch.Tensor, candidates: int = 1) -> ForwardResult:
    """The record of results with these logits; the hidden states are added when the module calls are known.

    Args:
        logits: ``[batch · candidates, new tokens, vocab]``.
        candidates: how often each row of the batch went in.
    """
    return _record(logits.shape, logits.dtype, logits.device, candidates)


@lru_cache(maxsize=16)
def _record(shape: torch.Size, dtype: torch.dtype, device: torch.device, candidates: int) -> ForwardResult:
    """All decode steps of a run share one."""
    rows, _, vocabulary = shape
    batch = rows // candidates
    return ForwardResult(
        hidden_states=None,
        logits=info(shape, dtype, device),
        next_logits=info(torch.Size((batch, vocabulary)), dtype, device),
    )
