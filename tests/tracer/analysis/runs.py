"""Runs in memory: synthetic ones, and real ones of tiny models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from hooks.tensors import to_host
from tests.support.models import batch, collected, generate, tiny_model
from tracer.schema.run import RunEnd, RunHeader, TokenText
from tracer.schema.step import Step


@dataclass
class MemoryRun:
    """A run whose parts are in memory."""

    header: RunHeader
    steps: Sequence[Step]
    tokens: Mapping[int, TokenText] = field(default_factory=dict)
    end: RunEnd | None = None
    saved: Mapping[int, Mapping[str, npt.NDArray[Any]]] = field(default_factory=dict)

    def tensor_names(self, step: int) -> tuple[str, ...]:
        return tuple(sorted(self.saved.get(step, {})))

    def tensor(self, step: int, name: str) -> npt.NDArray[Any]:
        return self.saved[step][name]

    def without(self, *names: str) -> MemoryRun:
        """The same run with fewer saved tensors; without names, with none."""
        left = {
            step: {name: tensor for name, tensor in saved.items() if names and name not in names}
            for step, saved in self.saved.items()
        }
        return MemoryRun(self.header, self.steps, self.tokens, self.end, left)


def real_run(
    model: PreTrainedModel | None = None,
    inputs: dict[str, torch.Tensor] | None = None,
    *,
    save: tuple[str, ...] = ("logits",),
    candidates: int = 64,
    seed: int = 1,
    **settings: Any,
) -> MemoryRun:
    """Trace a real generation of a tiny model."""
    capture = {"level": "tensors" if save else "stats", "save": save, "candidates": candidates}
    model = model or tiny_model()
    with collected(model, **capture) as run:
        generate(model, inputs or batch(), seed=seed, **settings)
    assert run.problems() == []
    saved = {
        step.number: {name: np.array(to_host(tensor)) for name, tensor in tensors.items()}
        for step, tensors in zip(run.steps, run.saved, strict=True)
    }
    return MemoryRun(run.header, run.steps, saved=saved)
