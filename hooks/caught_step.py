"""One step as the hooks caught it, before records are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt
import torch

from hooks.kv_cache.proof import CacheReading
from hooks.kv_cache.view import NO_CACHE, CacheLooks
from hooks.modules.reduction import TakenCalls
from hooks.scores.random_state import DrawStates
from hooks.tensors import to_host, to_host_all
from tracer.schema.step import CaptureError, Check, ForwardResult, Intervention, ScoreColumns, Violation
from tracer.schema.tensors import TensorInfo

Array = npt.NDArray[Any]


@dataclass
class CaughtStep:
    """One step as the hooks saw it: plain values, and private copies of tensors by name.

    Attributes:
        number: step number, from 1.
        started: seconds since the start of the run.
        inputs: name and looks of every tensor argument.
        others: other arguments as text.
        sequence_length: tokens of each row before the step.
        fed: tokens that go into the model.
        stages: number of score stages.
        held: tensors ``mask`` (over the whole sequences), ``input/NAME`` (integer arguments), ``scores``
            ``[stages, batch, vocab]``, ``chosen`` ``[batch]``, ``fired/INDEX`` and ``done`` (answers of the
            stopping criteria, ``[batch]``), ``next_position``, and of the KV cache ``norms`` ``[2 · layers,
            batch, KV heads, new slots]`` and ``slots``, the same with a dimension more, to be stored.
        saved: other tensors that the trace stores, by name.
        summary: of the scores, where it was made at once; it does not know what rows had ended.
        cache_read: what was read of the cache to prove that it only grows, and the checksums on the host.
    """

    number: int
    started: float
    inputs: list[tuple[str, TensorInfo]]
    others: dict[str, str]
    ids_before: TensorInfo
    sequence_length: int
    fed: int
    stages: int
    cache_before: CacheLooks = NO_CACHE
    cache_after: CacheLooks = NO_CACHE
    cache_read: tuple[CacheReading, list[torch.Tensor]] | None = None
    forward: ForwardResult | None = None
    forward_seconds: float = 0.0
    extra_forwards: int = 0
    calls: TakenCalls | None = None
    draw: DrawStates | None = None
    ids_after: TensorInfo | None = None
    updated: bool = False
    next_mask: TensorInfo | None = None
    checks: list[Check] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    errors: list[CaptureError] = field(default_factory=list)
    interventions: list[Intervention] = field(default_factory=list)
    held: dict[str, torch.Tensor] = field(default_factory=dict)
    saved: dict[str, torch.Tensor] = field(default_factory=dict)
    summary: ScoreColumns | None = None
    seconds: float = 0.0

    def copy(self) -> CaughtStep:
        """The same step without what it saves; what is added to either is not in the other."""
        return replace(
            self,
            checks=[*self.checks],
            violations=[*self.violations],
            errors=[*self.errors],
            interventions=[*self.interventions],
            held={name: tensor for name, tensor in self.held.items() if name != "slots"},
            saved={},
        )

    def let_scores_go(self) -> None:
        """Give their memory back where there is a summary of them."""
        if self.summary is not None:
            self.held.pop("scores", None)

    def to_host(self, others: Sequence[torch.Tensor] = ()) -> list[torch.Tensor]:
        """Bring all tensors to the host; on a GPU this waits for the device once.

        Args:
            others: tensors that are none of the step's.

        Returns:
            Copies of those.
        """
        copies = iter(to_host_all([*self.held.values(), *self.saved.values(), *others]))
        self.held = dict(zip(self.held, copies, strict=False))
        self.saved = dict(zip(self.saved, copies, strict=False))
        return [*copies]

    def array(self, name: str) -> Array | None:
        """A held tensor as an array, None if it was not caught."""
        tensor = self.held.get(name)
        return None if tensor is None else to_host(tensor)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors, and of what was taken of module calls."""
        taken = 0 if self.calls is None else self.calls.nbytes
        return taken + sum(tensor.nbytes for tensor in (*self.held.values(), *self.saved.values()))
