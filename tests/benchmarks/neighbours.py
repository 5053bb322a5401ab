"""What one traced step costs, against its untraced neighbours in the same generation.

Whole runs scatter by a tenth on a machine that others use too; neighbouring steps share what disturbs them.
Of every three steps one is traced. The writer works it off at once, mostly beside the step that follows:

    cost = traced step + step after it - 2 * mean(untraced step before, untraced step behind)
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from hooks.known_models import ANY_MODEL
from hooks.kv_cache.signature import cache_signature
from hooks.kv_cache.view import view_cache
from hooks.loop.run_capture import RunCapture
from tests.benchmarks.models import Subject
from tracer import trace
from tracer.tracefile import Recorder
from tracer.tracefile.writing import recorder

EVERY = 3
_WARM_UP = 8
_STEPS = _WARM_UP + 80 * EVERY


@dataclass(frozen=True)
class StepCost:
    """What tracing a step costs.

    Attributes:
        what: what was measured.
        milliseconds: mean over the steps, without a tenth at either end.
        error: its standard error.
        untraced: median time of an untraced step, milliseconds.
        steps: how many were traced.
    """

    what: str
    milliseconds: float
    error: float
    untraced: float
    steps: int


@dataclass
class _Steps:
    """When steps began, and which of them are traced."""

    began: list[float] = field(default_factory=list)
    traced: list[int] = field(default_factory=list)
    lost: float = 0.0
    """Seconds that went by for the measurement itself."""

    def costs(self) -> Iterator[tuple[float, float]]:
        """Cost of each traced step and time of an untraced one, seconds."""
        times = [after - before for before, after in zip(self.began, self.began[1:], strict=False)]
        for step in self.traced:
            if _WARM_UP < step < len(times) - EVERY:
                untraced = (times[step - 1] + times[step + 2]) / 2
                yield times[step] + times[step + 1] - 2 * untraced, untraced


@contextmanager
def _some_steps() -> Iterator[_Steps]:
    """Let a trace see the first step, and then one of three."""
    steps, prepared = _Steps(), RunCapture.on_prepared

    def on_prepared(
        run: RunCapture, ids: torch.Tensor, mask: torch.Tensor | None, inputs: Mapping[str, Any], began: float
    ) -> None:
        number = len(steps.began)
        steps.began.append(began - steps.lost)
        if number and number % EVERY:
            run.close_step()
            return
        entered = time.perf_counter()
        if number:  # what it would know of the cache, had it seen the step before
            view = view_cache(inputs.get("past_key_values"), ANY_MODEL, ids.shape[1] - 1)
            run._cache.after = cache_signature(view)
        steps.lost += time.perf_counter() - entered
        steps.traced.append(number)
        prepared(run, ids, mask, inputs, began)

    with patch.object(RunCapture, "on_prepared", on_prepared), patch.object(recorder, "LINGER", 0.0):
        yield steps


def step_cost(
    subject: Subject, what: str, settings: Mapping[str, Any], *, generations: int, written: bool = True
) -> StepCost:
    """Measure.

    Args:
        subject: the model.
        what: name of the figure.
        settings: of :func:`tracer.trace`.
        generations: how many; each traces some 80 steps.
        written: whether the writer works; without it the figure is what happens between the steps.
    """
    inputs = subject.inputs(1, 30)
    found: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(generations):
            gc.collect()
            path = Path(folder) / f"{number}.trace"
            with _some_steps() as steps, _writer(written):
                with trace(subject.model, path=path, **settings) as session:
                    subject.generate(inputs, _STEPS)
                assert not session.violated
            found += steps.costs()
    costs = sorted(cost * 1e3 for cost, _ in found)
    tenth = len(costs) // 10
    return StepCost(
        what=what if written else f"{what}, without the writer",
        milliseconds=statistics.mean(costs[tenth : len(costs) - tenth]),
        error=statistics.stdev(costs[tenth : len(costs) - tenth]) / len(costs) ** 0.5,
        untraced=statistics.median(untraced * 1e3 for _, untraced in found),
        steps=len(costs),
    )


@contextmanager
def _writer(works: bool) -> Iterator[None]:
    if works:
        yield
        return
    with patch.object(Recorder, "put", lambda _recorder, _job: None):
        yield
