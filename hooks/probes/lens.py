"""The logit lens: what each layer would have predicted, had it been the last one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from hooks.caught_step import CaughtStep
from hooks.modules.module_watch import Observer
from hooks.probes.decoder_parts import decoder_layers, final_norm, output_head
from hooks.tensors import clone, tensors_in
from tracer.errors import UnsupportedError
from tracer.schema.step import CaptureError, ProbedCapture

TOP = 5
"""Tokens recorded per layer."""

_CHUNK = 1 << 24
"""Most logits in memory at once."""

_FAR = 1e-2
"""Largest difference between the last layer's logits and the model's own, relative to the largest logit."""


class LensProbe:
    """Clones each layer's hidden state at the last position, and projects it when the step is over.

    Stores ``lens/tokens`` ``[layers, batch, 5]`` int32 and ``lens/probabilities`` ``[layers, batch, 5]``
    float32, and of the token that the step chose ``lens/rank`` ``[layers, batch]`` int32 and
    ``lens/probability`` ``[layers, batch]`` float32: rank and softmax of the raw logits, before any
    processor.

    Args:
        model: a decoder-only model.

    Raises:
        UnsupportedError: layers, final norm or output head were not found.
    """

    capture: ProbedCapture = "lens"

    def __init__(self, model: PreTrainedModel) -> None:
        layers = decoder_layers(model)
        if not layers:
            raise _unavailable(f"{type(model).__name__} has no list of layers.")
        try:
            self._norm, self._head = final_norm(model), output_head(model)
        except UnsupportedError as error:
            raise _unavailable(str(error)) from None
        self._after = _after_head(model)
        self._layers = layers
        self._hidden: list[torch.Tensor | None] = [None] * len(layers)

    def observers(self) -> Mapping[nn.Module, Observer]:
        """The decoder layers, whose hidden states are cloned."""
        return {layer: functools.partial(self._observe, index) for index, layer in enumerate(self._layers)}

    def enter(self) -> None:
        """The run begins."""

    def leave(self) -> None:
        """The run is over."""

    def begin(self) -> None:
        """The forward pass starts."""
        self._hidden = [None] * len(self._hidden)

    def end(self) -> None:
        """The forward pass is over."""

    def finish(self, step: CaughtStep) -> None:
        """Project the hidden states, and rank the chosen tokens among their predictions."""
        chosen, scores = step.tensors.chosen, step.tensors.scores
        hidden_states, self._hidden = self._hidden, [None] * len(self._hidden)
        states = [state for state in hidden_states if state is not None]
        if chosen is None or not states or step.failure is not None:
            return
        if len(states) < len(hidden_states):
            missing = hidden_states.index(None)
            step.errors.append(_fault(f"the output of layer {missing} was not seen"))
            return
        with torch.no_grad():
            # Layers may live on several devices; the last one's is where norm and head are.
            hidden = torch.stack([state.to(states[-1].device) for state in states])
            step.tensors.saved.update(self._project(hidden, chosen))
            if scores is not None:
                self._compare(hidden[-1], scores[0], step)

    def _observe(self, index: int, output: Any) -> None:
        found = tensors_in(output)
        if found and found[0].dim() == 3:
            self._hidden[index] = clone(found[0][:, -1, :])

    def _project(self, hidden: torch.Tensor, chosen: torch.Tensor) -> dict[str, torch.Tensor]:
        """Top tokens, and the rank of the chosen ones.

        Args:
            hidden: ``[layers, batch, hidden]``.
            chosen: ``[batch]``.
        """
        layers, rows = hidden.shape[:2]
        flat = hidden.flatten(0, 1)
        chosen_ids = chosen.to(flat.device).repeat(layers)[:, None]
        vocabulary = int(getattr(self._head, "out_features", 1 << 17))
        size = max(1, _CHUNK // vocabulary)
        parts = []
        for start in range(0, len(flat), size):
            logits, own = self._logits(flat[start : start + size]), chosen_ids[start : start + size]
            shares = torch.softmax(logits, dim=-1)
            top = torch.topk(logits, min(TOP, logits.shape[-1]), dim=-1).indices
            rank = 1 + (logits > logits.gather(1, own)).sum(dim=-1)
            parts.append((top.int(), shares.gather(1, top), rank.int(), shares.gather(1, own)[:, 0]))
        names = ("lens/tokens", "lens/probabilities", "lens/rank", "lens/probability")
        whole = (torch.cat(column) for column in zip(*parts, strict=True))
        return {
            name: tensor.reshape(layers, rows, *tensor.shape[1:])
            for name, tensor in zip(names, whole, strict=True)
        }

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[n, vocabulary]`` float32 of hidden states ``[n, hidden]``."""
        # Modules expect [batch, positions, hidden]. Their forward is called, and not they themselves, so
        # that hooks of the user's do not see a call that is none of the model's. What stands in place of
        # forward does see it: Accelerate's wrapper has to bring weights that are elsewhere between calls.
        logits: torch.Tensor = self._head.forward(self._norm.forward(hidden[:, None, :]))[:, 0, :]
        return self._after(logits).float()

    def _compare(self, last: torch.Tensor, logits: torch.Tensor, step: CaughtStep) -> None:
        """The lens of the last layer must be the model's own prediction."""
        ours, theirs = self._logits(last), logits.to(last.device).float()
        far = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-6))
        if not far <= _FAR:
            step.errors.append(
                _fault(f"the last layer's logits are not the model's own (relative difference {far:.2g})")
            )


def _fault(message: str) -> CaptureError:
    return CaptureError(stop="layers", message=message, capture="lens")


def _unavailable(problem: str) -> UnsupportedError:
    return UnsupportedError(f"save=lens: {problem}", command_line=f"--lens: {problem}")


def _after_head(model: PreTrainedModel) -> Callable[[torch.Tensor], torch.Tensor]:
    """The model's own function of the logits behind its head: a cap (Gemma 2) or a factor (Cohere)."""
    cap = getattr(model.config, "final_logit_softcapping", None)
    factor = getattr(model.config, "logit_scale", None)

    def after(logits: torch.Tensor) -> torch.Tensor:
        if cap:
            logits = torch.tanh(logits / cap) * cap
        return logits * factor if factor else logits

    return after
