"""DoLa decoding: which earlier layer the last one is contrasted with, and what that does to the scores.

The library computes the logits of the candidate layers by calling the model's head once for each, after the
forward pass; what these calls return is all that is seen. The contrast is then computed again from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from hooks.caught_step import CaughtStep, LoopRecord
from hooks.decoding.loop_watch import OnePosition
from hooks.faults import is_ours
from hooks.modules.module_watch import Observer
from hooks.tensors import clone, tensors_in
from tracer.schema.checks import Check, Violation
from tracer.schema.contrast import ContrastedToken, EarlyLayer, LayerContrast

TOP = 10
"""Tokens recorded of each row."""

_RELATIVE_TOP = 0.1
"""A token stays if it has this share of the best one's probability (``relative_top`` of the library)."""

_ROUNDINGS = 16
"""Roundings by which a repeated contrast may differ from the library's own."""


class DolaWatch(OnePosition):
    """Collects the logits of the last layer and of the candidate layers in each step.

    Args:
        model: the model that generates.
        dola_layers: the argument of ``_dola_decoding``.
    """

    def __init__(self, model: PreTrainedModel, dola_layers: str | list[int]) -> None:
        head, layers = model.get_output_embeddings(), model.config.num_hidden_layers
        self._heads = [module for module in model.modules() if module is head]
        self._layers = [
            layer if layer >= 0 else layers + 1 + layer
            for layer in candidate_layers(dola_layers, layers, tied=bool(model.config.tie_word_embeddings))
        ]
        self._last: torch.Tensor | None = None
        self._early: list[torch.Tensor] = []
        self._first: torch.Tensor | None = None
        self._first_before: torch.Tensor | None = None

    def observers(self) -> Mapping[nn.Module, Observer]:
        """The head, which is called for each layer; none where it is no module of the model."""
        return dict.fromkeys(self._heads, self._observe)

    def begin(self) -> None:
        """The forward pass of a step starts."""
        self._last, self._early = None, []
        self._first_before, self._first = self._first, None

    def forwarded(self, outputs: Any) -> None:
        """It is over; its own call of the head is not one for a candidate layer."""
        self._last, self._early = clone(outputs.logits[:, -1, :]), []

    def first_scores(self, local: Mapping[str, Any]) -> torch.Tensor | None:
        """The contrast, once it is computed."""
        found = local.get("next_token_logits")
        if not isinstance(found, torch.Tensor) or not self._complete:
            return None
        # Until this step assigns it, that of the step before is still there.
        before = self._first_before
        return None if before is not None and _same(found.float(), before) else found

    def put(self, step: CaughtStep) -> None:
        """Put the logits into the step."""
        if self._last is not None and self._complete:
            step.logits = self._last
            step.tensors.loop = {"last": self._last, "early": torch.stack(self._early)}
            if step.tensors.scores is not None:
                # Behind them are tokens that a processor has added.
                scores = step.tensors.scores[0][:, : self._last.shape[-1]]
                self._first = step.tensors.loop["first"] = clone(scores)
            step.loop = CaughtContrast(tuple(self._layers))

    def ending(self) -> None:
        """Nothing beside the sequences."""

    @property
    def _complete(self) -> bool:
        return bool(self._layers) and len(self._early) == len(self._layers)

    def _observe(self, output: Any) -> None:
        try:
            found = tensors_in(output)
            # Whatever a processor calls later is for no candidate layer.
            if self._last is not None and not self._complete and found and found[0].dim() == 2:
                self._early.append(found[0].detach())
        except Exception as error:
            if not is_ours(error):
                raise
            self._last = None


