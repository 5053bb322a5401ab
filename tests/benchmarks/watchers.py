"""Ways to look inside a generation: this product at each level, and others for comparison."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import patch

import torch
from torch import nn
from transformers import PreTrainedModel

from tracer import trace
from tracer.tracefile.writing import recorder

Settle: TypeAlias = Callable[[], None]
"""Wait until everything that was seen so far is where it shall be."""

Watcher: TypeAlias = Callable[[PreTrainedModel, Path], AbstractContextManager[Settle]]

LEVELS: dict[str, dict[str, Any]] = {
    "shapes": {"capture": "shapes"},
    "stats": {"capture": "stats"},
    "tensors (kv, logits)": {"capture": "tensors", "save": ("kv", "logits")},
}
"""Settings of :func:`tracer.trace`."""


def nothing() -> None:
    """Nothing is left to be waited for."""


@contextmanager
def unwatched(_model: PreTrainedModel, _path: Path) -> Iterator[Settle]:
    """The generation by itself."""
    yield nothing


def traced(settings: dict[str, Any]) -> Watcher:
    """This product, writing a real trace file.

    Args:
        settings: of :func:`tracer.trace`.
    """

    @contextmanager
    def watch(model: PreTrainedModel, path: Path) -> Iterator[Settle]:
        with ExitStack() as stack:
            # Nothing is written beside a step that somebody else measures.
            with patch.object(recorder, "LINGER", threading.TIMEOUT_MAX):
                session = stack.enter_context(trace(model, path=path, **settings))
            yield session.flush
        assert not session.violated
        assert not session.faults

    return watch


@contextmanager
def _kept_scores(model: PreTrainedModel, _path: Path) -> Iterator[Settle]:
    """What the library itself offers: raw logits and final scores, kept in memory to the end."""
    config = model.generation_config
    config.output_scores = config.output_logits = config.return_dict_in_generate = True
    yield nothing


@contextmanager
def _hooked(note: Callable[[torch.Tensor], Any], model: PreTrainedModel, _path: Path) -> Iterator[Settle]:
    """A forward hook on every module, whose notes are let go after each turn."""
    notes: list[Any] = []

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            notes.append(note(output))

    handles = [module.register_forward_hook(hook) for module in model.modules()]
    yield notes.clear
    for handle in handles:
        handle.remove()


def _statistics(output: torch.Tensor) -> list[float]:
    deviation, mean = torch.std_mean(output, correction=0)
    return torch.stack([mean, deviation, *torch.aminmax(output)]).tolist()


PEERS: dict[str, Watcher] = {
    "peer: a forward hook on every module, shapes": partial(_hooked, lambda output: output.shape),
    "peer: a forward hook on every module, statistics": partial(_hooked, _statistics),
    "peer: output_scores and output_logits": _kept_scores,
}
"""Other ways to look inside. A profiler watches the whole process, so that it has no place among them."""
