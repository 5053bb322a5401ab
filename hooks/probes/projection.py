"""From the output of a decoder's last layer to the model's logits, on the way that the model takes itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from hooks.faults import is_ours
from hooks.tensors import first_tensor

FAR = 1e-2
"""Largest difference between two ways to the same logits, relative to the largest logit."""

_CAPS = ("final_logit_softcapping", "logits_soft_cap")
"""Settings of a soft cap on the logits, by the names that models give them."""


@dataclass(frozen=True)
class Projection:
    """Modules that a hidden state goes through, and what the model does with the logits behind them.

    Attributes:
        modules: in order, such as the final norm and the head.
        cap: soft cap of the logits; None without one.
        factor: what the logits are multiplied by.
    """

    modules: tuple[nn.Module, ...] = ()
    cap: float | None = None
    factor: float = 1.0

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[n, vocabulary]`` float32 of hidden states ``[n, hidden]``."""
        # Modules expect [batch, positions, hidden]. Their forward is called, and not they themselves, so
        # that hooks of the user's do not see a call that is none of the model's. What stands in place of
        # forward does see it: Accelerate's wrapper has to bring weights that are elsewhere between calls.
        state = hidden[:, None, :]
        for module in self.modules:
            state = first_tensor(module.forward(state))
        # A head that shares its weights with the embedding may be on another GPU than the last layer.
        logits = state[:, 0, :].float().to(hidden.device)
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits if self.factor == 1 else logits * self.factor


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference of logits, relative to the largest logit; NaN where some are not finite."""
    if ours.shape != theirs.shape:
        return math.inf
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-6))


def find_projection(
    model: PreTrainedModel, called: Sequence[nn.Module], hidden: torch.Tensor, logits: torch.Tensor
) -> Projection | None:
    """The way from the last layer's output to the logits; None if none of those looked for gives them.

    Args:
        model: the model.
        called: modules outside of the layers that were called behind the last layer, in order.
        hidden: ``[batch, hidden]`` the last layer's output.
        logits: ``[batch, vocabulary]`` float32 what the model made of it.
    """
    for start in range(len(called)):
        modules = tuple(called[start:])
        ours = _try(Projection(modules), hidden)
        if ours is None or ours.shape != logits.shape:
            continue
        for cap, factor in _behind_head(model, ours, logits):
            found = Projection(modules, cap, factor)
            if distance(found.logits(hidden), logits) <= FAR:
                return found
    return None


def _behind_head(
    model: PreTrainedModel, ours: torch.Tensor, theirs: torch.Tensor
) -> Iterator[tuple[float | None, float]]:
    """What the model may do with the logits: nothing, a soft cap, or a factor, which shows in the logits."""
    yield None, 1.0
    for name in _CAPS:
        cap = getattr(model.config, name, None)
        if cap:
            yield float(cap), 1.0
    factor = float((ours * theirs).sum() / ours.square().sum().clamp_min(1e-30))
    if math.isfinite(factor) and factor > 0:
        yield None, factor


def _try(projection: Projection, hidden: torch.Tensor) -> torch.Tensor | None:
    """The logits; None from modules that take something else than one hidden state."""
    try:
        return projection.logits(hidden)
    except Exception as error:
        if not is_ours(error):
            raise
        return None