def candidate_layers(dola_layers: str | list[int], layers: int, *, tied: bool) -> list[int]:
    """The layers that the last one may be contrasted with, as ``_dola_decoding`` chooses them.

    Args:
        dola_layers: ``low``, ``high`` or numbers of layers.
        layers: number of decoder layers.
        tied: whether the head shares the weights of the embeddings, whose prediction would be the token read.

    Returns:
        Their numbers as the library has them, a negative one counted from the end; none where it refuses the
        setting.
    """
    if isinstance(dola_layers, list) and all(isinstance(layer, int) for layer in dola_layers):
        return [layer for layer in dola_layers if layer < layers]
    if dola_layers == "high":
        return [*range(layers - 20 if layers > 40 else layers // 2, layers, 2)]
    return _low(layers, tied=tied) if dola_layers == "low" else []


def _low(layers: int, *, tied: bool) -> list[int]:
    start, middle = _START.get(layers, 2) if tied else 0, layers // 2
    return [start] if start == middle else [*range(start, 20 if layers > 40 else middle, 2)]


_START = {0: 0, 1: 0, 2: 1}
"""Where ``low`` starts with tied weights, by the number of decoder layers; with more of them, at 2."""


@dataclass(frozen=True)
class CaughtContrast:
    """The contrast of a step as it was caught.

    Attributes:
        layers: the candidate layers, in the order of their logits; one may be there twice.
    """

    layers: tuple[int, ...]

    def describe(self, step: CaughtStep) -> LoopRecord:
        """Compute the contrast again, and compare it with the scores that the processors began with.

        Args:
            step: the step, on the host.
        """
        last, early = step.tensors.loop["last"], step.tensors.loop["early"]
        divergences = _divergences(last, early) if len(self.layers) > 1 else None
        place = 0 if divergences is None else int(torch.stack(divergences).argmax())
        own, base = last.log_softmax(dim=-1), early[place].log_softmax(dim=-1)
        limit = own.max(dim=-1, keepdim=True).values + math.log(_RELATIVE_TOP)
        kept = ~(own < limit)  # which NaN is not
        contrast = torch.where(kept, own - base, -torch.inf)
        record = LayerContrast(
            layers=tuple(
                EarlyLayer(
                    layer=layer,
                    divergence=None if divergences is None else float(divergences[self.layers.index(layer)]),
                )
                for layer in dict.fromkeys(self.layers)
            ),
            taken=self.layers[place],
            kept=tuple(kept.sum(dim=-1).tolist()),
            tokens=tuple(_tokens(*row) for row in zip(contrast.float(), own, base, strict=True)),
        )
        return LoopRecord(contrast=record, checks=(self._check(step, contrast, (own - limit).abs()),))

    def _check(
        self, step: CaughtStep, contrast: torch.Tensor, distance: torch.Tensor
    ) -> tuple[Check, tuple[Violation, ...]]:
        first, rows = step.tensors.loop.get("first"), step.rows
        if first is None:
            return Check.not_made("contrast", "the scores of this step were not recorded", total=rows), ()
        size = contrast.abs().nan_to_num(posinf=1).clamp(1)
        tolerance = _ROUNDINGS * torch.finfo(contrast.dtype).eps * size
        found, expected = first.float(), contrast.float()
        # A token at the very limit may fall on either side of it on another device.
        same = (found - expected).abs() <= tolerance.float()
        same |= (found == expected) | (found.isnan() & expected.isnan())
        same |= (found.isinf() | expected.isinf()) & (distance <= tolerance)
        held = same.all(dim=-1)
        if not bool(held.all()) and step.ids_before.device != "cpu":
            reason = f"what {step.ids_before.device} computed cannot be repeated exactly here"
            return Check.not_made("contrast", reason, total=rows), ()
        check = Check.made("contrast", holds=bool(held.all()), checked=rows, total=rows)
        wrong = [row for row in range(rows) if not held[row]]
        return check, tuple(
            Violation(check="contrast", message="the scores are not the contrast of the two layers", row=row)
            for row in wrong
        )


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of a shape have the same values, NaN among them."""
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def _divergences(last: torch.Tensor, early: torch.Tensor) -> list[torch.Tensor]:
    """Jensen-Shannon divergence of each layer, step by step as ``_dola_select_contrast`` computes it.

    Args:
        last: ``[batch, vocab]`` logits of the last layer.
        early: ``[layers, batch, vocab]`` of the candidate layers.
    """
    mean = 0.5 * (last.softmax(dim=-1)[None] + early.softmax(dim=-1))
    kinds = last.log_softmax(dim=-1)[None], early.log_softmax(dim=-1)
    first, second = (nn.functional.kl_div(kind, mean, reduction="none").mean(-1) for kind in kinds)
    return [*(0.5 * (first + second)).mean(-1)]


def _tokens(contrast: torch.Tensor, own: torch.Tensor, base: torch.Tensor) -> tuple[ContrastedToken, ...]:
    best = contrast.nan_to_num(nan=-torch.inf).topk(min(TOP, contrast.numel())).indices.tolist()
    return tuple(
        ContrastedToken(token=token, last=float(own[token]), early=float(base[token]))
        for token in best
        if contrast[token] > -torch.inf
    )
