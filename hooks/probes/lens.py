"""The logit lens: what each layer would have predicted, had it been the last one."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from hooks.caught_step import CaughtStep
from hooks.faults import is_ours
from hooks.known_models import known_model
from hooks.modules.module_watch import Observer
from hooks.printing import printed_error
from hooks.probes.decoder_parts import beside_layers, decoder_layers
from hooks.probes.projection import FAR, Projection, distance, find_projection
from hooks.tensors import clone, tensors_in
from tracer.errors import UnsupportedError
from tracer.schema.faults import CaptureError, ProbedCapture

TOP = 5
"""Tokens recorded per layer."""

_CHUNK = 1 << 24
"""Most logits in memory at once."""


class LensProbe:
    """Clones each layer's hidden state at the last position, and projects it when the step is over.

    How the model comes from the last layer's output to its logits is seen in the first step, by the modules
    that it calls behind that layer, and is used only where it gives the model's own logits. Stores
    ``lens/tokens`` ``[layers, batch, 5]`` int32 and ``lens/probabilities`` ``[layers, batch, 5]`` float32,
    and of the token that the step chose ``lens/rank`` ``[layers, batch]`` int32 and ``lens/probability``
    ``[layers, batch]`` float32: rank and softmax of the raw logits, before any processor.

    Args:
        model: a decoder-only model.

    Raises:
        UnsupportedError: there is no list of layers, no norm behind it or no head, or the model is known to
            predict from something else than the last layer's output.
    """

    capture: ProbedCapture = "lens"

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._layers = decoder_layers(model)
        self._beside = beside_layers(model, self._layers)
        _require_layers(model, self._layers, self._beside)
        self._hidden: list[torch.Tensor | None] = [None] * len(self._layers)
        self._called: list[nn.Module] = []
        self._forwarded = False
        self._projection: Projection | None = None
        self._fault: str | None = None
        self._failed = False

    def observers(self) -> Mapping[nn.Module, Observer]:
        """The decoder layers, whose hidden states are cloned, and the modules that may stand behind them."""
        return {
            **{module: functools.partial(self._note_called, module) for module in self._beside},
            **{layer: functools.partial(self._observe, index) for index, layer in enumerate(self._layers)},
        }

    def enter(self) -> None:
        """The run begins."""

    def leave(self) -> None:
        """The run is over."""

    def begin(self) -> None:
        """The forward pass starts."""
        self._hidden, self._called, self._forwarded = [None] * len(self._hidden), [], False

    def end(self) -> None:
        """The forward pass is over; a loop may call the head again."""
        self._forwarded = True

    def finish(self, step: CaughtStep) -> None:
        """Project the hidden states, and rank the chosen tokens among their predictions."""
        hidden_states, self._hidden = self._hidden, [None] * len(self._hidden)
        called, self._called = self._called, []
        states = [state for state in hidden_states if state is not None]
        fault, self._fault = self._fault, None
        if fault is not None:
            # Said once: what fails in one step fails in all.
            step.errors += [] if self._failed else [_capture_error(fault)]
            self._failed = True
            return
        # A run that failed did not come to all layers.
        if step.failure is not None:
            return
        if len(states) < len(hidden_states):
            missing = hidden_states.index(None)
            step.miss("lens", "layers", f"the output of layer {missing} was not seen")
            return
        if step.parents:
            states = [state[[*step.parents]] for state in states]
        with torch.no_grad():
            # Layers may live on several devices; the last one's is where norm and head are.
            self._finish(step, torch.stack([state.to(states[-1].device) for state in states]), called)

    def _finish(self, step: CaughtStep, hidden: torch.Tensor, called: list[nn.Module]) -> None:
        """Project hidden states ``[layers, batch, hidden]``, if that gives the model's own prediction."""
        chosen, scores = step.tensors.chosen, step.tensors.scores
        if chosen is None or scores is None:
            return
        # Rows of the scores are those that continue them, which may be others.
        logits = scores[0] if step.logits is None else step.logits[[*step.parents] or slice(None)]
        reason = self._mismatch(hidden[-1], logits.to(hidden.device).float(), called)
        if reason is not None:
            step.miss("lens", "layers", reason)
        elif self._projection is not None:
            step.tensors.saved.update(self._project(self._projection, hidden, chosen, scores[0].shape[-1]))

    def _mismatch(self, last: torch.Tensor, logits: torch.Tensor, called: list[nn.Module]) -> str | None:
        """Why the last layer's output does not give the model's own prediction; None where it does."""
        if self._projection is None:
            self._projection = find_projection(self._model, called, last, logits)
        if self._projection is None:
            finite = bool(torch.isfinite(logits).all())
            return f"the model's logits are {_NOT_GIVEN if finite else 'not finite'}"
        far = distance(self._projection.logits(last), logits)
        if far <= FAR:
            return None
        return f"the last layer's logits are not the model's own (relative difference {far:.2g})"

    def _observe(self, index: int, output: Any) -> None:
        try:
            found = tensors_in(output)
            if found and found[0].dim() == 3:
                self._hidden[index] = clone(found[0][:, -1, :])
        except Exception as error:
            if not is_ours(error):
                raise
            self._fault = f"layer {index}: {printed_error(error)}"

    def _note_called(self, module: nn.Module, _output: Any) -> None:
        """A module outside of the layers returned; once behind the last layer, it may lead to the logits."""
        if self._projection is None and not self._forwarded and self._hidden[-1] is not None:
            self._called.append(module)

    def _project(
        self, projection: Projection, hidden: torch.Tensor, chosen: torch.Tensor, vocabulary: int
    ) -> dict[str, torch.Tensor]:
        """Top tokens, and the rank of the chosen ones.

        Args:
            projection: from a layer's output to logits.
            hidden: ``[layers, batch, hidden]``.
            chosen: ``[batch]``.
            vocabulary: how many logits there are.
        """
        layers, rows = hidden.shape[:2]
        flat = hidden.flatten(0, 1)
        chosen_ids = chosen.to(flat.device).repeat(layers)[:, None]
        size = max(1, _CHUNK // vocabulary)
        parts = []
        for start in range(0, len(flat), size):
            logits, own = projection.logits(flat[start : start + size]), chosen_ids[start : start + size]
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


def _capture_error(message: str) -> CaptureError:
    return CaptureError(stop="layers", message=message, capture="lens")


_NOT_GIVEN = "not given by the modules that it calls behind its last layer"


def _unavailable(problem: str) -> UnsupportedError:
    return UnsupportedError(f"save=lens: {problem}", command_line=f"--lens: {problem}")


def _require_layers(model: PreTrainedModel, layers: list[nn.Module], beside: list[nn.Module]) -> None:
    name, known = type(model).__name__, known_model(model)
    if known.lens is not None:
        raise _unavailable(f"{name}: {known.lens}.")
    if not known.rows_first:
        raise _unavailable(f"{name}: its layers do not have the row of the batch first.")
    if not layers:
        raise _unavailable(f"{name} has no list of layers.")
    if not isinstance(model.get_output_embeddings(), nn.Module):
        raise _unavailable(f"{name} has no output head.")
    inside = (module for each in beside for module in each.modules())
    if not any("norm" in type(module).__name__.lower() for module in inside):
        raise _unavailable(f"{name}: no final norm was found outside of its layers.")
