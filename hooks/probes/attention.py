"""Attention weights of each layer, as the model formed them or recomputed and checked."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from hooks.caught_step import CaughtStep
from hooks.faults import is_ours
from hooks.inherited import method_of
from hooks.known_models import known_model
from hooks.method_layer import MethodLayer
from hooks.modules.module_watch import Observer
from hooks.patches import add_layer, remove_layer
from hooks.printing import printed_error
from hooks.probes.decoder_parts import attention_of, decoder_layers
from hooks.tensors import clone, to_host_all
from hooks.user_modes import outside_autocast, unseen_by_modes
from tracer.errors import UnsupportedError
from tracer.schema.faults import CaptureError, ProbedCapture

MANY = 64 * 64
"""Beyond this product of new positions and context, only the last position of a forward pass is recorded."""

_SOFTMAX = (nn.functional.softmax, torch.softmax, torch.Tensor.softmax)
_ROUNDINGS = 16
"""Roundings of the values' dtype by which recomputed weights may miss the module's output."""

_UNITS = {"highest": torch.finfo(torch.float32).eps, "high": 2.0**-10, "medium": 2.0**-7}
"""Rounding of the factors in products of float32 matrices, by what ``torch.set_float32_matmul_precision`` was
told: that of float32, TF32 or bfloat16."""


class AttentionProbe:
    """Records the attention weights that modules compute while they run, and changes nothing of it.

    ``eager`` attention forms its weights with a softmax, whose result is recorded as it is. ``sdpa`` never
    forms them: they are recomputed in float32 from the queries and keys of the call, and recorded only if
    with its values they give its output, within rounding. Stores ``attention/LAYER``
    ``[batch, heads, positions, context]``: all new positions where these are few, else the last one.

    Args:
        model: a decoder-only model.

    Raises:
        UnsupportedError: for an implementation that shows no weights, or a layer without attention.
    """

    capture: ProbedCapture = "attention"

    def __init__(self, model: PreTrainedModel) -> None:
        require_visible_attention(model)
        self._modules = [attention_of(layer) for layer in decoder_layers(model)]
        self._heads = [_query_heads(module) for module in self._modules]
        self._watched: list[tuple[nn.Module, MethodLayer]] = []
        self._layers = len(self._modules)
        self._faults: list[tuple[int, str]] = []
        self._said: set[str] = set()
        self._weights: dict[int, torch.Tensor] = {}
        self._misses: dict[int, torch.Tensor] = {}

    def observers(self) -> Mapping[nn.Module, Observer]:
        """No module's output has to be seen."""
        return {}

    def enter(self) -> None:
        """Watch the attention module of every layer."""
        for index, module in enumerate(self._modules):
            if module is not None:
                layer = MethodLayer(method_of(module, "forward"), functools.partial(self._call, index))
                self._watched.append((module, layer))
                add_layer(module, "forward", layer)

    def leave(self) -> None:
        """Watch no longer."""
        while self._watched:
            module, layer = self._watched[-1]
            remove_layer(module, "forward", layer)
            self._watched.pop()

    def begin(self) -> None:
        """The forward pass starts."""
        self._weights, self._misses, self._faults = {}, {}, []
        _active.set((*_active.get(), self))

    def end(self) -> None:
        """The forward pass is over."""
        _active.set(tuple(probe for probe in _active.get() if probe is not self))

    def finish(self, step: CaughtStep) -> None:
        """Store the weights that hold, and say why the others are missing."""
        weights, misses, faults = self._of_rows(step), self._misses, self._faults
        self._weights, self._misses, self._faults = {}, {}, []
        found = to_host_all([*misses.values()])  # a GPU is waited for once
        wrong = {index for index, miss in zip(misses, found, strict=True) if not float(miss) <= 1}
        for index in sorted(weights.keys() - wrong):
            step.tensors.saved[f"attention/{index}"] = weights[index]
        # A run that failed did not come to all layers.
        known = {*weights, *(index for index, _ in faults)}
        unseen = [index for index in range(self._layers) if index not in known and not step.failure]
        missed = _of_layers(unseen, "was not seen") + _of_layers(sorted(wrong), "could not be recomputed")
        for reason in missed:
            step.miss("attention", "layers", reason)
        step.errors += self._new_errors(faults)

    def _new_errors(self, faults: list[tuple[int, str]]) -> list[CaptureError]:
        """Faults of this probe that no earlier step has said."""
        messages = [f"layer {index}: {fault}" for index, fault in faults]
        new = [message for message in messages if message not in self._said]
        self._said.update(new)
        return [CaptureError(stop="layers", message=message, capture="attention") for message in new]

    def _of_rows(self, step: CaughtStep) -> dict[int, torch.Tensor]:
        """The weights with a dimension for the rows; without those whose first dimension is not of rows."""
        rows = step.rows
        fitting = {index: found for index, found in self._weights.items() if not len(found) % rows}
        return {
            index: found if found.dim() == 4 else found.reshape(rows, -1, *found.shape[1:])
            for index, found in fitting.items()
        }

    def note_weights(self, index: int, weights: torch.Tensor) -> None:
        """Clone weights that a module formed.

        Args:
            index: its layer.
            weights: ``[batch, heads, positions, context]``, or the first two as one dimension.
        """
        self._weights[index] = clone(weights[..., -recorded_positions(*weights.shape[-2:]) :, :])

    def note_call(self, index: int, call: _SdpaCall, output: torch.Tensor) -> None:
        """Recompute weights that a module did not form.

        Args:
            index: its layer.
            call: what attention was computed from.
            output: its result, ``[batch, heads, positions, head dim]``.
        """
        output = call.unpack(output, self._heads[index])
        count = recorded_positions(call.query.shape[-2], call.key.shape[-2])
        weights = call.weights(count)
        self._weights[index] = weights
        self._misses[index] = call.miss(weights, output[..., -count:, :])

    def note_fault(self, index: int, error: Exception) -> None:
        """Record a fault of this probe.

        Args:
            index: the layer.
            error: the fault.
        """
        self._faults.append((index, printed_error(error)))

    def _call(
        self, index: int, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self not in _active.get():
            return inner(*args, **kwargs)
        with _AttentionMode(self, index):
            return inner(*args, **kwargs)


def _query_heads(module: nn.Module | None) -> int | None:
    found = getattr(getattr(module, "config", None), "num_attention_heads", None)
    return found if isinstance(found, int) else None


_active: ContextVar[tuple[AttentionProbe, ...]] = ContextVar("attention_probes", default=())
"""Probes whose run has its forward pass in this context."""


def _of_layers(layers: list[int], what: str) -> list[str]:
    return [f"that of layers {', '.join(map(str, layers))} {what}"] if layers else []


def recorded_positions(new: int, context: int) -> int:
    """How many of the new positions are recorded, counted from the last.

    Args:
        new: positions of the forward pass.
        context: positions they look at.
    """
    return new if new * context <= MANY else 1


def require_visible_attention(model: PreTrainedModel) -> None:
    """Refuse models whose attention weights cannot be recorded.

    Raises:
        UnsupportedError: naming the reason and what to do.
    """
    name, kind = type(model).__name__, getattr(model.config, "_attn_implementation", None)
    if kind not in ("eager", "sdpa", None):
        problem = f"{kind} never forms the weights and shows no queries and keys; load the model with"
        raise UnsupportedError(
            f"save=attention: {problem} attn_implementation='eager' or 'sdpa'.",
            command_line=f"--save attention: {problem} --attn eager or sdpa.",
        )
    known = known_model(model)
    if known.attention is not None:
        problem = f"{name}: {known.attention}."
        raise UnsupportedError(f"save=attention: {problem}", command_line=f"--save attention: {problem}")
    layers = decoder_layers(model)
    bare = next((index for index, layer in enumerate(layers) if attention_of(layer) is None), None)
    if bare is not None or not layers:
        where = f"layer {bare} of {name}" if layers else name
        raise UnsupportedError(
            f"save=attention: {where} has no attention module.",
            command_line=f"--save attention: {where} has no attention module.",
        )


class _AttentionMode(TorchFunctionMode):
    """Intercepts the torch calls of one attention module; each is made exactly as it was meant."""

    def __init__(self, probe: AttentionProbe, index: int) -> None:
        super().__init__()
        self._probe = probe
        self._index = index

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self._note(func, args, kwargs, result)
        return result

    @outside_autocast
    @unseen_by_modes
    def _note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        try:
            if func is nn.functional.scaled_dot_product_attention:
                self._probe.note_call(self._index, _SdpaCall(*args, **kwargs), result)
            elif func in _SOFTMAX and result.dim() in (3, 4):
                self._probe.note_weights(self._index, result)
        except Exception as error:
            if not is_ours(error):
                raise
            self._probe.note_fault(self._index, error)


def _matmul_unit() -> float:
    try:
        return _UNITS[torch.get_float32_matmul_precision()]
    except RuntimeError as error:  # set for some backends alone, by newer functions
        if not is_ours(error):
            raise
        return max(_UNITS.values())


class _SdpaCall:
    """Arguments of ``scaled_dot_product_attention``.

    Attributes:
        query: ``[batch, heads, positions, head dim]``.
        key: ``[batch, KV heads, context, head dim]``.
    """

    def __init__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        self.query = query
        self.key = key
        self._value = value
        self._mask = attn_mask
        self._causal = is_causal
        self._scale = scale if scale is not None else 1 / math.sqrt(query.shape[-1])

    def unpack(self, output: torch.Tensor, heads: int | None) -> torch.Tensor:
        """Undo the form of a single position in which the heads that share keys stand as positions.

        Newer releases compute it so (``pack_gqa`` of ``integrations/sdpa_attention.py``).

        Args:
            output: ``[batch, heads, positions, head dim]``.
            heads: query heads of the module, None where it does not say.

        Returns:
            The output in the ordinary form; the arguments have it too.
        """
        batch, rows, positions, _ = self.query.shape
        if heads is None or rows == heads or rows * positions != heads:
            return output
        self.query = self.query.reshape(batch, heads, 1, -1)
        if self._mask is not None and self._mask.shape[1] > 1:
            self._mask = self._mask.reshape(len(self._mask), heads, 1, -1)
        return output.reshape(batch, heads, 1, -1)

    def weights(self, count: int) -> torch.Tensor:
        """Weights of the last positions, ``[batch, heads, count, context]`` float32.

        Args:
            count: how many.
        """
        query = self.query[..., -count:, :].float()
        scores = query @ self._of_all_heads(self.key).float().transpose(-2, -1) * self._scale
        positions, context = self.query.shape[-2], self.key.shape[-2]
        if self._causal:
            seen = torch.ones(positions, context, dtype=torch.bool, device=scores.device).tril()
            scores = scores.masked_fill(~seen[-count:], -math.inf)
        if self._mask is not None:
            mask = self._mask[..., -count:, :] if self._mask.shape[-2] > 1 else self._mask
            scores = (
                scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask.float()
            )
        # As torch does it: a position that sees none, as padding does, gets no weights.
        blind = scores.isneginf().all(dim=-1, keepdim=True)
        return torch.softmax(scores, dim=-1).masked_fill(blind, 0.0)

    def miss(self, weights: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """By how much weights miss an output; up to 1 is rounding.

        Args:
            weights: ``[batch, heads, count, context]``.
            output: ``[batch, heads, count, head dim]``.
        """
        values = self._of_all_heads(self._value).float()
        unit = max(torch.finfo(output.dtype).eps, _matmul_unit())
        allowed = _ROUNDINGS * unit * values.abs().amax().clamp_min(1e-30)
        return (weights @ values - output.float()).abs().amax() / allowed

    def _of_all_heads(self, tensor: torch.Tensor) -> torch.Tensor:
        """Keys or values with each KV head repeated for the queries that share it."""
        shared = self.query.shape[1] // tensor.shape[1]
        return tensor if shared == 1 else tensor.repeat_interleave(shared, dim=1)
