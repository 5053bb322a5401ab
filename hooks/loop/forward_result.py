"""The record of a forward pass's results."""

from __future__ import annotations

from functools import lru_cache

import torch

from hooks.tensors import info
from tracer.schema.step import ForwardResult


def forward_result(logits: torch.Tensor, batch: int, stacked: int = 1) -> ForwardResult:
    """The record of results with these logits; the hidden states are added when the module calls are known.

    Args:
        logits: ``[rows / stacked, new tokens, vocab]``, where a row of the batch may be in it several times.
        batch: rows of the batch.
        stacked: forward passes whose results of this shape are stacked to one.
    """
    shape = logits.shape
    if stacked != 1:
        shape = torch.Size((shape[0] * stacked, *shape[1:]))
    return _record(shape, logits.dtype, logits.device, batch)


@lru_cache(maxsize=16)
def _record(shape: torch.Size, dtype: torch.dtype, device: torch.device, batch: int) -> ForwardResult:
    """All decode steps of a run share one."""
    return ForwardResult(
        hidden_states=None,
        logits=info(shape, dtype, device),
        next_logits=info(torch.Size((batch, shape[-1])), dtype, device),
    )
