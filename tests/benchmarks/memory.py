"""By how much the memory of a traced run grows with its steps."""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.models import Subject
from tests.benchmarks.watchers import LEVELS, Watcher, traced, unwatched

_MEMORY = Path("/proc/self/statm")


class _Sampler:
    """Notes the memory in use after each step, as a streamer."""

    def __init__(self) -> None:
        self.host: list[int] = []
        self.device: list[int] = []

    def put(self, _value: Any) -> None:
        """A token was chosen."""
        resident = int(_MEMORY.read_text().split()[1])
        self.host.append(resident * os.sysconf("SC_PAGE_SIZE"))
        self.device.append(torch.cuda.memory_allocated() if torch.cuda.is_available() else 0)

    def end(self) -> None:
        """The run is over."""


def memory_growth(subject: Subject, new: int) -> dict[str, float]:
    """Bytes a step by which memory grows beyond an untraced run, from the middle half of the run.

    The model's own KV cache grows too, so the slope of an untraced run is taken off.

    Args:
        subject: the model.
        new: tokens of the run, at level ``stats``.

    Returns:
        The growth on the ``host`` and on the ``device``.
    """
    plain = _slopes(subject, unwatched, new)
    watched = _slopes(subject, traced(LEVELS["stats"]), new)
    return {where: watched[where] - slope for where, slope in plain.items()}


def _slopes(subject: Subject, watch: Watcher, new: int) -> dict[str, float]:
    sampler = _Sampler()
    with tempfile.TemporaryDirectory() as folder, watch(subject.model, Path(folder) / "run.trace"):
        subject.generate(subject.inputs(1, 30), new, streamer=sampler)
    return {"host": _slope(sampler.host), "device": _slope(sampler.device)}


def _slope(samples: list[int]) -> float:
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return statistics.linear_regression(range(len(middle)), middle).slope
